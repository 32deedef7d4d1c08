"""A source on connections that fail, hang, end and come back, with a clock that tests move."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest

from jetlift.runtime.clock import FakeClock
from jetlift.runtime.errors import InputError, MachineError
from jetlift.runtime.streams.healing import (
    FIRST_WAIT_S,
    LONGEST_WAIT_S,
    HealingSource,
    LostError,
    Shot,
    pause_s,
)

LIMIT_S = 20  # only ends a test that hangs


def shot(clock: FakeClock, size_wh: tuple[int, int] = (4, 3)) -> Shot:
    return Shot(np.zeros((size_wh[1], size_wh[0], 3), np.uint8), clock.now_s())


@dataclass
class Camera:
    """Connections as a script tells: each a list of shots and errors, taken one by one."""

    script: list[list[Shot | Exception | None]]
    gate: Callable[[], None] = lambda: None
    opened: int = 0
    closed: int = 0
    hung_up: threading.Event = field(default_factory=threading.Event)
    clock_note: str = "by the script"

    def __call__(self) -> Camera:
        return self

    def open(self) -> None:
        self._now = iter(self.script[self.opened])
        self.opened += 1
        for first in self.script[self.opened - 1][:1]:
            if isinstance(first, Exception):
                raise first

    def read(self) -> Shot | None:
        self.gate()
        item = next(self._now, LostError("it ended"))
        if isinstance(item, Exception):
            raise item
        return item

    def hang_up(self) -> None:
        self.hung_up.set()

    def close(self) -> None:
        self.closed += 1


def source_of(camera: Camera, clock: FakeClock, **options: float) -> HealingSource:
    return HealingSource("cam", camera, clock_note="?", clock=clock, chance=lambda: 0.0, **options)


class Turns:
    """Lets a camera read only when its taker has taken, so that nothing is replaced."""

    def __init__(self) -> None:
        self._turns = threading.Semaphore(0)

    def wait(self) -> None:
        assert self._turns.acquire(timeout=LIMIT_S)

    def each(self, source: HealingSource) -> Iterator:
        self._turns.release()
        for frame in source.frames():
            yield frame
            self._turns.release()


def test_losses_are_healed_and_counted():
    clock, turns = FakeClock(100.0), Turns()
    gone = LostError("nobody is there")
    camera = Camera([[shot(clock)] * 2, [gone], [gone], [shot(clock), None]], turns.wait)
    source = source_of(camera, clock)
    each = turns.each(source)
    frames = [next(each)]
    turns._turns.release()  # the end of the first connection is a turn of its own
    frames += list(each)
    assert [frame.index for frame in frames] == [0, 1, 2]
    health = source.health()
    assert (health.captured, health.reconnects, health.dropped) == (3, 1, 0)
    assert health.clock == "by the script"
    assert health.trouble == "nobody is there"
    waited = [seconds for seconds in clock.waited_s if seconds]
    assert waited == [FIRST_WAIT_S, FIRST_WAIT_S * 2]
    assert health.lost_s == pytest.approx(sum(waited))
    assert camera.closed == camera.opened == 4


def test_a_first_connection_that_fails_is_an_input_error_with_advice():
    camera = Camera([[LostError("it refuses", do="Switch it on")]])
    source = source_of(camera, FakeClock())
    with pytest.raises(InputError, match=r"^cam cannot be read: it refuses\. Switch it on\.$"):
        list(source.frames())
    assert camera.closed == 1
    assert not source.health().connected


def test_a_connection_without_a_picture_is_an_input_error_too():
    with pytest.raises(InputError, match="it ended"):
        list(source_of(Camera([[]]), FakeClock()).frames())


def test_it_gives_up_after_the_time_that_was_set():
    clock, turns = FakeClock(), Turns()
    camera = Camera([[shot(clock)], *([LostError("nobody")] for _ in range(50))], turns.wait)
    source = source_of(camera, clock, retry_s=10.0)
    each = turns.each(source)
    next(each)
    with pytest.raises(InputError, match=r"cam is lost for \d+ s: nobody.*within 10 s"):
        list(each)
    assert 10 <= source.health().lost_s <= 10 + LONGEST_WAIT_S


def test_what_can_never_work_ends_it_at_once():
    camera = Camera([[MachineError("No element here")]])
    with pytest.raises(MachineError, match="No element"):
        list(source_of(camera, FakeClock()).frames())
    assert camera.opened == 1


def test_a_mistake_in_a_connection_is_not_hidden():
    clock = FakeClock()
    camera = Camera([[shot(clock), ZeroDivisionError()]])
    with pytest.raises(ZeroDivisionError):
        list(source_of(camera, clock).frames())
    assert camera.closed == 1


def test_closing_ends_frames_while_a_connection_hangs():
    clock, reading, release = FakeClock(), threading.Event(), threading.Event()

    def hang() -> None:
        reading.set()
        assert release.wait(LIMIT_S)

    camera = Camera([[shot(clock)]], hang)
    source, got = source_of(camera, clock), []
    taker = threading.Thread(target=lambda: got.extend(source.frames()))
    taker.start()
    assert reading.wait(LIMIT_S)
    closer = threading.Thread(target=source.close)
    closer.start()
    taker.join(LIMIT_S)
    assert not taker.is_alive()
    assert got == []
    assert camera.hung_up.is_set()
    release.set()
    closer.join(LIMIT_S)
    assert source._thread is not None
    source._thread.join(LIMIT_S)
    assert camera.closed == 1


def test_closing_before_the_start_opens_nothing():
    camera = Camera([[None]])
    source = source_of(camera, FakeClock())
    source.close()
    assert list(source.frames()) == []
    assert camera.opened == 0
    source.close()


def test_closing_ends_the_wait_for_the_next_attempt():
    clock, turns = FakeClock(), Turns()
    camera = Camera([[shot(clock)], *([LostError("nobody")] for _ in range(10_000))], turns.wait)
    source = source_of(camera, clock)
    each = turns.each(source)
    next(each)
    threading.Timer(0.05, source.close).start()
    assert list(each) == []
    assert source._thread is not None
    source._thread.join(LIMIT_S)
    assert not source._thread.is_alive()


def test_leaving_the_loop_ends_the_thread():
    clock = FakeClock()
    camera = Camera([[shot(clock)] * 1000 + [None]])
    source = source_of(camera, clock)
    frames = source.frames()
    next(frames)
    frames.close()
    assert source._thread is not None
    source._thread.join(LIMIT_S)
    assert not source._thread.is_alive()
    assert camera.closed == 1


def test_a_change_of_size_is_passed_on_and_told():
    clock, turns = FakeClock(), Turns()
    camera = Camera([[shot(clock, (8, 6)), shot(clock, (4, 3)), None]], turns.wait)
    source = source_of(camera, clock)
    shapes = [frame.image_bgr.shape for frame in turns.each(source)]
    assert shapes == [(6, 8, 3), (3, 4, 3)]
    assert source.health().trouble == "its pictures changed from 8x6 to 4x3"


def test_a_slow_taker_gets_the_newest_and_the_rest_is_counted():
    clock = FakeClock()
    camera = Camera([[*(shot(clock) for _ in range(50)), None]])
    source = source_of(camera, clock)
    frames = source.frames()
    indexes = [next(frames).index]
    source._thread.join(LIMIT_S)  # type: ignore[union-attr]  # it was started
    indexes += [frame.index for frame in frames]
    assert indexes[-1] == 49
    health = source.health()
    assert health.captured + health.dropped == 50


def test_pauses_double_up_to_the_longest_and_chance_shortens_them():
    assert [pause_s(n, 0.0) for n in range(1, 7)] == [0, 0.25, 0.5, 1.0, 2.0, 2.0]
    assert pause_s(3, 1.0) == 0.25
    assert pause_s(10_000, 0.0) == LONGEST_WAIT_S
