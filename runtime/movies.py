"""Video out through OpenCV, whole or not at all.

Rules:
    M1  MPEG-4 Part 2 (mp4v) in MP4, which every OpenCV from PyPI can write and most players play.
    M2  Frames share one size. An odd side grows by one repeated row or column, since the codec
        stores even sides only and OpenCV would drop the last.
    M3  OpenCV reports no failed write, so the frames in the finished file are counted before it
        takes its name.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2

from jetlift.runtime import atomic, opencv, video
from jetlift.runtime.errors import InputError, MachineError, StorageError, UsageError

if TYPE_CHECKING:
    from types import TracebackType

    import numpy.typing as npt
    from typing_extensions import Self

_INSIDE = "video.mp4"  # the suffix tells OpenCV the container


class VideoSink:
    """An .mp4 file (rules M1 to M3). A context manager.

    Args:
        path: Where the video is to lie; replaced if it exists.
        fps: Frames per second.

    Raises:
        UsageError: The suffix or the rate cannot be.
    """

    def __init__(self, path: Path | str, *, fps: float) -> None:
        self.path, self._fps = Path(path), fps
        if self.path.suffix.lower() != ".mp4" or not 0 < fps <= 1000:
            raise UsageError(
                f"Got the video {self.path.name} at {fps} frames per second",
                expected="A name ending in .mp4 and a rate above 0 and up to 1000",
            )
        self._stack = ExitStack()
        self._writer: cv2.VideoWriter | None = None
        self._size_wh: tuple[int, int] | None = None
        self._written = 0

    def __enter__(self) -> Self:
        self._aside = self._stack.enter_context(atomic.file_aside(self.path))
        return self

    @property
    def size_bytes(self) -> int:
        """Bytes on the disk so far."""
        return (self._aside / _INSIDE).stat().st_size if self._writer is not None else 0

    def write(self, image_bgr: npt.NDArray[Any]) -> None:
        """Append one frame, uint8 [H, W, 3].

        Raises:
            UsageError: It has another size than the first.
            MachineError: This OpenCV cannot write such video.
        """
        even = _even(image_bgr)
        size_wh = (even.shape[1], even.shape[0])
        if self._writer is None:
            self._writer, self._size_wh = self._open(size_wh), size_wh
        if size_wh != self._size_wh:
            raise UsageError(
                f"A frame of {size_wh} came after frames of {self._size_wh}",
                expected="Frames of one size",
                do="Write pictures instead, or run on one video at a time",
            )
        with opencv.quiet():
            self._writer.write(even)
        self._written += 1

    def _open(self, size_wh: tuple[int, int]) -> cv2.VideoWriter:
        self._aside.mkdir()
        code = cv2.VideoWriter.fourcc(*"mp4v")
        with opencv.quiet():
            writer = cv2.VideoWriter(str(self._aside / _INSIDE), code, self._fps, size_wh)
        if not writer.isOpened():
            raise MachineError(
                f"This OpenCV ({cv2.__version__}) cannot write MPEG-4 video",
                expected="An OpenCV with FFmpeg, as the ones from PyPI are",
                do="Write pictures instead, or install opencv-python from PyPI",
            )
        return writer

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            with opencv.quiet():
                self._writer.release()
        if kind is not None:
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:
            self._finish()

    def _finish(self) -> None:
        if self._writer is None:
            raise UsageError("No frame was written to the video", expected="At least one")
        found = _frames_in(self._aside / _INSIDE)
        if found != self._written:
            raise StorageError(
                f"Only {found} of {self._written} frames arrived in {self.path}",
                expected="Enough free space for the video",
                do="Free some space or choose another folder; nothing half-written was left behind",
            )
        whole = self._aside.with_name(f"{self._aside.name}{self.path.suffix}")
        (self._aside / _INSIDE).replace(whole)
        self._aside.rmdir()
        whole.replace(self._aside)


def _frames_in(path: Path) -> int:
    try:
        return video.probe_video(path).frames or 0
    except InputError:
        return 0


def _even(image_bgr: npt.NDArray[Any]) -> npt.NDArray[Any]:
    below, right = image_bgr.shape[0] % 2, image_bgr.shape[1] % 2
    if not below and not right:
        return image_bgr
    return cv2.copyMakeBorder(image_bgr, 0, below, 0, right, cv2.BORDER_REPLICATE)
