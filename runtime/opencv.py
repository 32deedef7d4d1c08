"""OpenCV's own voice, turned down where its words would only confuse.

A missing camera or a broken file makes OpenCV and the FFmpeg in it write lines to stderr. jetlift
says the same in one paragraph, so around such calls theirs are silenced and then restored.
(OpenCV 4.8 writes a line about a cut BMP or PPM past its own log; that one stays.)
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import cv2

if TYPE_CHECKING:
    from collections.abc import Iterator

_FFMPEG_VARIABLE = "OPENCV_FFMPEG_LOGLEVEL"
_FFMPEG_QUIET = "-8"
_SILENT = 0


class _Hush:
    """Silence shared by threads: the first to ask for it notes the level, the last restores it."""

    def __init__(self) -> None:
        self._lock, self._askers, self._level = threading.Lock(), 0, _SILENT

    def begin(self) -> None:
        with self._lock:
            self._askers += 1
            if self._askers == 1:
                self._level = _logging().getLogLevel()
                _logging().setLogLevel(_SILENT)

    def end(self) -> None:
        with self._lock:
            self._askers -= 1
            if not self._askers:
                _logging().setLogLevel(self._level)


_HUSH = _Hush()


@contextmanager
def quiet() -> Iterator[None]:
    """Silence OpenCV's log while any thread is inside such a block.

    FFmpeg's level is read once per process, at the first video; a level the user has set stays.
    """
    os.environ.setdefault(_FFMPEG_VARIABLE, _FFMPEG_QUIET)
    _HUSH.begin()
    try:
        yield
    finally:
        _HUSH.end()


def _logging() -> Any:  # noqa: ANN401 - a module whose place depends on the version
    # OpenCV 4 has the two functions at the top, OpenCV 5 in cv2.utils.logging.
    return cv2 if hasattr(cv2, "setLogLevel") else cv2.utils.logging
