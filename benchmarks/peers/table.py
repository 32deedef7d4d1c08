"""A side by side as Markdown: goals, then one table per case."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jetlift.benchmarks.peers.cases import FP32, INT8
from jetlift.benchmarks.report_table import DASH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jetlift.benchmarks.peers.form import (
        CaseResult,
        ContenderResult,
        GoalResult,
        PeersTable,
        Ratio,
    )

CHART_NAME = "peers.svg"
_MB = 1e6
_HOW = (
    "Each contender is a process of its own; between its turns it is stopped, so that one computes "
    "at a time. A ratio is the median over rounds of its time over jetlift's in the same round: "
    "above 1 jetlift is faster."
)
_HEAD = (
    "", "computes in", "median, ms", "times jetlift INT8 (95 %)", "times jetlift FP32 (95 %)",
    "against the reference", "peak, MB", "first result, s",
)  # fmt: skip


def to_markdown(table: PeersTable, *, chart: bool) -> str:
    """The whole document.

    Args:
        table: What was measured.
        chart: Whether the chart lies beside it.
    """
    lines = ["# Side by side", "", _head(table), "", _HOW, ""]
    if chart:
        lines += [f"![Time of each contender, by model]({CHART_NAME})", ""]
    lines += ["## Goals", "", *_goals(table.goals), ""] if table.goals else []
    for case in table.cases:
        lines += _case(case)
    lines += [f"- {reason}" for reason in table.left_out]
    return "\n".join([*lines, *_versions(table)]).rstrip() + "\n"


def _head(table: PeersTable) -> str:
    machine = table.machine
    gpu = any(row.name == "trtexec" for case in table.cases for row in case.contenders)
    told = [
        table.measured_at, f"jetlift {table.jetlift}",
        machine.cpu + (", virtual" if machine.virtual else ""), f"{machine.cores} cores",
        machine.os,
        f"load average before it began {_number(machine.load_1min_before.value)}",
    ]  # fmt: skip
    return f"{', '.join(told)}." + ("" if gpu else " No GPU and no Jetson took part.")


def _number(value: float | None) -> str:
    return DASH if value is None else f"{value:g}"


def _goals(goals: Sequence[GoalResult]) -> list[str]:
    rows = [
        [goal.words, DASH if goal.ratio.value is None else f"{goal.ratio.value:.2f}",
         goal.verdict + (f": {goal.told}" if goal.told else "")]
        for goal in goals
    ]  # fmt: skip
    return grid(("goal", "ratio", "verdict"), rows)


def milliseconds(value: float) -> str:
    """A time with three digits or all before the point."""
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table; all columns but the first to the right."""
    ruler = ["---", *["--:"] * (len(head) - 1)]
    return [f"| {' | '.join(row)} |" for row in (head, ruler, *rows)]


def _case(case: CaseResult) -> list[str]:
    ran = [row for row in case.contenders if row.state == "ran"]
    lines = [
        f"## {case.title}", "",
        f"{_capital(case.words)}. {case.threads} threads, {case.rounds} rounds, load average "
        f"before {case.load_before.value}."
        + (f" jetlift's int8 is {case.fidelity}." if case.fidelity.startswith("within") else "")
        + (f" jetlift's int8 {case.fidelity}." if case.fidelity.startswith("misses") else ""),
        "",
        *grid(_HEAD, [_row(case, row) for row in ran]), "",
    ]  # fmt: skip
    lines += [f"- {row.title} ({row.precision}): {row.note}." for row in ran if row.note]
    lines += [
        f"- {row.title} ({row.precision}): {row.state}: {row.told.rstrip('.')}."
        + (f" Note: {row.note}." if row.note else "")
        for row in case.contenders
        if row.state != "ran"
    ]
    return [*lines, ""] if lines[-1] else lines


def _row(case: CaseResult, row: ContenderResult) -> list[str]:
    ratios = {item.to: item for item in row.ratios}
    title = f"**{row.title}**" if row.name in case.ours else row.title
    return [
        title,
        row.precision,
        DASH if row.median_ms.value is None else milliseconds(row.median_ms.value),
        _ratio(ratios.get(INT8)),
        _ratio(ratios.get(FP32)),
        _agreement(case, row),
        DASH if row.peak_bytes.value is None else f"{row.peak_bytes.value / _MB:.0f}",
        DASH if row.loaded_s.value is None else f"{row.loaded_s.value:.1f}",
    ]


def _ratio(item: Ratio | None) -> str:
    if item is None or item.ratio.value is None:
        return DASH
    ends = (item.low.value, item.high.value)
    told = "" if None in ends else f" ({ends[0]:.2f} to {ends[1]:.2f})"
    return f"{item.ratio.value:.2f}{told}"


def _agreement(case: CaseResult, row: ContenderResult) -> str:
    if row.name == case.reference and row.right is not None:
        return "the reference"
    if row.right is None:
        return "not compared"
    told = ", ".join(
        f"{name.replace('_', ' ')} {value:.4g}" for name, value in row.agreement.items()
    )
    return told if row.right else f"**wrong** ({told or 'nothing to compare'})"


def _versions(table: PeersTable) -> list[str]:
    told: dict[str, dict[str, str]] = {}
    for case in table.cases:
        for row in case.contenders:
            if row.versions:
                told.setdefault(row.title, row.versions)
    lines = [
        f"- {title}: {', '.join(f'{name} {version}' for name, version in versions.items())}"
        for title, versions in told.items()
    ]
    return ["## Versions", "", *lines] if lines else []


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
