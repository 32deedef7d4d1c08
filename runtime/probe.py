"""What a board feels while an engine runs, as far as a runtime needs to know.

The runtime defines the questions, `jetlift.jetson` answers them for real machines, and whoever
starts a measurement wires the two. A probe answers what it can and says why it cannot the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from jetlift.runtime.errors import UsageError
from jetlift.runtime.record import Figure

if TYPE_CHECKING:
    from collections.abc import Sequence

_NOT_ONE = Figure.missing("processor and GPU share one memory on a Jetson alone")
_NO_SENSOR = Figure.missing("this probe reads no power sensor")


@dataclass(frozen=True)
class Reading:
    """One look at the process and the board.

    Attributes:
        rss_bytes: Memory of this process resident now.
        pss_bytes: The same with shared pages divided among their users.
        rss_peak_bytes: Most that was ever resident.
        power_w: Power drawn now.
        available_bytes: Memory of the whole board that a new process could have; told of boards
            whose processor and GPU share one memory.
        nvmap_bytes: What the board's GPU drivers hold of it.
    """

    rss_bytes: Figure
    pss_bytes: Figure
    rss_peak_bytes: Figure
    power_w: Figure = _NO_SENSOR
    available_bytes: Figure = _NOT_ONE
    nvmap_bytes: Figure = _NOT_ONE


class Probe(Protocol):
    """Looks when asked. It never raises for what a machine does not offer: the Figure says so."""

    def read(self) -> Reading:
        """Look once."""


class FakeProbe:
    """A probe for tests and dry runs: tells what it was given, in order, then the last for ever.

    Args:
        readings: At least one.

    Raises:
        UsageError: There is no reading.
    """

    def __init__(self, readings: Sequence[Reading]) -> None:
        if not readings:
            raise UsageError("A FakeProbe got no reading", expected="At least one")
        self._readings = tuple(readings)
        self._next = 0

    def read(self) -> Reading:
        """Tell the next reading."""
        reading = self._readings[min(self._next, len(self._readings) - 1)]
        self._next += 1
        return reading
