"""A budget's verdict as a report shows it, of a run and of a benchmark alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jetlift.runtime.budget import reasons_of, rows_of, said_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jetlift.benchmarks.report_table import Tone
    from jetlift.runtime.budget_form import BudgetVerdict

_TONES: dict[str, Tone] = {"ok": "good", "missed": "bad", "not measured": "bad"}


@dataclass(frozen=True)
class BudgetRow:
    """One line of the verdict."""

    name: str
    texts: tuple[str, ...]
    tone: Tone


@dataclass(frozen=True)
class BudgetView:
    """A verdict in words.

    Attributes:
        verdict: In a sentence; empty where there was no budget.
        met: Whether it was met.
        budget: Its lines.
        reasons: What was judged, and why lines have no figure.
    """

    verdict: str = ""
    met: bool = True
    budget: tuple[BudgetRow, ...] = ()
    reasons: tuple[str, ...] = ()


def view_budget(verdict: BudgetVerdict | None) -> BudgetView:
    """Say what a verdict says; an empty view where there is none."""
    if verdict is None:
        return BudgetView()
    judged = (f"Judged: {', '.join(verdict.judged)}.",) if verdict.judged else ()
    return BudgetView(
        verdict=f"Budget {verdict.budget}: {said_of(verdict)}",
        met=verdict.met,
        budget=tuple(_rows(verdict)),
        reasons=judged + reasons_of(verdict),
    )


def _rows(verdict: BudgetVerdict) -> Iterator[BudgetRow]:
    calm = {line.name for line in verdict.lines if line.optional and line.state == "not measured"}
    for name, *texts in rows_of(verdict):
        yield BudgetRow(name, tuple(texts), "plain" if name in calm else _TONES[texts[-1]])
