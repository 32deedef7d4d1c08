"""Inputs and outputs of a compiled OpenVINO model, as jetlift describes tensors."""

from __future__ import annotations

from typing import Any

from jetlift.runtime.errors import EngineLibraryError
from jetlift.runtime.manifest import TensorSpec

_DTYPES = {
    "f32": "float32", "f16": "float16", "i64": "int64", "i32": "int32",
    "i8": "int8", "u8": "uint8", "boolean": "bool",
}  # fmt: skip


def specs_of(ports: Any) -> list[TensorSpec]:  # noqa: ANN401 - the library ships no types
    """Specs of a compiled model's inputs or outputs, in their order; a dynamic axis gets a name.

    Raises:
        EngineLibraryError: One has no known rank, or a type that jetlift does not know.
    """
    return [_spec(port) for port in ports]


def fixed_shapes(ports: Any) -> dict[int, tuple[int, ...]]:  # noqa: ANN401
    """Shapes of those ports that have the same in every run, by their number."""
    shapes = {number: port.get_partial_shape() for number, port in enumerate(ports)}
    return {number: tuple(shape.to_shape()) for number, shape in shapes.items() if shape.is_static}


def _spec(port: Any) -> TensorSpec:  # noqa: ANN401
    kind, shape = port.get_element_type().get_type_name(), port.get_partial_shape()
    name = _name(port)
    if kind not in _DTYPES or shape.rank.is_dynamic:
        raise EngineLibraryError(
            f"Tensor {name} is {kind}{shape}",
            expected=f"A known rank and one of {', '.join(_DTYPES.values())}",
        )
    axes = tuple(
        f"{name}_axis_{i}" if axis.is_dynamic else axis.get_length() for i, axis in enumerate(shape)
    )
    return TensorSpec(name=name, dtype=_DTYPES[kind], shape=axes)  # type: ignore[arg-type]


def _name(port: Any) -> str:  # noqa: ANN401
    """Name of a graph input or output.

    A port bears the names of all tensors that optimisation made one with it, in no useful order;
    the node behind it is called after the one that the graph declares.
    """
    declared = str(port.node.get_friendly_name()).removesuffix("/sink_port_0")
    return declared if declared in port.names else str(port.any_name)
