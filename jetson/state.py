"""The state of a board that a measurement depends on: clocks, temperatures, throttling, fan.

Rules:
    S1  What is looked for is found once; a look then reads only values. Nothing here is ever
        written.
    S2  A zone that tells -256 C, or whose driver does not answer, stands for a part whose supply is
        off. Neither is a temperature.
    S3  The processor's clock is that of its fastest core at a look: the work is on it, and the
        clocks of cores that idle say nothing. Of many cores every n-th is looked at.
    S4  A board says that it throttles by a cooling device above its resting state, by a count of
        events that grew (over-current, thermal trips, a PC's package), never by a temperature
        alone.
Files: https://docs.kernel.org/driver-api/thermal/sysfs-api.html; NVIDIA's Jetson Linux Developer
Guide, Platform Power and Performance; nodes per board in tests/runtime/boards/README.md.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jetlift.jetson.sysfs import first_existing, number_of, numbered, text_of

if TYPE_CHECKING:
    from pathlib import Path

GPU, MEMORY, CPU = "gpu", "memory", "cpu"
_GATED_MILLI_C = -256_000
_MOST_CORES = 16
_GPU_NODE = re.compile(r"\w+\.(?:gpu|ga10b|gv11b|gp10b|gm20b)|gpu-gpc-0")
_GPU_ELSEWHERE = (
    "sys/devices/platform/17000000.gpu/devfreq_dev",
    "sys/devices/platform/bus@0/17000000.gpu/devfreq_dev",
)
EMC = "sys/kernel/debug/bpmp/debug/clk/emc"
_MEMORY_CAPS = ("sys/kernel/nvpmodel_clk_cap/emc", "sys/kernel/nvpmodel_emc_cap/emc_iso_cap")
# Fans are cooling devices too, and a fan that turns is no throttling.
_NO_THROTTLE = re.compile(r"fan|LCD|intel_powerclamp|tcc", re.IGNORECASE)
_FAN_DRIVERS = ("pwmfan", "pwm_fan", "pwm-fan", "pwm_tach")


@dataclass(frozen=True)
class Nodes:
    """Where one clock is told; a file may be absent, and `per_mhz` is of all three.

    Attributes:
        name: gpu, memory or cpu.
        now: File of its clock.
        low: File of the lowest it may take.
        high: File of the highest it may take.
        per_mhz: What the files count in a MHz.
    """

    name: str
    now: Path
    low: Path
    high: Path
    per_mhz: float

    def now_mhz(self) -> float | None:
        """Its clock now; 0 of a part that is switched off is no clock."""
        return self._mhz(self.now)

    def limit_mhz(self) -> float | None:
        """Highest that it may take in this power mode."""
        return self._mhz(self.high)

    def fixed(self) -> bool | None:
        """Whether it may take but one clock; None where nobody tells."""
        low, high = number_of(self.low), number_of(self.high)
        return None if low is None or high is None else low >= high > 0

    def _mhz(self, path: Path) -> float | None:
        told = number_of(path)
        return told / self.per_mhz if told is not None and told > 0 else None


@dataclass(frozen=True)
class StateLook:
    """One look at the state.

    Attributes:
        clocks_mhz: By clock; only those that answered.
        temperatures_c: By zone, None where its part is switched off (rule S2).
        throttling: Types of cooling devices that hold something back now.
    """

    clocks_mhz: dict[str, float]
    temperatures_c: dict[str, float | None]
    throttling: tuple[str, ...]


class StateReader:
    """What this machine tells of its state (rules S1 to S4).

    Args:
        root: Where /sys lies.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        gpu = gpu_nodes(root)
        self.gpu = None if gpu is None else _nodes(GPU, gpu, ("cur", "min", "max"), 1e6)
        self.cores = [_core_nodes(policy) for policy in cpu_policies(root)]
        self._zones = [
            (text_of(zone / "type") or zone.name, zone / "temp")
            for zone in numbered(root / "sys/class/thermal", "thermal_zone*")
        ]
        devices = numbered(root / "sys/class/thermal", "cooling_device*")
        named = [(text_of(device / "type") or "", device / "cur_state") for device in devices]
        self._cooling = [(name, path) for name, path in named if not _NO_THROTTLE.search(name)]

    @property
    def tells_anything(self) -> bool:
        """Whether there is any state to look at."""
        return self.gpu is not None or bool(self.cores) or bool(self._zones)

    def look(self) -> StateLook:
        """Look once."""
        return StateLook(
            clocks_mhz=self._clocks(),
            temperatures_c={name: _celsius(path) for name, path in self._zones},
            throttling=tuple(name for name, path in self._cooling if (number_of(path) or 0) > 0),
        )

    def limits_mhz(self) -> dict[str, float]:
        """Highest clock that each may take in this power mode; only those that are told."""
        cores = [told for core in self.cores if (told := core.limit_mhz()) is not None]
        limits = {
            GPU: None if self.gpu is None else self.gpu.limit_mhz(),
            MEMORY: memory_limit_mhz(self._root),
            CPU: max(cores, default=None),
        }
        return {name: mhz for name, mhz in limits.items() if mhz is not None}

    def clocks_fixed(self) -> bool | None:
        """Whether GPU and processor may take but one clock, as jetson_clocks sets them."""
        nodes = [*self.cores, *([] if self.gpu is None else [self.gpu])]
        told = [fixed for node in nodes if (fixed := node.fixed()) is not None]
        return all(told) if told else None

    def events(self) -> dict[str, int]:
        """Counters of throttling since the start of the machine (rule S4)."""
        found = {}
        for chip in numbered(self._root / "sys/class/hwmon", "hwmon*"):
            for path in numbered(chip, "oc*_event_cnt"):
                found[f"over-current {path.name.partition('_')[0]}"] = number_of(path)
        platform = self._root / "sys/devices/platform"
        for path in numbered(platform, "*-throttle-alert/thermal_trip_event"):
            found[f"thermal trip of {path.parent.name.partition('-')[0]}"] = number_of(path)
        package = self._root / "sys/devices/system/cpu/cpu0/thermal_throttle"
        found["thermal throttling of the package"] = number_of(package / "package_throttle_count")
        return {name: count for name, count in found.items() if count is not None}

    def fan_percent(self) -> float | None:
        """How far the first fan is driven, or None."""
        for chip in numbered(self._root / "sys/class/hwmon", "hwmon*"):
            if text_of(chip / "name") in _FAN_DRIVERS:
                told = number_of(chip / "pwm1")
                if told is not None:
                    return round(told / 255 * 100, 1)
        older = number_of(self._root / "sys/devices/pwm-fan/target_pwm")  # JetPack 4
        return None if older is None else round(older / 255 * 100, 1)

    def _clocks(self) -> dict[str, float]:
        cores = [told for core in self.cores if (told := core.now_mhz()) is not None]
        memory = number_of(self._root / EMC / "rate")
        now = {
            GPU: None if self.gpu is None else self.gpu.now_mhz(),
            MEMORY: memory / 1e6 if memory else None,
            CPU: max(cores, default=None),
        }
        return {name: mhz for name, mhz in now.items() if mhz is not None}


