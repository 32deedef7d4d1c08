"""What tells power here: the board's sensors, tegrastats, or the processor's counter.

Rules:
    W1  The sensors of the board come first, tegrastats where the sensors cannot be seen, then the
        counters of a PC's processor. The first that answers is the meter; what none tells is
        missing.
    W2  A meter never raises for what a machine does not offer: a rail that does not answer at one
        look is None there, and the mean is of the looks that it answered.
    W3  A mean is weighted by time: the power of a look holds since the look before. A counter's
        mean is exact, a sensor's as good as its looks are dense.
    W4  jtop is not asked: what it tells, the files that it reads tell here as well.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from jetlift.jetson import rails, rapl, tegrastats
from jetlift.jetson.sysfs import number_of
from jetlift.runtime.board import is_jetson
from jetlift.runtime.clock import SYSTEM_CLOCK
from jetlift.runtime.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from jetlift.jetson.rails import Channel, Total
    from jetlift.jetson.rapl import Zone
    from jetlift.jetson.tegrastats import Line
    from jetlift.runtime.clock import Clock
    from jetlift.runtime.probe import Probe, Reading

_NOT_NOW = "the sensors told no total at this look"
_NO_TOTAL = "no look told all rails of the total"
_SILENT = "it did not answer at any look"


@dataclass(frozen=True)
class PowerLook:
    """Power at one look, in watts; None where a sensor did not answer (rule W2).

    Attributes:
        rails_w: Per rail.
        total_w: Of the meter's scope.
    """

    rails_w: dict[str, float | None]
    total_w: float | None


class Meter(Protocol):
    """Tells power when asked.

    Attributes:
        source: What tells it.
        scope: What the total holds for; None where the rails add up to nothing that is known.
    """

    source: str
    scope: str | None

    def look(self, now_s: float) -> PowerLook:
        """Look once.

        Args:
            now_s: The time, by the clock that paces the looks.
        """


@dataclass(frozen=True)
class NoMeter:
    """Why this machine tells no power, as a clause."""

    reason: str


class RailMeter:
    """The sensors of a Jetson.

    Args:
        channels: Its rails.
    """

    def __init__(self, channels: Sequence[Channel]) -> None:
        self._channels = tuple(channels)
        self._total = rails.total_of(channel.name for channel in channels)
        self.source = ", ".join(dict.fromkeys(channel.sensor for channel in channels))
        self.scope = None if self._total is None else self._total.scope

    def look(self, now_s: float) -> PowerLook:  # noqa: ARG002 - the sensor tells power, not energy
        """See Meter.look."""
        return _of_rails({item.name: item.read_w() for item in self._channels}, self._total)


class LineMeter:
    """The vendor's tegrastats, where the sensors themselves cannot be seen.

    Args:
        first: The line that showed it answers.
        read: Reads a further one.
    """

    def __init__(self, first: Line, read: Callable[[], Line | None] = tegrastats.read_once) -> None:
        self._names, self._read = tuple(first.rails_w), read
        self._total = rails.total_of(self._names)
        self.source, self.scope = "tegrastats", None if self._total is None else self._total.scope

    def look(self, now_s: float) -> PowerLook:  # noqa: ARG002 - tegrastats has a clock of its own
        """See Meter.look."""
        line = self._read()
        told = {} if line is None else line.rails_w
        return _of_rails({name: told.get(name) for name in self._names}, self._total)


class RaplMeter:
    """The energy counters of a PC's processor; the first look only begins the count.

    Args:
        zones: Its counters.
    """

    def __init__(self, zones: Sequence[Zone]) -> None:
        self._zones = tuple(zones)
        found = rapl.scope_of(list(zones))
        self._parts: tuple[str, ...] = () if found is None else found[0]
        self.scope = None if found is None else found[1]
        self.source = "RAPL through powercap"
        self._before: dict[str, int | None] = {}
        self._before_s = 0.0

    def look(self, now_s: float) -> PowerLook:
        """See Meter.look."""
        now = {zone.name: number_of(zone.counter) for zone in self._zones}
        passed_s = now_s - self._before_s
        told = {zone.name: self._watts(zone, now[zone.name], passed_s) for zone in self._zones}
        self._before, self._before_s = now, now_s
        total = None if self.scope is None else rails.Total(self._parts, self.scope)
        return _of_rails(told, total)

    def _watts(self, zone: Zone, now_uj: int | None, passed_s: float) -> float | None:
        before_uj = self._before.get(zone.name)
        if before_uj is None or now_uj is None or passed_s <= 0:
            return None
        joules = zone.joules_since(before_uj, now_uj)
        return None if joules is None else joules / passed_s


def find_meter(root: Path, *, ask_tegrastats: bool = True) -> Meter | NoMeter:
    """The meter of this machine (rule W1).

    Args:
        root: Where /sys and /etc lie.
        ask_tegrastats: Whether the vendor's command may be run where no sensor can be seen.
    """
    channels = rails.find_channels(root)
    if channels:
        return RailMeter(channels)
    if is_jetson(root):
        line = tegrastats.read_once() if ask_tegrastats else None
        if line is not None and line.rails_w:
            return LineMeter(line)
        return NoMeter(
            "this board shows no power sensor (INA3221 below /sys/class/hwmon), "
            "and tegrastats tells no rails"
        )
    zones = rapl.find_zones(root)
    if not zones:
        return NoMeter("this machine has no power sensor that is known (hwmon's INA3221, powercap)")
    shut = rapl.closed(zones)
    return RaplMeter(zones) if shut is None else NoMeter(shut)


class PoweredProbe:
    """A probe that tells the power drawn now, besides what another one tells. Thread-safe.

    Args:
        probe: What tells the rest.
        root: Where /sys and /etc lie.
        pace: The clock.
    """

    def __init__(self, probe: Probe, root: Path, pace: Clock = SYSTEM_CLOCK) -> None:
        self._probe, self._pace, self._lock = probe, pace, threading.Lock()
        self._meter = find_meter(root, ask_tegrastats=False)

    def read(self) -> Reading:
        """See Probe.read."""
        reading = self._probe.read()
        if isinstance(self._meter, NoMeter):
            return replace(reading, power_w=Figure.missing(self._meter.reason))
        with self._lock:
            total_w = self._meter.look(self._pace.now_s()).total_w
        told = Figure.missing(_NOT_NOW) if total_w is None else Figure(round(total_w, 3))
        return replace(reading, power_w=told)


@dataclass
class Tally:
    """Powers of one rail over time (rule W3).

    Attributes:
        joules: Energy over the time that looks hold for.
        seconds: That time.
        most_w: Most at one look; None before the first.
        last_w: At the latest look that was answered.
    """

    joules: float = 0.0
    seconds: float = 0.0
    most_w: float | None = None
    last_w: float = 0.0

    def add(self, watts: float | None, seconds: float) -> None:
        """Count one look; None is a look without an answer."""
        if watts is None:
            return
        self.most_w = watts if self.most_w is None else max(self.most_w, watts)
        self.last_w = watts
        self.joules += watts * seconds
        self.seconds += seconds

    def mean_w(self, why_not: str = _SILENT) -> Figure:
        """Mean power, or why there is none."""
        if self.most_w is None:
            return Figure.missing(why_not)
        mean_w = self.joules / self.seconds if self.seconds > 0 else self.last_w
        return Figure(round(mean_w, 4))

    def max_w(self, why_not: str = _SILENT) -> Figure:
        """Most power at one look, or why there is none."""
        return Figure.missing(why_not) if self.most_w is None else Figure(round(self.most_w, 4))


class PowerTally:
    """Looks of one meter, summed up.

    Args:
        scope: The meter's; None where there is no total.
    """

    def __init__(self, scope: str | None) -> None:
        self.looks, self.total, self.rails = 0, Tally(), dict[str, Tally]()
        self.why_not = (
            "the rails of this board add up to no total that is known"
            if scope is None
            else _NO_TOTAL
        )
        self._last_s: float | None = None

    def add(self, look: PowerLook, now_s: float) -> None:
        """Count one look."""
        passed_s = 0.0 if self._last_s is None else now_s - self._last_s
        self._last_s, self.looks = now_s, self.looks + 1
        self.total.add(look.total_w, passed_s)
        for name, watts in look.rails_w.items():
            self.rails.setdefault(name, Tally()).add(watts, passed_s)


def _of_rails(told: dict[str, float | None], total: Total | None) -> PowerLook:
    return PowerLook(told, None if total is None else rails.sum_w(total, told))
