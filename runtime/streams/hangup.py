"""Ending a call into FFmpeg that waits for a silent peer.

OpenCV has no way to cut a read short: it waits in the library until its time-out. But the
connection is a socket of this process, and a socket that is shut down answers at once.

Rules:
    U1  A connection's sockets are those that this process did not have before it was opened and
        that lead to the address that was opened. Two connections to one address are opened one
        after the other, so that theirs are never mistaken.
    U2  A socket is held by a descriptor of our own, since the number of FFmpeg's may be given to
        something else at any time. Ours must be closed with the connection, or the peer never
        learns of its end.
    U3  Where nothing is found (no Linux, still no answer to the first packet), nothing is done,
        and the time-out ends the call.
"""

from __future__ import annotations

import os
import socket
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from jetlift.runtime.closing import Closing

if TYPE_CHECKING:
    from collections.abc import Iterator

_FOLDER = Path("/proc/self/fd")
_LOCKS: dict[tuple[str, int], threading.Lock] = {}
_LOCKS_LOCK = threading.Lock()


class Wire(Closing):
    """The sockets of one connection.

    Args:
        host: Where it leads to; empty where it only listens.
        port: The port there, or the one it listens on.
    """

    def __init__(self, host: str, port: int) -> None:
        self._place, self._lock = (host, port), threading.Lock()
        self._numbers: frozenset[str] = frozenset()
        self._before: set[str] | None = None
        self._held: list[socket.socket] = []

    @contextmanager
    def opening(self) -> Iterator[None]:
        """Note what is opened inside the block (rule U1)."""
        with _LOCKS_LOCK:
            turn = _LOCKS.setdefault(self._place, threading.Lock())
        self._numbers = _numbers(self._place[0])
        with turn:
            with self._lock:
                self._before = set(_sockets())
            try:
                yield
            finally:
                with self._lock:
                    self._held += self._found()
                    self._before = None

    def shut(self) -> None:
        """End what waits on it; may be called by any thread at any time."""
        with self._lock:
            fresh = self._found()
            for held in (*self._held, *fresh):
                with suppress(OSError):  # it ended already; an idle UDP socket wakes all the same
                    held.shutdown(socket.SHUT_RDWR)
            for held in fresh:
                held.close()

    def close(self) -> None:
        """Let go of the sockets (rule U2)."""
        with self._lock:
            held, self._held = self._held, []
        for each in held:
            each.close()

    def _found(self) -> list[socket.socket]:
        """Descriptors of our own for what was opened since `opening` began."""
        if self._before is None:
            return []
        fresh = [number for link, number in _sockets().items() if link not in self._before]
        return [held for number in fresh if (held := self._held_here(number)) is not None]

    def _held_here(self, number: int) -> socket.socket | None:
        """A descriptor of our own for a socket, where it leads to the place."""
        with suppress(OSError):
            held = socket.socket(fileno=os.dup(number))
            if self._leads_here(held):
                return held
            held.close()
        return None

    def _leads_here(self, held: socket.socket) -> bool:
        with suppress(OSError):  # not connected
            peer = held.getpeername()
            return peer[0] in self._numbers and peer[1] == self._place[1]
        with suppress(OSError):
            return held.type == socket.SOCK_DGRAM and held.getsockname()[1] == self._place[1]
        return False


def _numbers(host: str) -> frozenset[str]:
    """A host's addresses; none where its name is not known."""
    with suppress(OSError, UnicodeError):
        found = socket.getaddrinfo(host, None) if host else ()
        return frozenset(str(entry[4][0]) for entry in found)
    return frozenset()


def _sockets() -> dict[str, int]:
    """The sockets of this process, as /proc names them, and a descriptor of each."""
    found = {}
    with suppress(OSError):
        for entry in _FOLDER.iterdir():
            with suppress(OSError):  # closed in between
                target = str(entry.readlink())
                if target.startswith("socket:"):
                    found[target] = int(entry.name)
    return found
