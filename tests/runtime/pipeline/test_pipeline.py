from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers.line_parts import PATIENCE_S, Kept

from jetlift.runtime.clock import FakeClock
from jetlift.runtime.errors import InputError, StageError, StorageError, UsageError
from jetlift.runtime.manifest import TensorSpec
from jetlift.runtime.pipeline.feeders import PlainSource
from jetlift.runtime.pipeline.form import SinkHealth, Snapshot, SourceHealth
from jetlift.runtime.pipeline.holder import TaskHolder
from jetlift.runtime.pipeline.pipeline import Pipeline, PipelineOptions
from jetlift.runtime.pipeline.synthetic import SyntheticSource, SyntheticTask
from jetlift.runtime.pipeline.task_stages import most_at_once
from jetlift.runtime.probe import FakeProbe, Reading
from jetlift.runtime.record import Figure
from jetlift.runtime.session.fake import FakeSession
from jetlift.runtime.sources import Frame
from jetlift.runtime.tasks.base import Outcome, Prepared, Task, place_of
from jetlift.runtime.texts import TextItem

THREADS = "jetlift "


def run(
    sources: list[Any],
    task: Task,
    *sinks: Kept,
    options: PipelineOptions | None = None,
    **more: Any,
) -> tuple[Pipeline, Snapshot]:
    with TaskHolder(task) as holder:
        pipeline = Pipeline(sources, holder, sinks, options, **more)
        snapshot = pipeline.run()
    assert not [item for item in threading.enumerate() if item.name.startswith(THREADS)]
    return pipeline, snapshot


@pytest.mark.parametrize("overlap", [False, True])
def test_files_lose_nothing_and_keep_their_order(*, overlap: bool) -> None:
    kept = Kept()
    options = PipelineOptions(overlap=overlap)
    pipeline, told = run([SyntheticSource(40)], SyntheticTask(), kept, options=options)
    assert kept.values == [float(number + 1) for number in range(40)]
    assert (told.done, told.dropped, told.stale, told.skipped) == (40, 0, 0, 0)
    assert [stage.name for stage in told.stages] == [
        "capture", "prepare", "infer", "finish", "draw", "sink",
    ]  # fmt: skip
    assert all(stage.age is not None and stage.age.count == 40 for stage in told.stages)
    assert told.sources[0].captured == 40
    assert told.sinks == (SinkHealth("kept", 40),)
    assert kept.left == [None]
    assert len(pipeline.item_ms) == 40
    assert set(pipeline.threads.values()) == ({1} if overlap else set())
    assert set(kept.results[0].ages_ms) == {"capture", "prepare", "infer", "finish", "draw"}


def test_a_live_source_drops_and_counts_what_nobody_took() -> None:
    kept = Kept()
    clock = FakeClock()
    # The clock runs as fast as the source makes frames, so most come while the engine is busy.
    source = SyntheticSource(200, fps=30.0, clock=clock)
    _, told = run([source], SyntheticTask(infer_s=0.002), kept)
    indices = [result.item.index for result in kept.results]
    assert indices == sorted(set(indices))
    assert indices[-1] == 199  # the newest is never lost
    assert told.done + told.dropped == told.sources[0].captured == 200
    assert told.sources[0].live


def test_several_sources_share_one_engine_and_keep_their_own_order() -> None:
    kept = Kept()

    class Begun(SyntheticSource):
        def __init__(self, name: str) -> None:
            super().__init__(20, name=name)
            self.begun = threading.Event()

        def frames(self) -> Iterator[Frame]:
            for frame in super().frames():
                yield frame
                self.begun.set()  # the first one waits to be taken

    class Patient(SyntheticTask):
        def prepare(self, item: Any) -> Prepared:
            assert all(source.begun.wait(PATIENCE_S) for source in sources)
            return super().prepare(item)

    sources = [Begun(f"camera-{number}") for number in range(3)]
    _, told = run(sources, Patient(), kept)
    for source in sources:
        mine = [r.item.index for r in kept.results if r.item.source == source.name]
        assert mine == list(range(20))
    assert told.done == 60
    # Turns are taken: no source comes last altogether.
    assert {r.item.source for r in kept.results[:12]} == {s.name for s in sources}


