from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from jetlift.runtime.errors import InputError, MachineError
from jetlift.runtime.newest import NewestFrames
from jetlift.runtime.pipeline.form import SourceHealth
from jetlift.runtime.sources import Frame, open_frame_sources

LIMIT_S = 60.0  # ends a hang, and is no assertion


class Given:
    """A source of given frames; it may wait before its end, hang for ever, or fail."""

    def __init__(self, count: int, *, live: bool = True, failure: Exception | None = None) -> None:
        self.name, self.live, self._count, self._failure = "given", live, count, failure
        self.given, self.go, self.stopped = threading.Event(), threading.Event(), threading.Event()
        self.closed = 0
        self.go.set()

    def frames(self) -> Iterator[Frame]:
        for index in range(self._count):
            yield Frame(self.name, index, 0.0, np.zeros((2, 2, 3), np.uint8))
        self.given.set()
        assert self.go.wait(LIMIT_S)
        if self._failure is not None:
            raise self._failure

    def health(self) -> SourceHealth:
        return SourceHealth(self.name, live=self.live, clock="")

    def close(self) -> None:
        self.closed += 1
        self.stopped.set()


def ended() -> bool:
    return not [item for item in threading.enumerate() if item.name.startswith("read given")]


def test_the_newest_frame_waits_and_others_are_counted() -> None:
    source = Given(50)
    with NewestFrames([source]) as newest:
        assert source.given.wait(LIMIT_S)
        assert [frame.index for frame in newest.frames()] == [49]
        assert newest.dropped == 49
    assert source.closed == 1
    assert ended()


def test_files_wait_and_none_is_lost() -> None:
    with NewestFrames([Given(50, live=False)]) as newest:
        assert [frame.index for frame in newest.frames()] == list(range(50))
        assert newest.dropped == 0


@pytest.mark.parametrize("failure", [InputError("it was unplugged"), KeyError("a fault")])
def test_what_a_source_fails_of_is_raised_where_frames_are_taken(failure: Exception) -> None:
    source = Given(1, failure=failure)
    source.go.clear()
    with NewestFrames([source, Given(3)]) as newest:
        frames = newest.frames()
        next(frames)
        source.go.set()
        with pytest.raises(type(failure)):
            list(frames)
    assert ended()


def test_a_source_that_waits_is_ended_by_close() -> None:
    class Waiting(Given):
        def frames(self) -> Iterator[Frame]:
            yield from ()
            assert self.stopped.wait(LIMIT_S)

    with NewestFrames([Waiting(0)]) as newest:
        assert newest.dropped == 0
    newest.close()
    assert ended()


def test_a_source_that_hangs_is_told() -> None:
    source = Given(0)
    source.go.clear()
    newest = NewestFrames([source], grace_s=0.01)
    with pytest.raises(MachineError, match="read given did not end"):
        newest.close()
    source.go.set()
    newest._threads[0].join(LIMIT_S)
    assert ended()


def test_real_live_frames_come_newest_first_and_end() -> None:
    sources = open_frame_sources(["synthetic://160x120@200?frames=20"])
    with NewestFrames(sources) as newest:
        numbers = [frame.index for frame in newest.frames()]
    assert numbers == sorted(set(numbers))
    assert numbers
