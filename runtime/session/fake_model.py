"""What a fake TensorRT engine is: tensors, and a function of numpy arrays."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jetlift.runtime.session.base import Array

    Shape = tuple[int, ...]

DataType = enum.Enum(
    "DataType", ["FLOAT", "HALF", "INT8", "INT32", "INT64", "UINT8", "BOOL", "BF16", "FP8"]
)
TensorLocation = enum.Enum("TensorLocation", ["DEVICE", "HOST"])
TensorIOMode = enum.Enum("TensorIOMode", ["NONE", "INPUT", "OUTPUT"])
_NUMPY = {
    "FLOAT": np.float32, "HALF": np.float16, "INT8": np.int8, "INT32": np.int32,
    "INT64": np.int64, "UINT8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip


class ILogger:
    """Base of loggers."""

    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class IOutputAllocator:
    """Base of output allocators."""


class IProfiler:
    """Base of what layers are reported to."""


@dataclass(frozen=True)
class FakeTensor:
    """An input or output of a fake engine.

    Attributes:
        name: Its name.
        dtype: A member of `DataType`, as in `FLOAT`.
        shape: A dynamic axis is -1.
        profiles: Smallest and largest shape per profile, of an input with dynamic axes.
        values: Smallest and largest values of an input that shapes follow from, which lies on the
            host; None for other tensors.
        late: Whether the shape of an output depends on the data.
    """

    name: str
    dtype: str
    shape: Shape
    profiles: tuple[tuple[Shape, Shape], ...] = ()
    values: tuple[Shape, Shape] | None = None
    late: bool = False

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """Its type in numpy."""
        return np.dtype(_NUMPY[self.dtype])


@dataclass(frozen=True)
class FakeModel:
    """What a fake engine is.

    Attributes:
        inputs: Its inputs.
        outputs: Its outputs.
        compute: From arrays by input name to arrays by output name.
        shapes: From input shapes, and values of inputs on the host, to output shapes. What it
            raises as ValueError, TensorRT refuses.
        plan: The engine file's content.
        layers: Names and milliseconds that a profiler is told of each run.
    """

    inputs: tuple[FakeTensor, ...]
    outputs: tuple[FakeTensor, ...]
    compute: Callable[[Mapping[str, Array]], Mapping[str, Array]]
    shapes: Callable[[Mapping[str, Shape], Mapping[str, Array]], Mapping[str, Shape]]
    plan: bytes = b"a fake engine"
    layers: tuple[tuple[str, float], ...] = (("/fc/MatMul + /fc/Add", 0.75), ("Reformat", 0.25))
