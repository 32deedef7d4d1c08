"""Frames from video files and local cameras, through OpenCV.

Rules:
    V1  A frame's time is what the container says of it. Where it says nothing new, the frame rate
        counts on; a camera's clock starts at its first frame.
    V2  A file without one decodable frame is refused when it is opened.
    V3  Containers only estimate their length, so a count is good for progress bars; a file that
        ends well before it is reported.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from jetlift.runtime import opencv
from jetlift.runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

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
        frame = _next(capture)
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
        last_s = -1.0
        while (frame := _next(capture)) is not None:
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
        frame = _next(capture)
    if frame is None:
        raise InputError(f"{path} has no frame {index}")
    return frame


def ended_early(facts: VideoFacts, delivered: int) -> str | None:
    """The reason to report where a file ended well before its stated length (rule V3)."""
    if facts.frames is None or delivered >= facts.frames * _SHORT_BY - 1:
        return None
    return f"it ended after {delivered} of {facts.frames} frames"


class Camera:
    """A local camera, open from the start.

    Args:
        device: Its device file, as in /dev/video0.

    Raises:
        InputError: There is no such camera, or it does not open.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        if not Path(device).exists():
            raise InputError(
                f"There is no camera {device}",
                expected="A device that exists",
                do="List the cameras with: ls /dev/video*",
            )
        with opencv.quiet():
            self._capture = cv2.VideoCapture(device, cv2.CAP_V4L2)
        if not self._capture.isOpened():
            raise InputError(
                f"Camera {device} does not open",
                expected="A camera that delivers pictures and that nobody else is using",
                do="Close the other program, or see that your user is in the group 'video'",
            )
        # Old frames in a queue are delay; one is enough to never wait for the next.
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)

    def frames(self) -> Iterator[tuple[float, Picture]]:
        """Seconds since the first frame, and picture, for as long as the camera delivers.

        Raises:
            InputError: The camera stopped delivering.
        """
        delivered, start_s = 0, 0.0
        while (frame := _next(self._capture)) is not None:
            now_s = time.monotonic()
            start_s = start_s if delivered else now_s
            delivered += 1
            yield now_s - start_s, frame
        raise InputError(
            f"Camera {self.device} stopped delivering after {delivered} frames",
            do="Check its cable and whether another program took it",
        )

    def close(self) -> None:
        """Give the camera back. A second call does nothing."""
        self._capture.release()


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


def _next(capture: cv2.VideoCapture) -> Picture | None:
    with opencv.quiet():
        delivered, frame = capture.read()
    return _bgr(frame) if delivered and frame is not None else None


def _bgr(frame: npt.NDArray[Any]) -> Picture:
    if frame.ndim == 3 and frame.shape[2] == 3:
        return np.asarray(frame, np.uint8)
    return np.asarray(cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR), np.uint8)  # some cameras are grey


def _positive(capture: cv2.VideoCapture, number: int) -> float | None:
    value = float(capture.get(number))
    return value if np.isfinite(value) and value > 0 else None
