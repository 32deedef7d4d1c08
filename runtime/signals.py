"""The signals that a service is led by, as calls in a thread of their own.

Rules:
    I1  The first SIGTERM or SIGINT drains: no new input, and what is under way is finished. The
        second stops at once. SIGHUP asks for a reload.
    I2  A signal counts the moment it comes, even while the main thread computes in a library: its
        number is written to a socket by the interpreter itself, and a thread reads it. Nothing
        runs in a signal handler, where a lock could be held by the very thread it interrupts.
    I3  A call that fails is reported as a thread's failure is, and the next signal counts again.
    I4  Leaving the `with` block puts back what was set before.
"""

from __future__ import annotations

import signal
import socket
import threading
from typing import TYPE_CHECKING

from jetlift.runtime.closing import Closing
from jetlift.runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType

    from typing_extensions import Self

_STOPPING = (signal.SIGTERM, signal.SIGINT)
_TAKEN = (*_STOPPING, signal.SIGHUP)
_END = b"\0"  # no signal has the number 0


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """Keeps a signal from its default, which is to end the process (rule I2)."""


class _Reported:
    """Reports what its block fails of, and goes on (rule I3)."""

    def __enter__(self) -> None:
        """Nothing to begin."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if kind is not None:
            failed = (kind, error, trace, threading.current_thread())
            threading.excepthook(threading.ExceptHookArgs(failed))
        return True


class Signals(Closing):
    """Calls back for SIGTERM, SIGINT and SIGHUP (rules I1 to I4). A context manager.

    Args:
        drain: Called at the first SIGTERM or SIGINT.
        stop: Called at each further one.
        reload: Called at SIGHUP; None ignores it.

    Raises:
        UsageError: It is entered outside the main thread.
    """

    def __init__(
        self,
        drain: Callable[[], None],
        stop: Callable[[], None],
        reload: Callable[[], None] | None = None,
    ) -> None:
        self._drain, self._stop, self._reload = drain, stop, reload
        self._draining = False
        self._before: dict[signal.Signals, object] = {}
        self._thread: threading.Thread | None = None

    @property
    def draining(self) -> bool:
        """Whether it was told to end."""
        return self._draining

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            raise UsageError(
                "Signals are to be taken in another thread", expected="The main thread alone"
            )
        self._read, self._write = socket.socketpair()
        self._write.setblocking(False)  # noqa: FBT003 - its only argument
        self._fd_before = signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        for number in _TAKEN:
            self._before[number] = signal.signal(number, _nothing)
        self._thread = threading.Thread(target=self._listen, name="signals", daemon=True)
        self._thread.start()
        return self

    def close(self) -> None:
        """Put back what was set before, and end the thread. A second call does nothing."""
        if self._thread is None:
            return
        for number, handler in self._before.items():
            # None stands for a handler that C code set, which Python cannot put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # type: ignore[arg-type]
        signal.set_wakeup_fd(self._fd_before)
        self._write.sendall(_END)
        self._thread.join()
        self._thread = None
        self._read.close()
        self._write.close()

    def _listen(self) -> None:
        while (told := self._read.recv(1)) != _END:
            with _Reported():
                self._take(told[0])

    def _take(self, number: int) -> None:
        if number == signal.SIGHUP:
            if self._reload is not None:
                self._reload()
        elif number in _STOPPING:  # others that the program takes are written here as well
            again, self._draining = self._draining, True
            (self._stop if again else self._drain)()
