from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetlift.runtime.errors import UsageError
from jetlift.runtime.pipeline.ages import Ages, Latest, Rate


def nearest_rank(values: list[float], share: float) -> float:
    return sorted(values)[max(1, math.ceil(share * len(values))) - 1]


@given(st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=200))
def test_percentiles_are_within_a_hundredth_of_the_nearest_rank(durations: list[float]) -> None:
    ages = Ages()
    for duration in durations:
        ages.add(duration)
    told = ages.summary()
    assert told is not None
    assert told.count == len(durations)
    assert told.max_ms == max(durations)
    assert told.mean_ms == pytest.approx(sum(durations) / len(durations))
    for share, value in ((0.5, told.p50_ms), (0.9, told.p90_ms), (0.99, told.p99_ms)):
        assert value == pytest.approx(nearest_rank(durations, share), rel=0.0101)
    assert min(durations) <= told.p50_ms <= told.p90_ms <= told.p99_ms <= told.max_ms


def test_nothing_has_no_summary_and_ends_are_kept_exactly() -> None:
    ages = Ages()
    assert ages.summary() is None
    ages.add(0.0)
    told = ages.summary()
    assert told is not None
    assert (told.p50_ms, told.max_ms) == (0.0, 0.0)
    ages.add(1e9)  # beyond the last bucket
    told = ages.summary()
    assert told is not None
    assert told.max_ms == 1e9


@pytest.mark.parametrize("wrong", [-1.0, math.nan])
def test_a_duration_below_nothing_is_refused(wrong: float) -> None:
    with pytest.raises(UsageError, match="duration"):
        Ages().add(wrong)


def test_a_rate_is_that_of_the_last_seconds() -> None:
    rate = Rate(window_s=5.0)
    assert rate.per_s(0.0) == 0.0
    for number in range(100):
        rate.add(number * 0.1)
    assert rate.per_s(9.9) == pytest.approx(10.0)
    # It falls as nothing comes, to nothing.
    assert rate.per_s(12.0) == pytest.approx(30 / 5, rel=0.2)
    assert rate.per_s(20.0) == 0.0


@given(st.integers(1, 5), st.lists(st.floats(0, 1e6), max_size=17))
def test_the_latest_are_kept_in_order(most: int, added_ms: list[float]) -> None:
    latest = Latest(most)
    for duration_ms in added_ms:
        latest.add(duration_ms)
    assert latest.all() == tuple(added_ms[-most:])
