"""The hand-over between pipeline and page: rules V1 to V4."""

from __future__ import annotations

import threading

import pytest
from helpers.view_scene import Scene, scene

from jetlift.runtime.clock import FakeClock
from jetlift.runtime.errors import UsageError
from jetlift.runtime.pipeline.form import Result, Sink
from jetlift.runtime.tasks.base import Outcome
from jetlift.runtime.texts import TextItem
from jetlift.runtime.view.board import ViewBoard
from jetlift.runtime.view.form import Ended, ViewOptions

LIMIT_S = 30  # only stops a test that hangs


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def run(clock: FakeClock) -> Scene:
    return Scene(clock)


@pytest.fixture
def board(run: Scene, clock: FakeClock) -> ViewBoard:
    return ViewBoard(run.told(), clock=clock)


def test_a_board_is_a_sink(board: ViewBoard) -> None:
    sink: Sink = board
    with sink as same:
        assert same is board
    assert sink.name == "view"
    assert sink.health().connected


def test_only_the_newest_result_is_kept_and_not_copied(board: ViewBoard, run: Scene) -> None:
    results = [run.result() for _ in range(3)]
    for result in results:
        board.write(result)
    newest = board.newest
    assert newest is not None
    assert newest.number == 3
    assert newest.result is results[-1]
    assert newest.picture_bgr is results[-1].drawn_bgr
    assert board.health().written == 3


def test_ages_begin_at_the_capture(board: ViewBoard, run: Scene, clock: FakeClock) -> None:
    result = run.result()
    clock.advance(0.1)
    board.write(result)
    newest = board.newest
    assert newest is not None
    assert newest.age_ms == pytest.approx(141, abs=0.01)
    assert board.take_ages_ms() == [newest.age_ms]
    assert board.take_ages_ms() == []


def test_an_input_without_a_moment_of_capture_has_no_age(board: ViewBoard) -> None:
    board.write(Result(TextItem("notes.txt", 0, "a line"), Outcome({"source": "notes.txt"}, {})))
    assert board.newest is not None
    assert board.newest.age_ms is None
    assert board.newest.picture_bgr is None
    assert board.take_ages_ms() == []


def test_pictures_are_wanted_while_somebody_looks_and_a_little_longer(
    board: ViewBoard, clock: FakeClock
) -> None:
    assert not board.wants_pictures
    with board.viewer(), board.viewer():
        assert board.watching == 2
        assert board.wants_pictures
    assert board.wants_pictures
    clock.advance(board.options.grace_s - 0.01)
    assert board.wants_pictures
    clock.advance(0.02)
    assert not board.wants_pictures


def test_a_task_that_draws_nothing_is_not_asked_to(run: Scene, clock: FakeClock) -> None:
    board = ViewBoard(run.told(shows="input"), clock=clock)
    with board.viewer():
        assert not board.wants_pictures
        result = run.result(drawn=False)
        board.write(result)
        assert board.newest is not None
        assert board.newest.picture_bgr is result.item.image_bgr  # type: ignore[union-attr]
    nothing = ViewBoard(run.told(shows="nothing"), clock=clock)
    nothing.write(run.result())
    assert nothing.newest is not None
    assert nothing.newest.picture_bgr is None


def test_next_picture_waits_for_a_viewer_and_a_picture(board: ViewBoard, run: Scene) -> None:
    got: list[int] = []
    asked, done = threading.Event(), threading.Event()

    def wait() -> None:
        after = 0
        asked.set()
        while (newest := board.next_picture(after)) is not None:
            after = newest.number
            got.append(after)
            done.set()

    thread = threading.Thread(target=wait)
    thread.start()
    assert asked.wait(LIMIT_S)
    board.write(run.result())  # nobody looks
    with board.viewer():
        assert done.wait(LIMIT_S)
        done.clear()
        board.write(run.result(drawn=False))  # nothing to see
        board.write(run.result())
        assert done.wait(LIMIT_S)
    board.close_view()
    thread.join(LIMIT_S)
    assert not thread.is_alive()
    assert got == [1, 3]
    assert board.next_picture(0) is None


def test_a_write_waits_for_no_reader_of_pictures(board: ViewBoard, run: Scene) -> None:
    # A reader holds on to a picture for ever: the writer goes on all the same.
    took, release = threading.Event(), threading.Event()

    def read() -> None:
        assert board.next_picture(0) is not None
        took.set()
        release.wait(LIMIT_S)

    thread = threading.Thread(target=read)
    thread.start()
    with board.viewer():
        board.write(run.result())
        assert took.wait(LIMIT_S)
        result = run.result()
        for _ in range(1000):
            board.write(result)
    assert board.health().written == 1001
    release.set()
    thread.join(LIMIT_S)


def test_how_a_run_ended_stays_on_the_board(board: ViewBoard) -> None:
    assert board.ended is None
    with board:
        assert board.ended is None
    assert board.ended == Ended(well=True)
    with pytest.raises(UsageError), board:
        raise UsageError("The camera gave no pictures", do="Plug it in")
    assert board.ended == Ended(well=False, message="The camera gave no pictures. Plug it in.")
    with pytest.raises(KeyboardInterrupt), board:
        raise KeyboardInterrupt
    assert board.ended == Ended(well=True)  # somebody stopped it: that is no failure


def test_troubles_are_told_until_they_are_over(board: ViewBoard) -> None:
    board.complain("pictures", "Too large.")
    board.complain("figures", "None there.")
    assert board.health().trouble == "Too large. None there."
    assert not board.health().connected
    board.complain("pictures", "")
    board.complain("figures", "")
    assert board.health().connected


@pytest.mark.parametrize(
    "wrong",
    [{"max_fps": 0.0}, {"quality": 101}, {"longest_side": 0}, {"most_viewers": 0}],
)
def test_options_that_cannot_be(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong)).split("_")[0]):
        ViewOptions(**wrong)  # type: ignore[arg-type]


def test_the_scene_of_these_tests_moves() -> None:
    assert (scene(0)[0] != scene(9)[0]).any()
