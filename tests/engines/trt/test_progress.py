"""How far a build is: phases in each other, told by several threads."""

from __future__ import annotations

import threading

from hypothesis import given, settings
from hypothesis import strategies as st

from jetlift.engines.trt.progress import Phases


def told() -> tuple[Phases, list[tuple[str, float]]]:
    found: list[tuple[str, float]] = []
    return Phases(lambda name, share: found.append((name, share))), found


def test_a_phase_within_another_is_part_of_its_step() -> None:
    phases, found = told()
    phases.start("whole", None, 2)
    phases.start("half", "whole", 4)
    phases.step("half")
    assert found[-1] == ("half", 0.125)
    phases.finish("half")
    phases.step("whole")
    assert found[-1] == ("whole", 0.5)
    phases.step("whole")
    phases.finish("whole")
    assert found[-1] == ("whole", 1.0)


def test_what_was_never_started_is_passed_over() -> None:
    phases, found = told()
    phases.step("strange")
    phases.finish("strange")
    assert found == []


def test_small_gains_are_not_told() -> None:
    phases, found = told()
    phases.start("whole", None, 100_000)
    for _ in range(100_000):
        phases.step("whole")
    assert len(found) <= 102


NAME = st.sampled_from("abcd")
EVENT = st.one_of(
    st.tuples(st.just("start"), NAME, st.one_of(st.none(), NAME), st.integers(-1, 5)),
    st.tuples(st.just("step"), NAME),
    st.tuples(st.just("finish"), NAME),
)


@settings(deadline=None)
@given(st.lists(EVENT, max_size=60))
def test_whatever_is_told_the_share_never_goes_back_nor_over_one(events: list) -> None:
    phases, found = told()
    for kind, *arguments in events:
        getattr(phases, kind)(*arguments)
    shares = [share for _name, share in found]
    assert shares == sorted(shares)
    assert all(0 <= share <= 1 for share in shares)


def test_threads_may_tell_at_once() -> None:
    phases, found = told()
    phases.start("whole", None, 8)

    def run(name: str) -> None:
        phases.start(name, "whole", 500)
        for _ in range(500):
            phases.step(name)
        phases.finish(name)
        phases.step("whole")

    threads = [threading.Thread(target=run, args=(f"part {i}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    phases.finish("whole")
    shares = [share for _name, share in found]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
