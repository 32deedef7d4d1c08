"""The one clock that ages are told by, and waiting that can be cut short.

`time.monotonic` is CLOCK_MONOTONIC on Linux, which V4L2 stamps its buffers with, so that a
driver's time and the pipeline's can be subtracted. Whatever depends on time takes a Clock, and
tests give it one that they move by hand.
"""

from __future__ import annotations

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time and waits."""

    def now_s(self) -> float:
        """Seconds since some moment in the past; never runs backwards."""

    def wait(self, stop: threading.Event, seconds: float) -> bool:
        """Wait, at most so long as nobody sets `stop`.

        Returns:
            Whether `stop` is set.
        """


class SystemClock:
    """The machine's monotonic clock."""

    def now_s(self) -> float:
        """See Clock.now_s."""
        return time.monotonic()

    def wait(self, stop: threading.Event, seconds: float) -> bool:
        """See Clock.wait."""
        return stop.wait(seconds)


class FakeClock:
    """A clock that goes only when it is told to, or when somebody waits on it. Thread-safe.

    Args:
        now_s: Where it begins.
    """

    def __init__(self, now_s: float = 1000.0) -> None:
        self._now_s, self._lock = now_s, threading.Lock()
        self.waited_s: list[float] = []

    def now_s(self) -> float:
        """See Clock.now_s."""
        with self._lock:
            return self._now_s

    def advance(self, seconds: float) -> None:
        """Let it go on."""
        with self._lock:
            self._now_s += seconds

    def wait(self, stop: threading.Event, seconds: float) -> bool:
        """Go on by `seconds` at once, unless `stop` is set; see Clock.wait."""
        if stop.is_set():
            return True
        with self._lock:
            self._now_s += seconds
            self.waited_s.append(seconds)
        return stop.is_set()


SYSTEM_CLOCK = SystemClock()
