"""Budgets: the limits of a deployment, and whether a run or a measurement keeps them.

Rules:
    G1  A budget file is TOML of the form of jetlift.runtime.budget_form. An unknown name or unit is
        refused with the nearest one that is known.
    G2  A limit on a figure that was not measured is not kept: the verdict is no. Only a limit that
        says `optional = true` leaves the verdict as it is, and its line still says 'not measured'.
    G3  A budget for a board or power mode says nothing elsewhere: on another one, or where the
        machine does not tell, the verdict is no.
    G4  A fidelity bound without an output's name holds for every output with that metric; a signed
        number is a distance from fp32's own figure. It reads as the budgets of an export do.
    G5  What runs at fp32 is the reference itself, so a fidelity bound on it alone is kept.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from jetlift.runtime.budget_file import NAMES, bound_of, limit_of, parse_bound, read_budget
from jetlift.runtime.budget_form import (
    BudgetFile,
    BudgetVerdict,
    Condition,
    Head,
    LimitLine,
    Limits,
)
from jetlift.runtime.errors import GateError
from jetlift.runtime.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jetlift.runtime.budget_file import Sign
    from jetlift.runtime.budget_form import State

__all__ = ["read_budget"]

AT_LEAST = frozenset({"throughput_per_s"})
_DASH = "\u2013"
_NOT_GIVEN = Figure.missing("nobody measured it")
_REFERENCE = Figure.missing("fp32 is the reference")
_BASE = "_fp32"  # of a fidelity figure's name: fp32's own, as the export writes it


@dataclass(frozen=True)
class Figures:
    """What is held against a budget.

    Attributes:
        values: Per limit's name, in its unit.
        fidelity: Per part at another precision than fp32, its figures by `output.metric`.
        unjudged: Why parts have no fidelity figures, a clause per part; empty where all have.
        device: The board's name, as 'jetlift targets' has it; None where it is none of them.
        power_mode: The board's power mode; None where it does not tell.
    """

    values: Mapping[str, Figure] = field(default_factory=dict)
    fidelity: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    unjudged: tuple[str, ...] = ()
    device: str | None = None
    power_mode: str | None = None


def judge(budget: BudgetFile, figures: Figures) -> BudgetVerdict:
    """Hold figures against a budget (rules G2 to G5)."""
    conditions = tuple(_conditions(budget.budget, figures))
    lines = (*_plain_lines(budget.limits, figures), *_fidelity_lines(budget.limits, figures))
    met = all(item.state == "ok" for item in conditions) and all(
        line.state == "ok" or (line.state == "not measured" and line.optional) for line in lines
    )
    return BudgetVerdict(budget.budget.name, met, conditions, lines)


def refuse_missed(verdict: BudgetVerdict) -> None:
    """Raise where a verdict is no, so that the exit code says it.

    Raises:
        GateError: The budget is not met; it names what is missed first.
    """
    if verdict.met:
        return
    wrong = [_mismatch(item) for item in verdict.conditions if item.state != "ok"]
    wrong += [
        f"{line.name} {line.state}"
        for line in verdict.lines
        if line.state == "missed" or (line.state == "not measured" and not line.optional)
    ]
    raise GateError(
        f"Budget {verdict.budget} is not met: {', '.join(wrong)}",
        expected="Expected every limit kept, and measured unless it is optional",
    )


def row_of(line: LimitLine) -> tuple[str, str, str, str, str]:
    """A line in words for a table: limit's name, figure, limit, margin, state."""
    value = _DASH if line.value.value is None else f"{line.value.value:.4g}"
    margin = "" if line.margin_percent.value is None else f"{line.margin_percent.value:+.0f} %"
    sign = "\u2264" if line.sign == "<=" else "\u2265"
    return line.name, value, f"{sign} {line.limit:g}", margin, line.state


def rows_of(verdict: BudgetVerdict) -> tuple[tuple[str, str, str, str, str], ...]:
    """A verdict as a table: what is asked of the machine, then every limit, as `row_of`."""
    asked = tuple(
        (item.name, item.found or _DASH, item.asked, "", item.state) for item in verdict.conditions
    )
    return asked + tuple(map(row_of, verdict.lines))


def said_of(verdict: BudgetVerdict) -> str:
    """The verdict in a few words."""
    noisy = ", judged on a noisy measurement" if verdict.noisy else ""
    return ("met" if verdict.met else "not met") + noisy


