"""What a machine and a process on it say of themselves, read from Linux.

Rules:
    M1  Reading never fails for what a machine does not offer; the figure says why it is missing.
    M2  No name of the machine, no address and no path is read: records are published.
    M3  Files are read below a root that tests replace by a folder of text files.
Fields of /proc: https://www.kernel.org/doc/html/latest/filesystems/proc.html (status, smaps_rollup,
stat, meminfo, loadavg).
"""

from __future__ import annotations

import os
import platform
import re
import time
from dataclasses import dataclass
from pathlib import Path

from jetlift.runtime.board import is_jetson
from jetlift.runtime.probe import Reading
from jetlift.runtime.record import Figure, Machine

_ROOT = Path("/")
_WATCH_S = 0.5
_CPUFREQ = "sys/devices/system/cpu/cpu0/cpufreq"


class ProcessProbe:
    """Memory of one process, from /proc.

    Args:
        pid: The process; None is this one.
        root: Where /proc lies (rule M3).
    """

    def __init__(self, pid: int | None = None, *, root: Path = _ROOT) -> None:
        self._folder = root / "proc" / ("self" if pid is None else str(pid))
        self._root, self._unifies = root, is_jetson(root)

    def read(self) -> Reading:
        """Look once (rule M1)."""
        status, rollup = _text(self._folder / "status"), _text(self._folder / "smaps_rollup")
        return Reading(
            rss_bytes=_kib_figure(status, "VmRSS", "status"),
            pss_bytes=_kib_figure(rollup, "Pss", "smaps_rollup"),
            rss_peak_bytes=_kib_figure(status, "VmHWM", "status"),
            **self._unified(),
        )

    def _unified(self) -> dict[str, Figure]:
        """The one memory of a Jetson; elsewhere a Reading's own words stand."""
        if not self._unifies:
            return {}
        told = _text(self._root / "proc/meminfo")
        return {
            "available_bytes": _kib_figure(told, "MemAvailable", "meminfo"),
            "nvmap_bytes": _kib_figure(told, "NvMapMemUsed", "meminfo"),
        }


@dataclass(frozen=True)
class CpuTimes:
    """Time that all cores together have spent since the machine started.

    Attributes:
        busy_s: On anything but idling, stolen time of a virtual machine included.
        total_s: Altogether.
    """

    busy_s: float
    total_s: float


def cpu_times(root: Path = _ROOT) -> CpuTimes | None:
    """Read the cores' times, or None where the system does not tell."""
    match = re.search(r"^cpu +([\d ]+)$", _text(root / "proc/stat") or "", re.MULTILINE)
    if match is None:
        return None
    # user nice system idle iowait irq softirq steal; guest time, which follows, is in user already
    ticks = [int(tick) for tick in match[1].split()][:8]
    per_s = os.sysconf("SC_CLK_TCK")
    return CpuTimes((sum(ticks) - sum(ticks[3:5])) / per_s, sum(ticks) / per_s)


def others_share(before: CpuTimes | None, after: CpuTimes | None, own_s: float) -> Figure:
    """Share of all cores between two looks that this process did not use itself, 0..1.

    Args:
        before: First look.
        after: Second look.
        own_s: Processor time this process used between them.
    """
    if before is None or after is None:
        return Figure.missing("this system has no /proc/stat")
    passed_s = after.total_s - before.total_s
    if passed_s <= 0:
        return Figure.missing("too little time passed for /proc/stat to count")
    return Figure(round(min(max((after.busy_s - before.busy_s - own_s) / passed_s, 0.0), 1.0), 4))


def describe_machine(root: Path = _ROOT, *, watch_s: float = _WATCH_S) -> Machine:
    """What this machine is and how busy it is, before anything of ours keeps it busy.

    Args:
        root: Where /proc, /sys and /etc lie (rule M3).
        watch_s: How long to watch the cores.
    """
    load = _text(root / "proc/loadavg")
    before, own_s = cpu_times(root), own_cpu_s()
    time.sleep(watch_s)
    busy = others_share(before, cpu_times(root), own_cpu_s() - own_s)
    cpuinfo = _text(root / "proc/cpuinfo") or ""
    return Machine(
        cpu=_cpu_name(root, cpuinfo),
        architecture=platform.machine(),
        cores=_usable_cores(),
        memory_bytes=_kib_figure(_text(root / "proc/meminfo"), "MemTotal", "meminfo"),
        os=_os_name(root),
        kernel=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        virtual=re.search(r"^flags\s*:.*\bhypervisor\b", cpuinfo, re.MULTILINE) is not None,
        governor=(_text(root / _CPUFREQ / "scaling_governor") or "").strip() or None,
        frequency_mhz=_frequency(root, cpuinfo),
        load_1min_before=Figure(float(load.split()[0]))
        if load
        else Figure.missing("this system has no /proc/loadavg"),
        busy_before=busy,
    )


def last_cache_bytes(root: Path = _ROOT) -> int | None:
    """Size of the first core's largest cache, or None where the system does not tell."""
    sizes = [
        int(match[1]) * 1024
        for path in (root / "sys/devices/system/cpu/cpu0/cache").glob("index*/size")
        if (match := re.fullmatch(r"(\d+)K\s*", _text(path) or ""))
    ]
    return max(sizes, default=None)


def available_bytes(root: Path = _ROOT) -> int | None:
    """Memory that a new process could use without swapping, or None where it is not told."""
    value = _kib_figure(_text(root / "proc/meminfo"), "MemAvailable", "meminfo").value
    return None if value is None else int(value)


def own_cpu_s() -> float:
    """Processor time of this process and its threads so far, in seconds."""
    times = os.times()
    return times.user + times.system


def _usable_cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1


def _cpu_name(root: Path, cpuinfo: str) -> str:
    """Boards name themselves in the device tree, where their cpuinfo has no model name."""
    board = (_text(root / "proc/device-tree/model") or "").strip("\0 \n")
    named = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    name = re.sub(r"\s+", " ", named[1]).strip() if named else ""
    return ", ".join(filter(None, (board, name))) or f"unnamed {platform.machine()} processor"


def _os_name(root: Path) -> str:
    match = re.search(
        r'^PRETTY_NAME="?([^"\n]+)"?$', _text(root / "etc/os-release") or "", re.MULTILINE
    )
    return match[1] if match else platform.system()


def _frequency(root: Path, cpuinfo: str) -> Figure:
    khz = (_text(root / _CPUFREQ / "scaling_cur_freq") or "").strip()
    if khz.isdigit():
        return Figure(int(khz) / 1000)
    told = re.search(r"^cpu MHz\s*:\s*([\d.]+)$", cpuinfo, re.MULTILINE)
    if told:
        return Figure(float(told[1]))
    return Figure.missing("neither cpufreq nor cpuinfo tells a frequency on this system")


def _kib_figure(text: str | None, key: str, file: str) -> Figure:
    match = re.search(rf"^{key}:\s+(\d+) kB$", text or "", re.MULTILINE)
    return (
        Figure(int(match[1]) * 1024) if match else Figure.missing(f"/proc tells no {key} in {file}")
    )


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # M1: absent, or not for us to read
        return None
