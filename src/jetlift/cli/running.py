"""A run put together: engines, inputs, sinks, live page, service, and what came of it."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from jetlift import console
from jetlift.cli.asked import Asked, LiveWords, Opened, open_task_again, open_task_of
from jetlift.cli.judging import Judge, lost, told
from jetlift.cli.live import log_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typing_extensions import Self

    from jetlift.runtime.notify import Notifier
    from jetlift.runtime.pipeline.form import Result, Sink, Snapshot
    from jetlift.runtime.pipeline.pipeline import Pipeline
    from jetlift.runtime.run import RunSummary
    from jetlift.runtime.run_facts import FinishedRun
    from jetlift.runtime.service import Service
    from jetlift.runtime.view.board import ViewBoard
    from jetlift.runtime.view.form import BudgetLine, Shows

ENDED = "the inputs ended"
_HANG_S = 120.0  # after which a stage counts as stuck for the watchdog, where no limit is set


class Run:
    """One run of the command line. A context manager that closes all that it opened.

    Args:
        asked: What the user asked for.

    Raises:
        JetliftError: An engine, an input or a sink cannot be opened.
    """

    def __init__(self, asked: Asked) -> None:
        from jetlift.runtime.pipeline.holder import TaskHolder

        self._asked, self._judge = asked, Judge(asked.live, asked.engines.target)
        self._stack, self._first = contextlib.ExitStack(), True
        self._request: Callable[[], None] | None = None
        self._unread: BrokenPipeError | None = None
        with contextlib.ExitStack() as unwinding:
            unwinding.callback(self._stack.close)
            self._to = self._open_to()  # what cannot work is told before minutes of loading
            self._notifier = _starting()
            self._opened = open_task_of(asked, asked.bundle)
            self._holder = TaskHolder(self._opened.task, self._opened.close)
            self._stack.enter_context(self._holder)
            self._judge.loaded = self._judge.probe.read()
            if asked.live.judged:
                self._stack.enter_context(self._judge.watch)
            self._sources = self._open_sources()
            self._live = any(source.live for source in self._sources)
            self._sinks = self._open_sinks()
            self._pipeline = self._assemble()
            unwinding.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _open_sources(self) -> list[Any]:
        """The inputs as sources; those of other kinds than frames are one."""
        from jetlift.runtime.manifest import ImagePreprocess
        from jetlift.runtime.pipeline.feeders import PlainSource
        from jetlift.runtime.run import open_inputs
        from jetlift.runtime.sources import open_frame_sources
        from jetlift.runtime.streams.microphone import MicrophoneSource

        asked, bundle, part = self._asked, self._opened.bundle, self._opened.part
        self._pictures = isinstance(bundle.part(part)[1].preprocess, ImagePreprocess)
        if self._pictures:
            sources = open_frame_sources(asked.inputs)
            for source in sources:
                self._stack.callback(source.close)
            return list(sources)
        opened: Any = self._stack.enter_context(
            open_inputs(bundle, part, asked.inputs, limit=asked.limit)
        )
        if isinstance(opened, MicrophoneSource):  # a source itself, which `close` wakes
            return [opened]
        return [PlainSource(opened, "inputs")]

    def _open_to(self) -> list[Sink]:
        """Where results go as well; nothing is written before the run."""
        if not self._asked.live.to:
            return []
        from jetlift.runtime.outlets import open_sink

        return [open_sink(spec, task=self._asked.task) for spec in self._asked.live.to]

    def _open_sinks(self) -> list[Sink]:
        from jetlift.runtime.folder_sink import FolderSink

        asked, sinks = self._asked, list[Any]()
        if asked.out is not None:
            only = self._sources[0] if len(self._sources) == 1 else None
            fps = getattr(only, "fps", None)
            sinks.append(
                FolderSink(
                    asked.out, label=asked.task, video_fps=fps, endless=self._live, mark=asked.mark
                )
            )
        sinks += self._to
        if asked.live.view is not None:
            self._board = self._open_board()
            sinks.append(self._board)
        return sinks

    @property
    def count(self) -> int | None:
        """Inputs to expect; None where nobody knows."""
        limit, counts = self._asked.limit, [getattr(it, "count", None) for it in self._sources]
        known = [int(count) for count in counts if count is not None]
        if len(known) < len(counts):
            return limit
        return sum(known) if limit is None else min(limit, sum(known))

    def _assemble(self) -> Pipeline:
        from jetlift.runtime.errors import UsageError
        from jetlift.runtime.pipeline.pipeline import Pipeline, PipelineOptions
        from jetlift.runtime.tasks.base import StepTask

        asked = self._asked
        if "on_text" in asked.artefacts and asked.live.hang_limit_s is not None:
            raise UsageError(
                "Got --hang-limit for a text that is shown while it is written",
                expected="Results in a folder or as JSON, which can be waited for",
                do="Add -o DIR or --json",
            )
        # Only beside a thread that works can another one see that it hangs.
        watched = asked.live.hang_limit_s is not None
        options = PipelineOptions(
            overlap=self._live or watched or isinstance(self._opened.task, StepTask),
            batch=asked.live.batch,
            batch_wait_s=asked.live.batch_wait_s,
            max_age_s=asked.live.max_age_s,
            limit=asked.limit,
            hang_limit_s=asked.live.hang_limit_s,
            mark=dict(asked.mark),
        )
        return Pipeline(
            self._sources, self._holder, self._sinks, options,
            probe=self._judge.probe, told=self._count,
        )  # fmt: skip

    def _count(self, result: Result) -> None:
        if self._first:
            self._first = False
            self._judge.first_result()
        if self._asked.show is not None:
            try:
                self._asked.show(result.outcome.fields)
            except BrokenPipeError as error:
                self._unread = error
                raise
        self._advance()

    def _advance(self) -> None:
        """Told of each result; replaced where progress is shown."""

    def go(self, advance: Callable[[], None] | None = None) -> RunSummary:
        """Run it, to its end or until it is told to stop.

        Args:
            advance: Called after each result.

        Raises:
            StageError: A source, a stage or a sink failed.
            BrokenPipeError: Nobody reads standard output any more.
            KeyboardInterrupt: It was told to stop at once.
            GateError: The budget is not met.
            JetliftError: What the task raises.
        """
        from jetlift.runtime.run import RunSummary

        if advance is not None:
            self._advance = advance  # type: ignore[method-assign]
        with self._around() as service:
            snapshot = self._flow()
        stopped = service is not None and service.draining
        for sentence in (*([told(snapshot)] if self._live else []), *lost(snapshot)):
            console.say(sentence)
        self._judge.conclude(self._finished(snapshot, "it was told to stop" if stopped else ENDED))
        unread = [entry for source in self._sources for entry in getattr(source, "skipped", ())]
        skipped = tuple((it.source, it.reason) for it in (*unread, *self._pipeline.skipped))
        return RunSummary(snapshot.done, skipped, self._asked.out, self._holder.task.notes)

    def _flow(self) -> Snapshot:
        """Run the pipeline; where nobody reads standard output any more, that is all to tell."""
        from jetlift.runtime.errors import StageError

        try:
            return self._pipeline.run()
        except StageError:
            if self._unread is not None:
                raise self._unread from None
            raise

    def _finished(self, snapshot: Snapshot, ended: str) -> FinishedRun:
        opened = self._opened
        target = self._asked.engines.target
        return self._judge.run_of(
            opened.bundle, target, opened.engines, self._pipeline, snapshot, ended
        )

    @contextlib.contextmanager
    def _around(self) -> Iterator[Service | None]:
        """The page, the figures and the signals of a run that somebody watches or leads."""
        live = self._asked.live
        with contextlib.ExitStack() as stack:
            if live.view is not None:
                from jetlift.runtime.view.server import ViewServer

                server = stack.enter_context(ViewServer(self._board, live.view))
                console.say(f"Live view: {server.url}")
            if live.metrics is not None:
                from jetlift.runtime.outlets.prometheus import MetricsServer

                labels = {"model": self._opened.bundle.manifest.model, "task": self._asked.task}
                metrics = MetricsServer(self._pipeline.snapshot, live.metrics, labels=labels)
                console.say(f"Metrics: {stack.enter_context(metrics).url}")
            yield stack.enter_context(self._service()) if self._is_led() else None

    def _is_led(self) -> bool:
        """Whether signals end the run well: what has no end of its own, or a manager leads."""
        # A microphone counts as not live, since no window of it may be lost, and has no end either.
        endless = self._live or any(source.health().live for source in self._sources)
        return endless or "NOTIFY_SOCKET" in os.environ

    @contextlib.contextmanager
    def _service(self) -> Iterator[Service]:
        from jetlift.runtime.reloader import Reloader
        from jetlift.runtime.service import Service

        service = Service(
            log_of(self._asked.live),
            drain=self._pipeline.stop,
            stop=self._pipeline.abort,
            alive=self._is_alive,
            reload=self._reload,
            notifier=self._notifier,
        )
        with service, Reloader(self._reopen, self._exchange, service.reloaded) as reloader:
            self._request = reloader.request
            service.ready(f"{self._asked.task} of {self._opened.bundle.manifest.model}")
            yield service

    def _is_alive(self) -> bool:
        """Whether no stage is stuck; a source that is being sought again is no standstill."""
        return self._pipeline.longest_busy_s < (self._asked.live.hang_limit_s or _HANG_S)

    def _reload(self) -> None:
        if self._request is not None:
            self._request()

    def _reopen(self) -> Opened:
        """The task of the bundle as it is now; nobody changes its words until it is in place."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._asked.changing)
            new = open_task_again(self._asked, self._asked.reopen())
            self._unchanged = stack.pop_all()
        return new

    def _exchange(self, new: Opened) -> None:
        with self._unchanged:
            self._holder.swap(new.task, new.close)
            self._opened = new

    def _open_board(self) -> ViewBoard:
        from jetlift.runtime.view.board import ViewBoard
        from jetlift.runtime.view.form import Told

        words = LiveWords(self._asked, self._holder, lambda: self._opened)
        told = Told(
            title=self._opened.bundle.manifest.model,
            task=self._asked.task,
            snapshot=self._snapshot,
            budget=self._budget_lines,
            prompts=words.prompting(),
            shows=self._shows(),
        )
        return ViewBoard(told)

    def _snapshot(self) -> Snapshot | None:
        pipeline = getattr(self, "_pipeline", None)  # sinks are there before it
        return None if pipeline is None else pipeline.snapshot()

    def _budget_lines(self) -> tuple[BudgetLine, ...]:
        snapshot = self._snapshot()
        if snapshot is None:
            return ()
        return self._judge.lines(lambda: self._finished(snapshot, "it goes on"))

    def _shows(self) -> Shows:
        from jetlift.runtime.tasks.base import Task

        if not self._pictures:
            return "nothing"
        return "input" if type(self._opened.task).draw is Task.draw else "drawn"


def _starting() -> Notifier:
    """The service manager, told that engines are loaded, which may take minutes."""
    from jetlift.runtime.notify import Notifier

    notifier = Notifier()
    notifier.status("loading engines")
    notifier.extend_start()
    return notifier
