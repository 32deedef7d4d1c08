"""A stage at work, and when the first one of a live line is to begin.

Rules:
    B1  The stage's own thread counts; others read. What they read may be a moment old.
    B2  A live line begins a frame as late as it may: so that, by the shortest of the last runs of
        the stage that takes longest and the longest of those of the first stage, it is ready when
        that stage is free. Frames are then hardly older than the work on them takes. Where the
        stage is free before that, a frame is begun at once.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Generic

from jetlift.runtime.pipeline.ages import Ages
from jetlift.runtime.pipeline.form import StageSummary
from jetlift.runtime.pipeline.line_form import P, Stage

if TYPE_CHECKING:
    from collections.abc import Callable

    from jetlift.runtime.clock import Clock

_RECENT = 16  # runs of a stage that tell how long the next will take
_MOMENT_S = 0.05


class Station(Generic[P]):
    """A stage with what is counted of it (rule B1).

    Attributes:
        stage: The stage.
        age: Ages at its end.
        service: Times per item.
        done: Items that it finished.
        busy_s: Seconds that it worked.
        taken: Items that it began.
        given: Items that the next stage took of it.
        since_s: When the batch under way was begun; None where none is.
        shortest_s: Shortest of its last runs.
        longest_s: Longest of its last runs.
    """

    def __init__(self, stage: Stage[P]) -> None:
        self.stage, self.age, self.service = stage, Ages(), Ages()
        self.done, self.busy_s, self.taken, self.given = 0, 0.0, 0, 0
        self.since_s: float | None = None
        self._recent_s = deque[float](maxlen=_RECENT)
        self.shortest_s, self.longest_s = 0.0, 0.0

    def begin(self, count: int, now_s: float) -> None:
        """A batch is begun."""
        self.since_s = now_s
        self.taken += count

    def work(self, batch: list[P], clock: Clock) -> list[P]:
        """Have the stage work on a batch, and count it."""
        began_s = self.since_s = clock.now_s()
        made = self.stage.work(batch)
        ended_s = clock.now_s()
        self.since_s = None
        self.busy_s += ended_s - began_s
        self._recent_s.append(ended_s - began_s)
        self.shortest_s, self.longest_s = min(self._recent_s), max(self._recent_s)
        each_ms = (ended_s - began_s) * 1000 / len(batch)
        self.service.add(each_ms)
        self.done += len(made)
        for parcel in made:
            age_ms = max(0.0, ended_s - parcel.since_s) * 1000
            parcel.ages_ms[self.stage.name] = age_ms
            parcel.worked_ms += each_ms
            self.age.add(age_ms)
        return made

    def rest(self) -> None:
        """Nothing of a batch that was begun is worth the work."""
        self.since_s = None

    def summary(self, running_s: float) -> StageSummary:
        """What it did so far."""
        busy = min(1.0, self.busy_s / running_s) if running_s > 0 else 0.0
        service, age = self.service.summary(), self.age.summary()
        return StageSummary(self.stage.name, self.done, busy, service, age)


class Turn(Generic[P]):
    """Holds the first stage until a frame that it begins would be ready just in time (rule B2).

    Args:
        first: The first stage.
        costly: The one that takes longest, and one item at a time.
        clock: Tells the time.
    """

    def __init__(self, first: Station[P], costly: Station[P], clock: Clock) -> None:
        self._first, self._costly, self._clock = first, costly, clock
        self._changed = threading.Condition()

    def tell(self) -> None:
        """A stage began or ended something, or the line ends."""
        with self._changed:
            self._changed.notify_all()

    def wait(self, over: Callable[[], bool]) -> None:
        """Wait for the turn, or until it is all `over`."""
        with self._changed:
            while not over() and (left_s := self._left_s()) > 0:
                self._changed.wait(left_s)

    def _left_s(self) -> float:
        since_s = self._costly.since_s
        if self._costly.taken < self._first.given:
            return _MOMENT_S  # it was handed over and is begun in a moment, which is told
        if since_s is None:
            return 0.0
        ready_s = since_s + self._costly.shortest_s - self._first.longest_s
        return ready_s - self._clock.now_s()
