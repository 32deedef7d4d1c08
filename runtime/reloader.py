"""A new version of what is in use, opened beside the old one and put in place without a break.

Rules:
    L1  The new one is opened and checked by a thread of its own while the old one works on. What
        fails leaves the old one in place and is told.
    L2  Whoever holds the version in use puts the new one in place between two items, and closes the
        old one when its last item is done: for tasks, jetlift.runtime.pipeline.holder.
    L3  Requests that come while one is opened become one more reload after it.
    L4  Both are in memory for a while; where that is too much, opening the new one fails (L1).
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from jetlift.runtime.closing import Closing
from jetlift.runtime.errors import JetliftError

if TYPE_CHECKING:
    from collections.abc import Callable


class Closable(Protocol):
    """What can be given back."""

    def close(self) -> None:
        """Give it back."""


T = TypeVar("T", bound=Closable)


class Reloader(Closing, Generic[T]):
    """Opens a new version on request (rules L1 to L4). Any thread may call anything.

    Args:
        load: Opens and checks one; called by a thread of this object's.
        put: Puts one in place; if it raises a JetliftError, the new one is closed.
        told: Called with None after each reload that worked, or with what it failed of; by that
            thread.

    Attributes:
        reloads: Reloads that worked.
        failures: Reloads that did not.
    """

    def __init__(
        self,
        load: Callable[[], T],
        put: Callable[[T], None],
        told: Callable[[JetliftError | None], None] | None = None,
    ) -> None:
        self._load, self._put, self._told = load, put, told
        self.reloads, self.failures = 0, 0
        self._lock = threading.Condition()
        self._wanted, self._closed = False, False
        self._thread: threading.Thread | None = None

    def request(self) -> None:
        """Reload; returns at once (rules L1 and L3). Does nothing once it is closed."""
        with self._lock:
            if self._closed:
                return
            self._wanted = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="reload", daemon=True)
                self._thread.start()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until no reload is under way; whether it is so."""
        with self._lock:
            return self._lock.wait_for(lambda: self._thread is None, timeout_s)

    def _work(self) -> None:
        try:
            while self._next_request():
                self._reload()
        finally:
            with self._lock:
                if self._thread is threading.current_thread():  # not the one that came after
                    self._end()

    def _next_request(self) -> bool:
        with self._lock:
            wanted, self._wanted = self._wanted and not self._closed, False
            if not wanted:
                self._end()  # under the lock, so that the next request starts another thread
            return wanted

    def _end(self) -> None:
        self._thread = None
        self._lock.notify_all()

    def _reload(self) -> None:
        failed: JetliftError | None = None
        try:
            self._put_in_place(self._load())
        except JetliftError as error:  # L1
            failed = error
            self.failures += 1
        if self._told is not None:
            self._told(failed)

    def _put_in_place(self, new: T) -> None:
        try:
            self._put(new)
        except BaseException:
            new.close()
            raise
        self.reloads += 1

    def close(self) -> None:
        """Take no more requests, and wait for a reload that is under way. Twice is once."""
        with self._lock:
            self._closed, self._wanted = True, False
        self.wait()
