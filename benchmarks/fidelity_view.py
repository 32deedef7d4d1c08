"""Fidelity as a reader sees it: each figure, the limit it was held to, the verdict in a word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from jetlift.export.fidelity import parse_budget

if TYPE_CHECKING:
    from jetlift.runtime.record import Result

State = Literal["reference", "met", "missed", "not measured"]

WORDS: dict[State, str] = {
    "reference": "reference",
    "met": "budget met",
    "missed": "budget missed",
    "not measured": "not measured",
}
_PLAIN_METRICS = {
    "cosine_mean": "mean cosine",
    "cosine_min": "lowest cosine",
    "neighbour_agreement": "same nearest neighbour",
    "spearman": "rank correlation of similarities",
}


_SIGNS = {">=": "\u2265", "<=": "\u2264"}


@dataclass(frozen=True)
class FidelityRow:
    """One figure of one variant.

    Attributes:
        name: As in the record, `embedding.cosine_min`.
        plain: The same in words.
        value: The figure; 1 is equal to fp32.
        limit: The budget's line for it, sign and number; empty where the budget has none.
        threshold: The number in that line.
        met: Whether the line holds; None where there is none.
    """

    name: str
    plain: str
    value: float
    limit: str
    threshold: float | None
    met: bool | None


def state_of(result: Result) -> State:
    """The verdict on one variant in a word."""
    if result.fidelity is not None:
        return "met" if result.fidelity.met else "missed"
    return "reference" if result.variant == "fp32" else "not measured"


def rows_of(result: Result) -> list[FidelityRow]:
    """Every fidelity figure of a variant with the limit that holds for it; empty without any."""
    if result.fidelity is None:
        return []
    lines = parse_budget(result.fidelity.budget)
    rows = []
    for name, value in result.fidelity.figures.items():
        output, _, metric = name.rpartition(".")
        line = next((x for x in lines if x.metric == metric and x.output in (None, output)), None)
        rows.append(
            FidelityRow(
                name=name,
                plain=f"{output.replace('_', ' ')}: {_PLAIN_METRICS.get(metric, metric)}",
                value=value,
                limit=f"{_SIGNS[line.sign]}\u00a0{line.limit:g}" if line else "",
                threshold=line.limit if line else None,
                met=line.holds(value) if line else None,
            )
        )
    return rows


def sentence_of(result: Result) -> str:
    """One sentence: the verdict with the figure that decides it, or why there is none."""
    state = state_of(result)
    if state == "reference":
        return "Fidelity: fp32 is the reference."
    if state == "not measured":
        return f"Fidelity: {result.fidelity_note}."
    shown = deciding(result)
    figure = f"{shown.plain} {shown.value:.4f}, asked {shown.limit}" if shown else "see the table"
    return f"Fidelity: {WORDS[state]} ({figure})."


def deciding(result: Result) -> FidelityRow | None:
    """The figure that is nearest to its limit or furthest beyond it; None without any."""
    judged = [row for row in rows_of(result) if row.threshold is not None]
    return min(judged, key=_margin, default=None)


def _margin(row: FidelityRow) -> float:
    """How far a figure is on the good side of its limit; the least is the one that decides."""
    distance = row.value - (row.threshold or 0.0)
    return distance if row.limit.startswith(_SIGNS[">="]) else -distance
