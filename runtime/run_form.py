"""What a record says of a whole run: its stages, what was lost on the way, and the budget.

Ages and service times are summed up as they come; a run may last for months, so not every one of
them is kept.
"""

from __future__ import annotations

from dataclasses import dataclass

from jetlift.runtime.budget_form import BudgetVerdict  # noqa: TC001 - jsonform reads the hints
from jetlift.runtime.figure import Figure  # noqa: TC001
from jetlift.runtime.jsonform import field


@dataclass(frozen=True)
class TimeSummary:
    """Times or ages summed up, in milliseconds."""

    count: int = field(doc="How many were counted")
    mean_ms: float = field(doc="Arithmetic mean")
    p50_ms: float = field(doc="Median")
    p90_ms: float = field(doc="90th percentile; of fewer than 10 it says little")
    p99_ms: float = field(doc="99th percentile; of fewer than 100 it says little")
    max_ms: float = field(doc="Longest")


@dataclass(frozen=True)
class StageFacts:
    """One stage of the run."""

    name: str = field(doc="The stage")
    threads: int | None = field(doc="Threads that worked in it; null where nobody told")
    done: int = field(doc="Items that it finished")
    busy_share: float = field(doc="Share of the run that it worked, 0..1; its workers add up")
    service: TimeSummary | None = field(
        doc="Time per item, waiting left out; null before the first"
    )
    age: TimeSummary | None = field(
        doc="Age of frames at its end, from the moment that the source's clock says; null where "
        "no input had one"
    )


@dataclass(frozen=True)
class SourceFacts:
    """One source of the run."""

    name: str = field(doc="What it is, without folders, hosts and passwords")
    live: bool = field(doc="Whether it goes on whether or not anybody takes its frames")
    clock: str = field(doc="What moment ages begin at, as a clause")
    captured: int = field(doc="Frames or inputs that it delivered")
    skipped: int = field(doc="Inputs or frames that could not be read")
    reconnects: int = field(doc="Times that it came back after it was lost")
    lost_s: float = field(doc="Seconds in all without a connection")
    trouble: str = field(doc="The last thing that went wrong; empty where nothing did")


@dataclass(frozen=True)
class SinkFacts:
    """One place where results went."""

    name: str = field(doc="What it is")
    written: int = field(doc="Results that it took and passed on")
    dropped: int = field(doc="Results that its queue had no room for, or that its peer refused")
    trouble: str = field(doc="The last thing that went wrong; empty where nothing did")


@dataclass(frozen=True)
class RunFacts:
    """A run from its start to its end."""

    ended: str = field(doc="What ended it, as a clause: the source ended, it was stopped, …")
    running_s: float = field(doc="From its start to its end")
    done: int = field(doc="Inputs with a result")
    throughput_per_s: Figure = field(doc="Results per second over the whole run")
    dropped: int = field(doc="Frames that a newer one replaced before anybody took them")
    stale: int = field(doc="Frames that were too old to be worth computing")
    skipped: int = field(doc="Inputs that could not be read or used")
    item_p50_ms: Figure = field(
        doc="Median time that one item was worked on by all stages, waiting left out"
    )
    item_p99_ms: Figure = field(doc="99th percentile of the same; asks for 100 items")
    cold_start_s: Figure = field(doc="From the start of the process to the first result")
    energy_j_per_item: Figure = field(doc="Mean power over throughput")
    stages: tuple[StageFacts, ...] = field(doc="In the order of flow")
    sources: tuple[SourceFacts, ...] = field(doc="As given")
    sinks: tuple[SinkFacts, ...] = field(doc="As given")
    budget: BudgetVerdict | None = field(doc="The verdict; null where no budget was given")
