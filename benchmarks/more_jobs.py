"""Jobs of children that measure more than one run after another: sweeps, scenarios, cold starts.

They travel as those of `measure` do (its rules C1 to C4), to a worker of their own.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Literal

from jetlift.benchmarks.measure import OfAVariant
from jetlift.runtime.record import Figure  # noqa: TC001 - jsonform reads the hints at run time
from jetlift.runtime.scenario_form import ScenarioName  # noqa: TC001

MORE_WORKER = (sys.executable, "-m", "jetlift.benchmarks.more_worker")
COLD_WORKER = (sys.executable, "-m", "jetlift.benchmarks.cold_start_child")


@dataclass(frozen=True)
class SweepJob(OfAVariant):
    """One combination of batch and callers.

    Attributes:
        batch: Items per run.
        callers: Threads that call at once.
        seconds: Longest time of the timed runs.
        max_runs: Most runs per caller.
    """

    job: Literal["sweep"]
    batch: int
    callers: int
    seconds: float
    max_runs: int


@dataclass(frozen=True)
class SweepAnswer:
    """What a child measured: fields of `SweepPoint`."""

    runs: int
    p50_ms: float
    p99_ms: Figure
    throughput_per_s: float
    rss_peak_bytes: Figure
    how: str


@dataclass(frozen=True)
class ScenarioJob(OfAVariant):
    """One scenario of LoadGen.

    Attributes:
        name: The scenario.
        seconds: Least duration.
        batch: Items per run of the engine.
        samples_per_query: Items of one query of MultiStream.
        server_per_s: Queries per second that Server sends; None to search.
        server_limit_ms: Latency that 99 % of Server's queries must keep; None for the rule's.
        folder: Where LoadGen may write its logs; whoever gives the job removes it.
    """

    job: Literal["scenario"]
    name: ScenarioName
    seconds: float
    batch: int
    samples_per_query: int
    server_per_s: float | None
    server_limit_ms: float | None
    folder: str


@dataclass(frozen=True)
class ColdStartJob(OfAVariant):
    """One cold start.

    Attributes:
        started_s: CLOCK_MONOTONIC, which all processes share, just before the child was started.
    """

    job: Literal["cold start"]
    started_s: float


@dataclass(frozen=True)
class ColdStartAnswer:
    """Seconds since `started_s` at which each step was done.

    Attributes:
        imported_s: Python, jetlift and the engine library were imported.
        opened_s: The bundle was verified and the session open.
        first_s: The first result was there.
        built: Whether a built engine was loaded; False where the graph was compiled.
    """

    imported_s: float
    opened_s: float
    first_s: float
    built: bool
