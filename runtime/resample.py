"""Pillow's antialiased resampling, bit for bit, without Pillow.

Models are trained and judged on pictures that Pillow shrank, so the device must shrink them alike.
Rules, read in python-pillow/Pillow 13.0.0, src/libImaging/Resample.c:
    R1  Two passes, one per axis, each rounded to 8 bits.
    R2  Along the width first; along the height first where the height loses more than twice as
        many pixels as the width (new in Pillow 13, python-pillow/Pillow#9549).
    R3  A filter is widened by the scale when it shrinks, its taps are cut at the border and
        normalised, then rounded to 22 binary places.
Every product and sum is a multiple of 2**-22 below 2**11, so float64 matrix products are exact in
any order, and BLAS can do the work. Only the wanted region is ever computed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    Bytes = npt.NDArray[np.uint8]
    Doubles = npt.NDArray[np.float64]

Filter = Literal["bicubic", "bilinear"]

_UNIT = 2.0**22
_BLOCK = 16  # outputs per matrix product: wider wastes work on zeros, narrower on calls
# OpenBLAS wakes its threads above 2**18 multiplications (GEMM_MULTITHREAD_THRESHOLD = 4 in
# OpenMathLib/OpenBLAS, interface/gemm.c). For products this small that gains nothing on free cores
# and stalls on busy ones, where an engine is at work; pieces this small also stay in the cache.
_PRODUCT = 2**18


@dataclass(frozen=True)
class _Block:
    """Neighbouring outputs of a pass: `out` comes from `source` by `weights` [source, out]."""

    out: slice
    source: slice
    weights: Doubles


def resample(
    image_hwc: npt.NDArray[Any],
    size_wh: tuple[int, int],
    kind: Filter,
    *,
    region_xywh: tuple[int, int, int, int] | None = None,
    width_first: bool | None = None,
) -> Bytes:
    """Resample a picture as Pillow's `Image.resize` does.

    Args:
        image_hwc: uint8 [H, W, 3].
        size_wh: Width and height of the whole result in pixels.
        kind: Pillow's BICUBIC (a = -0.5) or BILINEAR, both antialiased.
        region_xywh: Part of the result to compute: left, top, width, height. All by default.
        width_first: Order of the passes; by default rule R2 decides.

    Returns:
        uint8 [3, height, width] of the region, channels in the order they came.
    """
    height, width = image_hwc.shape[:2]
    left, top, out_width, out_height = region_xywh or (0, 0, *size_wh)
    columns = _pass(kind, width, size_wh[0], left, out_width)
    rows = _pass(kind, height, size_wh[1], top, out_height)
    x, y = _span(columns), _span(rows)
    if width_first is None:
        width_first = along_width_first((width, height), size_wh)
    result = np.empty((3, out_height, out_width), np.uint8)
    for channel, plane in enumerate(cv2.split(image_hwc[y, x])):
        if width_first:
            middle = _along_width(np.asarray(plane, np.uint8), columns, x.start)
            result[channel] = _along_height(middle, rows, y.start)
        else:
            middle = _along_height(np.asarray(plane, np.uint8), rows, y.start)
            result[channel] = _along_width(middle, columns, x.start)
    return result


@dataclass(frozen=True)
class AxisMatrix:
    """One axis of a resampling as a whole: outputs are `weights` times the sources from `start` on.

    Attributes:
        start: First source pixel that is read.
        weights: float64 [outputs, sources], multiples of 2**-22.
    """

    start: int
    weights: Doubles


def axis_matrix(kind: Filter, size: int, new_size: int, first: int, count: int) -> AxisMatrix:
    """Outputs `first` to `first + count` of `new_size`, from `size` pixels, as one matrix.

    The same weights as `resample` uses, for those who compute it elsewhere.
    """
    starts, ends, taps = _taps(kind, size, new_size, first, count)
    start, end = int(starts.min()), int(ends.max())
    weights = np.zeros((count, end - start))
    for out in range(count):
        used = ends[out] - starts[out]
        weights[out, starts[out] - start : ends[out] - start] = taps[out, :used]
    return AxisMatrix(start, weights)


def along_width_first(from_wh: tuple[int, int], to_wh: tuple[int, int]) -> bool:
    """Whether the first pass is along the width (rule R2)."""
    lost_width, lost_height = from_wh[0] - to_wh[0], from_wh[1] - to_wh[1]
    return not (lost_height > 0 and lost_height > 2 * lost_width)


def _span(blocks: tuple[_Block, ...]) -> slice:
    return slice(
        min(block.source.start for block in blocks), max(block.source.stop for block in blocks)
    )


def _along_width(plane: Bytes, blocks: tuple[_Block, ...], start: int) -> Bytes:
    result = np.empty((plane.shape[0], blocks[-1].out.stop), np.uint8)
    for block in blocks:
        source = plane[:, block.source.start - start : block.source.stop - start]
        for rows in _pieces(plane.shape[0], block):
            values = source[rows].astype(np.float64) @ block.weights
            result[rows, block.out] = _rounded(values)
    return result


def _along_height(plane: Bytes, blocks: tuple[_Block, ...], start: int) -> Bytes:
    result = np.empty((blocks[-1].out.stop, plane.shape[1]), np.uint8)
    for block in blocks:
        source = plane[block.source.start - start : block.source.stop - start]
        for columns in _pieces(plane.shape[1], block):
            values = block.weights.T @ source[:, columns].astype(np.float64)
            result[block.out, columns] = _rounded(values)
    return result


def _pieces(length: int, block: _Block) -> Iterator[slice]:
    step = max(1, _PRODUCT // block.weights.size)
    return (slice(start, start + step) for start in range(0, length, step))


def _rounded(values: Doubles) -> Doubles:
    values += 0.5
    return np.clip(values, 0.0, 255.0, out=values)  # storing as uint8 then cuts the fraction off


@lru_cache(maxsize=64)  # a video asks for the same pass at every frame
def _pass(kind: Filter, size: int, new_size: int, first: int, count: int) -> tuple[_Block, ...]:
    """One axis: outputs `first` to `first + count` of `new_size`, from `size` pixels."""
    starts, ends, taps = _taps(kind, size, new_size, first, count)
    blocks = []
    for low in range(0, count, _BLOCK):
        high = min(low + _BLOCK, count)
        start, end = int(starts[low:high].min()), int(ends[low:high].max())
        weights = np.zeros((end - start, high - low))
        for out in range(low, high):
            used = ends[out] - starts[out]
            weights[starts[out] - start : ends[out] - start, out - low] = taps[out, :used]
        blocks.append(_Block(slice(low, high), slice(start, end), weights))
    return tuple(blocks)


def _taps(
    kind: Filter, size: int, new_size: int, first: int, count: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Doubles]:
    """First source pixel, end, and weights [count, taps] of each output (rule R3)."""
    function, reach = _FILTERS[kind]
    scale = size / new_size
    widened = max(scale, 1.0)
    support = reach * widened
    centres = (np.arange(first, first + count) + 0.5) * scale
    starts = np.maximum((centres - support + 0.5).astype(np.int64), 0)
    ends = np.minimum((centres + support + 0.5).astype(np.int64), size)
    pixels = starts[:, None] + np.arange(math.ceil(support) * 2 + 1)
    weights = function((pixels - centres[:, None] + 0.5) * (1.0 / widened))
    weights = np.where(pixels < ends[:, None], weights, 0.0)
    # cumsum adds from left to right, as Pillow's loop does; sum() adds in pairs.
    total = np.cumsum(weights, axis=1)[:, -1:]
    weights = np.divide(weights, total, out=weights, where=total != 0)
    whole = np.trunc(weights * _UNIT + np.where(weights < 0, -0.5, 0.5))
    return starts, ends, whole / _UNIT


def _bicubic(x: Doubles) -> Doubles:
    """Keys' cubic convolution with a = -0.5 (Keys 1981, doi 10.1109/TASSP.1981.1163711)."""
    a, x = -0.5, np.abs(x)
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    far = (((x - 5.0) * x + 8.0) * x - 4.0) * a
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


def _bilinear(x: Doubles) -> Doubles:
    return np.maximum(1.0 - np.abs(x), 0.0)


_FILTERS: dict[Filter, tuple[Callable[[Doubles], Doubles], float]] = {
    "bicubic": (_bicubic, 2.0),
    "bilinear": (_bilinear, 1.0),
}
