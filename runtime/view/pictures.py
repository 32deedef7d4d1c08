"""A picture as JPEG, and as a part of a stream of pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from jetlift.runtime.errors import UsageError
from jetlift.runtime.view.form import Shot

if TYPE_CHECKING:
    import numpy.typing as npt

BOUNDARY = "jetlift-picture"
# Each part brings the boundary behind it: readers that look for that to know where a picture ends
# would else wait for the next one.
OPENING = f"--{BOUNDARY}\r\n".encode()
_SNAPSHOT_QUALITY = 95


def shoot(number: int, image_bgr: npt.NDArray[Any], *, quality: int, longest_side: int) -> Shot:
    """Encode a picture for the stream (RFC 2046, 5.1; the boundary follows the part).

    Args:
        number: Of the result that it shows.
        image_bgr: uint8 [H, W, 3].
        quality: Of the JPEG, 1 to 100.
        longest_side: A larger picture is made smaller.

    Raises:
        UsageError: It is no such picture.
    """
    height, width = _checked(image_bgr).shape[:2]
    factor = longest_side / max(height, width)
    if factor < 1:
        size_wh = (max(1, round(width * factor)), max(1, round(height * factor)))
        image_bgr = cv2.resize(image_bgr, size_wh, interpolation=cv2.INTER_AREA)
    jpeg = encoded(image_bgr, quality)
    head = f"Content-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n".encode()
    return Shot(number, jpeg, b"".join((head, jpeg, b"\r\n", OPENING)))


def snapshot(image_bgr: npt.NDArray[Any]) -> bytes:
    """A picture as it is, as a JPEG of high quality; see shoot."""
    return encoded(_checked(image_bgr), _SNAPSHOT_QUALITY)


def encoded(image_bgr: npt.NDArray[Any], quality: int) -> bytes:
    """A picture as JPEG."""
    _, data = cv2.imencode(".jpg", image_bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return data.tobytes()


def _checked(image_bgr: npt.NDArray[Any]) -> npt.NDArray[Any]:
    wrong = image_bgr.ndim != 3 or image_bgr.shape[2] != 3 or image_bgr.dtype != np.uint8
    if wrong or not image_bgr.size or max(image_bgr.shape) > 65500:  # the largest that JPEG has
        raise UsageError(
            f"A picture to show is {image_bgr.dtype} {list(image_bgr.shape)}",
            expected="uint8 [H, W, 3] with sides up to 65500",
        )
    return image_bgr
