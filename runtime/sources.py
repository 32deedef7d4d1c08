"""Where pictures come from: files, folders, patterns, videos, cameras, streams.

Rules:
    S1  What cannot work at all is refused when the source is opened: a missing file, a folder
        without a picture, a text file called .mp4, a camera that is not there.
    S2  A picture that turns out unreadable is left out, counted and named in `skipped`, and the
        rest goes on. Where nothing could be read, the end is an InputError.
    S3  A folder means its pictures, not its videos and not its subfolders; a pattern means both
        pictures and videos. A named file that has no picture's suffix is tried as a video first.
    S4  `index` counts frames within their source from 0; a picture is frame 0 at 0 s.
    S5  Live inputs (docs/sources.md) are sources of their own, all files together are one. In
        `open_source` a live input stands in line with the rest, for as long as it has frames.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from jetlift.runtime import listing, pictures, video
from jetlift.runtime.closing import Closing
from jetlift.runtime.errors import InputError, UsageError
from jetlift.runtime.listing import Skipped
from jetlift.runtime.texts import TextItem, TextSource, open_texts

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    import numpy as np
    import numpy.typing as npt

    from jetlift.runtime.clock import Clock
    from jetlift.runtime.pipeline.form import FrameSource
    from jetlift.runtime.streams.files import LiveFrames

    Report = Callable[[str, str], None]

__all__ = [
    "Frame",
    "Skipped",
    "Source",
    "TextItem",
    "TextSource",
    "frame_at",
    "open_frame_sources",
    "open_source",
    "open_texts",
]

_NAMED_AT_MOST = 3


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture on its way to a task.

    Attributes:
        source: The file or device it comes from, as it was named.
        index: Number of the frame within its source, from 0.
        time_s: Its time within its source in seconds.
        image_bgr: uint8 [H, W, 3].
        captured_s: The moment of capture by jetlift.runtime.clock, as near as the source knows it;
            None where there is none, as for a file.
    """

    source: str
    index: int
    time_s: float
    image_bgr: npt.NDArray[np.uint8]
    captured_s: float | None = None


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
        with closing(video.video_frames(self.path)) as frames:
            for index, (time_s, image_bgr) in enumerate(frames, 1):
                yield Frame(str(self.path), index - 1, time_s, image_bgr)
        reason = video.ended_early(self.facts, index)
        if reason:
            report(str(self.path), reason)

    def close(self) -> None:
        """The file is closed with its iteration."""


class Source(Closing):
    """Frames of the given inputs in order. Each iteration starts again from the first.

    Attributes:
        skipped: What could not be read in this iteration so far, and why (rule S2).
    """

    def __init__(
        self, inputs: Sequence[_Pictures | _Video | LiveFrames], *, limit: int | None = None
    ) -> None:
        self._inputs, self._limit = tuple(inputs), limit
        self._running: Generator[Frame, None, None] | None = None
        self.skipped: list[Skipped] = []

    @property
    def count(self) -> int | None:
        """How many frames to expect, or None where nobody knows. Videos only estimate theirs."""
        counts = [item.count for item in self._inputs]
        known = [count for count in counts if count is not None]
        if len(known) < len(counts):
            return self._limit
        return sum(known) if self._limit is None else min(sum(known), self._limit)

    @property
    def fps(self) -> float | None:
        """Frames per second where the source is one video that states them."""
        return self._inputs[0].fps if len(self._inputs) == 1 else None

    def __iter__(self) -> Iterator[Frame]:
        self.skipped.clear()
        self._running = self._frames()
        return self._running

    def _frames(self) -> Generator[Frame, None, None]:
        delivered = 0
        every = (frame for item in self._inputs for frame in item.frames(self._report))
        for frame in islice(every, self._limit):
            delivered += 1
            yield frame
        if not delivered:
            raise _nothing_read(self.skipped)

    def _report(self, source: str, reason: str) -> None:
        self.skipped.append(Skipped(source, reason))

    def close(self) -> None:
        """End a running iteration and give cameras back. A second call does nothing."""
        if self._running is not None:
            self._running.close()
        for item in self._inputs:
            item.close()


