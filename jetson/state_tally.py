"""Looks at a board's state, summed up while they come: a service is watched for months.

Rules:
    Z1  Clocks of the first look are left out where there are others: they are those of an idle
        machine.
    Z2  A clock that moved by more than a tenth, and whatever says that the board throttled, makes
        a measurement unsteady. The GPU's clock counts only where the GPU is measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jetlift.jetson.state import CPU, GPU, MEMORY
from jetlift.runtime.figure import Figure
from jetlift.runtime.power_form import Clock, Temperature

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jetlift.jetson.state import StateLook

_MOVED_SHARE = 0.1
_OFF = "its part was switched off at every look"
_ROOT_ALONE = "this machine tells the clock to root alone"


@dataclass
class _Range:
    low: float
    high: float

    def take(self, value: float) -> None:
        self.low, self.high = min(self.low, value), max(self.high, value)


class StateTally:
    """Looks at the state (rules Z1 and Z2)."""

    def __init__(self) -> None:
        self.looks = 0
        self._first: StateLook | None = None
        self._clocks: dict[str, _Range] = {}
        self._warmest: dict[str, float | None] = {}
        self._throttling: dict[str, None] = {}

    def add(self, look: StateLook) -> None:
        """Count one look."""
        self.looks += 1
        if self._first is None:
            self._first = look
        else:
            for name, mhz in look.clocks_mhz.items():
                self._clocks.setdefault(name, _Range(mhz, mhz)).take(mhz)
        for zone, celsius in look.temperatures_c.items():
            known = [told for told in (celsius, self._warmest.get(zone)) if told is not None]
            self._warmest[zone] = max(known, default=None)
        self._throttling |= dict.fromkeys(look.throttling)

    def clocks(self, limits_mhz: Mapping[str, float]) -> tuple[Clock, ...]:
        """Every clock that was seen or has a limit."""
        found = []
        for name in (GPU, MEMORY, CPU):
            seen, limit = self._seen(name), limits_mhz.get(name)
            if seen is None and limit is None:
                continue
            none = Figure.missing(_ROOT_ALONE if name == MEMORY else _OFF)
            found.append(
                Clock(
                    name=name,
                    min_mhz=none if seen is None else _rounded(seen.low),
                    max_mhz=none if seen is None else _rounded(seen.high),
                    limit_mhz=_rounded(limit) if limit else Figure.missing("no limit is told"),
                )
            )
        return tuple(found)

    def temperatures(self) -> tuple[Temperature, ...]:
        """Every zone."""
        start = {} if self._first is None else self._first.temperatures_c
        return tuple(
            Temperature(zone, _celsius(start.get(zone)), _celsius(most))
            for zone, most in self._warmest.items()
        )

    def throttled(self, grown: Mapping[str, int]) -> tuple[str, ...]:
        """What the board said of throttling, a clause each.

        Args:
            grown: How far each counter of events went meanwhile.
        """
        counted = (f"{name} was counted {count} times" for name, count in grown.items())
        return (*(f"{name} held it back" for name in self._throttling), *counted)

    def _seen(self, name: str) -> _Range | None:
        if self.looks > 1 or self._first is None:
            return self._clocks.get(name)
        mhz = self._first.clocks_mhz.get(name)
        return None if mhz is None else _Range(mhz, mhz)


def moved(clock: Clock, *, on_gpu: bool) -> str | None:
    """That a clock moved, as a clause; None where it did not or does not count (rule Z2)."""
    low, high = clock.min_mhz.value, clock.max_mhz.value
    if low is None or high is None or (clock.name == GPU and not on_gpu):
        return None
    if high - low <= _MOVED_SHARE * high:
        return None
    return f"the {clock.name} clock moved between {low:.0f} and {high:.0f} MHz"


def _rounded(mhz: float) -> Figure:
    return Figure(round(mhz, 1))


def _celsius(told: float | None) -> Figure:
    return Figure.missing(_OFF) if told is None else Figure(round(told, 3))
