"""What a Jetson tells of itself that an engine may depend on.

Rules:
    B1  Reading never fails for what a board does not offer; what it does not tell is None.
    B2  Strings are kept as the system has them; what they stand for is a matter of jetlift.jetson,
        which knows the devices.
    B3  Everything is read below a root that tests replace by a folder of text files. The one
        vendor command, `nvpmodel -q`, is asked where no file tells the power mode.
Where each line comes from: tests/runtime/boards/README.md.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jetlift.runtime.jsonform import field

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

RELEASE_FILE = "etc/nv_tegra_release"
_QUERY_LIMIT_S = 5.0
# The GPU's devfreq node: Orin under Jetson Linux 36 and 35, Thor's graphics clusters, Xavier.
# Jetson Linux 36 has the same files below the device itself.
_GPU_CLOCKS = (
    "sys/class/devfreq/17000000.gpu/max_freq",
    "sys/class/devfreq/17000000.ga10b/max_freq",
    "sys/class/devfreq/gpu-gpc-0/max_freq",
    "sys/class/devfreq/17000000.gv11b/max_freq",
    "sys/devices/platform/17000000.gpu/devfreq_dev/max_freq",
)
# Limit that nvpmodel sets to the memory controller; the clock itself is told to root alone.
_MEMORY_CLOCKS = ("sys/kernel/nvpmodel_clk_cap/emc", "sys/kernel/nvpmodel_emc_cap/emc_iso_cap")


@dataclass(frozen=True)
class BoardState:
    """A Jetson, as its system tells it. What it does not tell is None (rule B1)."""

    device: str | None = field(doc="Model string of the device tree, unchanged")
    l4t: str | None = field(doc="Release of Jetson Linux, as in 36.4.3")
    power_mode: str | None = field(doc="Name of the power mode, as in MAXN_SUPER")
    gpu_clock_mhz: float | None = field(doc="Highest clock that the GPU may take now")
    memory_clock_mhz: float | None = field(doc="Highest clock that the memory may take now")
    module: str | None = field(
        doc="Part number of the module in the device tree, as in p3767-0005", default=None
    )
    dla_cores: int | None = field(doc="DLA cores that the system shows", default=None)


def is_jetson(root: Path) -> bool:
    """Whether the system says it is a Jetson.

    Args:
        root: Where /proc and /etc lie.
    """
    compatible = _text(root / "proc/device-tree/compatible") or ""
    return (root / RELEASE_FILE).is_file() or "nvidia,tegra" in compatible


def read_board(root: Path) -> BoardState | None:
    """Look at the board this machine is; None where it is no Jetson.

    Args:
        root: Where /proc, /sys, /etc and /var lie (rule B3).
    """
    if not is_jetson(root):
        return None
    compatible = _text(root / "proc/device-tree/compatible") or ""
    model = (_text(root / "proc/device-tree/model") or "").strip("\0 \n")
    return BoardState(
        device=model or None,
        l4t=_l4t(_text(root / RELEASE_FILE) or ""),
        power_mode=_power_mode(root),
        gpu_clock_mhz=_mhz(root, _GPU_CLOCKS),
        memory_clock_mhz=_mhz(root, _MEMORY_CLOCKS),
        module=_module(compatible),
        dla_cores=_dla_cores(root),
    )


def _l4t(release: str) -> str | None:
    """`# R36 (release), REVISION: 4.3, GCID: …` is Jetson Linux 36.4.3."""
    told = re.search(r"^# R(\d+) \(release\), REVISION: (\d+(?:\.\d+)*)", release, re.MULTILINE)
    return f"{told[1]}.{told[2]}" if told else None


def _module(compatible: str) -> str | None:
    """`nvidia,p3768-0000+p3767-0005-super` is module p3767-0005 on carrier board p3768-0000."""
    names = compatible.split("\0")
    for pattern in (r"nvidia,p\d{4}-\d{4}\+(p\d{4}-\d{4})(?:-super)?", r"nvidia,(p\d{4}-\d{4})"):
        for name in names:
            if found := re.fullmatch(pattern, name.strip()):
                return found[1]
    return None


def _power_mode(root: Path) -> str | None:
    """Name of the power mode: of the number that nvpmodel keeps, else what the command says."""
    number = re.search(r"pmode:(\d+)", _text(root / "var/lib/nvpmodel/status") or "")
    modes = _text(root / "etc/nvpmodel.conf") or ""
    if number is not None:
        named = rf"^<\s*POWER_MODEL\s+ID=0*{int(number[1])}\s+NAME=(\S+)\s*>"
        if found := re.search(named, modes, re.MULTILINE):
            return found[1]
    # `-q --verbose`, which some releases print unasked, has the same after its own words.
    told = re.search(r"^(?:NVPM VERB: .*)?NV Power Mode:\s*(\S+)\s*$", _queried(), re.MULTILINE)
    return told[1] if told else None


def _queried() -> str:
    """What `nvpmodel -q` prints; empty where it is absent, fails or does not answer."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            ["nvpmodel", "-q"],
            stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=_QUERY_LIMIT_S,
        )  # fmt: skip
        return done.stdout.decode(errors="replace")
    return ""


def _mhz(root: Path, names: Iterable[str]) -> float | None:
    """The first clock that is told, in MHz. Files hold Hz, and 0 where no limit is set."""
    for name in names:
        text = (_text(root / name) or "").strip()
        if text.isdigit() and int(text) > 0:
            return int(text) / 1e6
    return None


def _dla_cores(root: Path) -> int | None:
    """DLA devices: `15880000.nvdla0` and `158c0000.nvdla1`, on the bus and below host1x."""
    devices = root / "sys/bus/platform/devices"
    if not devices.is_dir():
        return None
    places = (devices, *(root / "sys/devices/platform").glob("*host1x"))
    return len({path.name for place in places for path in place.glob("*.nvdla[0-9]")})


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # B1: absent, or not for us to read
        return None
