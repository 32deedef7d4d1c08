"""Whether a part takes a batch, and at which shapes it is then measured.

Rules:
    B1  The batch is the first axis of the first input whose first axis is dynamic, and every axis
        of its name follows it, as a mask's does.
    B2  A batch is measured only where the part's profile admits it: an engine built for 1 to 4
        takes no 8. Other dynamic axes stay at their opt_shape.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jetlift.runtime.errors import UsageError
from jetlift.runtime.feeds import measured_shape

if TYPE_CHECKING:
    from jetlift.runtime.manifest import Part, TensorSpec


def batch_of(part: Part) -> int:
    """Items per run at the shapes that the part is measured at by itself."""
    shape = measured_shape(part.inputs[0]) if part.inputs else ()
    return shape[0] if shape else 1


def shapes_at(part: Part, batch: int) -> dict[str, tuple[int, ...]]:
    """Shape of every input at a batch (rule B1).

    Raises:
        UsageError: The part's profile does not admit it (rule B2).
    """
    name = _batch_axis(part)
    if name is None:
        if batch == batch_of(part):
            return {spec.name: measured_shape(spec) for spec in part.inputs}
        raise UsageError(
            f"The graph takes {batch_of(part)} at a time and no other number",
            expected="A graph whose first axis is dynamic",
            do="Export it with a dynamic batch to measure others",
        )
    return {spec.name: _shape(spec, name, batch) for spec in part.inputs}


def largest_batch(part: Part, wanted: int) -> int:
    """The largest batch up to `wanted` that the profile admits; the part's own where none is."""
    for batch in range(wanted, 1, -1):
        try:
            shapes_at(part, batch)
        except UsageError:
            continue
        return batch
    return batch_of(part)


def _batch_axis(part: Part) -> str | None:
    firsts = (spec.shape[0] for spec in part.inputs if spec.shape)
    return next((axis for axis in firsts if isinstance(axis, str)), None)


def _shape(spec: TensorSpec, name: str, batch: int) -> tuple[int, ...]:
    own = measured_shape(spec)
    shape = tuple(
        batch if axis == name else size for axis, size in zip(spec.shape, own, strict=True)
    )
    least, most = spec.min_shape or shape, spec.max_shape or shape
    for low, size, high in zip(least, shape, most, strict=True):
        if not low <= size <= high:
            raise UsageError(
                f"The part's profile takes batches of {low} to {high}, not {size}",
                do="Export it for larger ones to measure them",
            )
    return shape
