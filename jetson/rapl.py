"""Energy that a PC's processor counts: Linux's powercap, which Intel's and AMD's processors fill.

Rules:
    L1  The counter wraps at `max_energy_range_uj`; two looks have at most one wrap between them,
        which holds for minutes at hundreds of watts.
    L2  Where the counter may be read by root alone (the default since Linux 5.10), power is not
        measured, and the reason says which file and which command opens it.
    L3  `psys`, where there is one, is the platform; else the packages together are the scope, and
        that is neither memory nor board. `core` and `uncore` are parts of a package and in no sum.
https://docs.kernel.org/power/powercap/powercap.html
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jetlift.jetson.sysfs import number_of, numbered, text_of

if TYPE_CHECKING:
    from pathlib import Path

_PLATFORM, _PACKAGE = "psys", "package-"


@dataclass(frozen=True)
class Zone:
    """One counter.

    Attributes:
        name: As in `package-0`, with its package before it where it is a part of one.
        counter: File of microjoules.
        wraps_at_uj: Where the counter starts again at 0 (rule L1).
    """

    name: str
    counter: Path
    wraps_at_uj: int | None

    def joules_since(self, before_uj: int, now_uj: int) -> float | None:
        """Energy between two looks; None where the counter went back and nobody says how far."""
        if now_uj >= before_uj:
            return (now_uj - before_uj) / 1e6
        if self.wraps_at_uj is None or before_uj > self.wraps_at_uj:
            return None
        return (now_uj + self.wraps_at_uj - before_uj) / 1e6


def find_zones(root: Path) -> list[Zone]:
    """Every counter, packages before their parts; the second interface (mmio) is left out."""
    folder = root / "sys/class/powercap"
    found = []
    for path in numbered(folder, "intel-rapl:*"):
        name = text_of(path / "name")
        if name is None or not (path / "energy_uj").exists():
            continue
        above = text_of(folder / path.name.rpartition(":")[0] / "name")
        is_part = path.name.count(":") > 1 and above is not None
        full = f"{above} {name}" if is_part else name
        found.append(Zone(full, path / "energy_uj", number_of(path / "max_energy_range_uj")))
    return found


def scope_of(zones: list[Zone]) -> tuple[tuple[str, ...], str] | None:
    """Which counters add up to the scope, and its name; None where none does (rule L3)."""
    names = [zone.name for zone in zones]
    if _PLATFORM in names:
        return (_PLATFORM,), "the platform, as the processor's psys counter has it"
    packages = tuple(name for name in names if name.startswith(_PACKAGE) and " " not in name)
    if not packages:
        return None
    return packages, f"the processor ({', '.join(packages)}); memory and board are not in it"


def closed(zones: list[Zone]) -> str | None:
    """Why counters cannot be read, with what opens them; None where all can (rule L2)."""
    shut = [zone for zone in zones if number_of(zone.counter) is None]
    if not shut:
        return None
    path = shut[0].counter
    return (
        f"{path} is not ours to read; root may, or everybody after: sudo chmod a+r {path.parent}"
        "*/energy_uj"
    )
