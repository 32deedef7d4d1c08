"""Stages in a row, each in a thread of its own, with bounded channels between them.

Rules:
    N1  The first failure wins: it ends the line, and is told with the name of the stage in which
        it happened. What others raise on the way out is not told.
    N2  No thread outlives `close`. One that cannot be ended, since it hangs in a library, is told
        by its name; it is a daemon, so that the process can still end.
    N3  `drain` takes nothing more from the sources and finishes what was taken.
    N4  Where a limit is set, a stage that works on one batch for longer is a failure.
    N5  `run_inline` does the same with no thread at all, one item after another.
    N6  A perishable item that became too old before it reached the stage that is worth it is
        dropped and counted as stale, where a limit is set.
    N7  A live line begins a frame as late as it may (station.py, rule B2).
    N8  Whatever a stage has begun and that goes no further is dropped, so that what it holds is
        given back: what a stage failed of, and what waited between stages when the line ended.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Generic

from jetlift.runtime.clock import SYSTEM_CLOCK, Clock
from jetlift.runtime.closing import Closing
from jetlift.runtime.errors import JetliftError, MachineError, StageError, UsageError
from jetlift.runtime.pipeline.ages import Ages
from jetlift.runtime.pipeline.channel import Channel, Intake
from jetlift.runtime.pipeline.form import StageSummary
from jetlift.runtime.pipeline.line_form import Feeder, LineOptions, P, Stage, Told, drop_all
from jetlift.runtime.pipeline.station import Station, Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

CAPTURE = "capture"
_POLL_S = 0.2


class Line(Closing, Generic[P]):
    """Feeders, then stages in a row (rules N1 to N8).

    Args:
        feeders: Where parcels come from, each in a thread of its own.
        stages: At least one.
        options: How it is run.
        clock: Tells ages.

    Raises:
        UsageError: There is no feeder or no stage.
    """

    def __init__(
        self,
        feeders: Sequence[Feeder[P]],
        stages: Sequence[Stage[P]],
        options: LineOptions,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if not feeders or not stages:
            raise UsageError("A line got no source or no stage", expected="At least one of each")
        self._feeders, self._options, self._clock = tuple(feeders), options, clock
        self._stations = [Station(stage) for stage in stages]
        self._intake = Intake[P]([feeder.live for feeder in feeders], room=options.room)
        rooms = [0 if options.live else max(options.room, stage.most) for stage in stages[1:]]
        self._channels = [Channel[P](room) for room in rooms]
        self._threads: list[threading.Thread] = []
        self._lock, self._ended = threading.Lock(), threading.Event()
        costly = self._stations[options.costly]
        late = options.live and options.costly > 0 and costly.stage.most == 1
        self._turn = Turn(self._stations[0], costly, clock) if late else None
        self._capture, self._captured, self._capture_s = Ages(), 0, 0.0
        self._alive = 0
        self._started_s: float | None = None
        self._ended_s: float | None = None
        self._stopping = self._aborted = False
        self._stale = 0
        self.failure: StageError | None = None

    def start(self) -> None:
        """Start every thread."""
        self._started_s = self._clock.now_s()
        self._alive = len(self._feeders) + len(self._stations)
        for number, feeder in enumerate(self._feeders):
            self._thread(f"capture {feeder.name}", partial(self._feed, number))
        for number, station in enumerate(self._stations):
            self._thread(station.stage.name, partial(self._serve, number))
        for thread in self._threads:
            thread.start()

    def _thread(self, name: str, body: Callable[[], None]) -> None:
        def run() -> None:
            with Told(self.left, name):
                body()

        self._threads.append(threading.Thread(target=run, name=f"jetlift {name}", daemon=True))

    def _feed(self, number: int) -> None:
        try:
            for parcel in self._parcels(self._feeders[number]):
                if not self._intake.put(number, parcel):
                    return
        finally:
            self._intake.end(number)

    def _parcels(self, feeder: Feeder[P]) -> Iterator[P]:
        """What a feeder gives, with its age when it gave it."""
        began_s = self._clock.now_s()
        for parcel in feeder.parcels():
            now_s = self._clock.now_s()
            age_ms = parcel.ages_ms[CAPTURE] = max(0.0, now_s - parcel.since_s) * 1000
            with self._lock:
                self._capture.add(age_ms)
                self._captured += 1
                self._capture_s += now_s - began_s
            yield parcel
            began_s = self._clock.now_s()

    def _serve(self, number: int) -> None:
        station = self._stations[number]
        onward = self._channels[number] if number < len(self._channels) else None
        try:
            while (batch := self._gather(number)) is not None:
                made = self._worked(number, batch)
                self._tell_turn()
                for place, parcel in enumerate(made):
                    if onward is not None and not onward.put(parcel):
                        drop_all(made[place + 1 :])  # this one is the channel's (rule N8)
                        return
                    station.given += 1
        finally:
            if onward is not None:
                onward.close()

    def _worked(self, number: int, batch: list[P]) -> list[P]:
        """What a stage makes of a batch; what it fails of is dropped (rule N8)."""
        try:
            fresh = self._fresh(number, batch)
            if fresh:
                return self._stations[number].work(fresh, self._clock)
        except BaseException:
            drop_all(batch)
            raise
        self._stations[number].rest()
        return []

    def _gather(self, number: int) -> list[P] | None:
        """The next parcel and those that come within the stage's patience; None at the end."""
        inlet = self._intake if number == 0 else self._channels[number - 1]
        if number == 0 and self._turn is not None:
            self._turn.wait(lambda: self._stopping)
        first = inlet.take()
        if first is None:
            return None
        station = self._stations[number]
        batch, stage = [first], station.stage
        until_s = self._clock.now_s() + stage.patience_s
        while len(batch) < stage.most:
            left_s = max(0.0, until_s - self._clock.now_s())
            another = inlet.take(timeout_s=left_s)
            if another is None:
                break
            batch.append(another)
        station.begin(len(batch), self._clock.now_s())
        self._tell_turn()
        return batch

    def _tell_turn(self) -> None:
        if self._turn is not None:
            self._turn.tell()

    def _fresh(self, number: int, batch: list[P]) -> list[P]:
        """Those of a batch that are not too old (rule N6)."""
        limit_s = self._options.max_age_s
        if limit_s is None or number > self._options.costly:
            return batch
        now_s = self._clock.now_s()
        stale = [it for it in batch if it.perishable and now_s - it.since_s > limit_s]
        drop_all(stale)
        with self._lock:  # several stages count
            self._stale += len(stale)
        return [parcel for parcel in batch if parcel not in stale]

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until everything is done or something failed (rule N4).

        Returns:
            False where the time was over first.
        """
        left_s = timeout_s
        while not self._ended.wait(_POLL_S if left_s is None else min(_POLL_S, left_s)):
            self.check_hanging()
            if left_s is not None:
                left_s -= _POLL_S
                if left_s <= 0:
                    return self._ended.is_set()
        return True

    def check_hanging(self) -> None:
        """Fail where a stage has worked on one batch for too long (rule N4)."""
        limit_s = self._options.hang_limit_s
        if limit_s is None:
            return
        for station in self._stations:
            since_s = station.since_s
            if since_s is not None and self._clock.now_s() - since_s > limit_s:
                hangs = MachineError(
                    f"it has worked on one item for more than {limit_s:g} s",
                    expected="An answer within that time",
                    do="Raise the limit if it is known to be slow, else check the device's log",
                )
                self._fail(station.stage.name, hangs)

    def drain(self) -> None:
        """Take nothing more and finish what was taken (rule N3)."""
        self._intake.drain()
        for feeder in self._feeders:
            feeder.close()

    def abort(self) -> None:
        """End it now, and let `wait` return; the threads are joined by `close`."""
        if not self._ended.is_set():
            self._aborted = True
        self._halted()

    @property
    def aborted(self) -> bool:
        """Whether `abort` came before its end."""
        return self._aborted

    def close(self) -> None:
        """End every thread, at once if it has to be (rule N2). A second call does nothing.

        Raises:
            MachineError: A thread could not be ended and nothing else failed.
        """
        self._halted()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(self._options.grace_s)
        for channel in self._channels:
            drop_all(channel.left())
        hanging = [thread.name for thread in self._threads if thread.is_alive()]
        if hanging and self.failure is None:
            raise MachineError(
                f"Threads ({', '.join(hanging)}) did not end within {self._options.grace_s:g} s",
                expected="A library that returns from its calls",
                do="End this process; check the device's log for what it waits for",
            )

    def _halted(self) -> None:
        """Have everybody end, even where telling one of them fails; then `wait` returns."""
        with ExitStack() as stack:
            stack.callback(self._ended.set)
            for station in self._stations:
                stack.callback(station.stage.interrupt)
            for feeder in self._feeders:
                stack.callback(feeder.close)
            self._stopping = True
            self._tell_turn()
            self._intake.abort()
            for channel in self._channels:
                channel.abort()

    def _fail(self, name: str, error: BaseException) -> None:
        """Keep the first failure and end the line (rule N1)."""
        with self._lock:
            first = self.failure is None and not self._stopping
            if first:
                self.failure = StageError(name, error)
        if first:
            self._halted()

    def left(self, name: str, error: BaseException | None) -> None:
        """A thread has ended, by an error or without."""
        if error is not None:
            self._fail(name, error)
        with self._lock:
            self._alive -= 1
            last = self._alive == 0
        if last:
            self._ended_s = self._clock.now_s()
            self._ended.set()

    def run_inline(self) -> None:
        """Do everything in this thread, one item after another (rule N5).

        Whatever a source or a stage raises goes on to the caller, who sees where it came from;
        `failure` says which stage it was.
        """
        self._started_s = self._clock.now_s()
        for feeder in self._feeders:
            name = f"capture {feeder.name}"
            try:
                for parcel in self._parcels(feeder):
                    batch = [parcel]
                    for number, station in enumerate(self._stations):
                        name = station.stage.name
                        batch = self._worked(number, batch) if batch else []
                    name = f"capture {feeder.name}"
            except JetliftError as error:
                self.failure = StageError(name, error)
                raise
            finally:
                self._ended_s = self._clock.now_s()
        self._ended.set()

    @property
    def running_s(self) -> float:
        """Since the start, to now or to the end."""
        if self._started_s is None:
            return 0.0
        return (self._clock.now_s() if self._ended_s is None else self._ended_s) - self._started_s

    @property
    def longest_busy_s(self) -> float:
        """How long the stage that has been at one batch for longest has been at it."""
        now_s = self._clock.now_s()
        begun = [station.since_s for station in self._stations]
        return max((now_s - since_s for since_s in begun if since_s is not None), default=0.0)

    @property
    def stale(self) -> int:
        """Items that were too old (rule N6)."""
        with self._lock:
            return self._stale

    @property
    def dropped(self) -> int:
        """Frames of live sources that a newer one replaced."""
        return self._intake.dropped

    def stages(self) -> tuple[StageSummary, ...]:
        """What each stage has done so far; first the capture, whose waiting counts as work."""
        running_s = self.running_s
        with self._lock:
            busy = min(1.0, self._capture_s / running_s) if running_s > 0 else 0.0
            captured = StageSummary(CAPTURE, self._captured, busy, None, self._capture.summary())
        return (captured, *(station.summary(running_s) for station in self._stations))
