"""A queue before a peer that fails, is slow, hangs, comes back, or refuses."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from helpers.outlet_results import LIMIT_S, result, threads_named, wait_until
from hypothesis import given
from hypothesis import strategies as st

from jetlift.runtime.clock import FakeClock
from jetlift.runtime.errors import MachineError, UsageError
from jetlift.runtime.outlets.peers import Backoff, Peer, PeerAway, PeerRefused
from jetlift.runtime.outlets.queued import QueuedSink

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jetlift.runtime.pipeline.form import Result


class Wire(Peer[int]):
    """A peer whose ways a test decides; it takes results while `free` is set."""

    def __init__(self) -> None:
        self.free, self.entered, self.cut = (threading.Event() for _ in range(3))
        self.free.set()
        self.got: list[tuple[int, ...]] = []
        self.away_at_open = self.away_at_send = self.opened = self.closed = 0
        self.refused: set[int] = set()
        self.broken: BaseException | None = None
        self.wait_s = 0.0
        self.gone = False

    @property
    def lost(self) -> bool:
        return self.gone

    def prepare(self, result: Result) -> int | None:
        return result.item.index if result.item.index >= 0 else None

    def open(self) -> None:
        self.opened += 1
        self.gone = False
        if self.broken is not None:
            raise self.broken
        if self.away_at_open:
            self.away_at_open -= 1
            raise PeerAway("Nobody answers.")

    def send(self, payloads: Sequence[int]) -> None:
        self.entered.set()
        while not self.free.wait(0.01):
            if self.cut.is_set():
                raise PeerAway("It was interrupted.")
        if self.away_at_send:
            self.away_at_send -= 1
            raise PeerAway("The line was cut.", wait_s=self.wait_s)
        if self.refused & set(payloads):
            raise PeerRefused("Not these.")
        self.got.append(tuple(payloads))

    def close(self) -> None:
        self.closed += 1

    def interrupt(self) -> None:
        self.cut.set()


def sink_on(wire: Wire, **options: object) -> QueuedSink[int]:
    options = {"grace_s": LIMIT_S} | options
    return QueuedSink("wire", wire, **options)  # type: ignore[arg-type]


def test_results_arrive_in_order_and_are_counted() -> None:
    wire = Wire()
    with sink_on(wire) as sink:
        assert (sink.name, sink.wants_pictures) == ("wire", False)
        for index in range(20):
            sink.write(result(index))
    assert wire.got == [(index,) for index in range(20)]
    health = sink.health()
    assert (health.written, health.dropped, health.trouble) == (20, 0, "")
    assert not health.connected
    assert not threads_named("sink-wire")


def test_a_full_queue_gives_up_its_oldest() -> None:
    wire = Wire()
    wire.free.clear()
    with sink_on(wire, capacity=3) as sink:
        sink.write(result(0))
        assert wire.entered.wait(LIMIT_S)
        for index in range(1, 11):  # returns at once although nobody takes anything
            sink.write(result(index))
        assert sink.health().dropped == 7
        assert sink.health().connected
        wire.free.set()
    assert wire.got == [(0,), (8,), (9,), (10,)]
    assert (sink.health().written, sink.health().dropped) == (4, 7)


def test_a_peer_that_is_away_is_tried_again_after_longer_pauses() -> None:
    wire, clock = Wire(), FakeClock()
    wire.away_at_open = 8
    with sink_on(wire, clock=clock, backoff=Backoff(1, 2, 20)) as sink:
        sink.write(result(0))
        wait_until(lambda: wire.got == [(0,)])
        assert clock.waited_s[:8] == pytest.approx([1, 2, 4, 8, 16, 20, 20, 20])
        health = sink.health()
    assert health.connected
    assert health.trouble == "Nobody answers."
    assert wire.opened == 9


def test_what_was_on_its_way_goes_first_the_next_time_and_pauses_begin_short_again() -> None:
    wire, clock = Wire(), FakeClock()
    wire.away_at_send = 3
    with sink_on(wire, clock=clock, backoff=Backoff(1, 2, 20)) as sink:
        sink.write(result(0))
        sink.write(result(1))
        wait_until(lambda: len(wire.got) == 2)
        wire.away_at_send, wire.wait_s = 1, 77.0  # it asks for more than one would wait
        sink.write(result(2))
        wait_until(lambda: len(wire.got) == 3)
        assert clock.waited_s[:4] == pytest.approx([1, 2, 4, 77.0])
    assert wire.got == [(0,), (1,), (2,)]
    assert sink.health().trouble == "The line was cut."
    assert wire.closed >= 4


def test_what_comes_back_to_a_full_queue_is_the_oldest_and_goes() -> None:
    wire = Wire()
    wire.free.clear()
    wire.away_at_send = 1
    with sink_on(wire, capacity=2, backoff=Backoff(0.01, 1, 0.01)) as sink:
        sink.write(result(0))
        assert wire.entered.wait(LIMIT_S)
        sink.write(result(1))
        sink.write(result(2))
        wire.free.set()
    assert wire.got == [(1,), (2,)]
    assert (sink.health().written, sink.health().dropped) == (2, 1)


def test_refused_results_are_counted_and_not_sent_again() -> None:
    wire = Wire()
    wire.refused = {1}
    with sink_on(wire) as sink:
        for index in (0, 1, 2, -1):  # the last holds nothing for this peer
            sink.write(result(index))
    assert wire.got == [(0,), (2,)]
    assert (sink.health().written, sink.health().dropped) == (2, 2)


def test_batches_fill_while_the_peer_is_busy() -> None:
    wire = Wire()
    wire.free.clear()
    with sink_on(wire, batch=4) as sink:
        sink.write(result(0))
        assert wire.entered.wait(LIMIT_S)
        for index in range(1, 7):
            sink.write(result(index))
        wire.free.set()
    assert wire.got == [(0,), (1, 2, 3, 4), (5, 6)]


def test_lingering_waits_for_a_whole_batch_and_the_end_waits_for_none() -> None:
    wire = Wire()
    with sink_on(wire, batch=3, linger_s=LIMIT_S) as sink:
        for index in range(4):
            sink.write(result(index))
        wait_until(lambda: bool(wire.got))
        assert wire.got == [(0, 1, 2)]
    assert wire.got == [(0, 1, 2), (3,)]


def test_an_error_ends_the_sink_without_emptying_it() -> None:
    wire = Wire()
    wire.free.clear()
    with pytest.raises(KeyboardInterrupt), sink_on(wire) as sink:
        for index in range(5):
            sink.write(result(index))
        assert wire.entered.wait(LIMIT_S)
        raise KeyboardInterrupt
    assert wire.got == []
    assert wire.cut.is_set()
    assert sink.health().dropped == 5
    assert not threads_named("sink-wire")


def test_a_peer_that_hangs_is_interrupted_when_the_grace_is_over() -> None:
    wire = Wire()
    wire.free.clear()
    with sink_on(wire, grace_s=0.0) as sink:
        sink.write(result(0))
        assert wire.entered.wait(LIMIT_S)
    assert wire.cut.is_set()
    assert (sink.health().written, sink.health().dropped) == (0, 1)
    assert not threads_named("sink-wire")


def test_a_normal_end_cuts_a_long_pause_short_and_tries_again() -> None:
    wire = Wire()
    wire.away_at_open = 1
    with sink_on(wire, backoff=Backoff(LIMIT_S * 20, 1, LIMIT_S * 20)) as sink:
        sink.write(result(0))
        wait_until(lambda: bool(sink.health().trouble))
    assert wire.got == [(0,)]


def test_the_end_gives_up_a_peer_that_stays_away() -> None:
    wire = Wire()
    wire.away_at_open = 10**9
    with sink_on(wire, grace_s=0.05, backoff=Backoff(LIMIT_S, 1, LIMIT_S)) as sink:
        sink.write(result(0))
    assert sink.health().dropped == 1
    assert not threads_named("sink-wire")


def test_a_sink_without_results_ends_without_waiting_for_its_peer() -> None:
    wire = Wire()
    wire.away_at_open = 10**9
    with sink_on(wire, backoff=Backoff(LIMIT_S * 20, 1, LIMIT_S * 20)) as sink:
        wait_until(lambda: bool(sink.health().trouble))
    assert not threads_named("sink-wire")


def test_an_idle_connection_that_went_is_made_again() -> None:
    wire = Wire()
    with sink_on(wire) as sink:
        sink.write(result(0))
        wait_until(lambda: wire.got == [(0,)])
        wire.gone = True
        assert not sink.health().connected
        wait_until(lambda: wire.opened == 2)
        wait_until(lambda: sink.health().connected)


@pytest.mark.parametrize("error", [MachineError("No such program"), ZeroDivisionError("a bug")])
def test_what_is_no_fault_of_the_peer_ends_the_run(error: Exception) -> None:
    wire = Wire()
    wire.broken = error
    with pytest.raises(type(error), match=r"No such|a bug"), sink_on(wire) as sink:
        wait_until(lambda: not threads_named("sink-wire") or sink._work_done.done())
        sink.write(result(0))
    with pytest.raises(type(error)), sink_on(wire):
        pass  # told at the end where nothing was written since
    assert not threads_named("sink-wire")


def test_a_sink_is_written_inside_its_block_and_opened_once() -> None:
    sink = sink_on(Wire())
    with pytest.raises(UsageError, match="written to wire"):
        sink.write(result(0))
    with sink, pytest.raises(UsageError, match="twice"):
        sink.__enter__()
    with pytest.raises(UsageError, match="written to wire"):
        sink.write(result(0))
    sink.__exit__(None, None, None)


@pytest.mark.parametrize(
    "options", [{"capacity": 0}, {"batch": 3, "capacity": 2}, {"linger_s": -1}, {"grace_s": -1}]
)
def test_numbers_that_cannot_be(options: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="Sink wire got"):
        sink_on(Wire(), **options)


@given(st.integers(1, 10**9), st.floats(0.01, 10), st.floats(1, 100), st.floats(10, 1000))
def test_pauses_grow_up_to_the_longest(failures: int, first: float, factor: float, most: float):
    backoff = Backoff(first, factor, most)
    assert first <= backoff.pause_s(failures) <= backoff.pause_s(failures + 1) <= most


def test_a_backoff_that_cannot_be() -> None:
    with pytest.raises(UsageError, match="first_s"):
        Backoff(3, 2, 1)
