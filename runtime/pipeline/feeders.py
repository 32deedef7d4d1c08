"""From sources to parcels, and from inputs of other kinds to sources."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from jetlift.runtime.pipeline.form import FrameSource, SourceHealth
from jetlift.runtime.pipeline.task_stages import TaskParcel

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from jetlift.runtime.clock import Clock
    from jetlift.runtime.listing import Skipped
    from jetlift.runtime.tasks.base import Item

READ = "when it was read"


class ItemSource(Protocol):
    """A FrameSource of items of any kind: frames, texts, sounds, poses."""

    @property
    def name(self) -> str:
        """See FrameSource.name."""

    @property
    def live(self) -> bool:
        """See FrameSource.live."""

    def frames(self) -> Iterator[Item]:
        """See FrameSource.frames."""

    def health(self) -> SourceHealth:
        """See FrameSource.health."""

    def close(self) -> None:
        """See FrameSource.close."""


class PlainSource:
    """Opened inputs of any kind (texts, sounds, poses, files) as a source.

    Its age begins when an item was read, for want of anything earlier.

    Args:
        items: The inputs, as `open_inputs` gives them; they are closed by who opened them.
        name: What it is called.

    Attributes:
        count: Inputs to expect; None where nobody knows.
        fps: Frames per second where they are to be a video.
    """

    live = False

    def __init__(self, items: Iterable[Item], name: str) -> None:
        self.name, self._items, self._captured, self._closed = name, items, 0, False
        self.count: int | None = getattr(items, "count", None)
        self.fps: float | None = getattr(items, "fps", None)

    def frames(self) -> Iterator[Item]:
        """See FrameSource.frames."""
        for item in self._items:
            self._captured += 1
            yield item
            if self._closed:
                return

    def health(self) -> SourceHealth:
        """See FrameSource.health."""
        skipped = len(self.skipped)
        return SourceHealth(self.name, self.live, READ, self._captured, skipped)

    @property
    def skipped(self) -> list[Skipped]:
        """What could not be read so far, and why."""
        return getattr(self._items, "skipped", [])

    def close(self) -> None:
        """See FrameSource.close; what is read now is still given out."""
        self._closed = True


class SourceFeeder:
    """Makes parcels of a source's items; see line_form.Feeder.

    Args:
        source: The source.
        clock: Tells the moment where an item has none.
    """

    def __init__(self, source: ItemSource | FrameSource, clock: Clock) -> None:
        self._source, self._clock = source, clock

    @property
    def name(self) -> str:
        """See Feeder.name."""
        return self._source.name

    @property
    def live(self) -> bool:
        """See Feeder.live."""
        return self._source.live

    def parcels(self) -> Iterator[TaskParcel]:
        """See Feeder.parcels."""
        for item in self._source.frames():
            captured_s = getattr(item, "captured_s", None)
            if captured_s is None:
                yield TaskParcel(item, self._clock.now_s())
            else:
                yield TaskParcel(item, captured_s, perishable=True)

    def close(self) -> None:
        """See Feeder.close."""
        self._source.close()