def open_source(inputs: Sequence[str], *, limit: int | None = None) -> Source:
    """Open the inputs of a run (rules S1 to S5).

    Args:
        inputs: Files, folders, patterns like 'shots/*.png', videos, live inputs.
        limit: Stop after this many frames.

    Raises:
        InputError: One of them cannot be used.
        MachineError: This machine lacks what one of them is read with.
        UsageError: There are none, or one is of an unknown kind.
    """
    _check(inputs, limit)
    opened: list[_Pictures | _Video | LiveFrames] = []
    try:
        for name in inputs:
            opened.extend(_open(name))
    except BaseException:
        Source(opened).close()  # the cameras opened so far
        raise
    return Source(opened, limit=limit)


def open_frame_sources(
    inputs: Sequence[str], limit: int | None = None, *, clock: Clock | None = None
) -> list[FrameSource]:
    """Open the inputs of a run for a pipeline (rules S1 to S5).

    Args:
        inputs: As for `open_source`.
        limit: Frames that each of them gives at most.
        clock: What live inputs tell times by; None is the machine's.

    Returns:
        One per live input, in order, and behind them one of all files, whose `clock` is empty.
        The caller closes them.

    Raises:
        InputError: One of them cannot be used.
        MachineError: This machine lacks what one of them is read with.
        UsageError: There are none, or one is of an unknown kind.
    """
    from jetlift.runtime.clock import SYSTEM_CLOCK
    from jetlift.runtime.streams.files import FileFrames, Limited
    from jetlift.runtime.streams.opening import is_live, open_live

    _check(inputs, limit)
    live = [name for name in inputs if is_live(name)]
    files = [name for name in inputs if not is_live(name)]
    opened: list[FrameSource] = [open_live(name, clock=clock or SYSTEM_CLOCK) for name in live]
    if limit is not None:
        opened = [Limited(source, limit) for source in opened]
    if files:
        name = files[0] if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"
        opened.append(FileFrames(open_source(files, limit=limit), name))
    return opened


def _check(inputs: Sequence[str], limit: int | None) -> None:
    if not inputs:
        raise UsageError("No input was named", expected="A picture, folder, video or camera")
    if limit is not None and limit < 1:
        raise UsageError(f"Got a limit of {limit} frames", expected="At least 1")


def frame_at(source: str, index: int) -> npt.NDArray[np.uint8]:
    """Read one frame again by the `source` and `index` of an earlier run.

    Returns:
        uint8 [H, W, 3], BGR.

    Raises:
        InputError: It is no longer there or cannot be read.
    """
    path = Path(source)
    if index == 0 and path.suffix.lower() not in video.SUFFIXES:
        try:
            return pictures.read_picture(path)
        except pictures.UnreadablePictureError as error:
            raise InputError(f"{source} cannot be read: {error}") from error
    return video.video_frame(path, index)


def _open(name: str) -> Iterator[_Pictures | _Video | LiveFrames]:
    from jetlift.runtime.streams.files import LiveFrames
    from jetlift.runtime.streams.opening import is_live, is_microphone, open_live

    if is_live(name) or (is_microphone(name) and not Path(name).exists()):
        yield LiveFrames(open_live(name))
        return
    paths = listing.expand(
        name,
        what="pictures",
        in_folder=pictures.SUFFIXES,
        in_pattern=pictures.SUFFIXES | video.SUFFIXES,
    )
    stills: list[Path] = []
    for path in paths:
        if path.suffix.lower() in pictures.SUFFIXES:
            stills.append(path)
            continue
        if stills:
            yield _Pictures(tuple(stills))
            stills = []
        yield _video_or_picture(path)
    if stills:
        yield _Pictures(tuple(stills))


def _video_or_picture(path: Path) -> _Video | _Pictures:
    try:
        return _Video(path, video.probe_video(path))
    except InputError as error:
        if path.suffix.lower() in video.SUFFIXES:
            raise
        try:
            pictures.read_picture(path)
        except pictures.UnreadablePictureError:
            raise InputError(
                f"{path} is neither a picture nor a video that OpenCV can read",
                expected="A picture (JPEG, PNG, …) or a video (MP4, …)",
            ) from error
        return _Pictures((path,))


def _nothing_read(skipped: Sequence[Skipped]) -> InputError:
    named = "; ".join(f"{item.source}: {item.reason}" for item in skipped[:_NAMED_AT_MOST])
    more = len(skipped) - _NAMED_AT_MOST
    return InputError(
        f"None of the {len(skipped)} inputs could be read ({named}"
        + (f"; and {more} more)" if more > 0 else ")"),
        expected="At least one whole picture",
    )
