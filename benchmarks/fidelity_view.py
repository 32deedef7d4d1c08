"""Fidelity as a reader sees it: each figure, the limit it was held to, the verdict in a word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from jetlift.export.fidelity import parse_budget
from jetlift.runtime.result_parts import STRUCTURE_NOTE

if TYPE_CHECKING:
    from jetlift.export.fidelity import BudgetLine
    from jetlift.runtime.record import Result

State = Literal["reference", "met", "missed", "not measured", "structure"]

WORDS: dict[State, str] = {
    "reference": "reference",
    "met": "budget met",
    "missed": "budget missed",
    "not measured": "not measured",
    "structure": "structure",
}
_PLAIN_METRICS = {
    "cosine_mean": "mean cosine",
    "cosine_min": "lowest cosine",
    "neighbour_agreement": "same nearest neighbour",
    "spearman": "rank correlation of similarities",
    "wer": "word error rate, %",
    "wer_fp32": "word error rate of fp32, %",
    "matched": "boxes of fp32 found again",
    "precision_to_fp32": "boxes that fp32 has too",
    "ap50_to_fp32": "average precision against fp32's boxes",
    "psnr_mean": "mean PSNR, dB",
    "psnr_min": "lowest PSNR, dB",
}
_SIGNS = {">=": "\u2265", "<=": "\u2264"}


@dataclass(frozen=True)
class FidelityRow:
    """One figure of one variant.

    Attributes:
        name: As in the record, `embedding.cosine_min`.
        plain: The same in words.
        value: The figure.
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
    if result.fidelity_note == STRUCTURE_NOTE:
        return "structure"
    return "reference" if result.variant == "fp32" else "not measured"


def rows_of(result: Result) -> list[FidelityRow]:
    """Every fidelity figure of a variant with the limit that holds for it; empty without any."""
    if result.fidelity is None:
        return []
    lines, figures = parse_budget(result.fidelity.budget), result.fidelity.figures
    rows = []
    for name, value in figures.items():
        output, _, metric = name.rpartition(".")
        line = next((x for x in lines if x.metric == metric and x.output in (None, output)), None)
        base = figures.get(f"{name}_fp32", 0.0) if line and line.relative else 0.0
        rows.append(
            FidelityRow(
                name=name,
                plain=plain_name(name),
                value=value,
                limit=limit_text(line) if line else "",
                threshold=line.limit + base if line else None,
                met=line.holds(value, base) if line else None,
            )
        )
    return rows


def plain_name(name: str) -> str:
    """A figure in words, as in `patch tokens: lowest cosine`."""
    output, _, metric = name.rpartition(".")
    plain = _PLAIN_METRICS.get(metric, metric.replace("_", " "))
    return f"{output.replace('_', ' ')}: {plain}" if output else plain


def limit_text(line: BudgetLine) -> str:
    """A budget's line in a table: `≥ 0.95`, or `≤ fp32 + 0.5`."""
    sign = f"{_SIGNS[line.sign]}\u00a0"
    if not line.relative:
        return f"{sign}{line.limit:g}"
    return f"{sign}fp32\u00a0{'-' if line.limit < 0 else '+'}\u00a0{abs(line.limit):g}"


def sentence_of(result: Result) -> str:
    """One sentence: the verdict with the figure that decides it, or why there is none."""
    state = state_of(result)
    if state == "reference":
        return "Fidelity: fp32 is the reference."
    if state in ("not measured", "structure"):
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