def test_items_share_a_run_and_get_what_they_would_get_alone() -> None:
    kept = Kept()
    gate = threading.Event()

    class Held(SyntheticTask):
        def finish(self, item: Any, prepared: Prepared, outputs: Any) -> Outcome:
            assert all(len(array) == 1 for array in outputs.values())
            return super().finish(item, prepared, outputs)

    task = Held()
    compute = task.engine._function

    def slow(feeds: Any) -> Any:
        gate.wait(0.05)  # lets items gather behind the first
        return compute(feeds)

    task.engine._function = slow
    options = PipelineOptions(batch=4, room=8)
    run([SyntheticSource(24)], task, kept, options=options)
    assert kept.values == [float(number + 1) for number in range(24)]
    assert task.engine.runs < 24


def test_an_engine_of_fixed_size_gets_one_at_a_time() -> None:
    fixed = TensorSpec("x", "float32", (1, 1))
    session = FakeSession([fixed], [replace(fixed, name="y")], lambda feeds: {"y": feeds["x"]})
    assert most_at_once(session) == 1
    ranged = TensorSpec("x", "float32", ("batch", 1), (1, 1), (1, 1), (8, 1))
    output = TensorSpec("y", "float32", ("batch", 1))
    assert most_at_once(FakeSession([ranged], [output], lambda f: {"y": f["x"]})) == 8
    assert most_at_once(SyntheticTask().engine) is None
    mixed = FakeSession([ranged], [replace(fixed, name="y")], lambda f: {"y": f["x"]})
    assert most_at_once(mixed) == 1


class Picky(SyntheticTask):
    """Refuses some inputs."""

    def __init__(self, refuses: set[int], error: Exception) -> None:
        super().__init__()
        self._refuses, self._error = refuses, error

    def prepare(self, item: Any) -> Prepared:
        if item.index in self._refuses:
            raise self._error
        return super().prepare(item)


@pytest.mark.parametrize("overlap", [False, True])
def test_an_input_that_cannot_be_used_is_counted_and_named(*, overlap: bool) -> None:
    kept = Kept()
    picky = Picky({1, 3}, InputError("it is too thin"))
    options = PipelineOptions(overlap=overlap)
    pipeline, told = run([SyntheticSource(5)], picky, kept, options=options)
    assert kept.values == [1.0, 3.0, 5.0]
    assert (told.done, told.skipped) == (3, 2)
    assert [(item.source, item.reason) for item in pipeline.skipped] == [
        ("synthetic", "it is too thin"), ("synthetic", "it is too thin"),
    ]  # fmt: skip


def test_where_none_can_be_used_the_end_is_an_error() -> None:
    kept = Kept()
    with pytest.raises(InputError, match=r"None of the 2 inputs could be used .*too thin"):
        run([SyntheticSource(2)], Picky({0, 1}, InputError("it is too thin")), kept)
    assert kept.left == [InputError]


def test_a_failing_task_ends_the_run_and_the_sinks_are_told() -> None:
    kept = Kept()
    with pytest.raises(StageError, match="prepare: of another kind") as told:
        run([SyntheticSource(50)], Picky({4}, UsageError("of another kind")), kept)
    assert told.value.exit_code == 2
    assert kept.left == [StageError]
    assert len(kept.results) <= 4


def test_a_full_disk_at_a_sink_ends_the_run() -> None:
    kept = Kept(error=StorageError("results.jsonl cannot be written: no space left"))
    with pytest.raises(StageError, match=r"sink: results\.jsonl cannot be written") as told:
        run([SyntheticSource(50)], SyntheticTask(), kept)
    assert told.value.exit_code == 4
    assert kept.left == [StageError]
    assert len(kept.results) == 2


@pytest.mark.parametrize("overlap", [False, True])
def test_a_limit_takes_so_many_and_finishes_them(*, overlap: bool) -> None:
    kept = Kept()
    options = PipelineOptions(overlap=overlap, limit=3)
    _, told = run([SyntheticSource(100)], SyntheticTask(), kept, options=options)
    assert kept.values == [1.0, 2.0, 3.0]
    assert told.done == 3


