"""Threads that call at once, and how fast they are together.

Rules:
    T1  Every caller warms up first and all begin to count at the same moment.
    T2  A caller ends its last run after the time is over; its own rate counts up to that end, and
        the rate of all is the sum, so that a slow one's tail does not dilute the others'.
    T3  Where one fails, the others end after the run they are in, and its error is raised. The
        same is done where the caller of all is interrupted: no thread outlives the call.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jetlift.runtime.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jetlift.runtime.clock import Clock

_WARMUP_RUNS, _LOOK_S = 3, 0.1


@dataclass(frozen=True)
class Calls:
    """What callers did together.

    Attributes:
        samples_ms: Every timed run of every caller.
        runs_per_s: Sum of the callers' rates (rule T2).
    """

    samples_ms: tuple[float, ...]
    runs_per_s: float


class _Caller:
    """One thread's account.

    Args:
        run: What it calls; told how many runs of its own came before.
        race: What all callers share.
    """

    def __init__(self, run: Callable[[int], object], race: _Race) -> None:
        self._run, self._race = run, race
        self.samples_ms: list[float] = []
        self.took_s = 0.0

    def work(self) -> None:
        """Warm up, wait for the others, run until the time is over (rules T1, T2)."""
        ended = False
        try:
            for index in range(self._race.warmup_runs):
                self._run(index)
            self._race.start.wait()
            self._timed()
            ended = True
        finally:
            if not ended:  # T3
                self._race.end()

    def _timed(self) -> None:
        race = self._race
        began_s = now_s = race.clock.now_s()
        while not race.stop.is_set() and now_s - began_s < race.limit_s:
            self._run(race.warmup_runs + len(self.samples_ms))
            before_s, now_s = now_s, race.clock.now_s()
            self.samples_ms.append(round((now_s - before_s) * 1e3, 5))
            self.took_s = now_s - began_s
            if len(self.samples_ms) >= race.max_runs:
                break


@dataclass(frozen=True)
class _Race:
    """What all callers share."""

    limit_s: float
    max_runs: int
    warmup_runs: int
    clock: Clock
    start: threading.Barrier
    stop: threading.Event

    def end(self) -> None:
        """Let nobody begin another run, nor wait for the start."""
        self.stop.set()
        self.start.abort()


def call_together(
    runs: Sequence[Callable[[int], object]],
    *,
    limit_s: float,
    max_runs: int,
    clock: Clock = SYSTEM_CLOCK,
    warmup_runs: int = _WARMUP_RUNS,
) -> Calls:
    """Let every function be called by a thread of its own, again and again (rules T1 to T3).

    Args:
        runs: One per caller; each is told how many runs of its own came before.
        limit_s: Seconds after which no caller begins another run.
        max_runs: Runs per caller after which it ends.
        clock: What the time is told by.
        warmup_runs: Untimed runs per caller.

    Raises:
        Exception: What a caller's run raised first, by the order of the callers.
    """
    start = threading.Barrier(len(runs))
    race = _Race(limit_s, max_runs, warmup_runs, clock, start, threading.Event())
    callers = [_Caller(run, race) for run in runs]
    with ThreadPoolExecutor(len(callers)) as pool:
        try:
            futures = [pool.submit(caller.work) for caller in callers]
            # An interrupt just before a wait without end would be noticed at its end alone.
            while wait(futures, _LOOK_S).not_done:
                pass
            errors = [future.exception() for future in futures]
        finally:  # an interrupt of this thread ends the others too
            race.end()
    for error in errors:
        if error is not None and not isinstance(error, threading.BrokenBarrierError):
            raise error
    return Calls(
        samples_ms=tuple(sample for caller in callers for sample in caller.samples_ms),
        runs_per_s=sum(
            len(caller.samples_ms) / caller.took_s for caller in callers if caller.took_s > 0
        ),
    )
