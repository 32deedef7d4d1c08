"""Runs under way, and threads: the TensorRT session against the fake device and engine."""

from __future__ import annotations

import random
import threading
from typing import Any

import numpy as np
import pytest
from helpers.fake_engines import AFFINE, PACES, WAYS, opened, paced, rows
from hypothesis import given, settings
from hypothesis import strategies as st

from jetlift.runtime.errors import UsageError
from jetlift.runtime.session.fake_cuda import FakeDevice


@pytest.fixture(params=WAYS, ids=lambda way: "+".join(way) or "plain")
def way(request: pytest.FixtureRequest) -> dict[str, bool]:
    return request.param


def test_feeds_are_free_once_submitted() -> None:
    session, _, _ = opened(AFFINE, overlap=True)
    x = rows(3)
    wanted = 2 * x + 1
    with session:
        session.submit({"x": x})
        x[:] = 7
        np.testing.assert_array_equal(session.collect()["y"], wanted)


@pytest.mark.parametrize("way", [w for w in WAYS if "overlap" in w])
@pytest.mark.parametrize("pace", PACES)
def test_two_runs_are_under_way_at_once(way: dict[str, bool], pace: str) -> None:
    session, device, _ = opened(AFFINE, paced(pace), **way)
    given_rows = [rows(1 + seed % 3, seed) for seed in range(12)]
    answers = []
    with session:
        session.submit({"x": given_rows[0]})
        for x in given_rows[1:]:
            session.submit({"x": x})
            answers.append(session.collect()["y"])
        answers.append(session.collect()["y"])
    for x, answer in zip(given_rows, answers, strict=True):
        np.testing.assert_array_equal(answer, 2 * x + 1)
    assert device.live == []


def test_submit_comes_back_before_anything_is_computed() -> None:
    session, device, _ = opened(AFFINE, FakeDevice(delay_s=0.05), overlap=True)
    with session:
        session.submit({"x": rows(1)})
        session.submit({"x": rows(2)})
        assert device.done == 0
        session.collect()
        first_alone = device.done
        session.collect()
    assert 0 < first_alone < device.done  # collecting waits for its own run, not for the next


def test_a_third_run_has_no_place() -> None:
    session, _, _ = opened(AFFINE, overlap=True)
    with session:
        session.submit({"x": rows(1)})
        session.submit({"x": rows(1)})
        with pytest.raises(UsageError, match="2 runs are under way"):
            session.submit({"x": rows(1)})
        session.collect()
        session.submit({"x": rows(1)})


def test_collect_and_run_say_what_is_under_way() -> None:
    session, _, _ = opened(AFFINE)
    with session:
        with pytest.raises(UsageError, match="No run"):
            session.collect()
        session.submit({"x": rows(1)})
        with pytest.raises(UsageError, match="Collect them first"):
            session.run({"x": rows(1)})
        session.collect()
        session.run({"x": rows(1)})


def test_closing_with_runs_under_way_waits_for_them(way: dict[str, bool]) -> None:
    session, device, _ = opened(AFFINE, **way)
    with session:
        session.submit({"x": rows(1)})
    assert device.live == []
    session.close()
    for call in (session.run, session.submit):
        with pytest.raises(UsageError, match="closed"):
            call({"x": rows(1)})


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_order_of_submit_and_collect_gives_the_right_results(data: st.DataObject) -> None:
    pace = random.Random(data.draw(st.integers(0, 2**16)))  # noqa: S311
    way = data.draw(st.sampled_from([w for w in WAYS if "overlap" in w]))
    session, device, _ = opened(AFFINE, FakeDevice(pace=pace), **way)
    waiting: list[Any] = []
    with session:
        for seed, count in enumerate(data.draw(st.lists(st.integers(0, 4), max_size=14))):
            if count and len(waiting) < 2:
                waiting.append(rows(count, seed))
                session.submit({"x": waiting[-1]})
            elif waiting:
                x = waiting.pop(0)
                np.testing.assert_array_equal(session.collect()["y"], 2 * x + 1)
    assert device.live == []


def test_two_threads_with_two_sessions_on_one_device() -> None:
    device = FakeDevice(pace=random.Random(1))  # noqa: S311
    problems: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            session, _, _ = opened(AFFINE, device, overlap=True)
            with session:
                for step in range(60):
                    x = rows(1 + (seed + step) % 9, seed)
                    np.testing.assert_array_equal(session.run({"x": x})["y"], 2 * x + 1)
        except BaseException as error:  # noqa: BLE001 - told in the test's own thread
            problems.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert device.live == []


def test_a_session_may_move_to_another_thread() -> None:
    session, device, _ = opened(AFFINE)
    answers: list[Any] = []

    def work() -> None:
        answers.append(session.run({"x": rows(2)})["y"])
        session.close()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    np.testing.assert_array_equal(answers[0], 2 * rows(2) + 1)
    assert device.live == []


def test_one_thread_submits_while_another_collects() -> None:
    session, device, _ = opened(AFFINE, FakeDevice(pace="eager"), overlap=True)
    room, ready = threading.Semaphore(2), threading.Semaphore(0)
    problems: list[BaseException] = []

    def submit() -> None:
        try:
            for step in range(60):
                room.acquire()
                session.submit({"x": rows(1 + step % 9, step)})
                ready.release()
        except BaseException as error:  # noqa: BLE001
            problems.append(error)
            ready.release()

    with session:
        thread = threading.Thread(target=submit)
        thread.start()
        for step in range(60):
            ready.acquire()
            if problems:
                break
            x = rows(1 + step % 9, step)
            np.testing.assert_array_equal(session.collect()["y"], 2 * x + 1)
            room.release()
        thread.join()
    assert problems == []
    assert device.live == []