def reasons_of(verdict: BudgetVerdict) -> tuple[str, ...]:
    """What a reader has to know: noise, then why lines have no figure; a sentence each."""
    noisy = (
        f"Judged on a noisy measurement: {', '.join(verdict.noisy)}. Measured again on a machine "
        "that does nothing else, the verdict may be another."
    )
    return ((noisy,) if verdict.noisy else ()) + tuple(
        f"{line.name} was not measured: {line.value.reason}."
        + (" It is optional." if line.optional else "")
        if line.state == "not measured"
        else f"{line.name} is kept: {line.value.reason}."
        for line in verdict.lines
        if line.value.value is None
    )


def _mismatch(item: Condition) -> str:
    return f"the {item.name} is {item.found or 'not known here'}, and {item.asked} is asked"


def _conditions(head: Head, figures: Figures) -> Iterator[Condition]:
    if head.device is not None:
        yield _condition("device", head.device, figures.device)
    if head.power_mode is not None:
        yield _condition("power mode", head.power_mode, figures.power_mode)


def _condition(name: Literal["device", "power mode"], asked: str, found: str | None) -> Condition:
    state: State = "not measured" if found is None else "ok" if found == asked else "missed"
    return Condition(name, asked, found, state)


def _plain_lines(limits: Limits, figures: Figures) -> Iterator[LimitLine]:
    for name in NAMES:
        limit = limit_of(limits, name)
        if limit is not None:
            sign: Sign = ">=" if name in AT_LEAST else "<="
            value = figures.values.get(name, _NOT_GIVEN)
            yield _line(name, sign, limit.limit, value, optional=limit.optional)


def _fidelity_lines(limits: Limits, figures: Figures) -> Iterator[LimitLine]:
    for name, given in (limits.fidelity or {}).items():
        bound = bound_of(given)
        sign, number, relative = parse_bound(name, bound.limit)
        label = f"fidelity.{name}"
        rows = _fidelity_rows(name, number, figures, relative=relative)
        if figures.unjudged or not rows:
            yield _unmeasured_fidelity(label, sign, number, figures, optional=bound.optional)
        else:
            judged = [
                _line(label, sign, limit, Figure(value), optional=bound.optional)
                for limit, value in rows
            ]
            yield min(judged, key=_slack)


def _fidelity_rows(
    name: str, number: float, figures: Figures, *, relative: bool
) -> list[tuple[float, float]]:
    """Limit and figure, for every figure that a bound is about (rule G4)."""
    rows = []
    for own in figures.fidelity.values():
        for full, value in own.items():
            if name not in (full, full.rpartition(".")[2]):
                continue
            base = own.get(f"{full}{_BASE}") if relative else 0.0
            if base is not None:
                rows.append((base + number, value))
    return rows


def _unmeasured_fidelity(
    name: str, sign: Sign, limit: float, figures: Figures, *, optional: bool
) -> LimitLine:
    """A bound without a figure: kept where everything runs at fp32 (rule G5)."""
    if not figures.fidelity and not figures.unjudged:
        return LimitLine(name, sign, limit, _REFERENCE, _REFERENCE, "ok", optional)
    have = ", ".join(sorted({full for own in figures.fidelity.values() for full in own}))
    reason = "; ".join(figures.unjudged) or f"the bundle has {have} alone"
    return _line(name, sign, limit, Figure.missing(reason), optional=optional)


def _line(name: str, sign: Sign, limit: float, value: Figure, *, optional: bool) -> LimitLine:
    if value.value is None:
        none = Figure.missing("there is no figure")
        return LimitLine(name, sign, limit, value, none, "not measured", optional)
    kept = value.value <= limit if sign == "<=" else value.value >= limit
    margin = _margin(sign, limit, value.value)
    state: State = "ok" if kept else "missed"  # NaN is on no side of a limit, so it misses
    return LimitLine(name, sign, limit, value, margin, state, optional)


def _margin(sign: Sign, limit: float, value: float) -> Figure:
    if limit == 0:
        return Figure.missing("there are no percent of a limit of 0")
    if not math.isfinite(value):
        return Figure.missing("the figure is not finite")
    distance = limit - value if sign == "<=" else value - limit
    return Figure(round(distance / abs(limit) * 100, 2))


def _slack(line: LimitLine) -> float:
    """Order of lines of one bound: the worst first."""
    if line.state != "ok" and line.margin_percent.value is None:
        return -math.inf
    distance = line.limit - float(line.value.value or 0.0)
    return distance if line.sign == "<=" else -distance