def gpu_nodes(root: Path) -> Path | None:
    """Folder of the GPU's devfreq node, or None where there is no such GPU."""
    for node in numbered(root / "sys/class/devfreq", "*"):
        if _GPU_NODE.fullmatch(node.name):
            return node
    return first_existing(root, _GPU_ELSEWHERE)


def cpu_policies(root: Path, most: int = _MOST_CORES) -> list[Path]:
    """Folders of cpufreq's policies, every n-th of many (rule S3)."""
    cpus = root / "sys/devices/system/cpu"
    found = numbered(cpus, "cpufreq/policy[0-9]*") or numbered(cpus, "cpu[0-9]*/cpufreq")
    return found[:: -(-len(found) // most) or 1]


def memory_limit_mhz(root: Path) -> float | None:
    """Highest clock that the memory may take: what the power mode caps, else what the part can."""
    told = [number_of(root / name) for name in (*_MEMORY_CAPS, f"{EMC}/max_rate")]
    return next((hz / 1e6 for hz in told if hz is not None and hz > 0), None)


def _nodes(name: str, folder: Path, which: tuple[str, str, str], per_mhz: float) -> Nodes:
    now, low, high = (folder / f"{word}_freq" for word in which)
    return Nodes(name, now, low, high, per_mhz)


def _core_nodes(policy: Path) -> Nodes:
    return _nodes(CPU, policy, ("scaling_cur", "scaling_min", "scaling_max"), 1e3)


def _celsius(path: Path) -> float | None:
    told = number_of(path)
    return None if told is None or told <= _GATED_MILLI_C else told / 1000
