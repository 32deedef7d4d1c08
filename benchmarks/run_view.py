"""What the report says of a run: how old results were, what was lost, whether the budget held."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jetlift.benchmarks.report_table import DASH, digits
from jetlift.benchmarks.verdict_view import view_budget
from jetlift.runtime.run_facts import SINK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jetlift.benchmarks.verdict_view import BudgetRow
    from jetlift.runtime.record import Figure, Record
    from jetlift.runtime.run_form import RunFacts, StageFacts


@dataclass(frozen=True)
class StageRow:
    """One stage: its name, and a text per column."""

    name: str
    texts: tuple[str, ...]


@dataclass(frozen=True)
class RunView:
    """A run in words.

    Attributes:
        headline: The finding.
        facts: Name and text of what else there is to know.
        columns: Of the table of stages.
        stages: Its rows.
        verdict: The budget's verdict in a sentence; empty where there was none.
        met: Whether it was met.
        budget: Its lines.
        reasons: Why lines of it have no figure.
    """

    headline: str
    facts: tuple[tuple[str, str], ...]
    columns: tuple[str, ...]
    stages: tuple[StageRow, ...]
    verdict: str
    met: bool
    budget: tuple[BudgetRow, ...]
    reasons: tuple[str, ...]


_COLUMNS = (
    "age p50, ms",
    "age p99, ms",
    "oldest, ms",
    "work p50, ms",
    "work p99, ms",
    "busy",
    "threads",
    "items",
)


def view_run(record: Record) -> RunView | None:
    """Say what a run says; None where a benchmark measured."""
    run = record.run
    if run is None:
        return None
    told = view_budget(run.budget)
    return RunView(
        headline=_headline(run),
        facts=tuple(_facts(run)),
        columns=_COLUMNS,
        stages=tuple(StageRow(stage.name, _texts(stage)) for stage in run.stages),
        verdict=told.verdict,
        met=told.met,
        budget=told.budget,
        reasons=told.reasons,
    )


def _headline(run: RunFacts) -> str:
    rate = run.throughput_per_s.value
    said = f"{run.done} results" if rate is None else f"{digits(rate, 3)} results per second"
    ages = [stage.age for stage in run.stages if stage.age is not None and stage.name != SINK]
    if not ages or not any(source.live for source in run.sources):
        return said
    return f"{said}, 99 of 100 at most {digits(ages[-1].p99_ms, 3)}\u00a0ms old"


def _texts(stage: StageFacts) -> tuple[str, ...]:
    age, work = stage.age, stage.service
    times = (
        *((DASH,) * 3 if age is None else map(digits, (age.p50_ms, age.p99_ms, age.max_ms))),
        *((DASH,) * 2 if work is None else map(digits, (work.p50_ms, work.p99_ms))),
    )
    threads = DASH if stage.threads is None else str(stage.threads)
    return (*times, f"{stage.busy_share:.0%}", threads, str(stage.done))


def _facts(run: RunFacts) -> Iterator[tuple[str, str]]:
    lost = f"{run.dropped} dropped for a newer one, {run.stale} too old, {run.skipped} unreadable"
    yield "Length", f"{digits(run.running_s)} s; {run.ended}"
    yield "Results", f"{run.done}; {lost}"
    work = [
        _told(item, lambda ms: f"{digits(ms)} ms") for item in (run.item_p50_ms, run.item_p99_ms)
    ]
    yield "Work per item", f"p50 {work[0]}; p99 {work[1]}"
    yield "Cold start", _told(run.cold_start_s, lambda value: f"{digits(value)} s")
    yield "Energy", _told(run.energy_j_per_item, lambda value: f"{digits(value)} J per result")
    for source in run.sources:
        told = [f"{source.captured} captured, {source.skipped} skipped"]
        if source.live:
            told.append(f"{source.reconnects} reconnects, {digits(source.lost_s)} s without")
            told.append(f"age begins {source.clock}")
        yield f"From {source.name}", "; ".join(filter(None, (*told, source.trouble)))
    for sink in run.sinks:
        told = [f"{sink.written} written, {sink.dropped} dropped", sink.trouble]
        yield f"To {sink.name}", "; ".join(filter(None, told))


def _told(figure: Figure, form: Callable[[float], str]) -> str:
    return f"not measured, {figure.reason}" if figure.value is None else form(figure.value)
