"""Picture files to 8-bit BGR, whole or not at all.

Rules:
    P1  A picture is uint8 [H, W, 3] in BGR order, whatever the file holds: grey is repeated, a
        palette looked up, alpha dropped (the colour under it stays), 16 bits keep their upper 8.
        Pictures of floating point are refused. Of an animation or a stack, the first is taken.
    P2  EXIF orientation is applied (WebP's only from OpenCV 5 on).
    P3  A truncated file is refused, never shown half grey. JPEG and PNG are checked here, since
        libjpeg fills up what is missing; other formats by OpenCV. Flipped bits inside a JPEG's
        entropy-coded data cannot be told from a picture.
"""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from jetlift.runtime import opencv

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pnm"}
)

_JPEG_START = b"\xff\xd8\xff"
_PNG_START = b"\x89PNG\r\n\x1a\n"
# In entropy-coded data FF 00 is a stuffed byte, FF D0 to D7 a restart, FF FF a fill byte.
_MARKER_IN_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9


class UnreadablePictureError(Exception):
    """A file is not a whole picture. The message is a clause that says why."""


def read_picture(path: Path) -> npt.NDArray[np.uint8]:
    """Read one picture file (rules P1 to P3).

    Returns:
        uint8 [H, W, 3], BGR.

    Raises:
        UnreadablePictureError: The file cannot be read, is truncated, or is no picture.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UnreadablePictureError(error.strerror or str(error)) from error
    return decode_picture(content)


def decode_picture(content: bytes) -> npt.NDArray[np.uint8]:
    """Decode the content of one picture file (rules P1 to P3).

    Returns:
        uint8 [H, W, 3], BGR.

    Raises:
        UnreadablePictureError: It is truncated or no picture that OpenCV knows.
    """
    if not content:
        raise UnreadablePictureError("it is empty")
    if content.startswith(_JPEG_START) and not _is_whole_jpeg(content):
        raise UnreadablePictureError("it is a JPEG without its end")
    if content.startswith(_PNG_START):
        _check_png(content)
    try:
        with opencv.quiet():
            image: npt.NDArray[Any] | None = cv2.imdecode(
                np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
            )
    except cv2.error as error:
        raise UnreadablePictureError(f"OpenCV says: {error.err}") from error
    if image is None:
        raise UnreadablePictureError("it is not a whole picture in a format that OpenCV knows")
    return _eight_bits(image)


def _eight_bits(image: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    if image.dtype == np.uint16:
        return (image >> 8).astype(np.uint8)  # OpenCV's own way depends on the file's format
    if image.dtype != np.uint8:
        raise UnreadablePictureError(f"its values are {image.dtype}, not 8 or 16 bits")
    return np.asarray(image, np.uint8)


def _is_whole_jpeg(content: bytes) -> bool:
    """Whether the segments lead to an end-of-image marker (ITU-T T.81, annex B).

    Bytes after it are allowed: phones append a second picture or a video there.
    """
    position = 2
    while position + 4 <= len(content):
        if content[position] != 0xFF:  # decoders skip what lies between segments
            position += 1
            continue
        marker = content[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        if marker == _END_OF_IMAGE:
            return True
        position += 2 + int.from_bytes(content[position + 2 : position + 4], "big")
        if marker == _START_OF_SCAN:
            found = _MARKER_IN_SCAN.search(content, position)
            if found is None:
                return False
            position = found.start()
    return content[position : position + 2] == bytes([0xFF, _END_OF_IMAGE])


def _check_png(content: bytes) -> None:
    """Walk the chunks to IEND and check the critical ones' CRC (https://www.w3.org/TR/png-3/)."""
    position = len(_PNG_START)
    while position + 12 <= len(content):
        length = int.from_bytes(content[position : position + 4], "big")
        end = position + 12 + length
        if end > len(content):
            break
        kind = content[position + 4 : position + 8]
        stored = int.from_bytes(content[end - 4 : end], "big")
        critical = not kind[0] & 0x20
        if critical and zlib.crc32(memoryview(content)[position + 4 : end - 4]) != stored:
            raise UnreadablePictureError("it is a PNG with a damaged chunk")
        if kind == b"IEND":
            return
        position = end
    raise UnreadablePictureError("it is a PNG without its end")
