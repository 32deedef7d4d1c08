"""Frames of live sources for whoever takes them one by one: always the newest.

Rules:
    E1  Each source is read by a thread of its own. Of a live one the newest frame waits to be
        taken, and what it replaced is counted; files wait.
    E2  What a source fails of is raised where frames are taken, and ends them.
    E3  `close` ends the sources and the threads, whatever they wait for.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from jetlift.runtime.closing import Closing
from jetlift.runtime.errors import MachineError
from jetlift.runtime.pipeline.channel import Intake

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from types import TracebackType

    from jetlift.runtime.pipeline.form import FrameSource
    from jetlift.runtime.sources import Frame

_GRACE_S = 10.0


class NewestFrames(Closing):
    """The newest frame of each live source in turn (rules E1 to E3). A context manager.

    Args:
        sources: Opened sources; closed with this.
        grace_s: How long `close` waits for their threads.
    """

    def __init__(self, sources: Sequence[FrameSource], *, grace_s: float = _GRACE_S) -> None:
        self._sources, self._grace_s = tuple(sources), grace_s
        self._intake = Intake["Frame"]([source.live for source in sources])
        self._failure: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._read, args=(number,), name=f"read {it.name}", daemon=True)
            for number, it in enumerate(self._sources)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def dropped(self) -> int:
        """Frames that a newer one replaced."""
        return self._intake.dropped

    def frames(self) -> Generator[Frame, None, None]:
        """Frames, until every source has ended.

        Raises:
            JetliftError: A source failed.
        """
        while (frame := self._intake.take()) is not None:
            yield frame
        if self._failure is not None:
            raise self._failure

    def _read(self, number: int) -> None:
        with _Kept(self):
            for frame in self._sources[number].frames():
                if not self._intake.put(number, frame):
                    break
            self._intake.end(number)

    def fail(self, error: BaseException) -> None:
        """Keep the first failure and end the frames (rule E2)."""
        if self._failure is None:
            self._failure = error
        self._intake.abort()

    def close(self) -> None:
        """End everything (rule E3). A second call does nothing.

        Raises:
            MachineError: A source could not be ended.
        """
        self._intake.abort()
        for source in self._sources:
            source.close()
        for thread in self._threads:
            thread.join(self._grace_s)
        hanging = [thread.name for thread in self._threads if thread.is_alive()]
        if hanging:
            raise MachineError(
                f"{', '.join(hanging)} did not end within {self._grace_s:g} s",
                expected="A source that ends when it is closed",
                do="End this process; check the device's log for what it waits for",
            )


class _Kept:
    """Keeps what its block fails of, for another thread to raise."""

    def __init__(self, owner: NewestFrames) -> None:
        self._owner = owner

    def __enter__(self) -> None:
        """Nothing to begin."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if error is not None:
            self._owner.fail(error)
        return True
