"""A variant before its judge: outputs on real samples, figures, the budget's word on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jetlift.export.fidelity.budget import breaches, parse_budget
from jetlift.runtime.errors import FidelityError
from jetlift.runtime.manifest import Fidelity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import numpy.typing as npt

    from jetlift.export.samples import Samples
    from jetlift.runtime.session.base import Session


def outputs_of(
    session: Session,
    feeds: Iterable[Mapping[str, Any]],
    *,
    progress: Callable[[], None] | None = None,
) -> dict[str, list[npt.NDArray[Any]]]:
    """Run a session on every sample and collect each output's arrays."""
    collected: dict[str, list[npt.NDArray[Any]]] = {spec.name: [] for spec in session.outputs}
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


def refusal(
    part: str, variant: str, fidelity: Fidelity, worst: Sequence[str] = ()
) -> FidelityError:
    """The error for a variant that misses its budget.

    Args:
        part: Name of the part.
        variant: Name of the variant.
        fidelity: Its figures.
        worst: The tensors that lost most, in words.
    """
    missed = breaches(fidelity.figures, parse_budget(fidelity.budget))
    lost = f". Tensors that lost most: {'; '.join(worst)}" if worst else ""
    return FidelityError(
        f"Variant {variant} of part {part} misses its fidelity budget: {'; '.join(missed)}{lost}",
        expected=f"Budget: {fidelity.budget} (on {fidelity.samples.count} samples)",
        do="Give more representative --samples, loosen --fidelity, leave the precision out, or "
        "keep it as it is with --keep",
    )
