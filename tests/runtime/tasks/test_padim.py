from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jetlift.runtime.errors import InputError
from jetlift.runtime.tasks import padim


def features(pictures: int, patches: int = 6, dims: int = 8, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    spread = random.standard_normal((patches, dims, dims))
    centre = random.standard_normal((patches, dims)) * 5
    drawn = np.einsum("pij,npj->npi", spread, random.standard_normal((pictures, patches, dims)))
    return (drawn + centre).astype(np.float32)


def test_distances_are_mahalanobis_distances_under_the_shrunk_covariance() -> None:
    good = features(400)
    gaussians = padim.fit_gaussians(good)
    probe = features(1, seed=9)[0]
    for patch in range(good.shape[1]):
        plain = np.cov(good[:, patch].astype(np.float64), rowvar=False, bias=True)
        weight, floor = gaussians.shrinkage[patch], padim.VARIANCE_FLOOR * good.var(axis=0).mean()
        added = weight * np.trace(plain) / 8 + floor
        covariance = (1 - weight) * plain + added * np.eye(8)
        off = probe[patch] - good[:, patch].mean(axis=0, dtype=np.float64)
        exact = np.sqrt(off @ np.linalg.solve(covariance, off))
        assert gaussians.distances(probe)[patch] == pytest.approx(exact, rel=1e-4)


def test_shrinkage_is_the_oracle_approximating_weight() -> None:
    covariance = pytest.importorskip("sklearn.covariance")
    good = features(12, patches=3)
    ours = padim.fit_gaussians(good).shrinkage
    for patch in range(3):
        centred = good[:, patch].astype(np.float64) - good[:, patch].mean(axis=0)
        # scikit-learn leaves out the terms in 2 / dims, which the paper has.
        assert ours[patch] == pytest.approx(covariance.oas(centred)[1], abs=0.15)


def test_shrinkage_by_the_papers_formula_done_by_hand() -> None:
    # Two pictures at +1 and -1 along one of two axes: S = diag(1, 0), trace 1, trace of square 1.
    good = np.array([[[1, 0]], [[-1, 0]]], np.float32)
    over = (1 - 2 / 2) * 1 + 1
    under = (2 + 1 - 2 / 2) * (1 - 1 / 2)
    assert padim.fit_gaussians(good).shrinkage[0] == pytest.approx(min(1.0, over / under))


def test_more_pictures_need_less_shrinkage() -> None:
    weights = [padim.fit_gaussians(features(count)).shrinkage.mean() for count in (4, 16, 256)]
    assert weights == sorted(weights, reverse=True)
    assert weights[-1] < 0.05


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 12), st.integers(1, 5), st.integers(1, 12), st.floats(1e-3, 1e3))
def test_fewer_pictures_than_dimensions_still_give_finite_distances(
    pictures: int, patches: int, dims: int, unit: float
) -> None:
    good = features(pictures, patches, dims) * np.float32(unit)
    gaussians = padim.fit_gaussians(good)
    assert np.isfinite(gaussians.whitening).all()
    assert ((gaussians.shrinkage >= 0) & (gaussians.shrinkage <= 1)).all()
    near, far = gaussians.mean, gaussians.mean + np.float32(50 * unit)
    assert (gaussians.distances(far) > gaussians.distances(near)).all()


@given(st.floats(0.01, 100))
@settings(max_examples=20, deadline=None)
def test_distances_do_not_depend_on_the_unit_of_the_features(unit: float) -> None:
    good, probe = features(20), features(1, seed=5)[0]
    plain = padim.fit_gaussians(good).distances(probe)
    scaled = padim.fit_gaussians(good * np.float32(unit)).distances(probe * np.float32(unit))
    np.testing.assert_allclose(scaled, plain, rtol=2e-3)


def test_a_position_that_never_varies_is_no_trouble() -> None:
    good = features(10)
    good[:, 2] = 1.0
    gaussians = padim.fit_gaussians(good)
    assert gaussians.distances(good[0])[2] == 0.0
    assert np.isfinite(gaussians.distances(good[0] + 1)).all()


def test_one_picture_and_copies_of_one_are_refused() -> None:
    with pytest.raises(InputError, match="Got 1 good pictures"):
        padim.fit_gaussians(features(1))
    with pytest.raises(InputError, match="all the same"):
        padim.fit_gaussians(np.repeat(features(1), 5, axis=0))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 30), st.integers(1, 5))
def test_the_inverse_of_a_lower_factor_is_its_inverse(dims: int, patches: int) -> None:
    random = np.random.default_rng(dims * 10 + patches)
    lower = np.tril(random.standard_normal((patches, dims, dims))) + 3 * np.eye(dims)
    product = padim._inverse_of_lower(lower) @ lower
    np.testing.assert_allclose(product, np.broadcast_to(np.eye(dims), lower.shape), atol=1e-9)


def test_the_choice_of_dimensions_is_random_sorted_and_repeatable() -> None:
    chosen = padim.choose_dimensions(384, 100, 0)
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert (len(chosen), chosen.min() >= 0, chosen.max() < 384) == (100, True, True)
    np.testing.assert_array_equal(chosen, padim.choose_dimensions(384, 100, 0))
    assert chosen.tolist() != padim.choose_dimensions(384, 100, 1).tolist()
    assert padim.choose_dimensions(8, 100, 0).tolist() == list(range(8))


def test_the_map_peaks_where_the_patch_is_and_is_cut_to_what_is_seen() -> None:
    distances = np.zeros(16, np.float32)
    distances[4 * 1 + 2] = 9.0  # row 1, column 2
    heat = padim.heat_map(distances, (4, 4), (224, 224), (224, 224))
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert (abs(row - 84) < 3, abs(column - 140) < 3) == (True, True)
    assert 5 < heat.max() < 9
    assert padim.heat_map(distances, (4, 4), (224, 224), (224, 100)).shape == (100, 224)


def test_an_even_map_stays_even() -> None:
    heat = padim.heat_map(np.full(12, 3.0, np.float32), (3, 4), (80, 60), (80, 60))
    np.testing.assert_allclose(heat, 3.0, rtol=1e-6)
