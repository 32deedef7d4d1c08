"""One item from a thread that makes to a thread that takes; a newer one replaces an older.

The making thread never waits. Whatever ends it reaches the taker: an error is raised there.
"""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from types import TracebackType

Thing = TypeVar("Thing")


class Handover(Generic[Thing]):
    """A place for one thing.

    Attributes:
        replaced: Things that a newer one replaced before they were taken.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._thing: Thing | None = None
        self._error: BaseException | None = None
        self._ended = self._closed = False
        self.replaced = 0

    def put(self, thing: Thing) -> None:
        """Lay a thing down; lost where nobody takes any more."""
        with self._changed:
            self.replaced += self._thing is not None and not self._closed
            self._thing = thing
            self._changed.notify_all()

    def take(self) -> Thing | None:
        """Wait for a thing; None where no more come.

        Raises:
            BaseException: What ended the making thread, once all it made was taken.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._thing is not None or self._ended or self._closed)
            if self._closed:
                return None
            thing, self._thing = self._thing, None
            if thing is None and self._error is not None:
                error, self._error = self._error, None
                raise error
            return thing

    def close(self) -> None:
        """Nobody takes any more; whoever waits gets None."""
        with self._changed:
            self._closed = True
            self._thing = None
            self._changed.notify_all()

    def feeding(self) -> AbstractContextManager[None]:
        """A block in the making thread, whose end and error reach the taker."""
        return _Feeding(self)

    def end(self, error: BaseException | None) -> None:
        """No more come; `error` is raised where they are taken."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()


class _Feeding(AbstractContextManager[None]):
    def __init__(self, handover: Handover[Thing]) -> None:
        self._handover = handover

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        self._handover.end(error)
        return True  # it is raised in the other thread