def test_pictures_are_drawn_only_where_a_sink_wants_them() -> None:
    plain, drawn = Kept(), Kept(pictures=True)
    run([SyntheticSource(2)], SyntheticTask(), plain)
    assert [result.drawn_bgr for result in plain.results] == [None, None]
    mark = PipelineOptions(mark={"weights": "random"})
    run([SyntheticSource(2, size_wh=(320, 240))], SyntheticTask(), drawn, options=mark)
    for result in drawn.results:
        assert isinstance(result.item, Frame)
        assert result.drawn_bgr is not None
        assert not np.array_equal(result.drawn_bgr, result.item.image_bgr)  # the warning
        assert result.outcome.fields["weights"] == "random"


class Whole(Task):
    """Comes in one piece."""

    name = "whole"

    def process(self, item: Any) -> Outcome:
        return Outcome(place_of(item) | {"value": float(item.index)}, {})


def test_a_task_in_one_piece_runs_in_the_stage_infer() -> None:
    kept = Kept()
    texts = [TextItem("t.txt", number, "a") for number in range(3)]
    source = PlainSource(texts, "t.txt")
    options = PipelineOptions(overlap=False, batch=4)
    _, told = run([source], Whole(), kept, options=options)
    assert kept.values == [0.0, 1.0, 2.0]
    assert told.sources[0].clock == "when it was read"
    assert told.stages[2].done == 3


def test_the_task_is_exchanged_between_items_and_none_is_lost() -> None:
    kept, swapped = Kept(), threading.Event()
    closed: list[str] = []

    class Other(SyntheticTask):
        def finish(self, item: Any, prepared: Prepared, outputs: Any) -> Outcome:
            outcome = super().finish(item, prepared, outputs)
            return replace(outcome, fields=outcome.fields | {"other": True})

    class Gated(SyntheticSource):
        def frames(self) -> Iterator[Frame]:
            for frame in super().frames():
                if frame.index == 10:
                    assert swapped.wait(PATIENCE_S)
                yield frame

    with TaskHolder(SyntheticTask(), lambda: closed.append("first")) as holder:
        pipeline = Pipeline([Gated(20)], holder, [kept])

        def swap() -> None:
            holder.swap(Other(), lambda: closed.append("second"))
            swapped.set()

        thread = threading.Thread(target=swap)
        thread.start()
        pipeline.run()
        thread.join(PATIENCE_S)
        assert closed == ["first"]
    assert closed == ["first", "second"]
    assert [result.item.index for result in kept.results] == list(range(20))
    others = ["other" in result.outcome.fields for result in kept.results]
    assert others == sorted(others)
    assert all(others[10:])


def test_stop_finishes_what_was_taken() -> None:
    kept = Kept()
    source = SyntheticSource(fps=200.0)
    with TaskHolder(SyntheticTask()) as holder:
        pipeline = Pipeline([source], holder, [kept])
        ticks: list[int] = []

        def tick() -> None:
            ticks.append(pipeline.snapshot().done)
            if ticks[-1] > 3:
                pipeline.stop()

        told = pipeline.run(tick)
    assert told.done == len(kept.results) > 3
    assert kept.left == [None]


def test_a_snapshot_tells_what_the_probe_feels() -> None:
    reading = Reading(Figure(5), Figure(5), Figure(5), Figure(7.5))
    _, told = run([SyntheticSource(1)], SyntheticTask(), probe=FakeProbe([reading]))
    assert (told.rss_bytes, told.power_w) == (Figure(5), Figure(7.5))
    _, told = run([SyntheticSource(1)], SyntheticTask())
    assert told.power_w.value is None


def test_a_live_source_is_not_run_in_one_thread() -> None:
    with TaskHolder(SyntheticTask()) as holder, pytest.raises(UsageError, match="live source"):
        Pipeline([SyntheticSource(fps=5.0)], holder, options=PipelineOptions(overlap=False))


def test_skipped_files_of_a_source_count() -> None:
    class Source(SyntheticSource):
        def health(self) -> SourceHealth:
            return replace(super().health(), skipped=3)

    _, told = run([Source(2)], SyntheticTask())
    assert told.skipped == 3
