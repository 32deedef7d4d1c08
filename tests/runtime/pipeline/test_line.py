from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import pairwise

import pytest
from helpers.line_parts import PATIENCE_S, Box, Do, Numbers

from jetlift.runtime.clock import SYSTEM_CLOCK, FakeClock
from jetlift.runtime.errors import InputError, MachineError, StageError, StorageError, UsageError
from jetlift.runtime.pipeline.line import Line
from jetlift.runtime.pipeline.line_form import LineOptions


def run(line: Line[Box]) -> None:
    with line:
        line.start()
        assert line.wait(PATIENCE_S)


def threads() -> set[str]:
    return {item.name for item in threading.enumerate() if item.name.startswith("jetlift ")}


@pytest.mark.parametrize("live", [False, True])
def test_everything_passes_every_stage_in_order(*, live: bool) -> None:
    seen: list[int] = []
    stages = [Do("one"), Do("two"), Do("three", lambda box: seen.append(box.number))]
    line = Line([Numbers(50)], stages, LineOptions(live=live))
    run(line)
    assert line.failure is None
    assert seen == list(range(50))
    assert [stage.done for stage in line.stages()] == [50, 50, 50, 50]
    assert threads() == set()


def test_inline_does_the_same_without_a_thread() -> None:
    seen: list[int] = []
    stages = [
        Do("one", lambda box: box.number % 2 == 0),
        Do("two", lambda b: seen.append(b.number)),
    ]
    line = Line([Numbers(6), Numbers(3)], stages, LineOptions())
    line.run_inline()
    assert seen == [0, 2, 4, 0, 2]
    assert [stage.done for stage in line.stages()] == [9, 5, 5]


def test_a_stage_takes_what_waits_at_once_up_to_its_most() -> None:
    filled, go = threading.Event(), threading.Event()

    def first(box: Box) -> None:
        if box.number == 9:
            filled.set()

    stage = Do("many", lambda _: go.wait(PATIENCE_S), most=4)
    line = Line([Numbers(10)], [Do("one", first), stage], LineOptions(room=10))
    with line:
        line.start()
        assert filled.wait(PATIENCE_S)
        go.set()
        assert line.wait(PATIENCE_S)
    assert sum(stage.batches) == 10
    assert max(stage.batches) == 4


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("live", [False, True])
def test_the_first_failure_ends_the_line_and_names_its_stage(place: int, *, live: bool) -> None:
    def fail(box: Box) -> None:
        if box.number == 3:
            raise StorageError("the disk is full", do="Free some space")

    stages = [Do(name, fail if at == place else lambda _: None) for at, name in enumerate("abc")]
    source = Numbers(100)
    line = Line([source], stages, LineOptions(live=live))
    run(line)
    assert isinstance(line.failure, StageError)
    assert line.failure.stage == "abc"[place]
    assert line.failure.exit_code == StorageError.exit_code
    assert str(line.failure) == f"{'abc'[place]}: the disk is full. Free some space."
    assert source.closed.is_set()
    assert all(stage.interrupted.is_set() for stage in stages)
    assert threads() == set()


def test_a_source_that_fails_is_named() -> None:
    line = Line([Numbers(2, error=InputError("it was unplugged"))], [Do("one")], LineOptions())
    run(line)
    assert str(line.failure) == "capture numbers: it was unplugged."
    assert line.failure is not None
    assert line.failure.exit_code == InputError.exit_code


def test_a_fault_of_ours_is_told_as_one() -> None:
    def fail(_: Box) -> None:
        raise ZeroDivisionError("by zero")

    line = Line([Numbers(2)], [Do("one", fail)], LineOptions())
    run(line)
    assert "one failed with ZeroDivisionError: by zero" in str(line.failure)
    assert isinstance(line.failure.__cause__, ZeroDivisionError)


def test_what_others_raise_on_the_way_out_is_not_told() -> None:
    both = threading.Barrier(2, timeout=PATIENCE_S)
    second = Do("two")

    def late(_: Box) -> None:
        both.wait()
        second.interrupted.wait(PATIENCE_S)
        raise UsageError("because it was interrupted")

    def early(box: Box) -> None:
        if box.number == 1:
            both.wait()
            raise InputError("the true reason")

    second._do = late
    line = Line([Numbers(5)], [Do("one", early), second], LineOptions())
    run(line)
    assert str(line.failure) == "one: the true reason."


def test_a_stage_that_waits_is_interrupted_by_close() -> None:
    began = threading.Event()
    stage = Do("slow")

    def wait(_: Box) -> None:
        began.set()
        stage.interrupted.wait(PATIENCE_S)

    stage._do = wait
    source = Numbers(3)
    line = Line([source], [stage], LineOptions())
    line.start()
    assert began.wait(PATIENCE_S)
    line.close()
    line.close()
    assert line.failure is None
    assert threads() == set()


