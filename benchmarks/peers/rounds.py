"""Contenders in turn, round after round, and what the paired times say.

Rules:
    I1  A round gives each contender one turn on the same input, in the same order, so that what
        slows the machine slows all of them; ratios are of times of one round.
    I2  The first round is not counted. The last is the asked number, or the one in which the time
        limit passed, but never before ENOUGH rounds, with which a 95 % interval has ends.
    I3  One that dies, hangs or answers rubbish leaves the rounds; the others go on.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jetlift.runtime.errors import MachineError
from jetlift.runtime.figure import Figure
from jetlift.runtime.medians import median_interval

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from jetlift.benchmarks.peers.contender import ContenderProcess

ENOUGH = 6  # the fewest samples whose whole range is a 95 % interval of their median
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Rules:
    """When a case has been timed enough.

    Attributes:
        rounds: Rounds to time.
        time_limit_s: Seconds after which no new round begins (rule I2).
        turn_s: Seconds that a turn lasts at least.
    """

    rounds: int = 30
    time_limit_s: float = 90.0
    turn_s: float = 0.15


@dataclass(frozen=True)
class Timed:
    """What the rounds gave.

    Attributes:
        turns_ms: Median of each turn, by contender; all of those that stayed have as many.
        gone: Why a contender left, by contender (rule I3).
    """

    turns_ms: dict[str, list[float]]
    gone: dict[str, str]


def interleave(
    running: Mapping[str, ContenderProcess],
    inputs: int,
    rules: Rules,
    *,
    tell: Callable[[str], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> Timed:
    """Give all contenders their turns (rules I1 to I3).

    Args:
        running: The contenders, in their order.
        inputs: Number of inputs, which take turns.
        rules: When it is enough.
        tell: Told how far it is.
        clock: Seconds from any start.
    """
    turns: dict[str, list[float]] = {name: [] for name in running}
    gone: dict[str, str] = {}
    begun_s = clock()
    for number in range(-1, rules.rounds):
        if number >= ENOUGH and clock() - begun_s > rules.time_limit_s:
            break
        tell(f"round {number + 1} of {rules.rounds}")
        for name in [item for item in running if item not in gone]:
            try:
                times_ms = running[name].time(max(number, 0) % inputs, rules.turn_s)
            except MachineError as error:
                gone[name] = error.got
                continue
            if number >= 0:
                turns[name].append(round(statistics.median(times_ms), 5))
    return Timed({name: values for name, values in turns.items() if name not in gone}, gone)


def ratio(
    slower_ms: Sequence[float], faster_ms: Sequence[float]
) -> tuple[float, tuple[float, float] | None]:
    """Median of the rounds' ratios, and its 95 % interval where there are enough of them."""
    ratios = [one / other for one, other in zip(slower_ms, faster_ms, strict=True)]
    return statistics.median(ratios), median_interval(ratios, _CONFIDENCE)


def figures(
    slower_ms: Sequence[float], faster_ms: Sequence[float]
) -> tuple[Figure, Figure, Figure]:
    """The same as figures: ratio, lower and upper end."""
    median, interval = ratio(slower_ms, faster_ms)
    if interval is None:
        few = Figure.missing(f"{len(slower_ms)} rounds are too few for an interval")
        return Figure(round(median, 4)), few, few
    return Figure(round(median, 4)), Figure(round(interval[0], 4)), Figure(round(interval[1], 4))
