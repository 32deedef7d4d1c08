"""A fidelity budget: lines like `embedding.cosine_min>=0.98`, separated by commas.

Rules:
    B1  A line is `output.metric>=number` or `<=number`; without the output's name it holds for
        every output that has the metric.
    B2  A signed number, as in `wer<=+0.5`, is a distance from fp32's own figure on the same
        samples, in the metric's unit; fp32's figure is `metric_fp32`.
    B3  A line about a figure that was not measured is an error, never a pass.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jetlift.runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

OWN_GRAPH_BUDGET = "cosine_mean>=0.99, cosine_min>=0.95"
_LINE = re.compile(
    r"(?:(?P<output>[\w.-]+)\.)?(?P<metric>\w+)\s*(?P<sign>[<>]=)\s*"
    r"(?P<relative>[+-])?(?P<limit>\d[\d.]*(?:[eE][+-]?\d+)?)"
)
_BASE = "_fp32"


@dataclass(frozen=True)
class BudgetLine:
    """One limit on one metric.

    Attributes:
        output: Name of the output; None for every output that has the metric.
        metric: Name of the metric.
        sign: `>=` or `<=`.
        limit: The limit, or with `relative` the distance from fp32's figure.
        relative: Whether it is such a distance.
    """

    output: str | None
    metric: str
    sign: str
    limit: float
    relative: bool = False

    def slack(self, value: float, base: float = 0.0) -> float:
        """How far within the limit a value is; negative where it misses, NaN for NaN."""
        limit = base + self.limit if self.relative else self.limit
        return value - limit if self.sign == ">=" else limit - value

    def holds(self, value: float, base: float = 0.0) -> bool:
        """Whether a value is within the limit. NaN never is."""
        return self.slack(value, base) >= 0

    def __str__(self) -> str:
        number = f"{self.limit:+g}" if self.relative else f"{self.limit:g}"
        return f"{self.sign} {number}" + (" of fp32's" if self.relative else "")


def parse_budget(text: str, names: Sequence[str] | None = None) -> tuple[BudgetLine, ...]:
    """Read a fidelity budget (rules B1 and B2).

    Args:
        text: The lines.
        names: Metrics that can be measured; None where they are not known yet.

    Raises:
        UsageError: A line cannot be read or names an unknown metric.
    """
    lines = []
    for piece in filter(None, (item.strip() for item in text.split(","))):
        match = _LINE.fullmatch(piece)
        try:
            limit = float(match["limit"]) if match else None
        except ValueError:
            limit = None
        if match is None or limit is None or (names is not None and match["metric"] not in names):
            known = f"; metrics: {', '.join(names)}" if names is not None else ""
            raise UsageError(
                f"The fidelity budget has {piece!r}",
                expected=f"Lines like 'embedding.cosine_min>=0.98' or 'wer<=+0.5'{known}",
            )
        signed = -limit if match["relative"] == "-" else limit
        relative = match["relative"] is not None
        lines.append(BudgetLine(match["output"], match["metric"], match["sign"], signed, relative))
    if not lines:
        raise UsageError("The fidelity budget is empty", expected="At least one line")
    return tuple(lines)


def lines_for(text: str, names: Sequence[str]) -> str:
    """The lines of a budget that are about these metrics, as a budget; empty where none is."""
    pieces = [item.strip() for item in text.split(",") if item.strip()]
    return ", ".join(piece for piece in pieces if parse_budget(piece)[0].metric in names)


def breaches(figures: Mapping[str, float], budget: Sequence[BudgetLine]) -> list[str]:
    """Lines of the budget that the figures miss, in words.

    Raises:
        UsageError: A line is about a figure that was not measured.
    """
    missed = []
    for line, name, base in _measured(figures, budget):
        if not line.holds(figures[name], base):
            against = f" (fp32 {base:.4g})" if line.relative else ""
            missed.append(f"{name} is {figures[name]:.4f}{against}, asked {line}")
    return missed


def worst_slack(figures: Mapping[str, float], budget: Sequence[BudgetLine]) -> float:
    """How far the nearest line is from being missed, as a share of what may be lost.

    1 is as good as fp32 (or perfect), 0 on the limit, negative beyond it. The share makes lines
    of different metrics comparable; a line without room (limit equal to fp32's own) is judged by
    its plain distance.

    Raises:
        UsageError: A line is about a figure that was not measured.
    """
    shares = []
    for line, name, base in _measured(figures, budget):
        ideal = base if line.relative else 1.0 if line.sign == ">=" else 0.0
        room = line.slack(ideal, base)
        slack = line.slack(figures[name], base)
        share = slack / room if room > 0 else slack
        shares.append(share if share == share else float("-inf"))  # noqa: PLR0124 - NaN is lost
    return min(shares)


def _measured(
    figures: Mapping[str, float], budget: Sequence[BudgetLine]
) -> list[tuple[BudgetLine, str, float]]:
    """Each line with the figures it is about and fp32's figure (rules B1 to B3)."""
    rows = []
    for line in budget:
        names = [f"{line.output}.{line.metric}"] if line.output else _all_of(line.metric, figures)
        if not names:
            raise _not_measured(line.metric, figures)
        for name in names:
            base = figures.get(f"{name}{_BASE}") if line.relative else 0.0
            if name not in figures or base is None:
                raise _not_measured(name if name not in figures else f"{name}{_BASE}", figures)
            rows.append((line, name, base))
    return rows


def _not_measured(name: str, figures: Mapping[str, float]) -> UsageError:
    return UsageError(
        f"The budget asks for {name}", expected=f"One of {', '.join(sorted(figures))}"
    )


def _all_of(metric: str, figures: Mapping[str, float]) -> list[str]:
    return [name for name in figures if name.rpartition(".")[2] == metric]
