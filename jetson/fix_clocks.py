"""Clocks fixed at the limit of the power mode for as long as something is measured.

Rules:
    X1  NVIDIA's jetson_clocks sets them where it is installed; else their files are written.
    X2  They are put back at the end, on every error, on SIGINT, SIGTERM and SIGHUP, and after a
        kill by the next command (jetlift.jetson.restore). While they are put back, these signals
        wait.
    X3  What cannot be written is told before anything is changed, with its name.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
from typing import IO, TYPE_CHECKING

from jetlift.jetson import restore
from jetlift.jetson.clock_settings import settings
from jetlift.jetson.restore import Restore
from jetlift.runtime.closing import Closing
from jetlift.runtime.errors import BusyError, MachineError

if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType

    from typing_extensions import Self

    from jetlift.jetson.clock_settings import Setting

_ENDING = (signal.SIGTERM, signal.SIGHUP)
_BY_HAND = (
    "Run it as root (sudo), or fix the clocks beforehand with: sudo jetson_clocks, "
    "and leave --fix-clocks out"
)


class FixedClocks(Closing):
    """Holds the clocks at their limit (rules X1 to X3). A context manager.

    Args:
        root: Where the board's /sys and /var lie.

    Raises:
        BusyError: Another process holds them.
        MachineError: They cannot be set here.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock: IO[bytes] | None = None
        self._restore: Restore | None = None
        self._handlers: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        found = settings(self._root)
        if not found:
            raise MachineError(
                "This machine shows no clocks that can be set (cpufreq, devfreq)",
                expected="A Jetson, or a PC whose cpufreq is visible",
                do="Leave --fix-clocks out",
            )
        _refuse_unwritable(self._root, found)
        self._take_lock()
        try:
            self._listen()
            left = restore.read(self._root)  # of a dead process, since the lock was free
            if left is not None:
                restore.put_back(self._root, left)
                found = settings(self._root)
            self._fix(found)
        except BaseException:  # Ctrl-C as well: nothing stays fixed
            self.close()
            raise
        return self

    def close(self) -> None:
        """Put the clocks back. A second call does nothing.

        Raises:
            MachineError: Some could not be put back; the next command tries again.
        """
        if self._lock is None:
            return
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, *_ENDING))  # X2
        try:
            if self._restore is not None:
                left, self._restore = self._restore, None
                restore.put_back(self._root, left)
        finally:
            held, self._lock = self._lock, None
            held.close()
            self._unlisten()
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    def _take_lock(self) -> None:
        self._lock = restore.lock(self._root)
        if self._lock is None:
            raise BusyError(
                "Another process of jetlift holds the clocks",
                expected="One at a time, since each puts back what it found",
                do="Wait for it to end, or leave --fix-clocks out",
            )

    def _fix(self, found: tuple[Setting, ...]) -> None:
        with_vendor = shutil.which(restore.VENDOR) is not None
        stored = restore.stored_of(self._root)
        stored.unlink(missing_ok=True)  # jetson_clocks asks before it overwrites one
        if with_vendor and (failed := restore.run_vendor("--store", str(stored))):
            raise MachineError(f"The clocks were not fixed: {failed}", do=_BY_HAND)
        self._restore = Restore(os.getpid(), restore.boot_id(self._root), with_vendor, found)
        restore.write(self._root, self._restore)
        failed = restore.run_vendor() if with_vendor else self._write(found)
        if failed:
            raise MachineError(
                f"The clocks were not fixed, and are back as they were: {failed}",
                expected="The right to set clocks, which root has",
                do=_BY_HAND,
            )

    def _write(self, found: tuple[Setting, ...]) -> str:
        for setting in found:
            if failed := restore.set_fixed(self._root, setting):
                return failed
        return ""

    def _listen(self) -> None:
        """Turn what would end the process at once into an end that puts clocks back (X2)."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _ENDING:
            if signal.getsignal(number) == signal.SIG_DFL:
                self._handlers[number] = signal.signal(number, _end)

    def _unlisten(self) -> None:
        for number, before in self._handlers.items():
            signal.signal(number, before)  # type: ignore[arg-type]
        self._handlers.clear()


def _end(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _refuse_unwritable(root: Path, found: tuple[Setting, ...]) -> None:
    """Say which clock is not ours to set, before anything is changed (rule X3)."""
    for setting in found:
        path = root / setting.file
        if not os.access(path, os.W_OK, effective_ids=True):
            raise MachineError(
                f"{path} is not ours to write, so the clocks cannot be fixed",
                expected="Write permission for that file, which root has",
                do=_BY_HAND,
            )
