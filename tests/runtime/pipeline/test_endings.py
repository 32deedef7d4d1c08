"""However a run ends, what it holds is given back and everybody is told how it went."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from helpers.line_parts import PATIENCE_S, Box, Do, Kept, Numbers

from jetlift.runtime.clock import FakeClock
from jetlift.runtime.errors import (
    InputError,
    JetliftError,
    MachineError,
    StageError,
    StorageError,
    UsageError,
)
from jetlift.runtime.folder_sink import FolderSink
from jetlift.runtime.pipeline.holder import TaskHolder
from jetlift.runtime.pipeline.line import Line
from jetlift.runtime.pipeline.line_form import LineOptions
from jetlift.runtime.pipeline.pipeline import Pipeline, PipelineOptions
from jetlift.runtime.pipeline.synthetic import SyntheticSource, SyntheticTask
from jetlift.runtime.tasks.base import Outcome, Prepared


class Failing(SyntheticTask):
    """Fails in one of its steps at frame 5; `held` is waited for before that."""

    def __init__(self, step: str) -> None:
        super().__init__()
        self._step, self.began, self.held = step, threading.Event(), threading.Event()

    def _at(self, step: str, index: int) -> None:
        if step != self._step or index != 5:
            return
        self.began.set()
        assert self.held.wait(PATIENCE_S)
        raise StorageError("the device is gone")

    def prepare(self, item: Any) -> Prepared:
        self._at("prepare", item.index)
        return super().prepare(item)

    def _compute(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        for index in feeds["x"][:, 0]:
            self._at("infer", int(index))
        return super()._compute(feeds)

    def finish(self, item: Any, prepared: Prepared, outputs: Mapping[str, Any]) -> Outcome:
        self._at("finish", item.index)
        return super().finish(item, prepared, outputs)


@pytest.mark.parametrize("step", ["prepare", "infer", "finish"])
@pytest.mark.parametrize("how", ["inline", "files", "batches", "live"])
def test_engines_are_closed_after_a_failure(step: str, how: str) -> None:
    task, closed = Failing(step), list[bool]()
    task.held.set()
    source = SyntheticSource(fps=500.0) if how == "live" else SyntheticSource(50)
    options = PipelineOptions(overlap=how != "inline", batch=4 if how == "batches" else 1)
    if how == "live":  # the newest frame alone is taken, and frame 5 may not be among them
        task._at = lambda at, index: _fail(at == step and index >= 5)  # type: ignore[method-assign]
    with TaskHolder(task, lambda: closed.append(True)) as holder:
        with pytest.raises(JetliftError, match="the device is gone"):
            Pipeline([source], holder, [Kept()], options).run()
        assert closed == []
    assert closed == [True]


def _fail(now: bool) -> None:  # noqa: FBT001
    if now:
        raise StorageError("the device is gone")


def aborting(pipeline: Pipeline, began: threading.Event) -> threading.Thread:
    def abort() -> None:
        assert began.wait(PATIENCE_S)
        pipeline.abort()
        pipeline.abort()

    thread = threading.Thread(target=abort)
    thread.start()
    return thread


def test_a_run_that_is_ended_at_once_does_not_look_finished() -> None:
    kept, closed, began = Kept(), list[bool](), threading.Event()
    with TaskHolder(SyntheticTask(), lambda: closed.append(True)) as holder:
        told = lambda _result: began.set()  # noqa: E731
        pipeline = Pipeline([SyntheticSource(fps=100.0)], holder, [kept], told=told)
        thread = aborting(pipeline, began)
        with pytest.raises(KeyboardInterrupt):
            pipeline.run()
        thread.join(PATIENCE_S)
    assert kept.left == [KeyboardInterrupt]
    assert closed == [True]


def test_a_stage_that_hangs_does_not_keep_a_run_from_being_ended() -> None:
    task, kept, closed = Failing("infer"), Kept(), list[bool]()
    with TaskHolder(task, lambda: closed.append(True)) as holder:
        options = PipelineOptions(grace_s=0.05)
        pipeline = Pipeline([SyntheticSource(9)], holder, [kept], options)
        thread = aborting(pipeline, task.began)
        with pytest.raises(MachineError, match=r"jetlift infer.* did not end within"):
            pipeline.run()
        thread.join(PATIENCE_S)
    assert kept.left == [MachineError]
    assert closed == []  # never under a run that goes on
    task.held.set()
    for running in pipeline._line._threads:
        running.join(PATIENCE_S)
    pipeline._line.close()
    assert closed == [True]


def test_an_aborted_run_in_one_thread_is_told_too() -> None:
    kept = Kept()
    with TaskHolder(SyntheticTask()) as holder:
        options = PipelineOptions(overlap=False)
        pipeline = Pipeline([SyntheticSource(9)], holder, [kept], options,
                            told=lambda _: pipeline.abort())  # fmt: skip
        with pytest.raises(KeyboardInterrupt):
            pipeline.run()
    assert len(kept.results) == 1
    assert kept.left == [KeyboardInterrupt]


def test_what_was_too_old_is_no_work_that_hangs() -> None:
    clock, gone = FakeClock(1000.0), threading.Event()

    class Given(Numbers):
        def parcels(self) -> Iterator[Box]:
            yield Box(0, 990.0)
            gone.set()
            self.closed.wait(PATIENCE_S)

    options = LineOptions(max_age_s=1.0, hang_limit_s=5.0)
    line = Line([Given(0)], [Do("only")], options, clock)
    with line:
        line.start()
        assert gone.wait(PATIENCE_S)
        while not line.stale or line.longest_busy_s:
            threading.Event().wait(0.01)  # until it is counted; never ends where it counts as work
        clock.advance(60.0)
        line.check_hanging()
        assert line.failure is None
        line.drain()
        assert line.wait(PATIENCE_S)


def test_a_limit_of_age_is_for_what_is_live() -> None:
    options = PipelineOptions(max_age_s=1e-9)
    with TaskHolder(SyntheticTask()) as holder:
        with pytest.raises(UsageError, match="not live"):
            Pipeline([SyntheticSource(5)], holder, options=options)
        kept = Kept()
        sources = [SyntheticSource(5, name="file"), SyntheticSource(3, fps=100.0, name="camera")]
        told = Pipeline(sources, holder, [kept], options).run()
    assert [result.item.source for result in kept.results] == ["file"] * 5
    assert told.stale + told.dropped == 3


@pytest.mark.parametrize("overlap", [False, True])
def test_a_sink_s_error_is_no_input_that_is_skipped(*, overlap: bool) -> None:
    kept = Kept(error=InputError("it exists already"))
    options = PipelineOptions(overlap=overlap)
    with TaskHolder(SyntheticTask()) as holder, pytest.raises(JetliftError, match="exists already"):
        Pipeline([SyntheticSource(9)], holder, [kept], options).run()
    assert len(kept.results) == 2


class Shut(Kept):
    def __enter__(self) -> Any:
        raise StorageError("the folder cannot be written")


def test_a_sink_that_cannot_be_opened_leaves_nothing_open() -> None:
    kept, source = Kept(), SyntheticSource(9)
    with TaskHolder(SyntheticTask()) as holder, pytest.raises(StorageError):
        Pipeline([source], holder, [kept, Shut()]).run()
    assert kept.left == [StorageError]
    assert list(source.frames()) == []  # closed


def test_a_source_that_cannot_be_closed_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _told: None)

    class Stuck(Numbers):
        def close(self) -> None:
            super().close()
            raise OSError("no such device")

    class Other(Numbers):
        def parcels(self) -> Iterator[Box]:
            yield Box(0)
            self.closed.wait(PATIENCE_S)

    def fail(_: Box) -> None:
        raise StorageError("the disk is full")

    other = Other(0)
    line = Line([other, Stuck(1)], [Do("one", fail)], LineOptions())
    line.start()
    assert line.wait(PATIENCE_S)
    with pytest.raises(OSError, match="no such device"):
        line.close()
    for thread in line._threads:
        thread.join(PATIENCE_S)
    assert isinstance(line.failure, StageError)
    assert other.closed.is_set()


def test_what_waits_between_stages_is_given_back() -> None:
    full, boxes = threading.Event(), [Box(number) for number in range(9)]

    class Given(Numbers):
        def parcels(self) -> Iterator[Box]:
            yield from boxes

    def pass_on(box: Box) -> None:
        if box.number == 3:
            full.set()

    def fail(_: Box) -> None:
        assert full.wait(PATIENCE_S)
        raise StorageError("the disk is full")

    line = Line([Given(0)], [Do("one", pass_on), Do("two", fail)], LineOptions(room=2))
    with line:
        line.start()
        assert line.wait(PATIENCE_S)
    assert line.failure is not None
    assert all(box.dropped for box in boxes[:4])


def test_a_folder_that_is_opened_by_half_is_closed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    sink = FolderSink(out, label="embed")
    out.mkdir()
    (out / "results.npz").mkdir()
    sink._folder = out
    with pytest.MonkeyPatch.context() as patch:

        def refuse(_: object) -> None:
            raise StorageError("full")

        patch.setattr("jetlift.runtime.folder_sink.NpzSink.__enter__", refuse)
        with pytest.raises(StorageError):
            sink.__enter__()
    assert sink._lines._file is None
