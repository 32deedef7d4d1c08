"""The stages of a task: prepare, infer, finish, draw, sink.

Rules:
    T1  An input that cannot be used is counted and named, and the rest goes on; any other error
        ends the line, as does every error of a sink.
    T2  Items share a run of the engine where it takes several, they are of one task, and their
        feeds are alike; what one item gets of it has the shape that a run of its own gives.
    T3  A task that does not come in steps is run whole, in the stage `infer`.
    T4  A picture is drawn once, and only where a sink wants it.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from jetlift.runtime.drawing import with_warning
from jetlift.runtime.errors import InputError, UsageError
from jetlift.runtime.listing import Skipped
from jetlift.runtime.pipeline.form import Result
from jetlift.runtime.tasks.base import StepTask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy.typing as npt

    from jetlift.runtime.pipeline.form import Sink
    from jetlift.runtime.pipeline.holder import Lease, TaskHolder
    from jetlift.runtime.session.base import Session
    from jetlift.runtime.tasks.base import Array, Item, Outcome, Prepared, Task

_NAMED_AT_MOST = 1000


@dataclass(eq=False)
class TaskParcel:
    """An item on its way; see line_form.Parcel."""

    item: Item
    since_s: float
    perishable: bool = False
    ages_ms: dict[str, float] = field(default_factory=dict)
    worked_ms: float = 0.0
    lease: Lease | None = None
    prepared: Prepared | None = None
    outputs: Mapping[str, Array] | None = None
    outcome: Outcome | None = None
    drawn_bgr: npt.NDArray[np.uint8] | None = None

    def drop(self) -> None:
        """See Parcel.drop."""
        if self.lease is not None:
            self.lease.give_back()

    @property
    def task(self) -> Task:
        """The task that it is prepared, run and finished by.

        Raises:
            UsageError: It has not been through `prepare`.
        """
        if self.lease is None:
            raise UsageError("An item has no task yet", expected="One that was prepared")
        return self.lease.task


class Skips:
    """Inputs that could not be used: all counted, the first thousand named (rule T1)."""

    def __init__(self) -> None:
        self._lock, self._named = threading.Lock(), list[Skipped]()
        self.count = 0
        self.first: InputError | None = None

    def add(self, item: Item, error: InputError) -> None:
        """Count one."""
        with self._lock:
            self.count += 1
            self.first = self.first or error
            if len(self._named) < _NAMED_AT_MOST:
                self._named.append(Skipped(item.source, error.got))

    @property
    def named(self) -> tuple[Skipped, ...]:
        """Those that are named."""
        with self._lock:
            return tuple(self._named)


class OneByOne:
    """A stage that does one item after another (rule T1).

    Args:
        name: What it does.
        skips: Takes inputs that cannot be used; None where an InputError is not about the input.
        do: Does it; False where the item goes no further.
    """

    most, patience_s = 1, 0.0

    def __init__(self, name: str, skips: Skips | None, do: Callable[[TaskParcel], bool]) -> None:
        self.name, self._skips, self._do = name, skips, do

    def work(self, parcels: list[TaskParcel]) -> list[TaskParcel]:
        """See Stage.work."""
        if self._skips is None:
            return [parcel for parcel in parcels if self._do(parcel)]
        return [parcel for parcel in parcels if _done(self._do, parcel, self._skips)]

    def interrupt(self) -> None:
        """Nothing waits here."""


def _done(do: Callable[[TaskParcel], bool], parcel: TaskParcel, skips: Skips) -> bool:
    try:
        return do(parcel)
    except InputError as error:
        skips.add(parcel.item, error)
        parcel.drop()
        return False


def prepare_stage(
    holder: TaskHolder, skips: Skips, admit: Callable[[], bool] = lambda: True
) -> OneByOne:
    """Takes a lease of the task and makes the engine's feeds, of items that are admitted."""

    def prepare(parcel: TaskParcel) -> bool:
        if not admit():
            return False
        parcel.lease = holder.lease()
        if isinstance(parcel.task, StepTask):
            parcel.prepared = parcel.task.prepare(parcel.item)
        return True

    return OneByOne("prepare", skips, prepare)


def finish_stage(skips: Skips, mark: Mapping[str, object]) -> OneByOne:
    """Makes the outcome of the engine's outputs, and marks it as of random weights, say."""

    def finish(parcel: TaskParcel) -> bool:
        task = parcel.task
        if isinstance(task, StepTask) and parcel.prepared and parcel.outputs is not None:
            parcel.outcome = task.finish(parcel.item, parcel.prepared, parcel.outputs)
            parcel.prepared = parcel.outputs = None  # memory that nobody needs any more
        if parcel.outcome is not None and mark:
            fields = parcel.outcome.fields | dict(mark)
            parcel.outcome = replace(parcel.outcome, fields=fields)
        return True

    return OneByOne("finish", skips, finish)


