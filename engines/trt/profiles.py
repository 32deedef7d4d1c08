"""The shapes an engine is built for: one profile from the part, checked; or several, as buckets.

Rules:
    O1  One optimisation profile from the part's min, opt and max shapes, unless buckets are asked.
    O2  TensorRT times its kernels at opt and plans memory for max: a wide profile is slow at its
        far end and large everywhere (NVIDIA/TensorRT#1166). So a wide one is told, with what to do.
    O3  Buckets split the one named axis that varies most, at equal ratios. Axes of one name belong
        together. A bucket's opt is its largest shape, which inputs are padded to. The bucket with
        the part's own opt keeps that and comes first, since sessions of jetlift run the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jetlift.runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from jetlift.runtime.manifest import TensorSpec

    Shape = tuple[int, ...]
    Cost = Callable[[Mapping[str, Shape]], float]

WIDE = 8.0  # a batch of 1 to 8 is common and passes; twice that wants a bucket


@dataclass(frozen=True)
class Range:
    """Smallest, best and largest shape of one input."""

    min: Shape
    opt: Shape
    max: Shape


def profile_of(spec: TensorSpec) -> Range:
    """Smallest, best and largest shape of an input (rule O1).

    Raises:
        UsageError: It has dynamic axes and lacks one of them, or they are out of order.
    """
    fixed = [axis for axis in spec.shape if isinstance(axis, int)]
    shapes = []
    for name in ("min_shape", "opt_shape", "max_shape"):
        shape = getattr(spec, name)
        if shape is None and len(fixed) == len(spec.shape):
            shape = tuple(fixed)
        if shape is None:
            raise UsageError(
                f"Input {spec.name} {list(spec.shape)} has dynamic axes and no {name}",
                expected="The smallest, best and largest shape to build for",
                do="Export the graph again with a shape for it",
            )
        shapes.append(tuple(shape))
    found = Range(*shapes)
    if not all(a <= b <= c for a, b, c in zip(found.min, found.opt, found.max, strict=True)):
        raise UsageError(
            f"Input {spec.name} has the shapes {found.min}, {found.opt}, {found.max}",
            expected="Smallest, best and largest, in that order on every axis",
            do="Export the graph again with other shapes for it",
        )
    return found


def profiles_of(inputs: Sequence[TensorSpec], buckets: int = 1) -> tuple[dict[str, Range], ...]:
    """The profiles to build: one (rule O1), or several buckets (rule O3).

    Returns:
        At most `buckets` profiles, fewer where the axis has fewer sizes; one where nothing varies.
        The one with the part's own opt is first.

    Raises:
        UsageError: An input has dynamic axes and no shapes to build for.
    """
    whole = {spec.name: profile_of(spec) for spec in inputs}
    axis = _widest_axis(inputs, whole)
    if buckets == 1 or axis is None:
        return (whole,)
    low, opt, high = _sizes(inputs, whole)[axis]
    return tuple(
        {spec.name: _narrowed(spec, whole[spec.name], axis, first, best, last) for spec in inputs}
        for first, best, last in _split(low, opt, high, buckets)
    )


def lint(inputs: Sequence[TensorSpec], cost: Cost | None = None) -> tuple[str, ...]:
    """Sentences on a profile that will make a slow or large engine (rule O2); empty where none.

    Args:
        inputs: The part's inputs.
        cost: Operations of one run at given shapes; None weighs by the elements of the inputs.

    Raises:
        UsageError: An input has dynamic axes and no shapes to build for.
    """
    whole = {spec.name: profile_of(spec) for spec in inputs}
    weigh, unit = (cost, "operations") if cost is not None else (_elements, "elements of the input")
    low, best, high = (
        weigh({name: getattr(item, end) for name, item in whole.items()})
        for end in ("min", "opt", "max")
    )
    if low <= 0 or high / low <= WIDE:
        return ()
    axis = _widest_axis(inputs, whole)
    sizes = _sizes(inputs, whole).get(axis or "", (0, 0, 0))
    spread = f"{axis} {sizes[0]} to {sizes[2]}, {high / low:.3g} times the {unit}"
    what = f"The profile is wide: {spread}. Kernels are timed at opt and memory is planned for the"
    split = f"split it with --profile-buckets {_offered(high / low)}, or export it narrower"
    told = [f"{what} largest; {split}."]
    if best == low:
        told.append(
            f"Its opt is its smallest shape, so inputs up to {high / low:.3g} times as heavy run "
            "with kernels that were timed at the lightest."
        )
    elif best == high:
        told.append(
            f"Its opt is its largest shape, so inputs down to 1/{high / low:.3g} of that run with "
            "kernels that were timed at the heaviest."
        )
    return tuple(told)


def _elements(shapes: Mapping[str, Shape]) -> float:
    return float(sum(np.prod(shape, dtype=np.float64) for shape in shapes.values()))


def _offered(ratio: float) -> int:
    """How many buckets bring each one down to a narrow profile."""
    return int(np.clip(np.ceil(np.log(ratio) / np.log(WIDE)), 2, 8))


def _sizes(
    inputs: Sequence[TensorSpec], whole: Mapping[str, Range]
) -> dict[str, tuple[int, int, int]]:
    """Smallest, best and largest size per named axis."""
    found: dict[str, tuple[int, int, int]] = {}
    for spec in inputs:
        own = whole[spec.name]
        for index, axis in enumerate(spec.shape):
            if isinstance(axis, str):
                found.setdefault(axis, (own.min[index], own.opt[index], own.max[index]))
    return found


def _widest_axis(inputs: Sequence[TensorSpec], whole: Mapping[str, Range]) -> str | None:
    """The named axis whose sizes are furthest apart; None where nothing varies."""
    sizes = {
        axis: high / max(low, 1)
        for axis, (low, _best, high) in _sizes(inputs, whole).items()
        if high > low
    }
    return max(sizes, key=lambda axis: sizes[axis], default=None)


def _split(low: int, opt: int, high: int, count: int) -> list[tuple[int, int, int]]:
    """Smallest, best and largest size of each bucket, without a gap (rule O3)."""
    first, step = max(low, 1), (high / max(low, 1)) ** (1 / count)
    ends = [round(first * step ** (index + 1)) for index in range(count - 1)]
    ends = sorted({end for end in ends if low <= end < high} | {high})
    starts = [low, *(end + 1 for end in ends[:-1])]
    found = [
        (start, opt if start <= opt <= end else end, end)
        for start, end in zip(starts, ends, strict=True)
    ]
    return sorted(found, key=lambda bucket: not bucket[0] <= opt <= bucket[2])


def _narrowed(spec: TensorSpec, own: Range, axis: str, first: int, best: int, last: int) -> Range:
    """An input's shapes with one named axis brought into a bucket."""

    def with_size(shape: Shape, size: int) -> Shape:
        return tuple(
            size if name == axis else was for name, was in zip(spec.shape, shape, strict=True)
        )

    return Range(with_size(own.min, first), with_size(own.opt, best), with_size(own.max, last))
