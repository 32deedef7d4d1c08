"""Frames from video files, through OpenCV.

Rules:
    V1  A frame's time is what the container says of it. Where it says nothing new, the frame rate
        counts on.
    V2  A file without one decodable frame is refused when it is opened.
    V3  Containers only estimate their length, so a count is good for progress bars; a file that
        ends well before it is reported.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from jetlift.runtime import opencv
from jetlift.runtime.errors import InputError
from jetlift.runtime.reuse import ReusedMemory

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    import numpy.typing as npt

    Picture = npt.NDArray[np.uint8]

SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".wmv", ".gif"}
)
_SHORT_BY = 0.95  # a share of the stated length below which a file counts as cut short (V3)


@dataclass(frozen=True)
class VideoFacts:
    """What a container says of itself.

    Attributes:
        frames: Number of frames, or None where it is not stated.
        fps: Frames per second, or None.
        size_wh: Width and height of the first frame in pixels.
    """

    frames: int | None
    fps: float | None
    size_wh: tuple[int, int]


def probe_video(path: Path | str) -> VideoFacts:
    """Open a video file and decode its first frame (rule V2).

    Raises:
        InputError: It is no video, or has no frame.
    """
    with _opened(path) as capture:
        frame = next_picture(capture)
        if frame is None:
            raise InputError(
                f"{path} has no frame that can be decoded", expected="A video with a frame or more"
            )
        return VideoFacts(
            frames=int(_positive(capture, cv2.CAP_PROP_FRAME_COUNT) or 0) or None,
            fps=_positive(capture, cv2.CAP_PROP_FPS),
            size_wh=(frame.shape[1], frame.shape[0]),
        )


def video_frames(path: Path | str) -> Generator[tuple[float, Picture], None, None]:
    """Time in seconds and picture of every frame (rule V1).

    Raises:
        InputError: The file is no video.
    """
    with _opened(path) as capture:
        fps = _positive(capture, cv2.CAP_PROP_FPS)
        last_s, memory, shape = -1.0, ReusedMemory(), (0, 0, 3)
        while (frame := next_picture(capture, memory.empty(shape, np.uint8))) is not None:
            shape = frame.shape
            time_s = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            if time_s <= last_s:
                time_s = last_s + (1 / fps if fps else 0.0)
            last_s = time_s
            yield time_s, frame


def video_frame(path: Path | str, index: int) -> Picture:
    """One frame of a video file by its number, counted from 0.

    Raises:
        InputError: The file is no video or has no such frame.
    """
    with _opened(path) as capture:
        if index:
            capture.set(cv2.CAP_PROP_POS_FRAMES, index)
        frame = next_picture(capture)
    if frame is None:
        raise InputError(f"{path} has no frame {index}")
    return frame


def ended_early(facts: VideoFacts, delivered: int) -> str | None:
    """The reason to report where a file ended well before its stated length (rule V3)."""
    if facts.frames is None or delivered >= facts.frames * _SHORT_BY - 1:
        return None
    return f"it ended after {delivered} of {facts.frames} frames"


@contextmanager
def _opened(path: Path | str) -> Iterator[cv2.VideoCapture]:
    with opencv.quiet():
        capture = cv2.VideoCapture(str(path))
    try:
        if not capture.isOpened():
            raise InputError(
                f"{path} cannot be opened as a video",
                expected="A whole video file in a format that this OpenCV knows",
                do="Check that it plays elsewhere, or convert it to MP4 with H.264",
            )
        yield capture
    finally:
        capture.release()


def next_picture(capture: cv2.VideoCapture, memory: Picture | None = None) -> Picture | None:
    """The next picture of an open capture, uint8 [H, W, 3]; None where none comes any more.

    Args:
        capture: It is open.
        memory: Where the picture is put, if it is of its shape.
    """
    with opencv.quiet():
        delivered, frame = capture.read(memory)
    return _bgr(frame) if delivered and frame is not None else None


def _bgr(frame: npt.NDArray[Any]) -> Picture:
    if frame.ndim == 3 and frame.shape[2] == 3:
        return np.asarray(frame, np.uint8)
    return np.asarray(cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR), np.uint8)  # some cameras are grey


def _positive(capture: cv2.VideoCapture, number: int) -> float | None:
    value = float(capture.get(number))
    return value if np.isfinite(value) and value > 0 else None
