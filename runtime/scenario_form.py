"""What a record says of scenarios, sweeps and cold starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jetlift.runtime.figure import Figure  # noqa: TC001 - jsonform reads the hints at run time
from jetlift.runtime.jsonform import field

ScenarioName = Literal["SingleStream", "MultiStream", "Offline", "Server"]


@dataclass(frozen=True)
class SweepPoint:
    """One combination of batch and callers."""

    part: str = field(doc="Part of the model")
    variant: str = field(doc="Variant")
    batch: int = field(doc="Items per run")
    callers: int = field(doc="Threads that call at once, each with a session or a slot of its own")
    runs: int = field(doc="Timed runs of all callers")
    p50_ms: float = field(doc="Median time of one run")
    p99_ms: Figure = field(doc="99th percentile; asks for 100 runs")
    throughput_per_s: float = field(doc="Items per second of all callers together")
    rss_peak_bytes: Figure = field(doc="Most ever resident in the process that measured this point")
    how: str = field(doc="How the callers share the engine", default="one session per caller")


@dataclass(frozen=True)
class Scenario:
    """One scenario of MLPerf's LoadGen, played for a time of the user's choosing."""

    part: str = field(doc="Part of the model")
    variant: str = field(doc="Variant")
    name: ScenarioName = field(doc="Which scenario")
    by: str = field(doc="What drew the load, with its version")
    seconds: float = field(doc="How long it was asked to last at least")
    samples_per_query: int = field(doc="Items of one query")
    asked_per_s: float | None = field(doc="Queries per second that Server sends; null elsewhere")
    queries: int = field(doc="Queries completed")
    samples: int = field(doc="Items completed")
    p50_ms: Figure = field(doc="Median latency of a query, by LoadGen's clock as all of these")
    p90_ms: Figure = field(doc="90th percentile")
    p99_ms: Figure = field(doc="99th percentile")
    throughput_per_s: Figure = field(doc="Items per second over the whole scenario")
    valid: bool = field(doc="Whether LoadGen's own rules held")
    reasons: tuple[str, ...] = field(doc="Which did not, as it says them")
    batch: int = field(
        doc="Items per run of the engine; a query is cut into runs of it, the last one filled up",
        default=1,
    )
    limit_ms: float | None = field(
        doc="Latency that 99 % of Server's queries must keep; null elsewhere", default=None
    )
    asked_how: str = field(
        doc="Where Server's rate and limit come from; empty elsewhere", default=""
    )


@dataclass(frozen=True)
class ColdStart:
    """From a command to its first result, in fresh processes."""

    part: str = field(doc="Part of the model")
    variant: str = field(doc="Variant")
    starts_s: tuple[float, ...] = field(
        doc="Process start to first result, one per process, in order"
    )
    p50_s: float = field(doc="Their median")
    import_s: Figure = field(
        doc="Median time from the start until Python, jetlift and the engine library were imported"
    )
    open_s: Figure = field(
        doc="Median time then until the bundle was verified and the session open"
    )
    first_s: Figure = field(
        doc="Median time then until the first result, making its input included"
    )
    cache: str = field(doc="What was warm: the files' pages in memory, a compiled engine on disk")


@dataclass(frozen=True)
class NotDone:
    """A sweep's point, scenario, cold start or time per layer that was asked for and is not."""

    part: str = field(doc="Part of the model")
    variant: str = field(doc="Variant")
    what: str = field(doc="What was asked for, as in batch 8, or Server")
    reason: str = field(doc="Why there is none")
