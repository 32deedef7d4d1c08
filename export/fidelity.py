"""How near a variant is to fp32, by the task's own metric, on samples that calibration never saw.

Metrics of an output of shape [1, ..., D], one row per vector along the last axis:
    cosine_mean, cosine_min   cosine of each fp32 row with the variant's row
    neighbour_agreement       share of samples whose nearest other sample (by cosine) is the same
    spearman                  rank correlation of all pair similarities, fp32 against the variant
The last two need one vector per sample and at least 3 samples.

A budget is a list of lines `output.metric>=number` or `<=number`, separated by commas; without the
output's name a line holds for every output that has the metric.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.runtime.errors import FidelityError, UsageError
from jetlift.runtime.manifest import Fidelity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import numpy.typing as npt

    from jetlift.export.samples import Samples
    from jetlift.runtime.session.base import Session

    Floats = npt.NDArray[np.floating[Any]]

OWN_GRAPH_BUDGET = "cosine_mean>=0.99, cosine_min>=0.95"
METRICS = ("cosine_mean", "cosine_min", "neighbour_agreement", "spearman")
_LINE = re.compile(
    r"(?:(?P<output>[\w.-]+)\.)?(?P<metric>\w+)\s*(?P<sign>[<>]=)\s*(?P<limit>[\d.eE+-]+)"
)


@dataclass(frozen=True)
class BudgetLine:
    """One limit on one metric."""

    output: str | None
    metric: str
    sign: str
    limit: float

    def holds(self, value: float) -> bool:
        """Whether a value is within the limit. NaN never is."""
        return value >= self.limit if self.sign == ">=" else value <= self.limit


def parse_budget(text: str) -> tuple[BudgetLine, ...]:
    """Read a fidelity budget.

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
        if match is None or limit is None or match["metric"] not in METRICS:
            raise UsageError(
                f"The fidelity budget has {piece!r}",
                expected=f"Lines like 'embedding.cosine_min>=0.98'; metrics: {', '.join(METRICS)}",
            )
        lines.append(BudgetLine(match["output"], match["metric"], match["sign"], limit))
    if not lines:
        raise UsageError("The fidelity budget is empty", expected="At least one line")
    return tuple(lines)


def breaches(figures: Mapping[str, float], budget: Sequence[BudgetLine]) -> list[str]:
    """Lines of the budget that the figures miss, in words.

    Raises:
        UsageError: A line is about a figure that was not measured.
    """
    missed = []
    for line in budget:
        names = [f"{line.output}.{line.metric}"] if line.output else _all_of(line.metric, figures)
        for name in names:
            if name not in figures:
                raise UsageError(
                    f"The budget asks for {name}", expected=f"One of {', '.join(sorted(figures))}"
                )
            if not line.holds(figures[name]):
                missed.append(f"{name} is {figures[name]:.4f}, asked {line.sign} {line.limit:g}")
        if not names:
            raise UsageError(f"The budget asks for {line.metric}", expected="A measured metric")
    return missed


def _all_of(metric: str, figures: Mapping[str, float]) -> list[str]:
    return [name for name in figures if name.rpartition(".")[2] == metric]


def compare(
    reference: Mapping[str, Sequence[Floats]], other: Mapping[str, Sequence[Floats]]
) -> dict[str, float]:
    """Figures of a variant's outputs against fp32's, sample by sample.

    Args:
        reference: Per output, one array [1, ..., D] per sample.
        other: The same from the variant.
    """
    figures: dict[str, float] = {}
    for name, wanted in reference.items():
        got = other[name]
        cosines = np.concatenate([row_cosines(a, b) for a, b in zip(wanted, got, strict=True)])
        figures[f"{name}.cosine_mean"] = float(cosines.mean())
        figures[f"{name}.cosine_min"] = float(cosines.min())
        if len(wanted) >= 3 and wanted[0].size == wanted[0].shape[-1]:
            figures |= _ranking_figures(name, wanted, got)
    return figures


def row_cosines(a: Floats, b: Floats) -> npt.NDArray[np.float64]:
    """Cosine per row along the last axis; two zero rows agree (1), a zero and another do not (0).

    NaN or infinity in either row gives 0, so that a broken variant never looks near.
    """
    first = np.atleast_2d(a.reshape(-1, a.shape[-1])).astype(np.float64)
    second = np.atleast_2d(b.reshape(-1, b.shape[-1])).astype(np.float64)
    with np.errstate(all="ignore"):
        norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
        cosines = np.einsum("ij,ij->i", first, second) / norms
    both_zero = ~first.any(axis=1) & ~second.any(axis=1)
    cosines = np.where(np.isfinite(cosines), cosines, 0.0)
    clipped: npt.NDArray[np.float64] = np.clip(np.where(both_zero, 1.0, cosines), -1.0, 1.0)
    return clipped


def spearman(a: Floats, b: Floats) -> float:
    """Spearman's rank correlation with average ranks for ties. Constant input gives 0."""
    x, y = _ranks(a), _ranks(b)
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / scale if scale > 0 else 0.0


def _ranking_figures(
    name: str, wanted: Sequence[Floats], got: Sequence[Floats]
) -> dict[str, float]:
    similar_a, similar_b = _similarities(wanted), _similarities(got)
    pairs = np.triu_indices(len(wanted), k=1)
    np.fill_diagonal(similar_a, -np.inf)
    np.fill_diagonal(similar_b, -np.inf)
    agree = similar_a.argmax(axis=1) == similar_b.argmax(axis=1)
    return {
        f"{name}.neighbour_agreement": float(agree.mean()),
        f"{name}.spearman": spearman(similar_a[pairs], similar_b[pairs]),
    }


def _similarities(vectors: Sequence[Floats]) -> npt.NDArray[np.float64]:
    rows = np.stack([vector.reshape(-1) for vector in vectors]).astype(np.float64)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
    similar: npt.NDArray[np.float64] = np.nan_to_num(rows @ rows.T)
    return similar


def _ranks(values: Floats) -> npt.NDArray[np.float64]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    average = (ends - counts + ends - 1) / 2
    return np.asarray(average[inverse.reshape(-1)], np.float64)


def outputs_of(
    session: Session,
    feeds: Iterable[Mapping[str, Any]],
    *,
    progress: Callable[[], None] | None = None,
) -> dict[str, list[Floats]]:
    """Run a session on every sample and collect each output's arrays."""
    collected: dict[str, list[Floats]] = {spec.name: [] for spec in session.outputs}
    for sample in feeds:
        for name, array in session.run(sample).items():
            collected[name].append(array)
        if progress is not None:
            progress()
    return collected


def judge(
    figures: Mapping[str, float], budget: str, samples: Samples, computed_by: str
) -> Fidelity:
    """The manifest's word on a variant's fidelity."""
    missed = breaches(figures, parse_budget(budget))
    return Fidelity(
        figures=dict(figures),
        budget=budget,
        met=not missed,
        samples=samples.described,
        computed_by=computed_by,
    )


def refusal(part: str, variant: str, fidelity: Fidelity) -> FidelityError:
    """The error for a variant that misses its budget."""
    missed = breaches(fidelity.figures, parse_budget(fidelity.budget))
    return FidelityError(
        f"Variant {variant} of part {part} misses its fidelity budget: {'; '.join(missed)}",
        expected=f"Budget: {fidelity.budget} (on {fidelity.samples.count} samples)",
        do="Give more representative --samples, loosen --fidelity, leave the precision out, or "
        "keep it as it is with --keep",
    )
