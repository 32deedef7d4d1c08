"""The task that a pipeline runs, which may be exchanged while it runs.

Rules:
    H1  An item is prepared, run and finished by one and the same task: it holds a lease of the one
        that was current when it began.
    H2  What a task rests on (its sessions) is closed when the task is no longer current and its
        last lease is given back, so that no item is lost and no engine is closed under a run.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from jetlift.runtime.closing import Closing
from jetlift.runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from jetlift.runtime.tasks.base import Task


class Lease:
    """The right to use a task for one item. Give it back once; a second time does nothing."""

    def __init__(self, held: _Held, give_back: Callable[[_Held], None]) -> None:
        self._held: _Held | None = held
        self._give_back = give_back
        self.task = held.task

    def give_back(self) -> None:
        """The item is done with the task."""
        held, self._held = self._held, None
        if held is not None:
            self._give_back(held)


class _Held:
    """What one or several tasks rest on, one after another, and how many items use it."""

    def __init__(self, task: Task, close: Callable[[], None] | None) -> None:
        self.task, self.close, self.leases = task, close, 0


class TaskHolder(Closing):
    """Holds the current task (rules H1, H2). Any thread may call anything.

    Args:
        task: The first one.
        close: Closes what it rests on; None where the caller does.
    """

    def __init__(self, task: Task, close: Callable[[], None] | None = None) -> None:
        self._lock, self._current = threading.Lock(), _Held(task, close)
        self._closed = False
        self.swaps = 0

    @property
    def task(self) -> Task:
        """The current task, to be asked things; items take a lease."""
        return self._current.task

    def lease(self) -> Lease:
        """The current task for one item.

        Raises:
            UsageError: The holder is closed.
        """
        with self._lock:
            if self._closed:
                raise UsageError("A task was asked of a closed holder", expected="An open one")
            self._current.leases += 1
            return Lease(self._current, self._returned)

    def swap(self, task: Task, close: Callable[[], None] | None = None) -> None:
        """Make another task the current one; items that have begun keep theirs.

        Raises:
            UsageError: The holder is closed; the new task is then the caller's to close.
        """
        with self._lock:
            if self._closed:
                raise UsageError("A task was given to a closed holder", expected="An open one")
            old, self._current = self._current, _Held(task, close)
            self.swaps += 1
            idle = old.leases == 0
        if idle:
            _close(old)

    def replace(self, task: Task) -> None:
        """Make another task on the same sessions the current one, as with other words.

        Raises:
            UsageError: The holder is closed.
        """
        with self._lock:
            if self._closed:
                raise UsageError("A task was given to a closed holder", expected="An open one")
            self._current.task = task
            self.swaps += 1

    def _returned(self, held: _Held) -> None:
        with self._lock:
            held.leases -= 1
            last = held.leases == 0 and (held is not self._current or self._closed)
        if last:
            _close(held)

    def close(self) -> None:
        """Close what the current task rests on, or have its last lease do so."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            idle = self._current.leases == 0
        if idle:
            _close(self._current)


def _close(held: _Held) -> None:
    close, held.close = held.close, None
    if close is not None:
        close()
