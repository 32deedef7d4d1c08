from __future__ import annotations

from fractions import Fraction
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jetlift.runtime import medians

LATENCIES = st.lists(st.floats(0.01, 1e5), min_size=1, max_size=200)


@settings(max_examples=60)
@given(st.integers(1, 400), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_the_rank_is_the_largest_that_covers_the_median(count: int, confidence: float) -> None:
    def missed(rank: int) -> Fraction:
        return 2 * Fraction(sum(comb(count, k) for k in range(rank + 1)), 2**count)

    allowed = 1 - Fraction(confidence)
    rank = medians.median_rank(count, confidence)
    if rank is None:
        assert missed(0) > allowed
    else:
        assert missed(rank) <= allowed + Fraction(1, 10**12)
        assert missed(rank + 1) > allowed - Fraction(1, 10**12)


def test_the_rank_for_many_samples_follows_the_normal_approximation() -> None:
    for count in (1000, 1500, 5000):
        rank = medians.median_rank(count, 0.95)
        assert rank == pytest.approx(count / 2 - 1.96 * count**0.5 / 2, abs=1.5)


def test_six_samples_are_the_fewest_for_95_percent() -> None:
    assert medians.median_rank(5, 0.95) is None
    assert medians.median_rank(6, 0.95) == 0


@given(LATENCIES)
def test_the_interval_holds_the_median_and_lies_within_the_samples(samples: list[float]) -> None:
    interval = medians.median_interval(samples, 0.95)
    if interval is not None:
        low, high = interval
        assert min(samples) <= low <= np.median(samples) <= high <= max(samples)


def test_the_interval_covers_the_true_median_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    draws = rng.lognormal(0, 0.5, (4000, 41))  # median 1, with a right tail as latencies have
    hits = [low <= 1 <= high for low, high in (medians.median_interval(d, 0.95) for d in draws)]  # type: ignore[misc]
    assert 0.95 <= np.mean(hits) <= 0.98
