"""Sound between a thread that records and one that takes: bounded, with losses counted.

The recording thread never waits. Where there is no room, the oldest sound goes, and the next chunk
that is taken says how many samples are missing before it. Whatever ends the recording thread
reaches the taker: an error is raised there.
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Chunk:
    """Sound that was read at once.

    Attributes:
        samples: float32 [n].
        read_s: When its last sample was read, by the source's clock.
        missing: Samples that were lost before its first.
    """

    samples: npt.NDArray[np.float32]
    read_s: float
    missing: int = 0


class Reservoir(AbstractContextManager["Reservoir"]):
    """Room for so many samples. Entered by the recording thread, whose end leaves it.

    Attributes:
        lost: Samples that there was no room for.

    Args:
        room: Samples that may wait; at least one chunk is kept.
    """

    def __init__(self, room: int) -> None:
        self._room, self._waiting, self.lost = room, 0, 0
        self._changed, self._chunks = threading.Condition(), deque[Chunk]()
        self._ended = self._closed = False
        self._error: BaseException | None = None

    def put(self, chunk: Chunk) -> None:
        """Lay sound down."""
        with self._changed:
            self._chunks.append(chunk)
            self._waiting += len(chunk.samples)
            while self._waiting > self._room and len(self._chunks) > 1:
                oldest, behind = self._chunks.popleft(), self._chunks[0]
                gone = len(oldest.samples)
                self._waiting -= gone
                self.lost += gone
                missing = oldest.missing + gone + behind.missing
                self._chunks[0] = replace(behind, missing=missing)
            self._changed.notify_all()

    def take(self) -> Chunk | None:
        """Wait for sound; None where no more comes.

        Raises:
            BaseException: What ended the recording thread, once all before it was taken.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._chunks or self._ended or self._closed)
            if self._closed:
                return None
            if self._chunks:
                chunk = self._chunks.popleft()
                self._waiting -= len(chunk.samples)
                return chunk
            error, self._error = self._error, None
        if error is not None:
            raise error
        return None

    def close(self) -> None:
        """Nobody takes any more; whoever waits gets None."""
        with self._changed:
            self._closed = True
            self._chunks.clear()
            self._changed.notify_all()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()
        return True  # it is raised in the other thread
