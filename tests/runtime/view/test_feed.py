"""What flows from the board to viewers: rules E1 to E3, and the desk for prompts."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from helpers.view_scene import Scene
from typing_extensions import Self

from jetlift.runtime.clock import FakeClock
from jetlift.runtime.errors import BusyError, InputError, MachineError, UsageError
from jetlift.runtime.pipeline.form import Result, Snapshot
from jetlift.runtime.view import pictures
from jetlift.runtime.view.board import ViewBoard
from jetlift.runtime.view.broadcast import Broadcast
from jetlift.runtime.view.desk import PromptDesk
from jetlift.runtime.view.feed import Feed
from jetlift.runtime.view.form import Prompting, Shot
from jetlift.runtime.view.history import EVERY_S
from jetlift.runtime.view.worker import Worker

LIMIT_S = 30


class Patient(FakeClock):
    """A clock on which a wait lasts until the test lets it end."""

    def wait(self, stop: threading.Event, seconds: float) -> bool:
        self.waited_s.append(seconds)
        return stop.wait(LIMIT_S)


def _within(condition: Callable[[], object]) -> None:
    """Wait until something is so; the limit only stops a test that hangs."""
    tick = threading.Event()
    for _ in range(LIMIT_S * 100):
        if condition():
            return
        tick.wait(0.01)
    pytest.fail("it did not come about")


# Pictures.


def test_a_part_of_the_stream_is_a_whole_picture_and_the_next_boundary() -> None:
    picture = np.full((48, 64, 3), 90, np.uint8)
    shot = pictures.shoot(7, picture, quality=80, longest_side=1280)
    head, _, rest = shot.part.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(shot.jpeg)}".encode() in head
    assert rest == shot.jpeg + b"\r\n" + pictures.OPENING
    decoded = cv2.imdecode(np.frombuffer(shot.jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape == (48, 64, 3)
    assert shot.number == 7


def test_large_pictures_are_made_smaller_for_the_stream_alone() -> None:
    picture = np.zeros((600, 3000, 3), np.uint8)
    shot = pictures.shoot(1, picture, quality=80, longest_side=1000)
    streamed = cv2.imdecode(np.frombuffer(shot.jpeg, np.uint8), cv2.IMREAD_COLOR)
    kept = cv2.imdecode(np.frombuffer(pictures.snapshot(picture), np.uint8), cv2.IMREAD_COLOR)
    assert streamed.shape == (200, 1000, 3)
    assert kept.shape == (600, 3000, 3)


@pytest.mark.parametrize(
    "picture",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32),
     np.zeros((0, 4, 3), np.uint8), np.zeros((1, 70000, 3), np.uint8)],
)  # fmt: skip
def test_what_is_no_picture(picture: np.ndarray) -> None:
    with pytest.raises(UsageError, match="uint8"):
        pictures.shoot(1, picture, quality=80, longest_side=100)


# Broadcast.


def test_a_listener_that_is_late_gets_the_newest() -> None:
    async def listen() -> list[object]:
        broadcast = Broadcast[str](asyncio.get_running_loop())
        waiting = asyncio.create_task(broadcast.after(0))
        broadcast.post("a")
        first = await waiting
        for text in "bcd":
            broadcast.post(text)
        await asyncio.sleep(0)
        second = await broadcast.after(1)
        broadcast.post("e")
        broadcast.close()
        await broadcast.closed()
        return [first, second, await broadcast.after(4), await broadcast.after(5)]

    assert asyncio.run(listen()) == [(1, "a"), (4, "d"), (5, "e"), None]


def test_a_post_after_the_end_of_the_loop_is_nothing() -> None:
    loop = asyncio.new_event_loop()
    broadcast = Broadcast[str](loop)
    loop.close()
    broadcast.post("a")
    broadcast.close()


# The feed.


class Fed:
    """A feed with a loop in a thread; `states` and `shots` are what its listeners got."""

    def __init__(self, board: ViewBoard, shoot: Callable[..., Shot] = pictures.shoot) -> None:
        self.loop = asyncio.new_event_loop()
        self.feed = Feed(board, self.loop, shoot)
        self.states: list[dict] = []
        self.shots: list[Shot] = []
        self._thread = threading.Thread(target=self._listen)

    def _listen(self) -> None:
        async def collect(broadcast: Broadcast, keep: Callable) -> None:
            number = 0
            while (found := await broadcast.after(number)) is not None:
                number, value = found
                keep(value)

        async def both() -> None:
            await asyncio.gather(
                collect(self.feed.states, lambda text: self.states.append(json.loads(text))),
                collect(self.feed.shots, self.shots.append),
            )

        self.loop.run_until_complete(both())

    def __enter__(self) -> Self:
        self._thread.start()
        self.feed.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.feed.stop()
        self._thread.join(LIMIT_S)
        assert not self._thread.is_alive()
        self.loop.close()


def test_a_picture_is_encoded_once_for_all() -> None:
    clock = FakeClock()
    run = Scene(clock)
    board = ViewBoard(run.told(), clock=clock)
    encoded = []

    def shoot(number: int, image: np.ndarray, **how: int) -> Shot:
        encoded.append(number)
        return pictures.shoot(number, image, **how)

    with board.viewer(), board.viewer(), Fed(board, shoot) as fed:
        run.write(board)
        _within(lambda: fed.shots)
    assert encoded == [1]
    assert fed.shots[0].number == 1


def test_nothing_is_encoded_while_nobody_looks() -> None:
    clock = FakeClock()
    run = Scene(clock)
    board = ViewBoard(run.told(), clock=clock)
    with Fed(board) as fed:
        board.write(run.result())
        _within(lambda: len(fed.states) > 3)
        assert fed.shots == []


def test_pictures_are_paced() -> None:
    clock = Patient()
    run = Scene(clock)
    board = ViewBoard(run.told(), clock=clock)
    with board.viewer(), Fed(board) as fed:
        run.write(board)
        _within(lambda: fed.shots)
        for _ in range(20):
            run.write(board)
        _within(lambda: 1 / board.options.max_fps in clock.waited_s)
    assert len(fed.shots) == 1


def test_writes_go_on_while_a_picture_is_being_encoded() -> None:
    clock = FakeClock()
    run = Scene(clock)
    board = ViewBoard(run.told(), clock=clock)
    began, release = threading.Event(), threading.Event()
    encoded: list[int] = []

    def shoot(number: int, image: np.ndarray, **how: int) -> Shot:
        encoded.append(number)
        began.set()
        assert release.wait(LIMIT_S)
        return pictures.shoot(number, image, **how)

    with board.viewer(), Fed(board, shoot) as fed:
        result = run.result()
        board.write(result)
        assert began.wait(LIMIT_S)
        for _ in range(500):
            board.write(result)
        assert board.health().written == 501
        release.set()
        _within(lambda: fed.shots and fed.shots[-1].number == 501)
    assert encoded == [1, 501]  # those in between were skipped


def test_a_picture_that_cannot_be_encoded_is_told_and_the_next_is_tried() -> None:
    clock = FakeClock()
    run = Scene(clock)
    board = ViewBoard(run.told(), clock=clock)
    good = run.result()
    bad = Result(good.item, good.outcome, np.zeros((4, 4), np.uint8))  # type: ignore[arg-type]
    with board.viewer(), Fed(board) as fed:
        board.write(bad)
        _within(lambda: "A picture to show is uint8 [4, 4]" in board.health().trouble)
        board.write(good)
        _within(lambda: fed.shots)
        _within(lambda: board.health().connected)


def test_figures_that_cannot_be_had_are_told_and_tried_again() -> None:
    clock = FakeClock()
    run = Scene(clock)
    refusing = threading.Event()
    refusing.set()

    def snapshot() -> Snapshot:
        if refusing.is_set():
            raise MachineError("The rails cannot be read")
        return run.snapshot()

    board = ViewBoard(run.told(snapshot=snapshot), clock=clock)
    with Fed(board) as fed:
        _within(lambda: board.health().trouble == "The rails cannot be read.")
        refusing.clear()
        _within(lambda: fed.states)
        assert board.health().connected


def test_any_other_failure_is_kept_told_and_ends_only_the_view() -> None:
    clock = FakeClock()
    run = Scene(clock)

    def snapshot() -> Snapshot:
        raise ZeroDivisionError("a fault")

    board = ViewBoard(run.told(snapshot=snapshot), clock=clock)
    with Fed(board) as fed:
        _within(lambda: fed.feed.error is not None)
        assert isinstance(fed.feed.error, ZeroDivisionError)
        assert "ZeroDivisionError: a fault" in board.health().trouble
        run.write(board)  # the pipeline goes on
    assert board.health().written == 1


def test_a_point_per_second_and_the_last_state_tells_the_end() -> None:
    clock = FakeClock()
    run = Scene(clock)
    board = ViewBoard(run.told(), clock=clock)
    with board, Fed(board) as fed:
        run.write(board)
        _within(lambda: len(fed.states) > 20)
        numbers = [state["point"]["number"] for state in fed.states]
        assert numbers == sorted(numbers)
        assert 0 < len(set(numbers)) <= len(numbers)
        board.__exit__(None, None, None)
    assert fed.states[-1]["run"]["state"] == "ended"
    waited_s = sum(clock.waited_s)
    assert fed.feed.history.whole()["number"] <= waited_s / EVERY_S + 1


# Prompts.


@pytest.fixture
def desk() -> object:
    run = Scene(FakeClock(), refuse=("too long",))
    made = PromptDesk(run.told().prompts)
    made.start()
    yield made, run
    made.stop()


def test_prompts_are_changed_in_the_desks_thread(desk: tuple[PromptDesk, Scene]) -> None:
    made, run = desk
    made.change([" cat ", "", "dog"]).result(LIMIT_S)
    assert run.changes == [["cat", "dog"]]


def test_what_a_task_refuses_comes_back_as_it_is_told(desk: tuple[PromptDesk, Scene]) -> None:
    made, run = desk
    with pytest.raises(UsageError, match="The prompt 'too long' has 90 tokens"):
        made.change(["too long"]).result(LIMIT_S)
    made.change(["cat"]).result(LIMIT_S)  # the desk is free again
    assert run.prompts == ["cat"]


@pytest.mark.parametrize("prompts", [None, "cat", [1], [], [" "], ["a"] * 101, ["a" * 201], {}])
def test_what_are_no_prompts(desk: tuple[PromptDesk, Scene], prompts: object) -> None:
    with pytest.raises(InputError):
        desk[0].change(prompts)
    assert desk[1].changes == []


def test_a_task_without_prompts_says_why() -> None:
    made = PromptDesk("Its labels are fixed.")
    made.start()
    with pytest.raises(UsageError, match="Its labels are fixed"):
        made.change(["cat"])
    made.stop()


def test_one_change_at_a_time() -> None:
    began, release = threading.Event(), threading.Event()

    def change(_prompts: list[str]) -> None:
        began.set()
        assert release.wait(LIMIT_S)

    made = PromptDesk(Prompting(tuple, change))
    made.start()
    first = made.change(["cat"])
    assert began.wait(LIMIT_S)
    with pytest.raises(BusyError):
        made.change(["dog"])
    release.set()
    first.result(LIMIT_S)
    _within(lambda: not made._busy.locked())
    made.change(["dog"]).result(LIMIT_S)
    made.stop()


def test_a_fault_in_a_change_is_its_answer_and_the_desk_goes_on() -> None:
    def change(prompts: list[str]) -> None:
        if prompts == ["cat"]:
            raise ZeroDivisionError("a fault")

    made = PromptDesk(Prompting(tuple, change))
    made.start()
    with pytest.raises(ZeroDivisionError):
        made.change(["cat"]).result(LIMIT_S)
    _within(lambda: not made._busy.locked())
    made.change(["dog"]).result(LIMIT_S)
    made.stop()


# Threads.


def test_a_worker_keeps_what_ended_it() -> None:
    told: list[BaseException] = []

    def fail() -> None:
        raise SystemExit(3)

    worker = Worker("test", fail, told.append)
    worker.start()
    worker.join(LIMIT_S)
    assert isinstance(worker.error, SystemExit)
    assert told == [worker.error]


def test_a_worker_that_hangs_is_told_by_its_name() -> None:
    release = threading.Event()
    worker = Worker("view test", lambda: release.wait(LIMIT_S) and None, lambda _error: None)
    worker.start()
    with pytest.raises(MachineError, match=r"'jetlift view test' did not end within 0\.01 s"):
        worker.join(0.01)
    release.set()
    worker.join(LIMIT_S)


def test_a_worker_that_was_never_started_ends_at_once() -> None:
    Worker("test", lambda: None, lambda _error: None).join(LIMIT_S)
