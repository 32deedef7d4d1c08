"""Drawn frames as .mp4 files, of sources without an end too.

Rules:
    Y1  Frames lie on the grid of a measured rate (see `timeline`), unless a rate is given.
    Y2  Another size of the pictures begins another part, since a video has one.
    Y3  A part is a whole file, or not there (see `movies`); with a rotation, no more than the part
        in progress is lost with the process.
    Y4  OpenCV reports no failed write, so free space is looked at now and then, and too little is a
        StorageError before anything is lost.
"""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jetlift.runtime.clock import SYSTEM_CLOCK
from jetlift.runtime.errors import StorageError
from jetlift.runtime.outlets.file_sink import PartedSink, PerSourceSink, drawn_picture
from jetlift.runtime.outlets.timeline import Timeline, frame_time_s, measured_fps
from jetlift.runtime.sinks import VideoSink

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Self

    from jetlift.runtime.clock import Clock
    from jetlift.runtime.outlets.parts import Parts, Rotation
    from jetlift.runtime.pipeline.form import Result

    Picture = npt.NDArray[np.uint8]

_MEASURED_FRAMES = 8  # that wait in memory until the rate is known
_LOOK_EVERY = 32
_LEAST_FREE_BYTES = 32 * 2**20


@dataclass
class _Rate:
    """The rate of one source, kept over its parts."""

    fps: float | None
    waiting: list[tuple[float, Picture]] = field(default_factory=list)


class VideoPart:
    """One .mp4 file; see `file_sink.Part`.

    Args:
        path: Its name in the end.
        rate: Frames per second, or the frames that it is still measured from.
    """

    def __init__(self, path: Path, rate: _Rate) -> None:
        self._path, self._rate = path, rate
        self._stack = ExitStack()
        self._video: VideoSink | None = None
        self._timeline: Timeline | None = None
        self._size_wh: tuple[int, int] | None = None
        self._before: Picture | None = None
        self._count = 0

    @property
    def size_bytes(self) -> int:
        """See Part.size_bytes."""
        return self._video.size_bytes if self._video is not None else 0

    def fits(self, result: Result) -> bool:
        """See Part.fits (rule Y2)."""
        return self._size_wh in (None, _size_wh(drawn_picture(result)))

    def put(self, result: Result) -> None:
        """See Part.put."""
        picture = drawn_picture(result)
        self._size_wh = _size_wh(picture)
        self._rate.waiting.append((frame_time_s(result.item), picture))
        if self._rate.fps is not None or len(self._rate.waiting) >= _MEASURED_FRAMES:
            self._write_waiting()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:
            self._write_waiting()

    def _write_waiting(self) -> None:
        waiting, self._rate.waiting = self._rate.waiting, []
        if not waiting:
            return
        fps = self._rate.fps = self._rate.fps or measured_fps([time_s for time_s, _ in waiting])
        if self._video is None or self._timeline is None:
            self._video = self._stack.enter_context(VideoSink(self._path, fps=fps))
            self._timeline = Timeline(fps)
        for time_s, picture in waiting:
            self._place(self._video, picture, self._timeline.places(time_s))

    def _place(self, video: VideoSink, picture: Picture, places: int) -> None:
        for _ in range(places - 1):
            video.write(picture if self._before is None else self._before)
        if places:
            video.write(picture)
            self._before = picture
        self._count += 1
        if self._count % _LOOK_EVERY == 0:
            self._look_at_free_space()

    def _look_at_free_space(self) -> None:
        free_bytes = shutil.disk_usage(self._path.parent).free
        if free_bytes < _LEAST_FREE_BYTES:  # Y4
            raise StorageError(
                f"Only {free_bytes / 2**20:.0f} MiB are free where {self._path} is written",
                expected=f"At least {_LEAST_FREE_BYTES // 2**20} MiB",
                do="Free some space, or keep fewer parts with an option like #keep-gib=4",
            )


def video_sink(
    path: Path,
    *,
    fps: float | None = None,
    rotation: Rotation | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> PerSourceSink:
    """A sink that writes annotated video (rules Y1 to Y4).

    Args:
        path: An .mp4 file.
        fps: Frames per second; measured where None.
        rotation: When a part ends.
        clock: What measures a part's age.
    """

    def make(parts: Parts) -> PartedSink:
        rate = _Rate(fps)
        return PartedSink("video", parts, lambda part: VideoPart(part, rate))

    return PerSourceSink("video", path, make, rotation=rotation, clock=clock, wants_pictures=True)


def _size_wh(picture: Picture) -> tuple[int, int]:
    return picture.shape[1], picture.shape[0]
