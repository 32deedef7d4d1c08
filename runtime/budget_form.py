"""What a budget file says, and the verdict on it.

The published schema of the file is docs/schemas/budget.schema.json, generated from `BudgetFile`.
Each limit's name ends in its unit, so that no number stands without one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jetlift.runtime.figure import Figure  # noqa: TC001 - jsonform reads the hints at run time
from jetlift.runtime.jsonform import field

State = Literal["ok", "missed", "not measured"]

# A bound of a fidelity figure, as in `>=0.98` or `<=+0.5`; a sign before the number makes it a
# distance from fp32's own figure.
BOUND = r"\s*[<>]=\s*[+-]?\d[\d.]*(?:[eE][+-]?\d+)?\s*"


@dataclass(frozen=True)
class Head:
    """What the limits are for."""

    name: str = field(doc="What the budget is called, as in orin-nano-camera-30fps")
    device: str | None = field(
        doc="The board it is for, as 'jetlift targets' names it; without it any machine will do",
        default=None,
    )
    power_mode: str | None = field(
        doc="Name of the board's power mode, as nvpmodel has it, as in 15W", default=None
    )
    note: str = field(doc="What a reader should know of the numbers", default="")


@dataclass(frozen=True)
class Limit:
    """A limit that may go unmeasured."""

    limit: float = field(doc="The limit, in the unit that the name ends in")
    optional: bool = field(
        doc="Whether a figure that could not be measured leaves the verdict as it is",
        default=False,
    )


@dataclass(frozen=True)
class FidelityLimit:
    """A bound of a fidelity figure that may go unmeasured."""

    limit: str = field(doc="The bound, as in >=0.98 or <=+0.5", pattern=BOUND)
    optional: bool = field(
        doc="Whether a figure that could not be measured leaves the verdict as it is",
        default=False,
    )


@dataclass(frozen=True)
class Limits:
    """The limits; each may be left out."""

    latency_p50_ms: float | Limit | None = field(
        doc="At most: median time that one item is worked on, waiting left out", default=None
    )
    latency_p99_ms: float | Limit | None = field(
        doc="At most: 99th percentile of the same", default=None
    )
    age_p99_ms: float | Limit | None = field(
        doc="At most: 99th percentile of the time from camera to result, waiting included",
        default=None,
    )
    throughput_per_s: float | Limit | None = field(
        doc="At least: results per second over the whole run", default=None
    )
    memory_mib: float | Limit | None = field(
        doc="At most: most memory that the process ever had resident, in MiB", default=None
    )
    power_w: float | Limit | None = field(doc="At most: mean power in watts", default=None)
    energy_j_per_item: float | Limit | None = field(
        doc="At most: mean power over throughput, in joules per result", default=None
    )
    cold_start_s: float | Limit | None = field(
        doc="At most: from the start of the process to the first result, in seconds", default=None
    )
    size_mib: float | Limit | None = field(
        doc="At most: the engines' files on disk together, in MiB", default=None
    )
    dropped_share: float | Limit | None = field(
        doc="At most: share of a live source's frames without a result, 0 to 1", default=None
    )
    fidelity: dict[str, str | FidelityLimit] | None = field(
        doc="Bound per fidelity figure, by `output.metric` or, for every output, `metric`",
        default=None,
    )


@dataclass(frozen=True)
class BudgetFile:
    """The whole of a budget file."""

    budget: Head = field(doc="What the limits are for")
    limits: Limits = field(doc="The limits, at least one")


@dataclass(frozen=True)
class Condition:
    """What has to be so, for the figures to say anything about the budget."""

    name: Literal["device", "power mode"] = field(doc="What is asked of the machine")
    asked: str = field(doc="What the budget names")
    found: str | None = field(doc="What this machine says; null where it does not tell")
    state: State = field(doc="Whether they are the same")


@dataclass(frozen=True)
class LimitLine:
    """One limit, judged."""

    name: str = field(doc="As in the budget, with its unit; fidelity figures as fidelity.NAME")
    sign: Literal["<=", ">="] = field(doc="Whether the limit is the most or the least")
    limit: float = field(doc="The limit")
    value: Figure = field(doc="The figure; the worst, where several parts have it")
    margin_percent: Figure = field(
        doc="How far the figure is on the good side of the limit, in percent of it; negative "
        "where it is beyond"
    )
    state: State = field(doc="Whether it is kept")
    optional: bool = field(doc="Whether a figure that is missing leaves the verdict as it is")


@dataclass(frozen=True)
class BudgetVerdict:
    """What became of a budget."""

    budget: str = field(doc="Name of the budget")
    met: bool = field(
        doc="Whether every condition and limit is ok, but for optional ones without a figure"
    )
    conditions: tuple[Condition, ...] = field(doc="What the budget asks of the machine")
    lines: tuple[LimitLine, ...] = field(doc="One per limit, in the order of the schema")
    judged: tuple[str, ...] = field(
        doc="Of a benchmark: part and variant that was judged, one per part. Empty of a run",
        default=(),
    )
    noisy: tuple[str, ...] = field(
        doc="Of those: part and variant whose measuring something disturbed", default=()
    )
