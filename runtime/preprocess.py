"""From a picture to the float32 input of a part, the same here, on the board and in calibration.

Rules:
    I1  crop: the shortest edge becomes `resize_short`, the other floor(resize_short*long/short);
        then the centre of `size_wh`, an odd surplus leaving the larger half right and below.
        stretch: both axes to `size_wh`. letterbox: the largest size of the same shape that fits,
        floored, at the top left; `pad_value` elsewhere.
    I2  The antialias kinds equal Pillow bit for bit (see resample.py); so resizing and cropping
        equal the image processors of Hugging Face transformers 5.23
        (transformers/image_transforms.py: get_resize_output_image_size, center_crop).
    I3  Each 8-bit value maps to float32 by a table computed as transformers does: value * scale in
        float64, rounded to float32, then minus mean, over std, in float32.
    I4  pad_square: `pad_value` below and right to a square, in floats that are value * scale, then
        resized as floats (resample_gauss.py) and normalised; nothing is rounded to 8 bits.
    I5  canvas: the shortest edge becomes `resize_short`; less where the longest would be beyond the
        canvas' longest (sizes as transformers' get_size_with_aspect_ratio rounds them), and where
        the picture stands against the canvas. It lies at the top left; elsewhere the input is 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from jetlift.runtime.errors import InputError, UsageError
from jetlift.runtime.resample import Filter, resample
from jetlift.runtime.resample_gauss import resize_padded

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from jetlift.runtime.manifest import ImagePreprocess

    Bytes = npt.NDArray[np.uint8]
    Floats = npt.NDArray[np.float32]

# linear_exact needs the whole resized picture in memory: 64 megapixels are 192 MB.
_MOST_PIXELS = 64 * 2**20


@dataclass(frozen=True)
class Placement:
    """Where a picture lies in a part's input, in pixels.

    Attributes:
        image_wh: Size of the picture.
        resized_wh: Its size after resizing.
        crop_xywh: The part of the resized picture that the model sees: left, top, width, height.
    """

    image_wh: tuple[int, int]
    resized_wh: tuple[float, float]
    crop_xywh: tuple[float, float, int, int]

    @property
    def seen_xyxy(self) -> tuple[float, float, float, float]:
        """The part of the picture that the model sees, in the picture's own pixels."""
        across, down = (self.image_wh[axis] / self.resized_wh[axis] for axis in (0, 1))
        left, top, width, height = self.crop_xywh
        return left * across, top * down, (left + width) * across, (top + height) * down


@dataclass(frozen=True)
class PixelPlacement(Placement):
    """A placement on whole pixels, as the host's resizing makes it."""

    resized_wh: tuple[int, int]
    crop_xywh: tuple[int, int, int, int]


def place(image_wh: tuple[int, int], spec: ImagePreprocess) -> PixelPlacement:
    """Where a picture of this size lies in the input (rule I1).

    Raises:
        UsageError: The preprocessing contradicts itself, or does not end on whole pixels.
    """
    width, height = spec.size_wh
    if spec.fit == "pad_square":
        raise UsageError(
            "A picture that is padded before it is resized does not end on whole pixels",
            expected="Boxes as shares of the square, scaled by its longer side",
        )
    if spec.fit == "stretch":
        return PixelPlacement(image_wh, (width, height), (0, 0, width, height))
    if spec.fit in ("letterbox", "canvas"):
        whole = spec.fit == "letterbox"
        resized_wh = fit_inside(image_wh, (width, height)) if whole else _on_canvas(image_wh, spec)
        return PixelPlacement(image_wh, resized_wh, (0, 0, *resized_wh))
    if spec.resize_short is None or spec.resize_short < max(width, height):
        raise UsageError(
            f"The preprocessing crops {width}x{height} out of a shortest edge of "
            f"{spec.resize_short}",
            expected="A resize_short that is at least the larger side of size_wh",
        )
    long, short = max(image_wh), min(image_wh)
    new_long = int(spec.resize_short * long / short)
    resized_wh = (
        (spec.resize_short, new_long)
        if image_wh[0] <= image_wh[1]
        else (new_long, spec.resize_short)
    )
    left, top = (resized_wh[0] - width) // 2, (resized_wh[1] - height) // 2
    return PixelPlacement(image_wh, resized_wh, (left, top, width, height))


