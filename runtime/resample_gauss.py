"""Resampling as scikit-image does it: a Gaussian where pixels are lost, then straight lines.

OWLv2's pictures are prepared so: as floats, padded to a square, and resized by
`skimage.transform.resize(..., anti_aliasing=True)`; transformers 5.23 does the same with scipy in
models/owlv2/image_processing_pil_owlv2.py. Rules, read there and in scipy 1.17, scipy/ndimage:
    G1  Per axis that loses pixels, sigma = (size / new_size - 1) / 2, and the kernel reaches
        floor(4 * sigma + 0.5) pixels (gaussian_filter1d). Rows are filtered before columns.
    G2  Output o lies at (o + 0.5) * size / new_size - 0.5 (zoom with grid_mode) between two pixels.
    G3  Beyond an edge the picture is mirrored about the centre of its last pixel.
    G4  Sums are in float64 and in scipy's order; each of the three passes is rounded to float32.
        So the result is scipy's bit for bit. Only pixels that G2 reads are ever filtered.
    G5  The result is cut to the range of the picture, padding included.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]
    Doubles = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]

_STRIP = 128  # columns or rows at once: float64 copies stay small whatever the picture


@dataclass(frozen=True, eq=False)
class _Axis:
    """One axis of a resizing.

    Attributes:
        size: Pixels before.
        taps: Pixels per tap of the kernel and place that is filtered, [2 * reach + 1, places].
        kernel: Weights of the taps; none where nothing is filtered.
        near: For each output the place of the pixel before it and after it, [2, outputs].
        weights: Their weights, float64 [2, outputs].
    """

    size: int
    taps: Ints
    kernel: Doubles
    near: Ints
    weights: Doubles


def resize_padded(
    image_hwc: npt.NDArray[Any], table: Floats, side: int, pad_level: int = 0
) -> Floats:
    """Pad a picture below and right to a square and resize that.

    Args:
        image_hwc: uint8 [H, W, 3].
        table: float32 [256], rising: the value of each level.
        side: Pixels of the result.
        pad_level: Level of the padding.

    Returns:
        float32 [3, side, side], channels in the order they came.
    """
    height, width = image_hwc.shape[:2]
    size = max(height, width)
    levels = [int(image_hwc.min()), int(image_hwc.max())]
    if height != width:
        levels = [min(levels[0], pad_level), max(levels[1], pad_level)]
    grey = table[pad_level]
    result = np.empty((3, side, side), np.float32)
    for channel, plane in enumerate(cv2.split(image_hwc)):
        values = cv2.LUT(plane, table)
        if size == side:
            result[channel] = grey
            result[channel, :height, :width] = values
        else:
            result[channel] = _resized(np.asarray(values, np.float32), grey, _axis(size, side))
    return np.clip(result, *table[levels], out=result)  # G5


def _resized(values: Floats, grey: np.float32, axis: _Axis) -> Floats:
    """One channel [H, W] of a picture whose padding is `grey`; what is grey is filtered once."""
    height, width = values.shape
    reached = np.searchsorted(axis.taps.min(axis=0), (height, width))  # places that see pixels
    flat = np.full((axis.size, 1), grey, np.float64)
    rows = np.full((reached[0], axis.size), _filtered(flat, axis)[0, 0], np.float32)
    column = np.full((axis.size, _STRIP), grey, np.float64)
    for start in range(0, width, _STRIP):
        strip = slice(start, min(start + _STRIP, width))
        column[:height, : strip.stop - start] = values[:, strip]
        rows[:, strip] = _filtered(column[:, : strip.stop - start], axis, reached[0])
    empty = np.full((1, axis.size), _filtered(flat, axis)[0, 0], np.float32)
    rows = np.concatenate([rows, empty])  # the last row stands for all below it
    both = np.empty((len(rows), axis.taps.shape[1]), np.float32)
    for start in range(0, len(rows), _STRIP):
        strip = slice(start, start + _STRIP)
        both[strip] = _filtered(rows[strip].T.astype(np.float64), axis).T
    near = np.minimum(axis.near, len(rows) - 1)
    side = axis.near.shape[1]
    result = np.empty((side, side), np.float32)
    for start in range(0, side, _STRIP):
        strip = slice(start, start + _STRIP)
        result[strip] = _between(both, axis, near[:, strip], axis.weights[:, strip])
    return result


def _filtered(values: Doubles, axis: _Axis, count: int | None = None) -> Doubles:
    """Columns [n, w] at the first `count` places that are read, [places, w] (rules G1 and G4)."""
    reach, taps = len(axis.kernel) // 2, axis.taps[:, :count]
    total = values[taps[reach]] * axis.kernel[reach]
    for tap in range(reach):
        total += (values[taps[tap]] + values[taps[-1 - tap]]) * axis.kernel[tap]
    return np.asarray(total, np.float64)


def _between(pixels: Floats, axis: _Axis, rows: Ints, weights: Doubles) -> Doubles:
    """Rows of the result from the four pixels around each (rules G2 and G4)."""
    total: Doubles | None = None
    for y in (0, 1):
        values = pixels[rows[y]].astype(np.float64) * weights[y, :, None]
        for x in (0, 1):
            share = values[:, axis.near[x]] * axis.weights[x]
            total = share if total is None else np.add(total, share, out=total)
    return np.asarray(total, np.float64)


@lru_cache(maxsize=16)  # a video asks for the same axis at every frame
def _axis(size: int, side: int) -> _Axis:
    """Everything about an axis that does not depend on pixels (rules G1 to G3)."""
    places = np.abs((np.arange(side) + 0.5) * (size / side) - 0.5)
    last = size - 1
    places = np.where(places > last, np.maximum(2 * last - places, 0.0), places)  # G3
    before = np.floor(places)
    share = places - before
    around = _mirrored(np.stack([before, before + 1]).astype(np.int64), size)
    read, near = np.unique(around, return_inverse=True)
    sigma = max(0.0, (size / side - 1) / 2)
    reach = int(4.0 * sigma + 0.5)
    offsets = np.arange(-reach, reach + 1)
    kernel = np.exp(-0.5 / (sigma * sigma) * offsets**2) if reach else np.ones(1)
    taps = _mirrored(read + offsets[:, None], size)
    weights = np.stack([1.0 - share, 1.0 - (1.0 - share)])  # as scipy rounds them
    return _Axis(size, taps, kernel / kernel.sum(), near.reshape(around.shape), weights)


def _mirrored(places: Ints, size: int) -> Ints:
    """Places within 0 to size - 1 (rule G3)."""
    if size == 1:
        return np.zeros_like(places)
    period = 2 * (size - 1)
    folded = np.abs(places) % period
    return np.asarray(np.minimum(folded, period - folded), np.int64)
