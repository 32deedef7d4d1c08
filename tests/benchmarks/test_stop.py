from __future__ import annotations

from math import inf, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetlift.benchmarks import stop
from jetlift.benchmarks.stop import StopRules
from jetlift.runtime.errors import EngineLibraryError, UsageError
from jetlift.runtime.medians import median_interval

LATENCIES = st.lists(st.floats(0.01, 1e5), min_size=1, max_size=200)


class Clock:
    """A clock that only runs move."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def _timed(rules: StopRules, *latencies_ms: float) -> stop.Timed:
    clock = Clock()

    def run(index: int) -> None:
        clock.now_s += latencies_ms[min(index, len(latencies_ms) - 1)] / 1e3

    return stop.time_runs(run, rules, clock)


@given(LATENCIES, st.floats(0, 100))
def test_a_stop_never_comes_early_nor_late(samples: list[float], elapsed_s: float) -> None:
    rules = StopRules(min_runs=30, max_runs=120, time_limit_s=50)
    reason = stop.stop_reason(samples, elapsed_s, rules)
    if len(samples) >= 120:
        assert reason in ("run limit", "precision")
    if elapsed_s >= 50:
        assert reason is not None
    if reason == "precision":
        assert len(samples) >= 30
    if len(samples) < 30 and elapsed_s < 50:
        assert reason is None


def test_steady_runs_stop_by_precision_at_the_fewest_runs() -> None:
    timed = _timed(StopRules(min_runs=100), 5.0)
    assert timed.stopped_by == "precision"
    assert len(timed.samples_ms) == 100
    assert timed.settled
    assert len(timed.warmup_ms) == 10


def test_scattered_runs_go_on_to_the_run_limit() -> None:
    rng = np.random.default_rng(0)
    timed = _timed(StopRules(max_runs=300, time_limit_s=1e9), *rng.uniform(1, 9, 1000))
    assert timed.stopped_by == "run limit"
    assert len(timed.samples_ms) == 300


def test_more_runs_buy_precision() -> None:
    rng = np.random.default_rng(0)
    samples = rng.normal(10, 0.5, 3000)
    timed = _timed(StopRules(max_runs=2000, time_limit_s=1e9), *samples)
    assert timed.stopped_by == "precision"
    assert 100 < len(timed.samples_ms) < 2000
    low, high = median_interval(timed.samples_ms, 0.95) or (0, 0)
    assert high - low <= 0.02 * 10.2


def test_slow_runs_stop_at_the_time_limit_with_what_there_is() -> None:
    timed = _timed(StopRules(time_limit_s=2, warmup_limit_s=1), 700.0)
    assert timed.stopped_by == "time limit"
    assert timed.samples_ms == (700.0, 700.0, 700.0)
    assert timed.warmup_ms == (700.0, 700.0)
    assert not timed.settled


def test_one_run_longer_than_every_limit_is_one_sample() -> None:
    timed = _timed(StopRules(time_limit_s=2, warmup_limit_s=1), 60_000.0)
    assert (len(timed.warmup_ms), len(timed.samples_ms)) == (1, 1)
    assert timed.stopped_by == "time limit"


def test_slow_first_runs_are_warmup_and_in_no_figure() -> None:
    timed = _timed(StopRules(), 900.0, 300.0, 40.0, 12.0, 5.0)
    assert timed.settled
    assert timed.warmup_ms[:4] == (900.0, 300.0, 40.0, 12.0)
    assert set(timed.samples_ms) == {5.0}


def test_latency_that_never_settles_is_said_to_be_so() -> None:
    climbing = [10 * 1.1**n for n in range(40)]
    timed = _timed(StopRules(warmup_max_runs=20, time_limit_s=1), *climbing)
    assert not timed.settled
    assert len(timed.warmup_ms) == 20


def test_a_run_that_fails_ends_the_timing() -> None:
    def run(index: int) -> None:
        if index == 12:
            raise EngineLibraryError("the library failed")

    with pytest.raises(EngineLibraryError, match="the library failed"):
        stop.time_runs(run, StopRules(), Clock())


def test_runs_are_numbered_on_from_warmup_to_timing() -> None:
    seen: list[int] = []
    clock = Clock()

    def run(index: int) -> None:
        seen.append(index)
        clock.now_s += 0.005

    stop.time_runs(run, StopRules(min_runs=10), clock)
    assert seen == list(range(20))


@given(LATENCIES)
def test_settling_looks_at_the_last_ten_runs_alone(latencies_ms: list[float]) -> None:
    assert stop.has_settled([*latencies_ms, *[7.0] * 10])
    assert not stop.has_settled([*latencies_ms, *[7.0] * 5, *[9.0] * 5])


def test_percentiles_ask_for_enough_runs() -> None:
    assert stop.percentile([1.0] * 9, 90).reason == "9 timed runs, and p90 asks for 10"
    assert stop.percentile([1.0] * 10, 90).value == 1.0
    assert stop.percentile([1.0] * 99, 99).reason == "99 timed runs, and p99 asks for 100"
    assert stop.percentile(list(range(1, 102)), 99).value == 100.0


@given(st.lists(st.floats(0.01, 1e5), min_size=100, max_size=150))
def test_a_summary_is_in_order(samples: list[float]) -> None:
    timed = stop.Timed((1.0,), True, tuple(samples), "precision")  # noqa: FBT003
    told = stop.summarise(timed, 0.95)
    assert told.p99_ms.value is not None
    assert told.p90_ms.value is not None
    slack = 1e-4  # figures are rounded to ten nanoseconds
    figures = [told.min_ms, told.p50_ms, told.p90_ms.value, told.p99_ms.value, max(samples)]
    assert (np.diff(figures) >= -slack).all()
    assert told.samples_ms == tuple(samples)
    assert told.min_ms - slack <= told.mean_ms <= max(samples) + slack


def test_a_summary_of_few_runs_says_what_is_missing() -> None:
    told = stop.summarise(stop.Timed((), False, (3.0, 4.0), "time limit"), 0.95)  # noqa: FBT003
    assert told.p50_ms == 3.5
    assert told.p99_ms.value is None
    assert told.p50_low_ms.reason == "2 timed runs are too few for 95% confidence"


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_runs": 0}, {"min_runs": 50, "max_runs": 10}, {"time_limit_s": 0.0},
        {"time_limit_s": nan}, {"time_limit_s": inf}, {"warmup_limit_s": -1.0},
        {"half_width_percent": 0.0}, {"confidence": 1.0}, {"confidence": 0.2},
        {"warmup_max_runs": 0},
    ],
)  # fmt: skip
def test_limits_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        StopRules(**wrong)  # type: ignore[arg-type]