def _on_canvas(image_wh: tuple[int, int], spec: ImagePreprocess) -> tuple[int, int]:
    """Size of a picture on its canvas (rule I5).

    Raises:
        UsageError: The preprocessing names no shortest edge.
    """
    if spec.resize_short is None:
        raise UsageError("The preprocessing names no resize_short", expected="One, for a canvas")
    short, long = min(image_wh), max(image_wh)
    exact, edge = float(spec.resize_short), spec.resize_short
    if long / short * edge > max(spec.size_wh):
        exact = max(spec.size_wh) * short / long
        edge = max(1, round(exact))
    longer = max(1, int(exact * long / short))
    resized_wh = (longer, edge) if image_wh[0] >= image_wh[1] else (edge, longer)
    if short == edge:
        resized_wh = image_wh
    fits = resized_wh[0] <= spec.size_wh[0] and resized_wh[1] <= spec.size_wh[1]
    return resized_wh if fits else fit_inside(image_wh, (spec.size_wh[0], spec.size_wh[1]))


def fit_inside(image_wh: tuple[int, int], box_wh: tuple[int, int]) -> tuple[int, int]:
    """The largest size of the shape of `image_wh` that fits into a box, floored."""
    # In whole numbers: a float ratio would now and then lose a pixel.
    if box_wh[0] * image_wh[1] <= box_wh[1] * image_wh[0]:
        return box_wh[0], max(1, image_wh[1] * box_wh[0] // image_wh[0])
    return max(1, image_wh[0] * box_wh[1] // image_wh[1]), box_wh[1]


def prepare_image(image_bgr: npt.NDArray[Any], spec: ImagePreprocess) -> Floats:
    """Make one picture ready for its part.

    Args:
        image_bgr: uint8 [H, W, 3], as OpenCV reads it.
        spec: The part's preprocessing.

    Returns:
        float32 [1, 3, height, width] of `spec.size_wh`, channels in the model's order.

    Raises:
        UsageError: The array is no 8-bit BGR picture.
        InputError: The picture is too long and thin to resize.
    """
    if spec.fit == "pad_square":
        return _prepare_square(image_bgr, spec)
    pixels = resized_pixels(image_bgr, spec)
    height, width = pixels.shape[1:]
    prepared = np.zeros((1, 3, spec.size_wh[1], spec.size_wh[0]), np.float32)
    for channel, table in enumerate(_tables(spec)):
        prepared[0, channel, :height, :width] = cv2.LUT(pixels[channel], table)
    return prepared


def _prepare_square(image_bgr: npt.NDArray[Any], spec: ImagePreprocess) -> Floats:
    """A picture padded to a square and resized in floats (rule I4)."""
    check_picture(image_bgr)
    side = spec.size_wh[0]
    if spec.size_wh != (side, side) or spec.resample != "gaussian_linear":
        raise UsageError(
            f"The preprocessing pads to a square and makes {spec.size_wh} of it by {spec.resample}",
            expected="A square, by gaussian_linear",
        )
    if max(image_bgr.shape[:2]) ** 2 > _MOST_PIXELS:
        raise InputError(
            f"A picture of {image_bgr.shape[1]}x{image_bgr.shape[0]} would become a square of "
            f"{max(image_bgr.shape[:2])} pixels a side before it is resized",
            expected="A longer side of at most 8192 pixels",
            do="Cut the picture into pieces first",
        )
    values = (np.arange(256, dtype=np.float64) * spec.scale).astype(np.float32)
    prepared = resize_padded(image_bgr, values, side, spec.pad_value)
    if spec.colour == "rgb":
        prepared = prepared[::-1]
    mean, std = (np.array(of, np.float32).reshape(3, 1, 1) for of in (spec.mean, spec.std))
    return np.asarray((prepared - mean) / std, np.float32)[None]


def prepare_batch(images_bgr: Sequence[npt.NDArray[Any]], spec: ImagePreprocess) -> Floats:
    """Make several pictures, of any sizes, ready as one batch: float32 [N, 3, height, width].

    Raises:
        UsageError: There are none, or one is no 8-bit BGR picture.
        InputError: A picture is too long and thin to resize.
    """
    if not images_bgr:
        raise UsageError("A batch of no pictures was asked for", expected="At least one picture")
    return np.concatenate([prepare_image(image_bgr, spec) for image_bgr in images_bgr])


def resized_pixels(image_bgr: npt.NDArray[Any], spec: ImagePreprocess) -> Bytes:
    """The picture at the input's size before it becomes float (rules I1 and I2).

    Returns:
        uint8 [3, height, width] of `spec.size_wh`, or for canvas of the picture alone; channels in
        the model's order.

    Raises:
        UsageError: The array is no 8-bit BGR picture, or it is resized in floats (rule I4).
        InputError: The picture is too long and thin to resize.
    """
    check_picture(image_bgr)
    placement = place((image_bgr.shape[1], image_bgr.shape[0]), spec)
    pixels = _resize(image_bgr, placement, spec)
    if spec.colour == "rgb":
        pixels = pixels[::-1]
    if spec.fit != "letterbox":
        return pixels
    padded = np.full((3, spec.size_wh[1], spec.size_wh[0]), spec.pad_value, np.uint8)
    padded[:, : pixels.shape[1], : pixels.shape[2]] = pixels
    return padded


def check_picture(image_bgr: npt.NDArray[Any]) -> None:
    """Refuse what is no 8-bit BGR picture.

    Raises:
        UsageError: It has another dtype, rank or channel count, or no pixels.
    """
    if image_bgr.dtype != np.uint8 or image_bgr.ndim != 3 or image_bgr.shape[2] != 3:
        raise UsageError(
            f"Got a picture of {image_bgr.dtype}{list(image_bgr.shape)}",
            expected="uint8 [height, width, 3] in BGR order",
        )
    if image_bgr.size == 0:
        raise UsageError("Got a picture without pixels", expected="At least one row and column")


def _resize(image_bgr: npt.NDArray[Any], placement: PixelPlacement, spec: ImagePreprocess) -> Bytes:
    left, top, width, height = placement.crop_xywh
    if spec.resample != "linear_exact":
        kind: Filter = "bicubic" if spec.resample == "bicubic_antialias" else "bilinear"
        return resample(
            image_bgr, placement.resized_wh, kind, region_xywh=(left, top, width, height)
        )
    if placement.resized_wh[0] * placement.resized_wh[1] > _MOST_PIXELS:
        raise InputError(
            "A picture of {}x{} would become {}x{} before it is cropped".format(
                *placement.image_wh, *placement.resized_wh
            ),
            expected="A picture less long and thin",
            do="Cut the picture into pieces first",
        )
    # Identical on x86 and arm64, where INTER_LINEAR differs by up to 2 levels.
    resized = cv2.resize(image_bgr, placement.resized_wh, interpolation=cv2.INTER_LINEAR_EXACT)
    return np.asarray(resized[top : top + height, left : left + width].transpose(2, 0, 1), np.uint8)


@lru_cache(maxsize=16)
def _tables(spec: ImagePreprocess) -> tuple[Floats, ...]:
    """For each channel in the model's order, the float32 of each 8-bit value (rule I3)."""
    values = (np.arange(256, dtype=np.float64) * spec.scale).astype(np.float32)
    return tuple(
        np.asarray((values - np.float32(mean)) / np.float32(std), np.float32)
        for mean, std in zip(spec.mean, spec.std, strict=True)
    )
