from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from jetlift.runtime.pipeline.channel import Channel, Intake

PATIENCE_S = 30.0  # only ends a test that hangs


def in_thread(body: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    answer: list[Any] = []
    thread = threading.Thread(target=lambda: answer.append(body()), daemon=True)
    thread.start()
    return thread, answer


def joined(thread: threading.Thread) -> None:
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_items_come_out_in_order_and_the_end_after_them() -> None:
    channel = Channel[int](3)
    for number in range(3):
        assert channel.put(number)
    channel.close()
    assert not channel.ended
    assert [channel.take() for _ in range(4)] == [0, 1, 2, None]
    assert channel.ended


def test_a_full_channel_makes_the_giver_wait() -> None:
    channel = Channel[int](1)
    channel.put(0)
    thread, answer = in_thread(lambda: channel.put(1))
    thread.join(0.1)
    assert thread.is_alive()
    assert channel.take() == 0
    joined(thread)
    assert answer == [True]


def test_without_room_the_giver_waits_until_it_is_taken() -> None:
    channel = Channel[int](0)
    thread, answer = in_thread(lambda: channel.put(7))
    thread.join(0.1)
    assert thread.is_alive()
    assert channel.take() == 7
    joined(thread)
    assert answer == [True]


def test_without_room_equal_items_are_told_apart() -> None:
    channel = Channel[int](0)
    threads = [in_thread(lambda: channel.put(7))[0] for _ in range(2)]
    assert channel.take() == channel.take() == 7
    for thread in threads:
        joined(thread)


@pytest.mark.parametrize("room", [0, 1])
def test_abort_wakes_givers_and_takers(room: int) -> None:
    full = Channel[int](room)
    givers = [in_thread(lambda: full.put(1)) for _ in range(2)]
    empty = Channel[int](room)
    taker, taken = in_thread(empty.take)
    full.abort()
    empty.abort()
    for thread, _ in givers:
        joined(thread)
    joined(taker)
    assert taken == [None]
    assert False in [answer for _, answers in givers for answer in answers]
    assert full.take() is None
    assert full.ended


def test_waiting_ends_with_the_time() -> None:
    assert Channel[int](1).take(timeout_s=0.01) is None
    assert Intake[int]([True]).take(timeout_s=0.01) is None


def test_a_live_source_has_one_place_for_its_newest() -> None:
    intake = Intake[int]([True])
    for number in range(5):
        assert intake.put(0, number)
    assert intake.take() == 4
    assert intake.dropped == 4
    intake.end(0)
    assert intake.take() is None


def test_a_file_waits_for_room_and_loses_nothing() -> None:
    intake = Intake[int]([False], room=2)
    thread, _ = in_thread(lambda: [intake.put(0, number) for number in range(5)])
    assert [intake.take() for _ in range(5)] == [0, 1, 2, 3, 4]
    joined(thread)
    assert intake.dropped == 0


def test_sources_take_turns() -> None:
    intake = Intake[str]([False, False, True], room=3)
    for item in "ab":
        intake.put(0, item)
    for item in "xy":
        intake.put(1, item)
    intake.put(2, "live")
    assert [intake.take() for _ in range(5)] == ["a", "x", "live", "b", "y"]


def test_the_end_comes_when_every_source_has_ended() -> None:
    intake = Intake[int]([False, True])
    intake.end(0)
    assert not intake.ended
    assert intake.put(1, 1)
    intake.end(1)
    assert not intake.ended
    assert not intake.put(1, 2)
    assert intake.take() == 1
    assert intake.ended
    assert intake.take() is None


def test_draining_takes_no_more_and_gives_what_waits() -> None:
    intake = Intake[int]([False], room=1)
    intake.put(0, 1)
    thread, answer = in_thread(lambda: intake.put(0, 2))
    intake.drain()
    joined(thread)
    assert answer == [False]
    assert intake.take() == 1
    assert intake.take() is None


def test_aborting_an_intake_wakes_everybody() -> None:
    intake = Intake[int]([False], room=1)
    intake.put(0, 1)
    giver, given = in_thread(lambda: intake.put(0, 2))
    other = Intake[int]([True])
    taker, taken = in_thread(other.take)
    intake.abort()
    other.abort()
    joined(giver)
    joined(taker)
    assert (given, taken) == ([False], [None])
    assert intake.ended
