from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jetlift.export import fidelity
from jetlift.runtime.errors import UsageError

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


def test_budget_lines_with_and_without_output():
    budget = fidelity.parse_budget("embedding.cosine_min>=0.9, cosine_mean >= 0.99")
    figures = {
        "embedding.cosine_min": 0.95,
        "embedding.cosine_mean": 0.995,
        "tokens.cosine_mean": 0.9,
    }
    assert fidelity.breaches(figures, budget) == ["tokens.cosine_mean is 0.9000, asked >= 0.99"]
    nan = figures | {"embedding.cosine_min": float("nan")}
    assert len(fidelity.breaches(nan, budget)) == 2


@pytest.mark.parametrize(
    "text",
    ["", " , ", "cosine_min", "cosine_min>0.9", "wer<=+x", "psnr>=30", "cosine_min>=1e", "a b>=1"],
)
def test_unreadable_budget_is_refused(text):
    with pytest.raises(UsageError):
        fidelity.parse_budget(text)


def test_budget_on_what_was_not_measured_is_refused():
    with pytest.raises(UsageError, match=r"logits.cosine_min"):
        fidelity.breaches({"y.cosine_min": 1.0}, fidelity.parse_budget("logits.cosine_min>=0.5"))
    with pytest.raises(UsageError, match="spearman"):
        fidelity.breaches({"y.cosine_min": 1.0}, fidelity.parse_budget("spearman>=0.5"))
