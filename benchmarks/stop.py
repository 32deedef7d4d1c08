"""When a measurement has warmed up, when it may stop, and what its latencies say.

Rules:
    S1  Warm-up ends when two neighbouring windows of runs have medians within a tolerance of each
        other, at its run limit, or at its time limit; which of them is recorded.
    S2  Timing stops when the confidence interval of the median reaches at most `half_width_percent`
        of the median to either side, but not before `min_runs`; at `max_runs`; at the time limit.
    S3  The interval rests on order statistics alone and assumes no distribution, because latencies
        have long right tails: Hoefler and Belli, "Scientific Benchmarking of Parallel Computing
        Systems", 2015, https://doi.org/10.1145/2807591.2807644, section 3.1.3.
    S4  A percentile is told only from enough runs to have one run beyond it on average; otherwise
        the figure is null with that reason.
Looking at the interval after every tenth run and stopping at a good one makes it a little too
narrow, and runs that follow each other are not quite independent: it is a rule for stopping, and
the second measuring (`Recheck`) is the guard against drift.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from jetlift.runtime.errors import UsageError
from jetlift.runtime.latencies import latency_of, percentile
from jetlift.runtime.medians import median_interval

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jetlift.runtime.record import Latency, StoppedBy

__all__ = ["percentile"]

_WINDOW = 5
_SETTLED_WITHIN = 0.03
_LOOK_EVERY = 10
_BRIEF_RUNS = 40
_BRIEF_SHARE = 0.2


@dataclass(frozen=True)
class StopRules:
    """Limits of one measurement; the defaults suit runs from 0.1 ms to a second.

    Raises:
        UsageError: A limit makes no sense.
    """

    min_runs: int = 100
    max_runs: int = 2000
    time_limit_s: float = 15.0
    half_width_percent: float = 1.0
    confidence: float = 0.95
    warmup_max_runs: int = 50
    warmup_limit_s: float = 5.0

    def __post_init__(self) -> None:
        if not 1 <= self.min_runs <= self.max_runs:
            raise UsageError(
                f"Got min_runs {self.min_runs} and max_runs {self.max_runs}",
                expected="1 <= min_runs <= max_runs",
            )
        limits = (self.time_limit_s, self.half_width_percent, self.warmup_limit_s)
        if min(limits) <= 0 or not all(map(np.isfinite, limits)):
            raise UsageError(
                f"Got a time limit of {self.time_limit_s} s, a warm-up limit of "
                f"{self.warmup_limit_s} s and a half-width of {self.half_width_percent} %",
                expected="Positive numbers",
            )
        if not 0.5 <= self.confidence < 1 or self.warmup_max_runs < 1:
            raise UsageError(
                f"Got confidence {self.confidence} and warmup_max_runs {self.warmup_max_runs}",
                expected="A confidence from 0.5 to below 1, and at least one warm-up run",
            )


def brief(rules: StopRules) -> StopRules:
    """The rules of a second, brief measuring: at most forty runs and a fifth of the time."""
    runs = min(_BRIEF_RUNS, rules.max_runs)
    return replace(
        rules,
        min_runs=min(runs, rules.min_runs),
        max_runs=runs,
        time_limit_s=rules.time_limit_s * _BRIEF_SHARE,
    )


@dataclass(frozen=True)
class Timed:
    """What `time_runs` saw.

    Attributes:
        warmup_ms: Every warm-up run.
        settled: Whether warm-up ended because the latency had settled (rule S1).
        samples_ms: Every timed run; at least one.
        stopped_by: The rule that ended the timing (rule S2).
    """

    warmup_ms: tuple[float, ...]
    settled: bool
    samples_ms: tuple[float, ...]
    stopped_by: StoppedBy


def time_runs(run: Callable[[int], object], rules: StopRules, clock: Callable[[], float]) -> Timed:
    """Warm up, then time run after run until a rule stops it.

    Args:
        run: Computes once; it is told how many runs came before it.
        rules: The limits.
        clock: Seconds from any start, as `time.perf_counter`.
    """
    warmup_ms: list[float] = []
    start_s = clock()
    while not has_settled(warmup_ms):
        if len(warmup_ms) >= rules.warmup_max_runs or clock() - start_s >= rules.warmup_limit_s:
            break
        warmup_ms.append(_time_one(run, len(warmup_ms), clock))
    samples_ms: list[float] = []
    start_s, stopped_by = clock(), None
    while stopped_by is None:
        samples_ms.append(_time_one(run, len(warmup_ms) + len(samples_ms), clock))
        stopped_by = stop_reason(samples_ms, clock() - start_s, rules)
    return Timed(tuple(warmup_ms), has_settled(warmup_ms), tuple(samples_ms), stopped_by)


def _time_one(run: Callable[[int], object], index: int, clock: Callable[[], float]) -> float:
    start_s = clock()
    run(index)
    return round((clock() - start_s) * 1e3, 5)


def has_settled(latencies_ms: Sequence[float]) -> bool:
    """Whether the last two windows of runs have nearly equal medians (rule S1)."""
    if len(latencies_ms) < 2 * _WINDOW:
        return False
    before = float(np.median(latencies_ms[-2 * _WINDOW : -_WINDOW]))
    now = float(np.median(latencies_ms[-_WINDOW:]))
    return abs(now - before) <= _SETTLED_WITHIN * before


def stop_reason(
    samples_ms: Sequence[float], elapsed_s: float, rules: StopRules
) -> StoppedBy | None:
    """The rule that says stop now, or None to go on (rule S2)."""
    count = len(samples_ms)
    may_look = count >= rules.min_runs and (count - rules.min_runs) % _LOOK_EVERY == 0
    if may_look and _is_precise(samples_ms, rules):
        return "precision"
    if count >= rules.max_runs:
        return "run limit"
    return "time limit" if elapsed_s >= rules.time_limit_s else None


def _is_precise(samples_ms: Sequence[float], rules: StopRules) -> bool:
    interval = median_interval(samples_ms, rules.confidence)
    if interval is None:
        return False
    median = float(np.median(samples_ms))
    return (
        max(interval[1] - median, median - interval[0]) <= median * rules.half_width_percent / 100
    )


def summarise(timed: Timed, confidence: float) -> Latency:
    """All statistics of one measurement."""
    return latency_of(
        timed.samples_ms,
        stopped_by=timed.stopped_by,
        confidence=confidence,
        warmup_ms=timed.warmup_ms,
        settled=timed.settled,
    )
