"""A benchmark held against a budget: which variant is judged, and what is taken for each limit.

Rules:
    J1  One variant per part is judged: the one that the report recommends, which is the fastest
        that did not miss its fidelity budget. With `--precision` only what it names is measured, so
        that alone is judged. The verdict says which.
    J2  Latency, throughput, power and energy hold for each part by itself: the worst part counts.
    J3  Parts are measured in processes of their own, and a deployment loads them into one. So
        memory is what Python holds once plus what each part adds, engines' sizes are added, and so
        are cold starts: rather more than one process takes, never less.
    J4  A part that could not be measured leaves every limit without a figure, so the verdict is no.
    J5  A benchmark has no live source: the age of frames and dropped frames are not measured.
    J6  A limit on cold starts asks for them: where their number was not given, five of each variant
        are measured, and progress says why.
    J7  A noisy result is judged as it is, and the verdict says that it was.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from jetlift.benchmarks import report_view
from jetlift.engines.where import board_of
from jetlift.runtime import host
from jetlift.runtime.budget import Figures, judge
from jetlift.runtime.budget_file import NAMES
from jetlift.runtime.figure import Figure
from jetlift.runtime.run_facts import REFERENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from jetlift.benchmarks.more import More
    from jetlift.runtime.budget_form import BudgetFile
    from jetlift.runtime.record import Record, Result

_MIB = 2**20
_NO_SOURCE = Figure.missing("a benchmark has no live source; 'jetlift run' has")
_COLD_STARTS = 5
_NO_COLD_START = f"cold starts were not asked for; they are with --cold-starts {_COLD_STARTS}"


def asked_more(more: More, budget: BudgetFile | None) -> More:
    """What is measured beyond, with what a budget limits (rule J6)."""
    if budget is None or budget.limits.cold_start_s is None or more.cold_starts:
        return more
    why = f", which budget {budget.budget.name} limits"
    return replace(more, cold_starts=_COLD_STARTS, cold_starts_why=why)


def held(
    record: Record, budget: BudgetFile, *, device: str | None, power_mode: str | None
) -> Record:
    """The record with the verdict in it (rules J1 to J7).

    Args:
        record: What was measured.
        budget: Limits to hold it against.
        device: The board's name as 'jetlift targets' has it; None where it is none of them.
        power_mode: The board's power mode; None where it does not tell.
    """
    chosen = judged_results(record)
    figures = replace(_figures(record, chosen), device=device, power_mode=power_mode)
    verdict = replace(judge(budget, figures), judged=_names(chosen))
    noisy = _names([result for result in chosen if result.noisy])  # J7
    return replace(record, budget=replace(verdict, noisy=noisy))


def _names(results: Sequence[Result]) -> tuple[str, ...]:
    return tuple(f"{result.part} {result.variant}" for result in results)


def where() -> tuple[str | None, str | None]:
    """This board's name as 'jetlift targets' has it, and its power mode; None where not told."""
    here = host.here(gpu=False)
    device = board_of(here)
    mode = None if here.board is None else here.board.power_mode
    return None if device is None else device.name, mode


def judged_results(record: Record) -> list[Result]:
    """The variant of each part that a verdict is about (rule J1)."""
    return [report_view.recommended(own) for own in report_view.by_part(record).values()]


def _figures(record: Record, chosen: Sequence[Result]) -> Figures:
    parts = {result.part for result in chosen}
    lost = [item.part for item in record.failed if item.part not in parts]
    if lost or not chosen:
        reason = f"{', '.join(dict.fromkeys(lost)) or 'nothing'} could not be measured"
        none = dict.fromkeys(NAMES, Figure.missing(reason))
        return Figures(values=none, unjudged=(reason,))  # J4
    fidelity = {
        result.part: dict(result.fidelity.figures)
        for result in chosen
        if result.fidelity is not None and result.variant != REFERENCE
    }
    return Figures(
        values={
            "latency_p50_ms": Figure(max(result.latency.p50_ms for result in chosen)),
            "latency_p99_ms": _worst(max, (result.latency.p99_ms for result in chosen)),
            "throughput_per_s": Figure(min(result.throughput_per_s for result in chosen)),
            "power_w": _worst(max, (result.power_w for result in chosen)),
            "energy_j_per_item": _worst(max, map(_energy, chosen)),
            "memory_mib": _in_mib(_memory(chosen)),
            "size_mib": _in_mib(_sum(result.engine.size_bytes for result in chosen)),
            "cold_start_s": _sum(_cold_start(record, result) for result in chosen),
            "age_p99_ms": _NO_SOURCE,
            "dropped_share": _NO_SOURCE,
        },
        fidelity=fidelity,
        unjudged=tuple(
            f"the bundle has no fidelity of {result.part} {result.variant}"
            for result in chosen
            if result.fidelity is None and result.variant != REFERENCE
        ),
    )


def _energy(result: Result) -> Figure:
    """Joules per item: the meter's own where there is one, else mean power over throughput."""
    if result.power is not None:
        return result.power.energy_j_per_item
    if result.power_w.value is None:
        return result.power_w
    return Figure(round(result.power_w.value / result.throughput_per_s, 6))


def _memory(chosen: Sequence[Result]) -> Figure:
    """Bytes that one process with all parts takes at most (rule J3)."""
    if len(chosen) == 1:
        return chosen[0].memory.rss_peak_bytes
    before = _worst(max, (result.memory.rss_before_load_bytes for result in chosen))
    peaks = _sum(result.memory.rss_peak_bytes for result in chosen)
    bases = _sum(result.memory.rss_before_load_bytes for result in chosen)
    for figure in (peaks, before, bases):
        if figure.value is None:
            return figure
    return Figure(float(peaks.value or 0) - float(bases.value or 0) + float(before.value or 0))


def _cold_start(record: Record, result: Result) -> Figure:
    for item in record.cold_starts:
        if (item.part, item.variant) == (result.part, result.variant):
            return Figure(item.p50_s)
    for failed in record.not_done:
        if (failed.part, failed.variant) == (result.part, result.variant) and (
            "cold" in failed.what
        ):
            return Figure.missing(failed.reason)
    return Figure.missing(_NO_COLD_START)


def _worst(pick: Callable[[list[float]], float], figures: Iterable[Figure]) -> Figure:
    """The worst of several; missing where one is, with its reason."""
    found = list(figures)
    missing = next((figure for figure in found if figure.value is None), None)
    return missing or Figure(pick([float(figure.value or 0) for figure in found]))


def _sum(figures: Iterable[Figure]) -> Figure:
    return _worst(sum, figures)


def _in_mib(figure: Figure) -> Figure:
    return figure if figure.value is None else Figure(round(figure.value / _MIB, 3))