def draw_stage(skips: Skips, sinks: Sequence[Sink], mark: Mapping[str, object]) -> OneByOne:
    """Draws the outcome where a sink wants it (rule T4)."""
    warning = ", ".join(f"{name}: {value}" for name, value in mark.items())

    def draw(parcel: TaskParcel) -> bool:
        if parcel.outcome is None or not any(sink.wants_pictures for sink in sinks):
            return True
        drawn = parcel.task.draw(parcel.item, parcel.outcome)
        parcel.drawn_bgr = with_warning(drawn, warning) if drawn is not None and warning else drawn
        return True

    return OneByOne("draw", skips, draw)


def sink_stage(sinks: Sequence[Sink], told: Callable[[Result, float], None]) -> OneByOne:
    """Gives each sink the result, and tells it with the time that stages worked on it."""

    def sink(parcel: TaskParcel) -> bool:
        if parcel.outcome is not None:
            ages_ms = dict(parcel.ages_ms)
            result = Result(parcel.item, parcel.outcome, parcel.drawn_bgr, ages_ms)
            for each in sinks:
                each.write(result)
            told(result, parcel.worked_ms)
        parcel.drop()
        return True

    return OneByOne("sink", None, sink)


class InferStage:
    """Runs the engine, for several items at once where it can (rules T2, T3).

    Args:
        skips: Takes inputs that cannot be used.
        most: Items per run at most.
        patience_s: How long the first item waits for companions.
    """

    name = "infer"

    def __init__(self, skips: Skips, *, most: int = 1, patience_s: float = 0.0) -> None:
        if most < 1 or patience_s < 0:
            raise UsageError(
                f"Got a batch of {most} within {patience_s} s", expected="1 or more, and 0 or more"
            )
        self.most, self.patience_s, self._skips = most, patience_s, skips

    def work(self, parcels: list[TaskParcel]) -> list[TaskParcel]:
        """See Stage.work."""
        made: list[TaskParcel] = []
        for group in _alike(parcels):
            made += self._run(group)
        return made

    def interrupt(self) -> None:
        """A run of an engine ends by itself."""

    def _run(self, group: list[TaskParcel]) -> list[TaskParcel]:
        task = group[0].task
        if not isinstance(task, StepTask):
            return [parcel for parcel in group if _done(_whole, parcel, self._skips)]
        if len(group) == 1:
            return [parcel for parcel in group if _done(_single, parcel, self._skips)]
        together(task.engine, group)
        return group


def _whole(parcel: TaskParcel) -> bool:
    parcel.outcome = parcel.task.process(parcel.item)
    return True


def _single(parcel: TaskParcel) -> bool:
    task = parcel.task
    if isinstance(task, StepTask) and parcel.prepared is not None:
        parcel.outputs = task.engine.run(parcel.prepared.feeds)
    return True


def together(engine: Session, group: Sequence[TaskParcel]) -> None:
    """Run items of one kind at once and give each its own rows (rule T2)."""
    feeds = [parcel.prepared.feeds for parcel in group if parcel.prepared is not None]
    stacked = {name: np.concatenate([item[name] for item in feeds]) for name in feeds[0]}
    outputs = engine.run(stacked)
    for row, parcel in enumerate(group):
        parcel.outputs = {name: array[row : row + 1] for name, array in outputs.items()}


def most_at_once(engine: Session) -> int | None:
    """Items that an engine takes in one run; None where nothing says how many."""
    specs = (*engine.inputs, *engine.outputs)
    first = {spec.shape[0] if spec.shape else 1 for spec in specs}
    if len(first) != 1 or not isinstance(next(iter(first)), str):
        return 1
    limits = [spec.max_shape[0] for spec in engine.inputs if spec.max_shape is not None]
    return min(limits) if limits else None


def _alike(parcels: Sequence[TaskParcel]) -> Iterator[list[TaskParcel]]:
    """Neighbours that may share a run, in order (rule T2)."""
    group: list[TaskParcel] = []
    for parcel in parcels:
        if group and not _joins(group, parcel):
            yield group
            group = []
        group.append(parcel)
    if group:
        yield group


def _joins(group: Sequence[TaskParcel], parcel: TaskParcel) -> bool:
    first, task = group[0], parcel.task
    if task is not first.task or not isinstance(task, StepTask):
        return False
    most = most_at_once(task.engine)
    if most is not None and len(group) >= most:
        return False
    return _shapes(first) == _shapes(parcel) != ()


def _shapes(parcel: TaskParcel) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Shapes of one item's feeds; empty where it is not a single row each."""
    feeds = {} if parcel.prepared is None else parcel.prepared.feeds
    if any(array.ndim == 0 or len(array) != 1 for array in feeds.values()):
        return ()
    return tuple((name, feeds[name].shape) for name in sorted(feeds))
