"""Where pictures come from: files, folders, patterns, videos, cameras.

Rules:
    S1  What cannot work at all is refused when the source is opened: a missing file, a folder
        without a picture, a text file called .mp4, a camera that is not there.
    S2  A picture that turns out unreadable is left out, counted and named in `skipped`, and the
        rest goes on. Where nothing could be read, the end is an InputError.
    S3  A folder means its pictures, not its videos and not its subfolders; a pattern means both
        pictures and videos. A named file that has no picture's suffix is tried as a video first.
    S4  `index` counts frames within their source from 0; a picture is frame 0 at 0 s.
"""

from __future__ import annotations

import re
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from jetlift.runtime import listing, pictures, video
from jetlift.runtime.errors import InputError, UsageError
from jetlift.runtime.texts import Skipped, TextItem, TextSource, open_texts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Self

    Report = Callable[[str, str], None]

__all__ = [
    "Frame",
    "Skipped",
    "Source",
    "TextItem",
    "TextSource",
    "frame_at",
    "open_source",
    "open_texts",
]

_CAMERA = re.compile(r"/dev/video\d+")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_MICROPHONES = {"mic", "microphone"}
_NAMED_AT_MOST = 3


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture on its way to a task.

    Attributes:
        source: The file or device it comes from, as it was named.
        index: Number of the frame within its source, from 0.
        time_s: Its time within its source in seconds.
        image_bgr: uint8 [H, W, 3].
    """

    source: str
    index: int
    time_s: float
    image_bgr: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class _Pictures:
    paths: tuple[Path, ...]
    fps = None

    @property
    def count(self) -> int:
        return len(self.paths)

    def frames(self, report: Report) -> Iterator[Frame]:
        for path in self.paths:
            try:
                yield Frame(str(path), 0, 0.0, pictures.read_picture(path))
            except pictures.UnreadablePictureError as error:
                report(str(path), str(error))

    def close(self) -> None:
        """Nothing is held open."""


@dataclass(frozen=True)
class _Video:
    path: Path
    facts: video.VideoFacts

    @property
    def count(self) -> int | None:
        return self.facts.frames

    @property
    def fps(self) -> float | None:
        return self.facts.fps

    def frames(self, report: Report) -> Iterator[Frame]:
        index = 0
        with closing(video.video_frames(self.path)) as frames:  # type: ignore[type-var]
            for index, (time_s, image_bgr) in enumerate(frames, 1):
                yield Frame(str(self.path), index - 1, time_s, image_bgr)
        reason = video.ended_early(self.facts, index)
        if reason:
            report(str(self.path), reason)

    def close(self) -> None:
        """The file is closed with its iteration."""


@dataclass(frozen=True)
class _Camera:
    camera: video.Camera
    count = None
    fps = None

    def frames(self, report: Report) -> Iterator[Frame]:
        del report  # a camera that fails is an error, not a frame less
        for index, (time_s, image_bgr) in enumerate(self.camera.frames()):
            yield Frame(self.camera.device, index, time_s, image_bgr)

    def close(self) -> None:
        self.camera.close()
