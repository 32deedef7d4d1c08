"""Sources through a task to sinks, with every age and loss counted.

    with open_task(...) as task, TaskHolder(task) as holder:
        snapshot = Pipeline([camera], holder, [JsonlOut("results.jsonl")]).run()

Rules:
    P1  Live sources: the newest frame is taken, others are dropped and counted, as are those that
        are too old where a limit is set. Files: nothing is.
    P2  A limit ends the run after so many items have been taken; what was taken is finished.
    P3  Whatever ends the run, sources are closed and sinks are told whether it went well, so that
        no file looks finished that is not.
    P4  Ages are told of every item: from its capture, or from when it was read where it has none.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jetlift.runtime.clock import SYSTEM_CLOCK, Clock
from jetlift.runtime.errors import InputError, UsageError
from jetlift.runtime.pipeline import task_stages
from jetlift.runtime.pipeline.ages import Latest, Rate
from jetlift.runtime.pipeline.feeders import SourceFeeder
from jetlift.runtime.pipeline.form import Result, Snapshot
from jetlift.runtime.pipeline.line import Line
from jetlift.runtime.pipeline.line_form import LineOptions
from jetlift.runtime.pipeline.task_stages import InferStage, Skips, TaskParcel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from jetlift.runtime.listing import Skipped
    from jetlift.runtime.pipeline.feeders import ItemSource
    from jetlift.runtime.pipeline.form import FrameSource, Sink
    from jetlift.runtime.pipeline.holder import TaskHolder
    from jetlift.runtime.probe import Probe
    from jetlift.runtime.record import Figure

_ITEMS_AT_MOST = 100_000
_INFER = 1  # place of the stage that is worth it, after prepare


@dataclass(frozen=True)
class PipelineOptions:
    """How a pipeline is run.

    Attributes:
        overlap: Whether stages run in threads of their own; else everything is done in the
            caller's thread, one item after another. Live sources need it.
        batch: Items that share a run of the engine, at most; fewer where it takes fewer.
        batch_wait_s: How long the first of them waits for others.
        max_age_s: Frames older than this before the engine are dropped as stale; None takes all.
        limit: Items to take at most (rule P2).
        room: Items that wait between two stages for files.
        hang_limit_s: Longest that a stage may work on one batch; None waits for ever.
        grace_s: How long closing waits for threads.
        mark: Fields to add to every result and to tell on every picture.
    """

    overlap: bool = True
    batch: int = 1
    batch_wait_s: float = 0.0
    max_age_s: float | None = None
    limit: int | None = None
    room: int = 2
    hang_limit_s: float | None = None
    grace_s: float = 10.0
    mark: Mapping[str, object] = field(default_factory=dict)


class Pipeline:
    """One run (rules P1 to P4).

    Args:
        sources: At least one; closed at the end.
        holder: The task. The caller closes it.
        sinks: Entered and left by the run.
        options: How it is run.
        clock: Tells ages.
        probe: Looks at memory and power for snapshots.
        told: Called with every result after the sinks, by the last stage's thread.

    Raises:
        UsageError: There is no source, a live one is to be run in one thread, or there is a limit
            of age and none of them is live.
    """

    def __init__(
        self,
        sources: Sequence[FrameSource | ItemSource],
        holder: TaskHolder,
        sinks: Sequence[Sink] = (),
        options: PipelineOptions | None = None,
        *,
        clock: Clock = SYSTEM_CLOCK,
        probe: Probe | None = None,
        told: Callable[[Result], None] | None = None,
    ) -> None:
        self._options = asked = options or PipelineOptions()
        self._sources, self._sinks, self._clock, self._probe = sources, sinks, clock, probe
        self._told, self._done, self._taken = told, 0, 0
        self._rate, self._skips = Rate(), Skips()
        self._item_ms = Latest(_ITEMS_AT_MOST)
        self._live = any(source.live for source in sources)
        if self._live and not asked.overlap:
            raise UsageError(
                "A live source was to be run in one thread", expected="Overlapped stages for it"
            )
        if asked.max_age_s is not None and not self._live:
            raise UsageError(
                "Got a limit of age for inputs that are not live",
                expected="A camera or stream; of files nothing is left out",
                do="Leave the limit out",
            )
        self._infer = InferStage(self._skips, most=asked.batch, patience_s=asked.batch_wait_s)
        self._line = Line[TaskParcel](
            [SourceFeeder(source, clock) for source in sources],
            self._stages(holder),
            LineOptions(
                live=self._live,
                room=asked.room,
                max_age_s=asked.max_age_s,
                costly=_INFER,
                hang_limit_s=asked.hang_limit_s,
                grace_s=asked.grace_s,
            ),
            clock,
        )

    def _stages(self, holder: TaskHolder) -> list[task_stages.OneByOne | InferStage]:
        skips, mark = self._skips, self._options.mark
        prepare = task_stages.prepare_stage(holder, skips, self._admit)
        return [
            prepare,
            self._infer,
            task_stages.finish_stage(skips, mark),
            *([task_stages.draw_stage(skips, self._sinks, mark)] if self._sinks else []),
            task_stages.sink_stage(self._sinks, self._count),
        ]

    def _admit(self) -> bool:
        """Whether one more item is taken; the first too many ends the sources (rule P2)."""
        limit = self._options.limit
        if limit is not None and self._taken >= limit:
            return False
        self._taken += 1
        if self._taken == limit:
            self._line.drain()
        return True

    def _count(self, result: Result, worked_ms: float) -> None:
        self._done += 1
        self._item_ms.add(worked_ms)
        self._rate.add(self._clock.now_s())
        if self._told is not None:
            self._told(result)

    def run(self, tick: Callable[[], None] | None = None) -> Snapshot:
        """Run until the sources end, `stop` is called or something fails.

        Args:
            tick: Called about five times a second by the calling thread while it waits.

        Returns:
            The last snapshot.

        Raises:
            StageError: A source, a stage or a sink failed; the first to fail. In one thread what it
                failed of is raised itself.
            InputError: Not one of the inputs could be used.
            KeyboardInterrupt: `abort` was called.
        """
        with ExitStack() as stack:
            for source in self._sources:  # closed even where a sink cannot be opened (rule P3)
                stack.callback(source.close)
            for sink in self._sinks:
                stack.enter_context(sink)
            if self._options.overlap:
                self._run_overlapped(tick)
            else:
                self._line.run_inline()
            if self._line.aborted:
                raise KeyboardInterrupt
            if not self._done and self._skips.count:
                raise _nothing_used(self._skips)
        return self.snapshot()

    def _run_overlapped(self, tick: Callable[[], None] | None) -> None:
        with self._line as line:
            line.start()
            while not line.wait(0.2):
                if tick is not None:
                    tick()
        if line.failure is not None:
            raise line.failure

    def stop(self) -> None:
        """Take nothing more and finish what was taken. Any thread may call it."""
        self._line.drain()

    def abort(self) -> None:
        """End it now: what is under way is lost, and `run` raises. Any thread may call it."""
        self._line.abort()

    @property
    def longest_busy_s(self) -> float:
        """How long the stage that has been at one batch for longest has been at it."""
        return self._line.longest_busy_s

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """Inputs that could be read but not used."""
        return self._skips.named

    @property
    def item_ms(self) -> tuple[float, ...]:
        """Per item, the latest hundred thousand, the time that stages before the sinks took."""
        return self._item_ms.all()

    @property
    def threads(self) -> dict[str, int]:
        """Threads per stage, by its name; none of its own where all is done in the caller's."""
        names = [stage.name for stage in self._line.stages()]
        return dict.fromkeys(names, 1) if self._options.overlap else {}

    def snapshot(self) -> Snapshot:
        """How it stands. Any thread may ask at any time."""
        sources = tuple(source.health() for source in self._sources)
        reading = {} if self._probe is None else self._felt(self._probe)
        return Snapshot(
            running_s=self._line.running_s,
            done=self._done,
            per_s=self._rate.per_s(self._clock.now_s()),
            dropped=self._line.dropped + sum(source.dropped for source in sources),
            stale=self._line.stale,
            skipped=self._skips.count + sum(source.skipped for source in sources),
            stages=self._line.stages(),
            sources=sources,
            sinks=tuple(sink.health() for sink in self._sinks),
            **reading,
        )

    def _felt(self, probe: Probe) -> dict[str, Figure]:
        reading = probe.read()
        return {"rss_bytes": reading.rss_bytes, "power_w": reading.power_w}


def _nothing_used(skips: Skips) -> InputError:
    if skips.count == 1 and skips.first is not None:
        return skips.first
    named = "; ".join(f"{item.source}: {item.reason}" for item in skips.named[:3])
    return InputError(
        f"None of the {skips.count} inputs could be used ({named})",
        expected="At least one that the model can take",
    )
