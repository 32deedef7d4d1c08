"""Watches power and state while something else is measured.

Rules:
    T1  A thread looks at once and then every `period_s`, until it is stopped; the last look is at
        the stop. Where nothing can be looked at there is no thread, and figures say why they are
        missing.
    T2  A thread that failed, or whose look did not come back, makes figures missing; it never ends
        the measurement that it watches.
    T3  Idle power is looked at before the start, while nothing of ours runs, by whoever asks.
    T4  Figures can be asked for at any time; while it is open they are of the looks so far.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from jetlift.jetson.power import NoMeter, PowerTally, find_meter
from jetlift.jetson.state import StateReader
from jetlift.jetson.state_tally import StateTally, moved
from jetlift.runtime.board import read_board
from jetlift.runtime.clock import SYSTEM_CLOCK
from jetlift.runtime.closing import Closing
from jetlift.runtime.figure import Figure
from jetlift.runtime.power_form import Conditions, Power, Rail

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Self

    from jetlift.jetson.power import Meter
    from jetlift.runtime.clock import Clock

PERIOD_S = 0.2
IDLE_S = 1.0
_JOIN_LIMIT_S = 5.0
_FAILED = "the watch of the sensors failed"
_NO_THROUGHPUT = "it was not measured how many items there were"
_NO_SCOPE = "no total: the rails stand alone"


class Watch(Closing):
    """Power and state over the time it is open (rules T1 to T4). A context manager.

    Args:
        root: Where the board's /sys, /proc, /etc and /var lie.
        on_gpu: Whether the GPU is what is measured.
        period_s: Time between looks.
        pace: The clock.
        meter: What tells power; found below `root` if not given.
        join_limit_s: How long a look may take to come back at the end.
    """

    def __init__(
        self,
        root: Path,
        *,
        on_gpu: bool = False,
        period_s: float = PERIOD_S,
        pace: Clock = SYSTEM_CLOCK,
        meter: Meter | NoMeter | None = None,
        join_limit_s: float = _JOIN_LIMIT_S,
    ) -> None:
        self._root, self._on_gpu = root, on_gpu
        self._period_s, self._pace, self._join_limit_s = period_s, pace, join_limit_s
        self._meter = find_meter(root) if meter is None else meter
        self._reader = StateReader(root)
        self._power = PowerTally(None if isinstance(self._meter, NoMeter) else self._meter.scope)
        self._state, self._lock = StateTally(), threading.Lock()
        self._events_before: dict[str, int] = {}
        self._mode: str | None = None
        self._idle_w = Figure.missing("nobody looked before the start")
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._finished = self._abandoned = False

    def look_idle(self, seconds: float = IDLE_S) -> None:
        """Look at power while nothing of ours runs (rule T3); at once where there is no meter."""
        if isinstance(self._meter, NoMeter):
            self._idle_w = Figure.missing(self._meter.reason)
            return
        tally, began_s = PowerTally(self._meter.scope), self._pace.now_s()
        while True:
            now_s = self._pace.now_s()
            tally.add(self._meter.look(now_s), now_s)
            if now_s - began_s >= seconds:
                break
            self._pace.wait(self._stop, self._period_s)
        self._idle_w = tally.total.mean_w(tally.why_not)

    def __enter__(self) -> Self:
        self._events_before = self._reader.events()
        board = read_board(self._root)
        self._mode = None if board is None else board.power_mode
        if not isinstance(self._meter, NoMeter) or self._reader.tells_anything:
            self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
            self._thread.start()
        return self

    def close(self) -> None:
        """Look for the last time and end the thread. A second call does nothing."""
        if self._thread is None or self._stop.is_set():
            return
        self._stop.set()
        self._thread.join(self._join_limit_s)
        self._abandoned = self._thread.is_alive()  # T2: a daemon, it ends with the process

    def power(self, items_per_s: float | None = None) -> Power | None:
        """What the sensors told; None where there are none.

        Args:
            items_per_s: Throughput that the power was drawn for.
        """
        if isinstance(self._meter, NoMeter):
            return None
        mean_w = self.power_w()
        with self._lock:
            rails = tuple(
                Rail(name, tally.mean_w(), tally.max_w())
                for name, tally in self._power.rails.items()
            )
            max_w = self._power.total.max_w(self._power.why_not)
            looks = self._power.looks
        return Power(
            source=self._meter.source,
            scope=self._meter.scope or _NO_SCOPE,
            looks=looks,
            mean_w=mean_w,
            max_w=Figure.missing(_FAILED) if self._lost else max_w,
            idle_w=self._idle_w,
            energy_j_per_item=energy_per_item(mean_w, items_per_s),
            rails=() if self._lost else rails,
        )

    def power_w(self) -> Figure:
        """Mean power, or why there is none."""
        if isinstance(self._meter, NoMeter):
            return Figure.missing(self._meter.reason)
        if self._lost:
            return Figure.missing(_FAILED)
        with self._lock:
            return self._power.total.mean_w(self._power.why_not)

    def conditions(self) -> Conditions | None:
        """The state that the board was in; None where it tells none."""
        if self._lost or not self._state.looks or not self._reader.tells_anything:
            return None
        grown = self._grown()
        with self._lock:
            clocks = self._state.clocks(self._reader.limits_mhz())
            temperatures, throttled = self._state.temperatures(), self._state.throttled(grown)
        shifts = [moved(clock, on_gpu=self._on_gpu) for clock in clocks]
        fan = self._reader.fan_percent()
        return Conditions(
            source="sysfs",
            power_mode=self._mode,
            clocks_fixed=self._reader.clocks_fixed(),
            clocks=clocks,
            temperatures=temperatures,
            fan_percent=Figure.missing("no fan is told") if fan is None else Figure(fan),
            throttled=throttled,
            unsteady=(*throttled, *(told for told in shifts if told is not None)),
        )

    @property
    def _lost(self) -> bool:
        """Whether the thread failed or was given up (rule T2)."""
        if self._abandoned:
            return True
        return self._thread is not None and not self._finished and not self._thread.is_alive()

    def _grown(self) -> dict[str, int]:
        """How far each counter of events went since the start."""
        now, before = self._reader.events(), self._events_before
        return {
            name: count - before[name]
            for name, count in now.items()
            if count > before.get(name, count)
        }

    def _run(self) -> None:
        while True:
            stopped = self._stop.is_set()
            now_s = self._pace.now_s()
            if not isinstance(self._meter, NoMeter):
                power = self._meter.look(now_s)
                with self._lock:
                    self._power.add(power, now_s)
            state = self._reader.look()
            with self._lock:
                self._state.add(state)
            if stopped:
                self._finished = True
                return
            self._pace.wait(self._stop, self._period_s)


def energy_per_item(mean_w: Figure, items_per_s: float | None) -> Figure:
    """Mean power over throughput, idle power included."""
    if mean_w.value is None:
        return mean_w
    if not items_per_s:
        return Figure.missing(_NO_THROUGHPUT)
    return Figure(round(mean_w.value / items_per_s, 6))
