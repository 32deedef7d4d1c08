from __future__ import annotations

import threading

import pytest

from jetlift.runtime.clock import FakeClock
from jetlift.runtime.errors import UsageError
from jetlift.runtime.streams.stamp import Stamp, read_stamp
from jetlift.runtime.streams.synthetic import SyntheticSource


def test_frames_come_at_their_moment_and_say_so():
    clock = FakeClock(1000.0)
    source = SyntheticSource("synthetic://160x120@4?frames=5", clock=clock)
    frames = list(source.frames())
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    assert [frame.time_s for frame in frames] == [0, 0.25, 0.5, 0.75, 1.0]
    assert [frame.captured_s for frame in frames] == [1000 + n / 4 for n in range(5)]
    stamps = [read_stamp(frame.image_bgr) for frame in frames]
    assert stamps == [Stamp(n, 1_000_000_000 + n * 250_000) for n in range(5)]
    assert frames[0].image_bgr.shape == (120, 160, 3)
    assert source.health().captured == 5


def test_frames_that_nobody_took_in_time_are_counted():
    clock = FakeClock()
    source = SyntheticSource("synthetic://160x120@10?frames=20", clock=clock)
    taken = []
    for frame in source.frames():
        taken.append(frame.index)
        if frame.index == 3:
            clock.advance(0.55)
    assert taken == [0, 1, 2, 3, *range(8, 20)]
    assert source.health().dropped == 4
    assert source.health().captured == 16


def test_a_long_pause_at_the_end_ends_it():
    clock = FakeClock()
    source = SyntheticSource("synthetic://160x120@10?frames=5", clock=clock)
    frames = source.frames()
    next(frames)
    clock.advance(60)
    assert list(frames) == []
    assert source.health().dropped == 4


def test_closing_ends_a_wait():
    source = SyntheticSource("synthetic://160x120@0.01")
    frames = source.frames()
    assert next(frames).index == 0
    threading.Timer(0.05, source.close).start()
    assert list(frames) == []
    assert not source.health().connected
    source.close()


@pytest.mark.parametrize(
    "name",
    [
        "synthetic://",
        "synthetic://160x120",
        "synthetic://160x120@0",
        "synthetic://160x120@2000",
        "synthetic://90x120@5",
        "synthetic://160x99@5",
        "synthetic://9000x120@5",
        "synthetic://160x120@5?frames=0",
        "synthetic://160x120@5?frames=1.5",
        "synthetic://160x120@5?fps=3",
    ],
)
def test_what_cannot_be_is_refused(name):
    with pytest.raises(UsageError, match="synthetic://"):
        SyntheticSource(name)
