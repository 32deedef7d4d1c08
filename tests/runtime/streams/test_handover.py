from __future__ import annotations

import threading

import pytest

from jetlift.runtime.streams.handover import Handover


def test_the_newest_is_taken_and_what_it_replaced_is_counted():
    handover = Handover[int]()
    for number in range(5):
        handover.put(number)
    assert handover.take() == 4
    assert handover.replaced == 4


def test_an_error_of_the_maker_reaches_the_taker_behind_what_it_made():
    handover = Handover[int]()
    with handover.feeding():
        handover.put(1)
        raise ZeroDivisionError
    assert handover.take() == 1
    with pytest.raises(ZeroDivisionError):
        handover.take()
    assert handover.take() is None


def test_closing_wakes_the_taker_and_forgets_what_lies_there():
    handover = Handover[int]()
    taken: list[int | None] = []
    taker = threading.Thread(target=lambda: taken.append(handover.take()))
    taker.start()
    handover.close()
    taker.join(10)
    assert taken == [None]
    handover.put(3)
    assert handover.take() is None


def test_things_pass_between_threads_in_order():
    handover = Handover[int]()

    def make() -> None:
        with handover.feeding():
            for number in range(1000):
                handover.put(number)

    threading.Thread(target=make).start()
    taken = []
    while (number := handover.take()) is not None:
        taken.append(number)
    assert taken == sorted(taken)
    assert taken[-1] == 999
    assert len(taken) + handover.replaced == 1000
