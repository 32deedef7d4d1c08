"""Resizing inside a graph, pixel for pixel what the host's resizing gives.

TensorRT's own Resize has no antialias, and its linear mode rounds nothing, so neither of the two
ways below uses it.

Rules:
    Z1  The antialias kinds are two passes, each a product with a constant matrix that holds the
        host's own weights (runtime/resample.py, R3), each rounded to whole levels. Only what the
        crop needs is computed; frames over _MOST_SOURCES in blocks of neighbouring outputs, each
        from the sources that it reads.
    Z2  Weights are multiples of 2**-22. Each matrix is the sum of two: multiples of 2**-11, and the
        rest. So every factor has at most 11 significant bits, every product and sum is exact in
        FP32, and in TF32 as well, which GPUs use for FP32 products. Rounding looks at the two sums
        one after the other, for together they have more bits than FP32.
    Z3  `linear_exact` gathers the two rows and the two columns that each pixel lies between, and
        mixes them in 256ths, as OpenCV's INTER_LINEAR_EXACT does (opencv/opencv@5.x:
        modules/imgproc/src/resize.cpp, resize_bitExact, fixed point with 8 bits per factor). Every
        number is a multiple of 2**-16 below 2**8: exact in FP32, which elementwise work always is.
    Z4  An axis that keeps its size costs nothing.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.runtime.resample import along_width_first, axis_matrix

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt
    import onnx_ir as ir

    from jetlift.export.inside_nodes import Chain
    from jetlift.runtime.preprocess import PixelPlacement
    from jetlift.runtime.resample import AxisMatrix, Filter

    Doubles = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.int64]

_COARSE = 2.0**11
# Sources per product. A matrix is zero but for a band, so smaller ones would cost less arithmetic.
# But TensorRT-RTX 1.7 makes one GEMM of the two products of a pass, and of a pass in four blocks
# eight kernels on two streams with 2.5 times the scratch memory (frames of 1280x720 to 224).
_MOST_SOURCES = 1024
_WHOLE = 256  # what linear_exact mixes in


def antialiased(chain: Chain, placement: PixelPlacement, kind: Filter) -> None:
    """Append a resize to whole levels (rules Z1 and Z2): float32 [batch, 3, height, width]."""
    left, top, width, height = placement.crop_xywh
    (from_width, from_height), (to_width, to_height) = placement.image_wh, placement.resized_wh
    columns = axis_matrix(kind, from_width, to_width, left, width)
    rows = axis_matrix(kind, from_height, to_height, top, height)
    _to_float(chain)
    _cut(chain, 1, rows, from_height, "rows")
    _cut(chain, 2, columns, from_width, "columns")
    _to_planes(chain)
    clip = kind == "bicubic"  # whose weights are partly negative; others stay between 0 and 255
    if along_width_first(placement.image_wh, placement.resized_wh):
        _pass(chain, columns.weights, "across", clip=clip)
        _pass(chain, rows.weights, "down", clip=clip)
    else:
        _pass(chain, rows.weights, "down", clip=clip)
        _pass(chain, columns.weights, "across", clip=clip)


def linear(chain: Chain, placement: PixelPlacement) -> None:
    """Append a resize to whole levels (rule Z3): float32 [batch, 3, height, width]."""
    left, top, width, height = placement.crop_xywh
    (from_width, from_height), (to_width, to_height) = placement.image_wh, placement.resized_wh
    rows = _linear_taps(from_height, to_height, top, height)
    columns = _linear_taps(from_width, to_width, left, width)
    _to_float(chain)
    _gather(chain, rows, from_height, 1, "rows")
    _gather(chain, columns, from_width, 2, "columns")
    fractions = bool(rows[2].any() or columns[2].any())
    _mix(chain, columns[2], 2, "across")
    _mix(chain, rows[2], 1, "down")
    if fractions:
        half = chain.constant("half", np.float32(0.5))
        chain.add("Add", [chain.end, half], name="mixed_and_half")
        chain.add("Floor", [chain.end], name="levels")
    _to_planes(chain)


def _to_float(chain: Chain) -> None:
    import onnx_ir as ir

    chain.add("Cast", [chain.end], {"to": ir.DataType.FLOAT}, name="float")


def _to_planes(chain: Chain) -> None:
    chain.add("Transpose", [chain.end], {"perm": [0, 3, 1, 2]}, name="planes")


def _cut(chain: Chain, axis: int, matrix: AxisMatrix, size: int, name: str) -> None:
    """Leave out what no weight reads."""
    end = matrix.start + matrix.weights.shape[1]
    if (matrix.start, end) != (0, size):
        chain.cut(chain.end, axis, matrix.start, end, name=f"seen_{name}")


def _pass(chain: Chain, weights: Doubles, name: str, *, clip: bool) -> None:
    """One pass, `across` the width or `down` the height, by weights [outputs, sources]."""
    outputs, sources = weights.shape
    if outputs == sources and (weights == np.eye(outputs)).all():  # Z4
        return
    axis = 3 if name == "across" else 2
    source = chain.end
    parts: dict[str, list[ir.Value]] = {"coarse": [], "fine": []}
    blocks = list(_blocks(weights))
    for number, (read, block) in enumerate(blocks):
        seen = source
        if len(blocks) > 1:
            seen = chain.cut(source, axis, read.start, read.stop, name=f"{name}_{number}")
        coarse = np.rint(block * _COARSE) / _COARSE
        for part, matrix in (("coarse", coarse), ("fine", block - coarse)):
            parts[part].append(_product(chain, seen, matrix, f"{name}_{number}_{part}", axis))
    sums = {
        part: chain.add("Concat", products, {"axis": axis}, name=f"{name}_{part}")
        if len(blocks) > 1
        else products[0]
        for part, products in parts.items()
    }
    _round(chain, sums["coarse"], sums["fine"], name)
    if clip:
        bounds = [chain.constant(f"level_{level}", np.float32(level)) for level in (0, 255)]
        chain.add("Clip", [chain.end, *bounds], name=f"{name}_levels")


def _blocks(weights: Doubles) -> Iterator[tuple[slice, Doubles]]:
    """Blocks of neighbouring outputs, and the sources that each reads."""
    outputs, sources = weights.shape
    if sources <= _MOST_SOURCES:
        yield slice(0, sources), weights
        return
    for block in np.array_split(weights, min(outputs, math.ceil(sources / _MOST_SOURCES))):
        read = np.flatnonzero(block.any(axis=0))
        seen = slice(int(read[0]), int(read[-1]) + 1)
        yield seen, block[:, seen]


def _product(chain: Chain, source: ir.Value, weights: Doubles, name: str, axis: int) -> ir.Value:
    matrix = weights.T if axis == 3 else weights
    constant = chain.constant(f"{name}_weights", np.ascontiguousarray(matrix, np.float32))
    factors = [source, constant] if axis == 3 else [constant, source]
    return chain.add("MatMul", factors, name=name)


def _round(chain: Chain, coarse: ir.Value, fine: ir.Value, name: str) -> None:
    """floor(coarse + fine + 1/2) without ever adding numbers of so different size (rule Z2)."""
    half = chain.constant("half", np.float32(0.5))
    raised = chain.add("Add", [coarse, half], name=f"{name}_raised")
    whole = chain.add("Floor", [raised], name=f"{name}_whole")
    chain.add("Sub", [raised, whole], name=f"{name}_fraction")
    chain.add("Add", [chain.end, fine], name=f"{name}_rest")
    chain.add("Floor", [chain.end], name=f"{name}_carry")
    chain.add("Add", [whole, chain.end], name=f"{name}_rounded")


def _linear_taps(
    size: int, new_size: int, first: int, count: int
) -> tuple[Indices, Indices, Doubles]:
    """Pixel before, pixel after, and 256ths of the latter, per output (rule Z3)."""
    centres = (np.arange(first, first + count) + 0.5) * (size / new_size) - 0.5
    before = np.floor(centres)
    outside = (before < 0) | (before >= size - 1)
    weights = np.where(outside, 0.0, np.rint((centres - before) * _WHOLE))
    low = np.clip(before, 0, size - 1).astype(np.int64)
    return low, np.minimum(low + 1, size - 1), weights


def _gather(
    chain: Chain, taps: tuple[Indices, Indices, Doubles], size: int, axis: int, name: str
) -> None:
    """The pixels before each output, and behind them, where any is mixed in, those after."""
    before, after, weights = taps
    wanted = np.concatenate([before, after]) if weights.any() else before
    if not np.array_equal(wanted, np.arange(size)):  # Z4
        indices = chain.constant(f"{name}_read", wanted)
        chain.add("Gather", [chain.end, indices], {"axis": axis}, name=f"{name}_gathered")


def _mix(chain: Chain, weights: Doubles, axis: int, name: str) -> None:
    if not weights.any():
        return
    source, count, shape = chain.end, len(weights), [1, 1, 1, 1]
    shape[axis] = count

    def part(start: int, factors: Doubles, side: str) -> ir.Value:
        cut = chain.cut(source, axis, start, start + count, name=f"{name}_{side}")
        content: npt.NDArray[Any] = (factors / _WHOLE).astype(np.float32).reshape(shape)
        constant = chain.constant(f"{name}_{side}_weights", content)
        return chain.add("Mul", [cut, constant], name=f"{name}_{side}_share")

    before = part(0, _WHOLE - weights, "before")
    chain.add("Add", [before, part(count, weights, "after")], name=f"{name}_mixed")
