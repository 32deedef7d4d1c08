"""The GPU's own clock around a run, on the fake device, whose every piece of work takes a ms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.fake_engines import AFFINE, PACES, TWO, WAYS, opened, paced, rows

from jetlift.runtime.errors import EngineLibraryError, UsageError
from jetlift.runtime.session.base import GpuSession
from jetlift.runtime.session.fake import FakeSession
from jetlift.runtime.session.fake_cuda import FakeDevice, Misuse


@pytest.mark.parametrize("pace", PACES)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: "+".join(way) or "plain")
def test_a_timed_run_computes_as_any_other(way: dict[str, bool], pace: str) -> None:
    session, device, _ = opened(AFFINE, paced(pace), **way)
    with session:
        for seed in range(4):
            x = rows(2, seed)
            outputs, times = session.run_timed({"x": x})
            np.testing.assert_array_equal(outputs["y"], 2 * x + 1)
            assert times.with_copies_ms == pytest.approx(
                times.copy_in_ms + times.compute_ms + times.copy_out_ms
            )
            np.testing.assert_array_equal(session.run({"x": x})["y"], 2 * x + 1)
        assert not any(type(thing).__name__ == "FakeStamp" for thing in device.live)
    assert device.live == []


def test_copies_and_computation_are_told_apart() -> None:
    session, _, _ = opened(TWO)  # two inputs and two outputs: a copy each
    feeds = {"a": np.array([1, 2, 3]), "b": np.zeros(3, np.float16)}
    with session:
        times = session.run_timed(feeds)[1]
    assert (times.copy_in_ms, times.compute_ms, times.copy_out_ms) == (2, 1, 2)
    assert times.with_copies_ms == 5


def test_without_copies_they_take_nothing() -> None:
    session, _, _ = opened(TWO, mapped=True)
    feeds = {"a": np.array([1, 2, 3]), "b": np.zeros(3, np.float16)}
    with session:
        times = session.run_timed(feeds)[1]
    assert (times.copy_in_ms, times.compute_ms, times.copy_out_ms) == (0, 1, 0)


def test_a_run_that_is_not_timed_takes_no_stamp() -> None:
    session, device, _ = opened(AFFINE)
    with session:
        session.run({"x": rows(2)})
    assert device.taken["stamp"] == 0


@pytest.mark.parametrize("call", ["stamp", "record", "copy_in", "synchronize", "since_ms"])
def test_what_fails_leaves_nothing_behind(call: str) -> None:
    session, device, _ = opened(AFFINE)
    session.run({"x": rows(2)})
    failing = [True]

    def refuse(name: str) -> None:
        if name == call and failing:
            failing.clear()
            raise EngineLibraryError(f"{name} failed")

    device.before_call = refuse
    with session, pytest.raises(EngineLibraryError, match=call):
        session.run_timed({"x": rows(2)})
    assert device.live == []


def test_wrong_feeds_and_runs_under_way_are_refused() -> None:
    session, device, _ = opened(AFFINE)
    with session:
        with pytest.raises(UsageError, match="Input x got"):
            session.run_timed({"x": np.zeros((2, 3), np.float32)})
        session.submit({"x": rows(2)})
        with pytest.raises(UsageError, match="under way"):
            session.run_timed({"x": rows(2)})
        session.collect()
    assert device.live == []


def test_memory_is_told_by_library_and_device() -> None:
    session, _, _ = opened(AFFINE)
    with session:
        session.run({"x": rows(2)})
        assert session.activation_bytes == 1024
        # the plan's weights, a context's scratch, and x and y of two rows of four floats
        assert session.gpu_bytes == 4096 + 1024 + 2 * 2 * 4 * 4


def test_a_gpu_session_is_known_by_what_it_tells() -> None:
    session, _, _ = opened(AFFINE)
    with session:
        assert isinstance(session, GpuSession)
    cpu: Any = FakeSession([], [], lambda _: {})
    assert not isinstance(cpu, GpuSession)


def test_the_fake_refuses_times_that_are_not_there_yet() -> None:
    device = FakeDevice()
    with device.current():
        stream, first, second = device.stream(), device.stamp(), device.stamp()
        first.record(stream)
        second.record(stream)
        with pytest.raises(Misuse, match="before both"):
            second.since_ms(first)
        stream.synchronize()
        assert second.since_ms(first) == 0
