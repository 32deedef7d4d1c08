"""Inputs and outputs of a TensorRT engine, and the shapes it was built for.

Rules:
    P1  Types are numpy's. bfloat16, float8 and the 4-bit types have none, so an engine with such an
        input or output is refused: inside the graph they are welcome, at its border are float32
        and float16.
    P2  A run takes the first optimisation profile that all its inputs fit. Where none is left they
        are refused before TensorRT sees them, and the shapes that would fit are told.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jetlift.runtime.errors import EngineLibraryError, UsageError
from jetlift.runtime.manifest import TensorSpec
from jetlift.runtime.session.trt_library import failures

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jetlift.runtime.manifest import DType
    from jetlift.runtime.session.base import Array

    Numbers = tuple[int, ...]


@dataclass(frozen=True)
class Range:
    """What an optimisation profile says of one input.

    Attributes:
        smallest: Smallest shape.
        largest: Largest shape.
        least: Smallest values of an input that shapes follow from, flattened; else empty.
        most: Largest values of such an input.
    """

    smallest: Numbers
    largest: Numbers
    least: Numbers = ()
    most: Numbers = ()

    def holds(self, array: Array) -> bool:
        """Whether an array lies within."""
        values = tuple(int(value) for value in array.flat) if self.least else ()
        return _within(array.shape, self.smallest, self.largest) and _within(
            values, self.least, self.most
        )

    def __str__(self) -> str:
        values = f" with values from {list(self.least)} to {list(self.most)}" if self.least else ""
        return f"from {list(self.smallest)} to {list(self.largest)}{values}"


@dataclass(frozen=True)
class Port:
    """One input or output of an engine.

    Attributes:
        spec: Name, type and shape; a dynamic axis is a name.
        on_host: Whether the engine wants it in the host's memory: values that shapes follow from.
        profiles: What each optimisation profile says of an input; empty for an output.
    """

    spec: TensorSpec
    on_host: bool
    profiles: tuple[Range, ...] = ()

    @property
    def is_input(self) -> bool:
        """Whether it is an input."""
        return bool(self.profiles)


def ports_of(trt: Any, engine: Any) -> list[Port]:  # noqa: ANN401 - the libraries ship no types
    """Inputs and outputs of an engine in its own order.

    Raises:
        EngineLibraryError: One has a type that numpy lacks (rule P1), or its elements do not lie
            one behind the other.
    """
    with failures(trt, "describe the engine"):
        names = map(engine.get_tensor_name, range(engine.num_io_tensors))
        # No comprehension: its closure would hold the engine, out of reach of `forget_frames`.
        return list(map(functools.partial(_port, trt, engine), names))


def profile_for(ports: Sequence[Port], feeds: Mapping[str, Array]) -> int:
    """The first optimisation profile that all inputs fit (rule P2).

    Raises:
        UsageError: There is none.
    """
    inputs = [port for port in ports if port.is_input]
    count = max((len(port.profiles) for port in inputs), default=1)
    for index in range(count):
        if all(port.profiles[index].holds(feeds[port.spec.name]) for port in inputs):
            return index
    for port in inputs:
        array = feeds[port.spec.name]
        if not any(each.holds(array) for each in port.profiles):
            values = f" with values {array.ravel().tolist()}" if port.profiles[0].least else ""
            raise UsageError(
                f"Input {port.spec.name} got {list(array.shape)}{values}",
                expected=f"This engine runs {_either(port.profiles)}",
                do="Build it again for other shapes, or bring the input to one of these",
            )
    shapes = ", ".join(f"{port.spec.name} {list(feeds[port.spec.name].shape)}" for port in inputs)
    raise UsageError(
        f"Inputs got {shapes}",
        expected=f"Shapes within one of the engine's {count} optimisation profiles",
        do="Build it again for other shapes",
    )


def _either(profiles: Sequence[Range]) -> str:
    return ", or ".join(dict.fromkeys(map(str, profiles)))


def _within(found: Numbers, least: Numbers, most: Numbers) -> bool:
    return len(found) == len(least) and all(
        low <= number <= high for number, low, high in zip(found, least, most, strict=True)
    )


def _port(trt: Any, engine: Any, name: str) -> Port:  # noqa: ANN401
    shape = tuple(int(axis) for axis in engine.get_tensor_shape(name))
    if engine.get_tensor_vectorized_dim(name) != -1:
        raise EngineLibraryError(
            f"Tensor {name} lies in the form {engine.get_tensor_format_desc(name)}",
            expected="Elements one behind the other",
            do="Build the engine with jetlift, or without input and output formats",
        )
    axes = tuple(f"{name}_axis_{i}" if axis < 0 else axis for i, axis in enumerate(shape))
    spec = TensorSpec(name, _dtype(trt, engine, name), axes)
    on_host = engine.get_tensor_location(name) == trt.TensorLocation.HOST
    if engine.get_tensor_mode(name) != trt.TensorIOMode.INPUT:
        return Port(spec, on_host)
    ranges = map(
        functools.partial(_range, engine, name, shape), range(engine.num_optimization_profiles)
    )
    return Port(spec, on_host, tuple(ranges))


def _range(engine: Any, name: str, shape: Numbers, index: int) -> Range:  # noqa: ANN401
    """What a profile says of an input.

    `get_tensor_profile_values` takes the number first, though the bindings call it `name` and the
    name `profile_index` (NVIDIA/TensorRT@v11.1:python/src/infer/pyCore.cpp), so neither is called
    by its name here.
    """
    if -1 in shape:
        smallest, _, largest = engine.get_tensor_profile_shape(name, index)
        return Range(tuple(map(int, smallest)), tuple(map(int, largest)))
    values: Sequence[Sequence[int]] = ()
    if engine.is_shape_inference_io(name):
        values = engine.get_tensor_profile_values(index, name)
    if not values:
        return Range(shape, shape)
    return Range(shape, shape, tuple(values[0]), tuple(values[-1]))


def _dtype(trt: Any, engine: Any, name: str) -> DType:  # noqa: ANN401
    kinds: dict[Any, DType] = {
        trt.DataType.FLOAT: "float32",
        trt.DataType.HALF: "float16",
        trt.DataType.INT64: "int64",
        trt.DataType.INT32: "int32",
        trt.DataType.INT8: "int8",
        trt.DataType.UINT8: "uint8",
        trt.DataType.BOOL: "bool",
    }
    kind = engine.get_tensor_dtype(name)
    if kind not in kinds:
        raise EngineLibraryError(
            f"Tensor {name} is {kind}, which numpy has no type for",
            expected=f"One of {', '.join(kinds.values())}",
            do="Export the graph with float32 or float16 inputs and outputs",
        )
    return kinds[kind]
