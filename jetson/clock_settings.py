"""Which files hold a board's clocks, and what fixes them at the limit of the power mode.

Rules:
    K1  A clock is fixed as NVIDIA's jetson_clocks does it: the lowest that it may take becomes the
        highest, of every core, the GPU and the memory; cores stay out of their idle states, the
        GPU's supply stays on.
    K2  A setting is written in the order of the list and put back in the reverse order. What was
        there is read before anything is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jetlift.jetson.state import EMC, cpu_policies, gpu_nodes, memory_limit_mhz
from jetlift.jetson.sysfs import number_of, numbered, text_of
from jetlift.runtime.jsonform import field

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_EVERY = 10**6
_LOCK = f"{EMC}/mrq_rate_locked"


@dataclass(frozen=True)
class Setting:
    """One file and what belongs in it."""

    file: str = field(doc="Path below the board's root")
    before: str = field(doc="What was in it")
    fixed: str = field(doc="What fixes the clock")


def settings(root: Path) -> tuple[Setting, ...]:
    """Every setting that fixes this machine's clocks, with what is there now (rules K1, K2)."""
    return tuple(
        Setting(str(path.relative_to(root)), before, fixed)
        for path, fixed in _wanted(root)
        if (before := text_of(path))
    )


def _wanted(root: Path) -> Iterator[tuple[Path, str]]:
    policies = cpu_policies(root, most=_EVERY)
    for policy in policies:
        yield from _highest(policy, "scaling_min_freq", "scaling_max_freq")
    if policies:  # a virtual machine may show idle states and no clock, which fixes none
        idle = "cpu[0-9]*/cpuidle/state[0-9]*/disable"
        for file in numbered(root / "sys/devices/system/cpu", idle):
            yield file, "1"
    gpu = gpu_nodes(root)
    if gpu is not None:
        yield gpu / "device/railgate_enable", "0"
        yield from _highest(gpu, "min_freq", "max_freq")
    video = root / "sys/class/devfreq/gpu-nvd-0"  # Thor's second GPU clock
    yield from _highest(video, "min_freq", "max_freq")
    limit_mhz = memory_limit_mhz(root)
    if limit_mhz is not None and (root / _LOCK).exists():
        # Put back in the reverse order: the rate first, then the lock that lets it go again.
        yield root / _LOCK, "1"
        yield root / f"{EMC}/rate", str(round(limit_mhz * 1e6))


def _highest(folder: Path, low: str, high: str) -> Iterator[tuple[Path, str]]:
    highest = number_of(folder / high)
    if highest is not None and highest > 0:
        yield folder / low, str(highest)