def test_a_stage_that_cannot_be_ended_is_told_by_its_name() -> None:
    let_go, began = threading.Event(), threading.Event()

    def hang(_: Box) -> None:
        began.set()
        let_go.wait(PATIENCE_S)

    line = Line([Numbers(1)], [Do("library", hang)], LineOptions(grace_s=0.05))
    line.start()
    assert began.wait(PATIENCE_S)
    with pytest.raises(MachineError, match=r"jetlift library.* did not end within"):
        line.close()
    let_go.set()
    for thread in line._threads:  # on a busy machine that takes longer than the grace
        thread.join(PATIENCE_S)
    line.close()
    assert threads() == set()


def test_a_stage_that_works_too_long_is_a_failure() -> None:
    clock, began, stage = FakeClock(), threading.Event(), Do("stuck")

    def wait(_: Box) -> None:
        began.set()
        stage.interrupted.wait(PATIENCE_S)

    stage._do = wait
    line = Line([Numbers(1)], [stage], LineOptions(hang_limit_s=5.0), clock)
    with line:
        line.start()
        assert began.wait(PATIENCE_S)
        clock.advance(4.9)
        line.check_hanging()
        assert line.failure is None
        clock.advance(0.2)
        assert line.wait(PATIENCE_S)
    assert "stuck: it has worked on one item for more than 5 s" in str(line.failure)


def test_drain_finishes_what_was_taken() -> None:
    seen: list[int] = []
    taken = threading.Event()

    def first(_: Box) -> None:
        taken.set()

    source = Numbers(5)
    source.endless = True
    line = Line([source], [Do("one", first), Do("two", lambda b: seen.append(b.number))],
                LineOptions())  # fmt: skip
    with line:
        line.start()
        assert taken.wait(PATIENCE_S)
        line.drain()
        assert line.wait(PATIENCE_S)
    assert line.failure is None
    assert seen == list(range(len(seen)))
    assert seen


def test_what_is_too_old_goes_no_further_and_is_counted() -> None:
    clock = FakeClock(1000.0)
    seen: list[int] = []
    boxes = [Box(0, 998.0), Box(1, 999.5), Box(2, 1000.0)]

    class Given(Numbers):
        def parcels(self) -> Iterator[Box]:
            yield from boxes

    stages = [Do("cheap"), Do("costly", lambda b: seen.append(b.number)), Do("after")]
    options = LineOptions(max_age_s=1.0, costly=1)
    line = Line([Given(0)], stages, options, clock)
    line.run_inline()
    assert seen == [1, 2]
    assert line.stale == 1
    assert [box.dropped for box in boxes] == [True, False, False]


def test_a_live_line_begins_a_frame_as_late_as_it_may() -> None:
    begun: list[tuple[str, float]] = []
    never = threading.Event()

    class Camera(Numbers):
        def parcels(self) -> Iterator[Box]:
            number = 0
            while not self.closed.wait(0.001):
                yield Box(number, SYSTEM_CLOCK.now_s())
                number += 1

    def prepare(_: Box) -> None:
        begun.append(("prepare", SYSTEM_CLOCK.now_s()))

    def infer(_: Box) -> None:
        begun.append(("infer", SYSTEM_CLOCK.now_s()))
        never.wait(0.05)

    stages = [Do("prepare", prepare), Do("infer", infer)]
    line = Line([Camera(0, live=True)], stages, LineOptions(live=True, costly=1))
    with line:
        line.start()
        while len(begun) < 20:
            never.wait(0.01)
        line.drain()
        assert line.wait(PATIENCE_S)
    service = line.stages()[1].service
    assert service is not None
    # Before its first run nobody knows how long the engine takes; from then on it is awaited.
    for (before, since_s), (name, at_s) in pairwise(begun[4:]):
        if (before, name) == ("infer", "prepare"):
            assert at_s - since_s >= 0.05 - service.max_ms / 1000 - 0.001


def test_ages_are_told_from_the_moment_of_capture() -> None:
    clock = FakeClock(1000.0)
    stages = [Do("one", lambda _: clock.advance(0.010)), Do("two", lambda _: clock.advance(0.030))]
    line = Line([Numbers(4)], stages, LineOptions(), clock)

    class Fresh(Numbers):
        def parcels(self) -> Iterator[Box]:
            for number in range(4):
                yield Box(number, clock.now_s() - 0.005)

    line = Line([Fresh(4)], stages, LineOptions(), clock)
    line.run_inline()
    capture, one, two = line.stages()
    assert capture.age is not None
    assert capture.age.max_ms == pytest.approx(5.0)
    assert one.age is not None
    assert two.age is not None
    assert two.service is not None
    assert one.age.max_ms == pytest.approx(15.0)
    assert two.age.max_ms == pytest.approx(45.0)
    assert two.service.mean_ms == pytest.approx(30.0)
    assert (one.busy_share, two.busy_share) == (pytest.approx(0.25), pytest.approx(0.75))


def test_a_line_needs_a_source_and_a_stage() -> None:
    with pytest.raises(UsageError, match="no source or no stage"):
        Line([], [Do("one")], LineOptions())
    with pytest.raises(UsageError, match="no source or no stage"):
        Line([Numbers(1)], [], LineOptions())
    for wrong in ({"room": 0}, {"max_age_s": 0.0}, {"hang_limit_s": -1.0}):
        with pytest.raises(UsageError):
            LineOptions(**wrong)  # type: ignore[arg-type]
