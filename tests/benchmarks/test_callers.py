from __future__ import annotations

import itertools
import signal
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetlift.benchmarks.callers import call_together
from jetlift.runtime.clock import FakeClock
from jetlift.runtime.errors import EngineLibraryError

PATIENCE_S = 60.0


def test_all_callers_begin_together_and_stop_at_the_most_runs() -> None:
    seen: list[set[int]] = [set(), set(), set()]
    callers = [lambda index, own=own: own.add(index) for own in seen]
    calls = call_together(callers, limit_s=PATIENCE_S, max_runs=5, warmup_runs=2)
    assert seen == [set(range(7))] * 3
    assert len(calls.samples_ms) == 15
    assert calls.runs_per_s > 0


def test_callers_are_threads_that_run_at_once() -> None:
    meeting = threading.Barrier(3)  # passed only if three are in it at the same time

    def meet(_index: int) -> None:
        meeting.wait(PATIENCE_S)

    calls = call_together([meet] * 3, limit_s=PATIENCE_S, max_runs=4, warmup_runs=1)
    assert len(calls.samples_ms) == 12


@given(st.lists(st.integers(1, 50), min_size=1, max_size=1), st.integers(1, 20))
def test_the_time_limit_ends_a_caller_after_the_run_it_is_in(
    run_s: list[int], limit_s: int
) -> None:
    clock = FakeClock()
    calls = call_together(
        [lambda _index: clock.advance(run_s[0])],
        limit_s=limit_s, max_runs=1000, clock=clock, warmup_runs=0,
    )  # fmt: skip
    assert len(calls.samples_ms) == -(-limit_s // run_s[0])
    assert set(calls.samples_ms) == {run_s[0] * 1e3}
    assert calls.runs_per_s == pytest.approx(1 / run_s[0])


@pytest.mark.parametrize("fails_at", [0, 1, 5])
def test_one_that_fails_ends_the_others_and_its_error_is_raised(fails_at: int) -> None:
    before = threading.active_count()

    def fail(index: int) -> None:
        if index == fails_at:
            raise EngineLibraryError("the library fell over")

    with pytest.raises(EngineLibraryError, match="fell over"):
        call_together(
            [lambda _index: None, fail], limit_s=PATIENCE_S, max_runs=10**9, warmup_runs=2
        )
    assert threading.active_count() == before


def test_a_slow_one_does_not_keep_the_others_from_their_runs() -> None:
    done = threading.Event()
    counted = itertools.count(1)

    def fast(_index: int) -> None:
        if next(counted) == 200:
            done.set()

    def slow(index: int) -> None:
        if index:
            assert done.wait(PATIENCE_S)

    calls = call_together([fast, slow], limit_s=PATIENCE_S, max_runs=300, warmup_runs=1)
    assert len(calls.samples_ms) == 600


def test_an_interrupt_ends_every_thread() -> None:
    before = threading.active_count()

    main = threading.main_thread().ident

    def interrupt_once(index: int) -> None:
        if index == 10:
            signal.pthread_kill(main, signal.SIGINT)  # a real one, which ends what waits

    with pytest.raises(KeyboardInterrupt):
        call_together([interrupt_once, lambda _index: None], limit_s=PATIENCE_S, max_runs=10**9)
    assert threading.active_count() == before
