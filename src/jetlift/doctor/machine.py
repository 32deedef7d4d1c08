"""Everything below Python: graphics driver, board, disk and memory."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from jetlift.doctor.finding import Finding
from jetlift.runtime.board import read_board

if TYPE_CHECKING:
    from collections.abc import Sequence

GIB = 2**30
# Below these the demo's export fails or swaps.
_LOW_DISK_BYTES = 2 * GIB
_LOW_MEMORY_BYTES = 2 * GIB


def examine_machine(
    root: Path, work_folder: Path, compute_capabilities: Sequence[str]
) -> list[Finding]:
    """Look at the machine.

    Args:
        root: Where /proc, /sys and /etc lie.
        work_folder: Where bundles are going to be written.
        compute_capabilities: Of the CUDA devices that the driver tells of.
    """
    return [
        _gpu(root, compute_capabilities),
        _board(root),
        _disk(work_folder),
        _memory(root),
        *_clocks(root),
    ]


def _gpu(root: Path, compute_capabilities: Sequence[str]) -> Finding:
    driver = re.search(
        r"Kernel Module\s+(?:\S+\s+)*?([\d.]+)", _text(root / "proc/driver/nvidia/version")
    )
    versions = {"nvidia driver": driver[1]} if driver else {}
    if compute_capabilities:
        listed = ", ".join(compute_capabilities)
        what = f"compute capability {listed}" + (f", driver {driver[1]}" if driver else "")
        return Finding("machine", "nvidia gpu", "ok", what, versions=versions)
    if driver:
        what = f"driver {driver[1]} is loaded, but CUDA (libcuda.so.1) shows no device"
        return Finding("machine", "nvidia gpu", "problem", what, "nvidia-smi", versions)
    what = "no driver: GPU engines can be built for some targets, but none runs here"
    return Finding("machine", "nvidia gpu", "missing", what)


def _board(root: Path) -> Finding:
    board = read_board(root)
    if board is None:
        return Finding("machine", "jetson", "missing", "this is not a Jetson")
    model = board.device or "a Jetson of unknown model"
    if board.l4t is None:
        return Finding("machine", "jetson", "problem", f"{model}, with no known Jetson Linux on it")
    what = f"{model}, Jetson Linux {board.l4t}"
    return Finding("machine", "jetson", "ok", what, versions={"l4t": board.l4t})


def _clocks(root: Path) -> list[Finding]:
    """Clocks that jetlift fixed; nothing where it did not."""
    from jetlift.jetson import restore
    from jetlift.jetson.sysfs import board_root
    from jetlift.runtime.errors import MachineError

    root = board_root() if root == Path("/") else root
    try:
        left = restore.read(root)
    except MachineError as error:
        return [Finding("machine", "clocks", "problem", error.got)]
    if left is None:
        return []
    if restore.is_held(root):
        return [Finding("machine", "clocks", "ok", f"process {left.pid} holds them at their limit")]
    what = f"process {left.pid} fixed them and was killed before it put them back"
    return [Finding("machine", "clocks", "problem", what, f"sudo {restore.RESTORE_COMMAND}")]


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    what = f"{free / GIB:.1f} GiB free in the current folder"
    if free < _LOW_DISK_BYTES:
        what += f", and an export wants {_LOW_DISK_BYTES // GIB}"
        return Finding("machine", "disk", "problem", what)
    return Finding("machine", "disk", "ok", what)


def _memory(root: Path) -> Finding:
    meminfo = _text(root / "proc/meminfo")
    total, available = _kib(meminfo, "MemTotal"), _kib(meminfo, "MemAvailable")
    if total is None or available is None:
        return Finding("machine", "memory", "problem", "the system does not tell (/proc/meminfo)")
    limit = _text(root / "sys/fs/cgroup/memory.max").strip()
    what = f"{available / GIB:.1f} of {total / GIB:.1f} GiB available"
    if limit.isdigit() and int(limit) < total:
        used = _text(root / "sys/fs/cgroup/memory.current").strip()
        available = min(available, int(limit) - (int(used) if used.isdigit() else 0))
        what += f", of which a container may have {int(limit) / GIB:.1f}"
    if available < _LOW_MEMORY_BYTES:
        what += f", and an export wants {_LOW_MEMORY_BYTES // GIB}"
        return Finding("machine", "memory", "problem", what)
    return Finding("machine", "memory", "ok", what)


def _kib(meminfo: str, key: str) -> int | None:
    match = re.search(rf"^{key}:\s+(\d+) kB$", meminfo, re.MULTILINE)
    return int(match[1]) * 1024 if match else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # absent, or not for us to read
        return ""
