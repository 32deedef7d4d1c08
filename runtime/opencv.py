"""OpenCV's own voice, turned down where its words would only confuse.

A missing camera or a broken file makes OpenCV and the FFmpeg in it write lines to stderr. jetlift
says the same in one paragraph, so around such calls theirs are silenced and then restored.
(OpenCV 4.8 writes a line about a cut BMP or PPM past its own log; that one stays.)
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import cv2

if TYPE_CHECKING:
    from collections.abc import Iterator

_FFMPEG_VARIABLE = "OPENCV_FFMPEG_LOGLEVEL"
_FFMPEG_QUIET = "-8"
_SILENT = 0


@contextmanager
def quiet() -> Iterator[None]:
    """Silence OpenCV's log inside the block.

    FFmpeg's level is read once per process, at the first video; a level the user has set stays.
    """
    os.environ.setdefault(_FFMPEG_VARIABLE, _FFMPEG_QUIET)
    logging = _logging()
    level = logging.getLogLevel()
    logging.setLogLevel(_SILENT)
    try:
        yield
    finally:
        logging.setLogLevel(level)


def _logging() -> Any:  # noqa: ANN401 - a module whose place depends on the version
    # OpenCV 4 has the two functions at the top, OpenCV 5 in cv2.utils.logging.
    return cv2 if hasattr(cv2, "setLogLevel") else cv2.utils.logging
