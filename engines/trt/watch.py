"""A child process, and the thread that watches what it takes.

Rules:
    W1  The child leads its own process group. Whatever ends the wait for it, Ctrl-C included, ends
        the group: nothing of it goes on.
    W2  The thread ends the child when its time is up, and when the machine has next to no memory
        left: the kernel would then stop something, and not always the builder.
    W3  Where the thread itself fails the child is ended and the failure is raised, never swallowed:
        a build without a watchdog is not what was asked for.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from jetlift.engines.trt import memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from concurrent.futures import Future

FLOOR_BYTES = 96 * memory.MIB  # under this, a Jetson's desktop and drivers starve
_INTERVAL_S = 0.1
_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB", re.MULTILINE)
_OOM_KILLS = re.compile(r"^oom_kill (\d+)", re.MULTILINE)
_RUNNING: set[int] = set()  # leaders of process groups that are under way
_COUNTERS = ("memory.events.local", "memory.events", "memory.oom_control")


@dataclass(frozen=True)
class Watched:
    """How a child went.

    Attributes:
        pid: Its process id.
        status: Its exit status; the negative signal where one ended it.
        stopped: Why the watchdog ended it; empty where it did not.
        seconds: How long it ran.
        peak_bytes: The most memory it was seen to hold; 0 where the system does not tell.
        oom_group: Control group that the kernel counted an out-of-memory kill in meanwhile, with
            its limit in bytes where it has one; None where it did not.
    """

    pid: int
    status: int
    stopped: Literal["", "time", "memory"]
    seconds: float
    peak_bytes: int
    oom_group: tuple[str, int | None] | None


def run(
    command: Sequence[str],
    take: Callable[[Iterable[str]], None],
    *,
    environment: Mapping[str, str],
    time_limit_s: float,
    floor_bytes: int = FLOOR_BYTES,
    root: Path = Path("/"),
) -> Watched:
    """Run a command to its end under a watchdog (rules W1 to W3).

    Args:
        command: What to run, in an empty working folder.
        take: Reads the lines it writes, to stdout and stderr together, until there are no more.
        environment: Its variables.
        time_limit_s: Seconds it may take.
        floor_bytes: Memory of the machine below which it is ended.
        root: Where /proc and /sys lie; tests put others in their place.
    """
    # An empty working folder, since `-m` puts the working folder on the child's import path.
    with (
        tempfile.TemporaryDirectory(prefix="jetlift-") as folder,
        subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # W1
        ) as child,
    ):
        dog = _Watchdog(child, time_limit_s, floor_bytes, root)
        try:
            _RUNNING.add(child.pid)
            dog.start()
            if child.stdout is not None:
                take(child.stdout)
            child.wait()
        except BaseException:
            kill_group(child.pid)
            raise
        finally:
            dog.stop()
            _RUNNING.discard(child.pid)
    dog.check()
    return dog.watched(child.returncode)


def end_all() -> None:
    """End every child that is under way, as for Ctrl-C where other threads wait for them."""
    for pid in tuple(_RUNNING):
        kill_group(pid)


def kill_group(pid: int) -> None:
    """End a process and all it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


class _Watchdog:
    """Looks at a child every moment (rules W2 and W3)."""

    def __init__(
        self, child: subprocess.Popen[str], time_limit_s: float, floor_bytes: int, root: Path
    ) -> None:
        self._child, self._limit_s, self._floor, self._root = child, time_limit_s, floor_bytes, root
        self._started = time.monotonic()
        self._over = threading.Event()
        self._stopped: Literal["", "time", "memory"] = ""
        self._peak_bytes = 0
        self._kills_before: dict[Path, int] = {}
        self._names: dict[Path, tuple[str, int | None]] = {}
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=f"jetlift-watchdog-{child.pid}")
        self._looking: Future[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        self._looking = self._pool.submit(self._run)

    def _run(self) -> None:
        try:
            while not self._over.is_set():
                self._look()
                self._over.wait(_INTERVAL_S)
        finally:
            if not self._over.is_set():  # W3: it failed, and nobody else would end the child
                kill_group(self._child.pid)

    def stop(self) -> None:
        """Leave off and wait until it has."""
        self._over.set()
        self._pool.shutdown()

    def check(self) -> None:
        """Raise what the thread failed with, if it did (rule W3)."""
        if self._looking is not None:
            self._looking.result()

    def watched(self, status: int) -> Watched:
        """How the child went, once it is over."""
        return Watched(
            pid=self._child.pid,
            status=status,
            stopped=self._stopped,
            seconds=time.monotonic() - self._started,
            peak_bytes=self._peak_bytes,
            oom_group=self._oom_group(),
        )

    def _look(self) -> None:
        pid = str(self._child.pid)
        self._note_groups(pid)
        with contextlib.suppress(OSError):  # it may be gone
            status = (self._root / "proc" / pid / "status").read_text(
                encoding="ascii", errors="replace"
            )
            if found := _PEAK.search(status):
                self._peak_bytes = max(self._peak_bytes, int(found[1]) * 1024)
        if time.monotonic() - self._started > self._limit_s:
            self._end("time")
        left = memory.room(self._root)
        if left is not None and left.usable_bytes < self._floor:
            self._end("memory")

    def _end(self, why: Literal["time", "memory"]) -> None:
        if not self._stopped and self._child.poll() is None:
            self._stopped = why
            kill_group(self._child.pid)

    def _note_groups(self, pid: str) -> None:
        """Remember the child's control groups with their counts of kills, as first seen."""
        for name, folder, files in memory.groups(self._root, pid):
            if folder not in self._kills_before:
                self._kills_before[folder] = _oom_kills(folder)
                self._names[folder] = (name, memory.number(folder / files[0]))

    def _oom_group(self) -> tuple[str, int | None] | None:
        for folder, before in self._kills_before.items():  # the child's own group first
            if _oom_kills(folder) > before:
                return self._names[folder]
        return None


def _oom_kills(folder: Path) -> int:
    """How often the kernel killed for want of memory in a control group."""
    for name in _COUNTERS:
        with contextlib.suppress(OSError):
            found = _OOM_KILLS.search((folder / name).read_text(encoding="ascii", errors="replace"))
            if found:
                return int(found[1])
    return 0
