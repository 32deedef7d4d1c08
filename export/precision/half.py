"""What a 16-bit float is, which operators take it, and what constants become in it.

Rules:
    H1  Rounding is to nearest, ties to even, as IEEE 754 and every processor do it.
    H2  Infinity stays infinity. Constants beyond the type are masks or bounds where they say so by
        their size (1e30 and more) or by their use (they reach a Softmax and nothing else): a mask
        that something is added to becomes MASK, which leaves room for the sum; a bound becomes the
        type's own extreme.
    H3  A scalar that would round to zero guards a division or a logarithm: it becomes the smallest
        number of the type instead.
    H4  What an operator takes is read from the ONNX schema of the graph's own opset.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnx_ir as ir

    Floats = npt.NDArray[np.float32]

HalfKind = Literal["fp16", "bf16"]

MASK_FROM = 1e30
MASK = 30000.0
# What a mask may run through before it is added to what it masks.
_CARRIES = {
    "Where", "Mul", "Neg", "Expand", "Reshape", "Unsqueeze", "Squeeze", "Transpose", "Concat",
    "Slice", "Gather", "Identity", "Cast", "Tile", "ConstantOfShape", "Constant",
}  # fmt: skip


@dataclass(frozen=True)
class Half:
    """A 16-bit float.

    Attributes:
        kind: Its name in a bundle.
        largest: Its largest finite number.
        smallest: Its smallest positive number.
        to_infinity: From here on a number rounds to infinity.
    """

    kind: HalfKind
    largest: float
    smallest: float
    to_infinity: float

    @property
    def dtype(self) -> ir.DataType:
        """The type in a graph."""
        import onnx_ir as ir

        return ir.DataType.FLOAT16 if self.kind == "fp16" else ir.DataType.BFLOAT16

    def narrow(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Round to this type (rule H1), overflow to infinity included."""
        with np.errstate(over="ignore", invalid="ignore"):  # a signalling NaN is invalid
            return array.astype(self.dtype.numpy())

    def rounded(self, array: Floats) -> Floats:
        """What is left of float32 numbers after rounding to this type, as float32."""
        return self.narrow(array).astype(np.float32)

    def constant(self, array: Floats, *, mask: bool) -> npt.NDArray[Any]:
        """A constant in this type (rules H2 and H3).

        Args:
            array: float32 of any shape.
            mask: Whether numbers beyond the type are masks that something is added to.
        """
        finite = np.isfinite(array)
        beyond = finite & (np.abs(array) > self.largest)
        limit = MASK if mask and self.kind == "fp16" else self.largest
        result = np.where(beyond, np.copysign(np.float32(limit), array), array)
        narrow = self.narrow(result)
        if narrow.size == 1 and narrow.reshape(-1)[0] == 0 and array.reshape(-1)[0] != 0:
            return self.narrow(np.copysign(np.float32(self.smallest), array))
        return narrow

    def beyond(self, array: Floats) -> float | None:
        """The largest magnitude that is a number, and that this type cannot hold, or None."""
        magnitudes = np.abs(array)
        numbers = magnitudes[(magnitudes > self.largest) & (magnitudes < MASK_FROM)]
        return float(numbers.max()) if numbers.size else None


FP16 = Half("fp16", largest=65504.0, smallest=2.0**-24, to_infinity=65520.0)
BF16 = Half(
    "bf16",
    largest=float.fromhex("0x1.FEp127"),
    smallest=2.0**-133,
    to_infinity=float.fromhex("0x1.FFp127"),
)


def half_of(kind: HalfKind) -> Half:
    """The type by its name."""
    return {"fp16": FP16, "bf16": BF16}[kind]


def is_added(value: ir.Value) -> bool:
    """Whether a constant reaches a sum or a Softmax, as masks do (rule H2)."""
    return any(end in ("Add", "Sub", "Softmax") for end in _ends(value, _CARRIES))


def only_masks(value: ir.Value) -> bool:
    """Whether a constant reaches a Softmax and nothing else (rule H2)."""
    ends = _ends(value, _CARRIES | {"Add"})
    return bool(ends) and ends == {"Softmax"}


def _ends(value: ir.Value, carries: set[str]) -> set[str]:
    """Operators that read a value behind those that carry it on; '' for a graph output."""
    ends: set[str] = set()
    seen, todo = set(), [value]
    while todo:
        current = todo.pop()
        if current.is_graph_output():
            ends.add("")
        for use in current.uses():
            if use.node.op_type not in carries:
                ends.add(use.node.op_type)
            elif use.node not in seen:
                seen.add(use.node)
                todo += use.node.outputs
    return ends


@dataclass(frozen=True)
class Takes:
    """Which parameters of an operator stay float32, by position (rule H4)."""

    inputs: frozenset[int]
    outputs: frozenset[int]


@functools.cache
def takes(domain: str, operator: str, opset: int, kind: HalfKind) -> Takes | None:
    """What of an operator cannot be narrow; None where the standard does not know the operator."""
    import onnx

    try:
        schema = onnx.defs.get_schema(operator, opset, domain)
    except onnx.defs.SchemaError:
        return None
    wanted = "tensor(float16)" if kind == "fp16" else "tensor(bfloat16)"
    allowed = {item.type_param_str: set(item.allowed_type_strs) for item in schema.type_constraints}

    def fixed(parameters: Any) -> frozenset[int]:  # noqa: ANN401 - onnx ships no types for them
        types = [allowed.get(item.type_str, {item.type_str}) for item in parameters]
        return frozenset(
            i for i, kinds in enumerate(types) if "tensor(float)" in kinds and wanted not in kinds
        )

    return Takes(fixed(schema.inputs), fixed(schema.outputs))
