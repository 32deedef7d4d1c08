"""A program that is fed through its standard input and never waited for without a limit.

Rules:
    H1  Writing waits at most `timeout_s` for the program to take a piece. It is then a program that
        hangs, and is killed by `end`.
    H2  What it says on stderr is read while it is fed, so that it never blocks on that, and its
        last words are kept for the user.
    H3  `end` closes its input, gives it a while to finish, then asks it to stop, then kills it. It
        is gone when `end` returns. It has a process group of its own, so that Ctrl-C reaches
        jetlift alone, which then ends it.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from jetlift.runtime.errors import MachineError
from jetlift.runtime.streams.address import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

_LAST_WORDS = 2000
_STOP_S = 1.0
_PIPE_BYTES = 2**20  # the kernel's limit for a user's pipe; fewer and larger writes


class ChildFailed(Exception):  # noqa: N818 - the program failed, not we
    """The program ended or hangs.

    Args:
        why: A sentence for the user.
    """


class Child:
    """One running program (rules H1 to H3).

    Args:
        command: The program and its arguments.
        timeout_s: For each piece that it takes, and to finish at the end.

    Raises:
        MachineError: It cannot be started.
    """

    def __init__(self, command: Sequence[str], *, timeout_s: float) -> None:
        self._name, self._timeout_s = command[0], timeout_s
        self._words = b""
        self._killed = threading.Event()
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
            )
        except OSError as error:
            raise MachineError(
                f"The program {self._name} cannot be started: {error.strerror or error}",
                expected="A program on the PATH that may be run",
            ) from error
        for pipe in self._pipes():
            os.set_blocking(pipe, False)
        _widen(self._pipes()[0])

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it has ended by itself."""
        return self._process.poll() is not None

    @property
    def epitaph(self) -> str:
        """How it ended and its last words, as a sentence."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_S)  # its pipe broke, so it is about to end
        self._listen()
        return f"{self._name} ended with {self._process.returncode}{self._said()}."

    def feed(self, content: memoryview) -> None:
        """Write everything to its standard input (rules H1 and H2).

        Raises:
            ChildFailed: It ended, hangs, or was killed.
        """
        source, words = self._pipes()
        while content:
            readable, writable, _ = select.select([words], [source], [], self._timeout_s)
            if readable:
                self._listen()
            if self._killed.is_set() or self.ended:
                raise ChildFailed(self.epitaph)
            if writable:
                try:
                    content = content[os.write(source, content) :]
                except BlockingIOError:
                    continue
                except OSError as error:
                    raise ChildFailed(self.epitaph) from error
            elif not readable:
                raise ChildFailed(f"{self._name} takes no more frames{self._said()}.")

    def kill(self) -> None:
        """End it at once; by any thread."""
        self._killed.set()
        if not self.ended:
            with suppress(ProcessLookupError):  # it was faster
                os.killpg(self._process.pid, signal.SIGKILL)

    def end(self) -> None:
        """Let it finish, then stop it, then kill it (rule H3). A second call does nothing."""
        process = self._process
        if process.stdin is not None:
            process.stdin.close()
        for wait_s, then in ((self._timeout_s, signal.SIGTERM), (_STOP_S, signal.SIGKILL)):
            try:
                process.wait(wait_s)
                break
            except subprocess.TimeoutExpired:
                process.send_signal(then)
        process.wait()
        self._listen()
        if process.stderr is not None:
            process.stderr.close()

    def _pipes(self) -> tuple[int, int]:
        process = self._process
        if process.stdin is None or process.stderr is None:
            raise ChildFailed(f"{self._name} has no pipes.")
        return process.stdin.fileno(), process.stderr.fileno()

    def _listen(self) -> None:
        words = self._process.stderr
        if words is None or words.closed:
            return
        with suppress(BlockingIOError):  # nothing more for now
            while said := os.read(words.fileno(), 65_536):
                self._words = (self._words + said)[-_LAST_WORDS:]

    def _said(self) -> str:
        lines = [line.strip() for line in self._words.decode(errors="replace").splitlines()]
        last = next((line for line in reversed(lines) if line), "")
        return f" ({shown(last)})" if last else ""


def _widen(pipe: int) -> None:
    import fcntl

    with suppress(OSError):  # a limit of this machine: smaller pieces work as well
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
