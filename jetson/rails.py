"""The supplies that a Jetson measures itself, and which of them add up to the module.

Rules:
    P1  Sensors are found by the driver's name and rails by their label: numbers of hwmon change
        from one start to the next.
    P2  A total is told only of a set of rails that is known; its scope says in words what it holds
        for. On other boards rails stand alone.
    P3  A rail that should be in the total and cannot be read leaves no total.
    P4  `NC` (not connected), shunt voltages and their sum are no rails.

INA3221 in hwmon: mV and mA per channel, https://docs.kernel.org/hwmon/ina3221.html. INA238 of
Thor's developer kit: uW, https://docs.kernel.org/hwmon/ina238.html. JetPack 4 has the vendor's own
driver, mW below iio. Which rails a board has: tests/runtime/boards/README.md and docs/power.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jetlift.jetson.sysfs import number_of, numbered, text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

_THREE_CHANNELS = "ina3221"
_ONE_CHANNEL = ("ina238", "ina237", "ina228")
_UNLABELLED = "VIN"  # the one INA238 of a Thor developer kit
_NO_RAIL = ("NC", "sum of shunt voltages")


@dataclass(frozen=True)
class Channel:
    """One measured supply: a file of power, or one of voltage and one of current.

    Attributes:
        name: As the board labels it.
        sensor: What measures it, for people.
        power: File of power, or None.
        per_w: What that file counts in a watt.
        volts: File of voltage in mV, where there is no power.
        amperes: File of current in mA.
    """

    name: str
    sensor: str
    power: Path | None = None
    per_w: float = 1e6
    volts: Path | None = None
    amperes: Path | None = None

    def read_w(self) -> float | None:
        """Power now; None where the sensor does not answer."""
        if self.power is not None:
            told = number_of(self.power)
            return None if told is None else told / self.per_w
        if self.volts is None or self.amperes is None:
            return None
        millivolts, milliamperes = number_of(self.volts), number_of(self.amperes)
        if millivolts is None or milliamperes is None:
            return None
        return millivolts * milliamperes / 1e6


@dataclass(frozen=True)
class Total:
    """Rails that add up to something that has a name (rule P2).

    Attributes:
        rails: All of them have to be there.
        scope: What their sum holds for.
    """

    rails: tuple[str, ...]
    scope: str


# The first that a board has all rails of. Thor's VIN is the developer kit's input, carrier board
# and fan with it; the other three are the module, as on AGX Orin, so that boards compare.
TOTALS = (
    Total(("VDD_IN",), "the module's input (VDD_IN)"),
    Total(("5V_IN",), "the module's input (5V_IN)"),
    Total(("POM_5V_IN",), "the module's input (POM_5V_IN)"),
    Total(
        ("VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0"),
        "the module, as VDD_GPU + VDD_CPU_SOC_MSS + VIN_SYS_5V0; the carrier board is not in it",
    ),
    Total(
        ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),
        "the module, as VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0; the carrier board is not in it",
    ),
    Total(
        ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),
        "the module, as GPU + CPU + SOC + CV + VDDRQ + SYS5V",
    ),
    Total(("VIN",), "the board's input (VIN), carrier board and all"),
)


def find_channels(root: Path) -> list[Channel]:
    """Every supply that is measured, in the order of the sensors (rules P1 and P4)."""
    hwmon = [
        channel for chip in numbered(root / "sys/class/hwmon", "hwmon*") for channel in _of(chip)
    ]
    return hwmon or list(_older(root))


def total_of(names: Iterable[str]) -> Total | None:
    """The total that a board's rails make, or None (rule P2)."""
    present = set(names)
    return next((total for total in TOTALS if present.issuperset(total.rails)), None)


def sum_w(total: Total, rails_w: Mapping[str, float | None]) -> float | None:
    """The total of one look, or None where one of its rails did not answer (rule P3)."""
    parts = [rails_w.get(name) for name in total.rails]
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def _of(chip: Path) -> Iterator[Channel]:
    driver = text_of(chip / "name") or ""
    if driver == _THREE_CHANNELS:
        for labelled in numbered(chip, "in[0-9]_label"):
            name, number = text_of(labelled) or "", labelled.name[2:3]
            current = chip / f"curr{number}_input"
            if name and name not in _NO_RAIL and current.exists():
                yield Channel(
                    name, "INA3221 in hwmon", volts=chip / f"in{number}_input", amperes=current
                )
    elif driver in _ONE_CHANNEL and (chip / "power1_input").exists():
        name = text_of(chip / "label") or text_of(chip / "in1_label") or _UNLABELLED
        yield Channel(name, f"{driver.upper()} in hwmon", power=chip / "power1_input")


def _older(root: Path) -> Iterator[Channel]:
    """JetPack 4: `rail_name_0` beside `in_power0_input`, both of the vendor's driver."""
    for driver in ("ina3221x", "ina3221"):
        folder = root / "sys/bus/i2c/drivers" / driver
        for device in numbered(folder, "*/iio:device*") + numbered(folder, "*/iio_device"):
            for labelled in numbered(device, "rail_name_[0-9]"):
                name, power = text_of(labelled), device / f"in_power{labelled.name[-1]}_input"
                if name and name not in _NO_RAIL and power.exists():
                    yield Channel(name, "INA3221 of JetPack 4", power=power, per_w=1e3)
