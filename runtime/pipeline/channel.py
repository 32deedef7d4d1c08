"""Between threads: the intake, where frames wait to be taken, and channels from stage to stage.

Rules:
    C1  Nothing here grows without bound. A live source has one place, and a newer frame takes it;
        what it replaced is counted as dropped. Any other source waits until there is room.
    C2  Sources take turns, so that a fast one never starves a slow one.
    C3  A channel for live frames has no room at all: who puts waits until somebody took. Thus a
        stage begins a fresh frame when the next stage begins its last one, and a frame's age at
        the end of the slowest stage is at most the capture interval and twice that stage's time.
    C4  `close` lets what is inside still be taken; `abort` wakes everybody and ends it now.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")


class Channel(Generic[T]):
    """From one stage to the next (rules C3, C4).

    Args:
        room: Items that it holds; 0 hands over from hand to hand.
    """

    def __init__(self, room: int) -> None:
        self._room, self._items = room, deque[T]()
        self._put = self._taken = 0
        self._changed = threading.Condition()
        self._closed = self._aborted = False

    def put(self, item: T) -> bool:
        """Hand over one item, and wait for room.

        Returns:
            False where the channel was aborted; the item is then taken, or among those `left`.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._aborted or len(self._items) < max(1, self._room))
            self._items.append(item)
            if self._aborted:
                return False
            self._put += 1
            mine = self._put
            self._changed.notify_all()
            if self._room == 0:
                self._changed.wait_for(lambda: self._aborted or self._taken >= mine)
            return not self._aborted

    def take(self, timeout_s: float | None = None) -> T | None:
        """Take the oldest item.

        Args:
            timeout_s: Wait this long at most; None waits until there is one or never will be.

        Returns:
            None where the channel ended, or the time is over.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._items or self._closed or self._aborted, timeout=timeout_s
            )
            if self._aborted or not self._items:
                return None
            self._taken += 1
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    @property
    def ended(self) -> bool:
        """Whether nothing will come any more."""
        with self._changed:
            return self._aborted or (self._closed and not self._items)

    def close(self) -> None:
        """Nothing more will be put (rule C4)."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def abort(self) -> None:
        """End it now (rule C4)."""
        with self._changed:
            self._aborted = True
            self._changed.notify_all()

    def left(self) -> list[T]:
        """What nobody will take any more, once it is aborted; each item is given out once."""
        with self._changed:
            items = list(self._items) if self._aborted else []
            if self._aborted:
                self._items.clear()
            return items


class Intake(Generic[T]):
    """Where the items of several sources wait to be taken (rules C1, C2, C4).

    Args:
        live: Per source, whether it is live.
        room: Items of each other source that it holds.
    """

    def __init__(self, live: Sequence[bool], *, room: int = 2) -> None:
        self._live = tuple(live)
        self._rooms = [1 if is_live else max(1, room) for is_live in self._live]
        self._waiting = [deque[T]() for _ in self._live]
        self._open = [True] * len(self._live)
        self._dropped = [0] * len(self._live)
        self._next, self._aborted = 0, False
        self._changed = threading.Condition()

    def put(self, source: int, item: T) -> bool:
        """Offer an item of a source (rule C1).

        Returns:
            False where nothing is taken any more.
        """
        waiting = self._waiting[source]
        with self._changed:
            if self._live[source]:
                if waiting and self._open[source] and not self._aborted:
                    waiting.clear()
                    self._dropped[source] += 1
            else:
                self._changed.wait_for(
                    lambda: (
                        self._aborted
                        or not self._open[source]
                        or len(waiting) < self._rooms[source]
                    )
                )
            if self._aborted or not self._open[source]:
                return False
            waiting.append(item)
            self._changed.notify_all()
            return True

    def take(self, timeout_s: float | None = None) -> T | None:
        """Take the item of the source whose turn it is (rule C2).

        Returns:
            None where every source ended, or the time is over.
        """
        with self._changed:
            self._changed.wait_for(self._decided, timeout=timeout_s)
            if self._aborted:
                return None
            count = len(self._waiting)
            for source in (*range(self._next, count), *range(self._next)):
                if self._waiting[source]:
                    self._next = (source + 1) % count
                    item: T = self._waiting[source].popleft()
                    self._changed.notify_all()
                    return item
            return None

    def _decided(self) -> bool:
        return self._aborted or any(self._waiting) or not any(self._open)

    @property
    def ended(self) -> bool:
        """Whether nothing will come any more."""
        with self._changed:
            return self._aborted or (not any(self._open) and not any(self._waiting))

    @property
    def dropped(self) -> int:
        """Frames of live sources that a newer one replaced."""
        with self._changed:
            return sum(self._dropped)

    def end(self, source: int) -> None:
        """A source has nothing more; what waits of it can still be taken."""
        with self._changed:
            self._open[source] = False
            self._changed.notify_all()

    def drain(self) -> None:
        """Take nothing more of any source; what waits can still be taken."""
        with self._changed:
            self._open = [False] * len(self._open)
            self._changed.notify_all()

    def abort(self) -> None:
        """End it now (rule C4)."""
        with self._changed:
            self._aborted = True
            self._changed.notify_all()
