from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jetlift.export import fidelity

vectors = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 4), st.integers(1, 8)),
    elements=st.floats(-100, 100, width=32),
)


@given(vectors)
def test_cosine_with_itself_is_one_and_with_its_opposite_minus_one(rows):
    assert np.allclose(fidelity.row_cosines(rows, rows), 1.0, atol=1e-6)
    nonzero = np.abs(rows).max(axis=1) > 1e-3
    opposite = fidelity.row_cosines(rows, -rows)[nonzero]
    assert np.allclose(opposite, -1.0, atol=1e-6)


@given(vectors, st.floats(0.1, 10))
def test_cosine_ignores_scale_and_stays_in_bounds(rows, factor):
    other = np.roll(rows, 1, axis=1)
    plain = fidelity.row_cosines(rows, other)
    assert (np.abs(plain) <= 1).all()
    scaled = fidelity.row_cosines(rows * np.float32(factor), other)
    nonzero = np.abs(rows).max(axis=1) > 1e-2
    assert np.allclose(plain[nonzero], scaled[nonzero], atol=1e-4)


def test_broken_rows_never_look_near():
    good = np.ones((1, 4), np.float32)
    for bad in (np.nan, np.inf):
        row = good.copy()
        row[0, 1] = bad
        assert fidelity.row_cosines(good, row).tolist() == [0.0]
    assert fidelity.row_cosines(good, good * 0).tolist() == [0.0]
    assert fidelity.row_cosines(good * 0, good * 0).tolist() == [1.0]


def test_spearman_against_known_values():
    # Ranks 1..5 against 2 1 4 3 5: 1 - 6 * 4 / (5 * 24) = 0.8
    assert fidelity.spearman(np.arange(5.0), np.array([2.0, 1, 4, 3, 5])) == pytest.approx(0.8)
    assert fidelity.spearman(np.arange(5.0), -np.arange(5.0)) == pytest.approx(-1)
    # Ties take the average rank: 1, 2.5, 2.5, 4 against 1..4 gives sqrt(0.9)
    assert fidelity.spearman(np.array([1.0, 2, 2, 3]), np.arange(4.0)) == pytest.approx(0.9**0.5)
    assert fidelity.spearman(np.ones(4), np.arange(4.0)) == 0.0


def test_figures_of_single_vectors_and_of_tokens():
    random = np.random.default_rng(0)
    reference = {
        "embedding": [random.standard_normal((1, 8)) for _ in range(5)],
        "tokens": [random.standard_normal((1, 3, 8)) for _ in range(5)],
    }
    same = fidelity.compare(reference, reference)
    assert set(same) == {
        "embedding.cosine_mean", "embedding.cosine_min", "embedding.neighbour_agreement",
        "embedding.spearman", "tokens.cosine_mean", "tokens.cosine_min",
    }  # fmt: skip
    assert all(value == pytest.approx(1) for value in same.values())
    worse = {name: [a.copy() for a in arrays] for name, arrays in reference.items()}
    worse["tokens"][2][0, 1] *= -1
    figures = fidelity.compare(reference, worse)
    assert figures["tokens.cosine_min"] == pytest.approx(-1)
    assert figures["tokens.cosine_mean"] == pytest.approx(1 - 2 / 15)
    assert figures["embedding.cosine_min"] == pytest.approx(1)


def test_loss_is_zero_for_the_same_and_grows_with_one_bad_row():
    metric = fidelity.VectorMetric()
    reference = {"y": [np.eye(4, dtype=np.float32)[None] for _ in range(3)]}
    assert metric.loss(metric.figures(reference, reference)) == 0.0
    worse = {"y": [array.copy() for array in reference["y"]]}
    worse["y"][1][0, 2] = [0, 1, 1, 0]
    assert metric.loss(metric.figures(reference, worse)) > 0.05
