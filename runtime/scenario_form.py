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
    p50_ms: Figure = field(doc="Median latency of a query")
    p90_ms: Figure = field(doc="90th percentile")
    p99_ms: Figure = field(doc="99th percentile")
    throughput_per_s: Figure = field(doc="Items per second over the whole scenario")
    valid: bool = field(doc="Whether LoadGen's own rules held")
    reasons: tuple[str, ...] = field(doc="Which did not, as it says them")


@dataclass(frozen=True)
class ColdStart:
    """From a command to its first result, in fresh processes."""

    part: str = field(doc="Part of the model")
    variant: str = field(doc="Variant")
    starts_s: tuple[float, ...] = field(
        doc="Process start to first result, one per process, in order"
    )
    p50_s: float = field(doc="Their median")
    import_s: Figure = field(doc="Of the median start, until the engine library was imported")
    open_s: Figure = field(doc="Then until the session was open")
    first_s: Figure = field(doc="Then until the first result")
    cache: str = field(doc="What was warm: the files' pages in memory, a compiled engine on disk")
