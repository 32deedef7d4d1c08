"""A frame's number and moment, drawn into its picture so that a program can read them again.

What a camera's picture has been through (encoder, network, decoder) is timed by it: the reader
subtracts the moment in the picture from its own clock, where both run on one machine.

Rules:
    Y1  The code covers the upper fifth of the picture: 5 rows of 24 cells, black or white. Read row
        by row it is 120 bits, highest first: number (32), microseconds (56), CRC-32 of the 11
        bytes before (zlib.crc32).
    Y2  A cell counts by the mean of its inner half, against the middle between the darkest and the
        brightest cell. So scaling, compression and a change of brightness leave it readable;
        cropping and turning do not.
    Y3  What does not match its checksum, or has too little contrast, is no stamp.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from jetlift.runtime.errors import UsageError

if TYPE_CHECKING:
    import numpy.typing as npt

ROWS, COLUMNS = 5, 24
LEAST_SIZE_WH = (4 * COLUMNS, 20 * ROWS)  # cells of 4 by 4 pixels
_SHARE_OF_HEIGHT = 0.2
_NUMBER_BYTES, _TIME_BYTES, _CHECK_BYTES = 4, 7, 4
_LEAST_CONTRAST = 48  # levels of 255
_BLACK, _WHITE = 16, 235  # the ends of the narrow range of video


@dataclass(frozen=True)
class Stamp:
    """What a picture says of itself.

    Attributes:
        number: Number of the frame, 0 to 2^32 - 1.
        time_us: The moment it was drawn, by the monotonic clock of the machine that drew it, in
            microseconds, 0 to 2^56 - 1.
    """

    number: int
    time_us: int

    @property
    def time_s(self) -> float:
        """The moment in seconds."""
        return self.time_us / 1e6


def draw_stamp(image_bgr: npt.NDArray[np.uint8], stamp: Stamp) -> None:
    """Draw the code over the upper fifth of a picture (rule Y1).

    Args:
        image_bgr: uint8 [H, W, 3]; changed in place.
        stamp: What to draw.

    Raises:
        UsageError: The picture is too small, or a number out of its range.
    """
    height, width = image_bgr.shape[:2]
    if width < LEAST_SIZE_WH[0] or height < LEAST_SIZE_WH[1]:
        raise UsageError(
            f"Got a picture of {width}x{height} to stamp",
            expected="At least {}x{}".format(*LEAST_SIZE_WH),
        )
    cells = np.where(_bits(stamp), _WHITE, _BLACK).astype(np.uint8)
    deep = round(height * _SHARE_OF_HEIGHT)
    code = cv2.resize(cells, (width, deep), interpolation=cv2.INTER_NEAREST)
    image_bgr[:deep] = code[..., None]


def read_stamp(image_bgr: npt.NDArray[np.uint8]) -> Stamp | None:
    """Read the code of a picture (rules Y2 and Y3).

    Args:
        image_bgr: uint8 [H, W, 3].

    Returns:
        What it says, or None where there is no code that can be trusted.
    """
    height, width = image_bgr.shape[:2]
    deep = round(height * _SHARE_OF_HEIGHT)
    if deep < ROWS or width < COLUMNS:
        return None
    grey = cv2.cvtColor(image_bgr[:deep], cv2.COLOR_BGR2GRAY)
    cells = _levels(np.asarray(grey, np.uint8))
    dark, bright = float(cells.min()), float(cells.max())
    if bright - dark < _LEAST_CONTRAST:
        return None
    content = np.packbits(cells > (dark + bright) / 2).tobytes()
    payload, check = content[:-_CHECK_BYTES], content[-_CHECK_BYTES:]
    if zlib.crc32(payload) != int.from_bytes(check, "big"):
        return None
    number, time_us = payload[:_NUMBER_BYTES], payload[_NUMBER_BYTES:]
    return Stamp(int.from_bytes(number, "big"), int.from_bytes(time_us, "big"))


def _bits(stamp: Stamp) -> npt.NDArray[np.uint8]:
    """0 and 1, uint8 [ROWS, COLUMNS]."""
    try:
        payload = stamp.number.to_bytes(_NUMBER_BYTES, "big")
        payload += stamp.time_us.to_bytes(_TIME_BYTES, "big")
    except OverflowError:
        raise UsageError(
            f"Got {stamp} to draw", expected="A number of 32 bits and a time of 56, not below 0"
        ) from None
    content = payload + zlib.crc32(payload).to_bytes(_CHECK_BYTES, "big")
    return np.unpackbits(np.frombuffer(content, np.uint8)).reshape(ROWS, COLUMNS)


def _levels(grey: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
    """Mean of the inner half of each cell, float [ROWS, COLUMNS] (rule Y2)."""
    height, width = grey.shape
    means = np.empty((ROWS, COLUMNS))
    for row in range(ROWS):
        for column in range(COLUMNS):
            rows, columns = _inner(row, height / ROWS), _inner(column, width / COLUMNS)
            means[row, column] = grey[rows, columns].mean()
    return means


def _inner(index: int, side_px: float) -> slice:
    first = int((index + 0.25) * side_px)
    return slice(first, max(first + 1, round((index + 0.75) * side_px)))
