"""Files as a FrameSource, and live inputs as frames to iterate."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jetlift.runtime.pipeline.form import SourceHealth

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jetlift.runtime.listing import Skipped
    from jetlift.runtime.pipeline.form import FrameSource
    from jetlift.runtime.sources import Frame, Source


class FileFrames:
    """All files of a run, in order; not live.

    Attributes:
        count: Frames to expect; None where nobody knows.
        fps: Frames per second where it is one video that states them.

    Args:
        source: The opened files; closed with this.
        name: What it is called.
    """

    live = False

    def __init__(self, source: Source, name: str) -> None:
        self.name, self._source = name, source
        self.count, self.fps = source.count, source.fps
        self._stop, self._captured, self._ended = threading.Event(), 0, False

    @property
    def skipped(self) -> list[Skipped]:
        """What could not be read so far, and why."""
        return self._source.skipped

    def frames(self) -> Iterator[Frame]:
        """See FrameSource.frames."""
        try:
            for frame in self._source:
                if self._stop.is_set():
                    return
                self._captured += 1
                yield frame
        finally:
            self._ended = True
            self._source.close()

    def health(self) -> SourceHealth:
        """See FrameSource.health."""
        skipped = tuple(self._source.skipped)
        trouble = f"{skipped[-1].source}: {skipped[-1].reason}" if skipped else ""
        return SourceHealth(
            self.name, live=False, clock="when it was read", captured=self._captured,
            skipped=len(skipped), connected=not self._ended, trouble=trouble,
        )  # fmt: skip

    def close(self) -> None:
        """See FrameSource.close; files are given back by the thread that reads them."""
        self._stop.set()


@dataclass(frozen=True)
class LiveFrames:
    """A live source among the inputs of a Source."""

    source: FrameSource
    count = None
    fps = None

    def frames(self, report: Callable[[str, str], None]) -> Iterator[Frame]:
        """Its frames, for as long as it has some."""
        del report  # what goes wrong ends it
        yield from self.source.frames()

    def close(self) -> None:
        """Give it back."""
        self.source.close()


class Limited:
    """A live source that ends after so many frames."""

    live, fps = True, None

    def __init__(self, source: FrameSource, limit: int) -> None:
        self._source, self.count = source, limit
        self.name = source.name

    def frames(self) -> Iterator[Frame]:
        """See FrameSource.frames."""
        for number, frame in enumerate(self._source.frames(), 1):
            yield frame
            if number == self.count:
                self._source.close()
                return

    def health(self) -> SourceHealth:
        """See FrameSource.health."""
        return self._source.health()

    def close(self) -> None:
        """See FrameSource.close."""
        self._source.close()
