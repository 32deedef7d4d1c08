"""What a record says of power, clocks and temperature while something was measured.

Rules:
    W1  A figure that no sensor told is missing with its reason; it is never zero.
    W2  What a figure holds for is named: a processor's package is not a board.
"""

from __future__ import annotations

from dataclasses import dataclass

from jetlift.runtime.figure import Figure  # noqa: TC001 - jsonform reads the hints at run time
from jetlift.runtime.jsonform import field


@dataclass(frozen=True)
class Rail:
    """One supply that a sensor measures."""

    name: str = field(doc="As the board names it, as in VDD_IN")
    mean_w: Figure = field(doc="Mean power over the looks")
    max_w: Figure = field(doc="Most power at one look")


@dataclass(frozen=True)
class Power:
    """Power while something was measured."""

    source: str = field(doc="What told it, as in INA3221 through hwmon, or RAPL")
    scope: str = field(doc="What the total holds for, as in the module's input")
    looks: int = field(doc="How often the sensors were read")
    mean_w: Figure = field(doc="Mean power of the scope")
    max_w: Figure = field(doc="Most power at one look")
    idle_w: Figure = field(
        doc="Mean power of the scope before the start, while nothing of ours ran"
    )
    energy_j_per_item: Figure = field(doc="Mean power over throughput, idle power included")
    rails: tuple[Rail, ...] = field(doc="Every supply that was read, the total's among them")


@dataclass(frozen=True)
class Clock:
    """One clock while something was measured."""

    name: str = field(doc="Whose, as in gpu, memory or cpu0")
    min_mhz: Figure = field(doc="Lowest that was seen")
    max_mhz: Figure = field(doc="Highest that was seen")
    limit_mhz: Figure = field(doc="Highest that it may take in this power mode")


@dataclass(frozen=True)
class Temperature:
    """One sensor of temperature while something was measured."""

    name: str = field(doc="Zone, as the board names it")
    start_c: Figure = field(doc="At the first look, in degrees Celsius")
    max_c: Figure = field(doc="Highest that was seen")


@dataclass(frozen=True)
class Conditions:
    """The state of the board while something was measured."""

    source: str = field(doc="What told it")
    power_mode: str | None = field(doc="Name of the power mode; null where nobody tells")
    clocks_fixed: bool | None = field(
        doc="Whether clocks stand at their limit, as jetson_clocks sets them; null if unknown"
    )
    clocks: tuple[Clock, ...] = field(doc="Clocks that were seen")
    temperatures: tuple[Temperature, ...] = field(doc="Sensors that were read")
    fan_percent: Figure = field(doc="How far the fan was driven at the end, 0..100")
    throttled: tuple[str, ...] = field(doc="What the board said of throttling, a clause each")
    unsteady: tuple[str, ...] = field(
        doc="Why figures of this measurement hold for no single state: throttled, clocks moved"
    )
