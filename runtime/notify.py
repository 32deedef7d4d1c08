"""Tells a service manager how it goes, by the protocol of sd_notify, and feeds its watchdog.

https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html

Rules:
    V1  Without NOTIFY_SOCKET nothing is sent and nothing fails: not every run is a service.
    V2  A manager that does not listen is no reason to stop working. What could not be told is
        counted, and the last reason kept.
    V3  The watchdog is fed at half its time, and only while whoever is asked says that the work
        goes on. If asking fails, it is fed no more, and the manager restarts the service.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from typing import TYPE_CHECKING

from jetlift.runtime.clock import SYSTEM_CLOCK
from jetlift.runtime.closing import Closing
from jetlift.runtime.errors import JetliftError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jetlift.runtime.clock import Clock

_PATIENCE_S = 1.0  # a manager whose queue is full holds nobody up for longer
_LOAD_AGAIN_S = 600.0


class Notifier(Closing):
    """A connection to the service manager; one that says nothing where there is none (rule V1).

    May be used by several threads.

    Args:
        environment: As os.environ; NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID are read.

    Attributes:
        lost: Messages that could not be told (rule V2).
        trouble: Why the last of them could not; empty where all were.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        told = os.environ if environment is None else environment
        self._address = _address(told.get("NOTIFY_SOCKET", ""))
        self._watchdog_s = _watchdog_s(told)
        self.lost, self.trouble, self._lock = 0, "", threading.Lock()
        self._socket: socket.socket | None = None
        if self._address is not None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.settimeout(_PATIENCE_S)

    @property
    def connected(self) -> bool:
        """Whether somebody asked to be told."""
        return self._socket is not None

    @property
    def watchdog_s(self) -> float | None:
        """Time within which the manager wants to hear that the work goes on; None for never."""
        return self._watchdog_s if self.connected else None

    def ready(self, status: str = "") -> None:
        """The service works now; after `reloading`, again."""
        self._send("READY=1", *_status(status))

    def status(self, status: str) -> None:
        """One line for `systemctl status`."""
        self._send(*_status(status))

    def reloading(self) -> None:
        """It reloads; `ready` ends that."""
        now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={now_us}")

    def stopping(self, status: str = "") -> None:
        """It ends, on purpose."""
        self._send("STOPPING=1", *_status(status))

    def extend_start(self, seconds: float = _LOAD_AGAIN_S) -> None:
        """Starting, reloading or stopping takes so much longer, as where an engine is compiled."""
        self._send(f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}")

    def alive(self) -> None:
        """Feed the watchdog once."""
        self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if not lines:
            return
        with self._lock:
            if self._socket is None or self._address is None:
                return
            try:
                self._socket.sendto("\n".join(lines).encode(), self._address)
            except OSError as error:  # V2
                self.lost += 1
                self.trouble = f"The service manager was not told: {error.strerror or error}"

    def close(self) -> None:
        """Close the socket. A second call does nothing."""
        with self._lock:
            if self._socket is not None:
                self._socket.close()
            self._socket = None


class Watchdog(Closing):
    """A thread that feeds the manager's watchdog (rule V3); idle where there is none.

    Args:
        notifier: Where to.
        alive: Whether the work goes on; asked in this object's thread.
        clock: What waits.

    Attributes:
        trouble: Why it stopped feeding; empty while it feeds.
    """

    def __init__(
        self, notifier: Notifier, alive: Callable[[], bool], clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._notifier, self._alive, self._clock = notifier, alive, clock
        self.trouble, self._stop = "", threading.Event()
        self._thread: threading.Thread | None = None
        if notifier.watchdog_s is not None:
            self._thread = threading.Thread(
                target=self._feed, args=(notifier.watchdog_s / 2,), name="watchdog", daemon=True
            )
            self._thread.start()

    def beat(self) -> bool:
        """Ask, and feed where the work goes on; whether it did."""
        if not self._alive():
            return False
        self._notifier.alive()
        return True

    def _feed(self, every_s: float) -> None:
        try:
            self.beat()
            while not self._clock.wait(self._stop, every_s):
                self.beat()
        except JetliftError as error:  # V3; what is no JetliftError is a fault, and shown as one
            self.trouble = str(error)

    def close(self) -> None:
        """Feed no more and end the thread. A second call does nothing."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()


def _address(name: str) -> str | None:
    """Where to send: a path, or a name in the abstract namespace, which begins with @."""
    if name.startswith("@"):
        return f"\0{name[1:]}"
    return name if name.startswith("/") else None  # others, such as vsock, are no AF_UNIX


def _watchdog_s(environment: Mapping[str, str]) -> float | None:
    """The watchdog's time, where it is meant for this process."""
    told, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not told.isdigit() or int(told) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(told) / 1e6


def _status(status: str) -> tuple[str, ...]:
    """A status is one line, since the next would be another message."""
    line = " ".join(status.split())
    return (f"STATUS={line}",) if line else ()
