"""Why a build failed, in one sentence, and whether it was memory.

Rules:
    Y1  A killed child becomes a cause: the watchdog's own stop, the kernel's count in the control
        group, the kernel's log, the library's words; only then the guess that signal 9 allows.
    Y2  Memory is the verdict only where something says so. A refused graph is no want of memory,
        whatever else the log holds.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jetlift.engines.trt.log import refusal, usage
from jetlift.engines.trt.memory import MIB

if TYPE_CHECKING:
    from jetlift.engines.trt.log import BuildLog
    from jetlift.engines.trt.options import BuildOptions
    from jetlift.engines.trt.watch import Watched

_NO_THREAD = "Resource temporarily unavailable"  # EAGAIN: no room for a thread's stack
_MOST_LOG_BYTES = 4 * MIB
_LIBRARIES = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}
_ROOM = (
    "Close other programs, stop the desktop, add swap on a disk, give less --workspace or a lower "
    "--optimization-level, or build on a larger machine of the same kind"
)


@dataclass(frozen=True)
class Diagnosis:
    """Why a build failed.

    Attributes:
        is_memory: Whether memory ran out, so that smaller settings may help.
        wants_workspace: Whether the builder asks for more workspace than it was given.
        got: The cause, as a sentence without a full stop.
        do: The next step; empty where there is none to name.
    """

    is_memory: bool
    wants_workspace: bool
    got: str
    do: str


def people_say(library: str) -> str:
    """A library's name as people know it."""
    return _LIBRARIES[library]


def diagnose(
    seen: Watched,
    log: BuildLog,
    graph: Path,
    library: str,
    options: BuildOptions,
    root: Path = Path("/"),
) -> Diagnosis:
    """Tell why a build failed (rules Y1 and Y2).

    Args:
        seen: How the child went.
        log: What it wrote.
        graph: The graph it was to build.
        library: As in `tensorrt`.
        options: What it was built with.
        root: Where /dev lies; tests put another in its place.
    """
    who = f"The {people_say(library)} builder"
    held = f"; it held {seen.peak_bytes / MIB:.0f} MiB" if seen.peak_bytes else ""
    if seen.stopped == "time":
        return Diagnosis(
            is_memory=False, wants_workspace=False,
            got=f"{who} was stopped on {graph.name}: its time was up after {seen.seconds:.0f} s",
            do="Give it longer with --time-limit-s, or a lower --optimization-level",
        )  # fmt: skip
    if told := refusal(log, graph.name, people_say(library)):  # Y2
        return Diagnosis(is_memory=False, wants_workspace=False, got=told, do="")
    if cause := _memory_cause(seen, log, options, root):
        return Diagnosis(
            is_memory=True, wants_workspace=False,
            got=f"{who} ran out of memory on {graph.name}: {cause}{held}", do=_ROOM,
        )  # fmt: skip
    if log.workspace_sign:
        return Diagnosis(
            is_memory=False, wants_workspace=True,
            got=f"{who} finds no kernel for {graph.name} within the workspace it may use",
            do="Give it more with --workspace, or leave that out",
        )  # fmt: skip
    return Diagnosis(
        is_memory=False, wants_workspace=False, got=_other(seen, log, graph, who), do=""
    )


def _memory_cause(seen: Watched, log: BuildLog, options: BuildOptions, root: Path) -> str:
    """What says that memory ran out (rule Y1); empty where nothing does."""
    if seen.stopped == "memory":
        return "the machine had next to none left, so it was stopped before the system would choose"
    if seen.status == -signal.SIGKILL:
        return _killed_by(seen, root)
    if log.memory_signs:
        return _plain(log.memory_signs[-1])
    limit = options.address_space_bytes
    if limit is None:
        return ""
    crashed = seen.status in (-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS)
    if crashed or any(_NO_THREAD in line for line in log.refusals):
        return f"its address space was limited to {limit / MIB:.0f} MiB"
    return ""


def _killed_by(seen: Watched, root: Path) -> str:
    if seen.oom_group is not None:
        name, limit = seen.oom_group
        allowed = f", which may hold {limit / MIB:.0f} MiB" if limit is not None else ""
        return f"the kernel killed it for its control group {name}{allowed}"
    if _kernel_log_names(seen.pid, root):
        return "the kernel killed it, as its log says"
    return "signal 9 ended it, which without another cause is the system running out of memory"


def _kernel_log_names(pid: int, root: Path) -> bool:
    """Whether the kernel's log says that it killed a process for want of memory.

    /dev/kmsg gives one record per read and ends with EAGAIN; not everybody may read it.
    """
    text = b""
    try:
        log = os.open(root / "dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        while len(text) < _MOST_LOG_BYTES and (record := os.read(log, 8192)):
            text += record
    except OSError:
        pass  # the end of it, or records that were overwritten meanwhile
    finally:
        os.close(log)
    return f"Killed process {pid} ".encode() in text


def _other(seen: Watched, log: BuildLog, graph: Path, who: str) -> str:
    if seen.status < 0:
        name = signal.Signals(-seen.status).name
        return f"{who} was ended by signal {-seen.status} ({name}) on {graph.name}"
    if "dla_cores" in log.told:
        return (
            f"{who} was asked for DLA core {log.told.get('asked_core', '')} and this machine has "
            f"{log.told['dla_cores']} DLA cores"
        )
    said = usage(log) or next(iter(log.refusals[:1]), "") or " / ".join(log.last[-2:])
    return f"{who} could not build {graph.name} (exit status {seen.status}): {said}"


def _plain(line: str) -> str:
    """A line of the log without its mark, cut to what one sentence bears."""
    return line.removeprefix("[E]").removeprefix("[W]").strip()[:300]
