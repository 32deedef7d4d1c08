"""A graph of the user's own: what its inputs are, and how the file itself answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from jetlift.runtime.errors import InputError, UsageError
from jetlift.runtime.manifest import DType, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import onnx_ir as ir

MAX_BATCH = 8


def describe_inputs(
    model: ir.Model, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[TensorSpec, ...]:
    """Specs of the graph's inputs.

    Args:
        model: The graph.
        shapes: Shape to optimise for, per input that has dynamic axes besides its first.

    Raises:
        UsageError: A shape is for no input, does not fit, or is missing where it is needed.
        InputError: An input has a type that no engine takes.
    """
    names = [str(value.name) for value in model.graph.inputs]
    if unknown := set(shapes) - set(names):
        raise UsageError(f"--shape names {min(unknown)!r}", expected=f"One of {', '.join(names)}")
    return tuple(_describe(value, shapes.get(str(value.name))) for value in model.graph.inputs)


def _describe(value: ir.Value, asked: tuple[int, ...] | None) -> TensorSpec:
    from jetlift.export.graph import axes_of, dtype_of

    name, dtype, axes = str(value.name), dtype_of(value), axes_of(value)
    if dtype not in get_args(DType):
        raise InputError(
            f"Input {name} is {dtype}", expected=f"One of {', '.join(get_args(DType))}"
        )
    if asked is None:
        asked = _default_shape(name, axes)
    if len(asked) != len(axes) or any(
        isinstance(axis, int) and axis != size for axis, size in zip(axes, asked, strict=False)
    ):
        raise UsageError(f"--shape gives {name} {list(asked)}", expected=f"It is {list(axes)}")
    smallest = tuple(
        axis if isinstance(axis, int) else min(1, size)
        for axis, size in zip(axes, asked, strict=True)
    )
    largest = tuple(
        axis if isinstance(axis, int) else max(size, MAX_BATCH) if i == 0 else size
        for i, (axis, size) in enumerate(zip(axes, asked, strict=True))
    )
    return TensorSpec(
        name=name,
        dtype=dtype,  # type: ignore[arg-type]  # checked above
        shape=axes,
        min_shape=smallest,
        opt_shape=asked,
        max_shape=largest,
    )


def _default_shape(name: str, axes: Sequence[int | str]) -> tuple[int, ...]:
    if any(isinstance(axis, str) for axis in axes[1:]):
        raise UsageError(
            f"Input {name} has dynamic axes {list(axes)}",
            expected="The shape to optimise for and to measure at",
            do=f"Add --shape {name}=1x…, one number per axis",
        )
    return tuple(1 if isinstance(axis, str) else axis for axis in axes)


def answer(
    path: Path, inputs: Sequence[TensorSpec]
) -> Callable[[Mapping[str, Any]], Sequence[Any]]:
    """A function that answers as the file itself does, before anything was simplified."""

    def run(feeds: Mapping[str, Any]) -> Sequence[Any]:
        from jetlift.runtime.session import open_onnx

        with open_onnx(path, library="onnxruntime") as session:
            outputs = session.run({spec.name: feeds[spec.name] for spec in inputs})
        return list(outputs.values())

    return run
