"""Whether a build will fit into memory, told before it starts.

Rules:
    M1  What a build needs is an estimate from builds that were measured, and says so. It warns and
        never refuses: the watchdog and the ladder are there for when it is right.
    M2  What the machine has is what the kernel says can be had without harm: MemAvailable, free
        swap, and the limit of every control group this process is in, whichever is tightest.
    M3  Swap on zram lies in the same memory, compressed: it gives what compression saves.
    M4  The GPU's memory cannot be swapped. On a Jetson it is the same memory, so there the device's
        share has to fit into what is free of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jetlift.engines.ops import GraphCost

MIB = 2**20
# Peak of the whole child process, by twelve builds with TensorRT-RTX 1.7.1.116 on x86-64 for SM
# 8.6, of graphs of 3 to 614 nodes and up to 403 MB, as fp32, fp16 and int8. They took 0.87 to 1.0
# of it (docs/measurements.md has each).
_BASE_BYTES = 200 * MIB
_PER_FILE_BYTE = 3.0
_PER_NODE_BYTES = 0.45 * MIB
_PER_FILE_BYTE_ALONE = 13.0  # where the nodes are not known: the widest of the twelve
# What zram makes of a page where it has not yet told: half, as kernel.org's zram page assumes.
_ZRAM_RATIO = 2.0
_ZRAM_TOLD_BYTES = 64 * MIB


@dataclass(frozen=True)
class Estimate:
    """What a build is expected to take.

    Attributes:
        host_bytes: Of the child process.
        device_bytes: Of the GPU's memory, which on a Jetson is the same.
        because: How that was reckoned.
    """

    host_bytes: int
    device_bytes: int
    because: str


@dataclass(frozen=True)
class Room:
    """What the machine has left (rules M2 and M3).

    Attributes:
        available_bytes: MemAvailable, or what a control group leaves of it.
        swap_bytes: What free swap on disks holds.
        zram_bytes: What free swap on zram gains.
        limited_by: The control group that is tighter than the machine; empty where none is.
    """

    available_bytes: int
    swap_bytes: int
    zram_bytes: int
    limited_by: str = ""

    @property
    def usable_bytes(self) -> int:
        """All of it together."""
        return self.available_bytes + self.swap_bytes + self.zram_bytes


def estimate(
    file_bytes: int, cost: GraphCost | None, *, workspace_bytes: int | None, on_gpu: bool
) -> Estimate:
    """Estimate what a build will take (rule M1).

    Args:
        file_bytes: Size of the graph with its data files.
        cost: What its nodes cost; None reckons by the file alone.
        workspace_bytes: Limit of scratch memory, which the GPU holds where there is one.
        on_gpu: Whether the builder times kernels on a GPU of this machine.
    """
    if cost is not None:
        host = _BASE_BYTES + _PER_FILE_BYTE * file_bytes + _PER_NODE_BYTES * len(cost.nodes)
    else:
        host = _BASE_BYTES + _PER_FILE_BYTE_ALONE * file_bytes
    device = file_bytes + (workspace_bytes or 0) if on_gpu else 0
    because = f"{host / MIB:.0f} MiB for the builder, by builds measured without a GPU" + (
        f", and {device / MIB:.0f} MiB on the GPU for weights and workspace" if device else ""
    )
    return Estimate(int(host), int(device), because)


def room(root: Path = Path("/")) -> Room | None:
    """What the machine has left now (rules M2 and M3).

    Args:
        root: Where /proc and /sys lie; tests put others in their place.

    Returns:
        None where the system does not tell, as any but Linux.
    """
    told = _numbers(root / "proc/meminfo")
    if "MemAvailable" not in told:
        return None
    available = told["MemAvailable"] * 1024
    swap, zram = _swaps(root)
    tightest = _tightest_group(root)
    if tightest is not None and tightest[0] < available:
        # The group's limit on swap is another figure, which few set; what is certain is counted.
        return Room(tightest[0], 0, 0, tightest[1])
    return Room(available, swap, zram)


def preflight(need: Estimate, has: Room | None) -> str:
    """What does not fit and what to do, before anything starts; empty where it fits (rule M1)."""
    if has is None:
        return ""
    whole = need.host_bytes + need.device_bytes
    if whole <= has.usable_bytes and need.device_bytes <= has.available_bytes:  # M4
        return ""
    where = f" by control group {has.limited_by}" if has.limited_by else ""
    return (
        f"The build will probably not fit into memory: it needs about {whole / MIB:.0f} MiB "
        f"({need.because}), and {has.usable_bytes / MIB:.0f} MiB can be had{where}. It is tried "
        "all the same, watched, and with smaller settings where memory runs out. "
        "To make room: close other programs, stop the desktop (sudo systemctl isolate "
        "multi-user.target), add swap on a disk, or build on a larger machine of the same kind"
    )


def _numbers(path: Path) -> dict[str, int]:
    """`Name: 123 kB` and `name 123` lines of a file of the kernel."""
    try:
        text = path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return {}
    found = re.findall(r"^([\w()]+):?\s+(\d+)\b", text, re.MULTILINE)
    return {name: int(value) for name, value in found}


def _swaps(root: Path) -> tuple[int, int]:
    """What free swap on disks holds and what free swap on zram gains, in bytes."""
    try:
        lines = (root / "proc/swaps").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return 0, 0
    disks = zram = 0.0
    for line in lines[1:]:
        fields = line.split()
        if len(fields) < 4 or not (fields[2].isdigit() and fields[3].isdigit()):
            continue
        free = (int(fields[2]) - int(fields[3])) * 1024
        name = Path(fields[0]).name
        if name.startswith("zram"):
            zram += free * (1 - 1 / _zram_ratio(root, name))
        else:
            disks += free
    return int(disks), int(zram)


def _zram_ratio(root: Path, name: str) -> float:
    """How well a zram device compresses so far (kernel.org, admin-guide/blockdev/zram)."""
    try:
        fields = (root / "sys/block" / name / "mm_stat").read_text(encoding="ascii").split()
        original, compressed = int(fields[0]), int(fields[1])
    except (OSError, ValueError, IndexError):
        return _ZRAM_RATIO
    if original < _ZRAM_TOLD_BYTES or compressed <= 0:
        return _ZRAM_RATIO
    return max(1.0, original / compressed)


def _tightest_group(root: Path) -> tuple[int, str] | None:
    """What the tightest control group leaves, in bytes, and its name; None without a limit."""
    left = [
        (limit - used, name)
        for name, folder, (limit_file, used_file, cache_key) in groups(root)
        if (limit := number(folder / limit_file)) is not None
        and (used := _used(folder, used_file, cache_key)) is not None
    ]
    return min(((max(0, free), name) for free, name in left), default=None)


def groups(
    root: Path = Path("/"), process: str = "self"
) -> list[tuple[str, Path, tuple[str, str, str]]]:
    """Control groups of a process that may limit memory, its own first, then what they lie in.

    Version 2 has one hierarchy; of version 1 the one of the memory controller counts.

    Returns:
        Name, folder, and the names of the limit, the use, and what of the use can be given up.
    """
    try:
        lines = (root / "proc" / process / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        if number == "0" and not controllers:
            base, files = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            base = root / "sys/fs/cgroup/memory"
            files = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        own = Path(name)
        for level in (own, *own.parents):
            folder = base / level.relative_to("/")
            if (folder / files[0]).is_file():
                found.append((str(level), folder, files))
    return found


def _used(folder: Path, used_file: str, cache_key: str) -> int | None:
    """What a group uses, without file pages that the kernel would drop."""
    used = number(folder / used_file)
    if used is None:
        return None
    return max(0, used - _numbers(folder / "memory.stat").get(cache_key, 0))


def number(path: Path) -> int | None:
    """The number in a file of the kernel; None where it has none or says `max`, for no limit."""
    try:
        text = path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
