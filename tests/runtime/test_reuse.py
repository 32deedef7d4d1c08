from __future__ import annotations

import gc
import threading

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jetlift.runtime.reuse import ReusedMemory


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def test_a_copy_equals_and_is_the_callers_own():
    copies, source = ReusedMemory(), np.arange(6, dtype=np.float32).reshape(2, 3)
    copy = copies.copy(source)
    source[:] = 0
    np.testing.assert_array_equal(copy, [[0, 1, 2], [3, 4, 5]])
    assert copy.dtype == np.float32
    assert copy.flags.writeable
    assert copy.flags.c_contiguous


def test_memory_is_used_again_only_when_every_view_is_gone():
    copies, source = ReusedMemory(), np.ones((4, 5), np.float32)
    first = copies.copy(source)
    place, view = address(first), first[1:, 2:].T
    del first
    gc.collect()
    second = copies.copy(source * 2)
    assert address(second) != place
    np.testing.assert_array_equal(view, 1)
    del view
    gc.collect()
    assert address(copies.copy(source * 3)) == place
    np.testing.assert_array_equal(second, 2)


def test_a_copy_outlives_what_made_it():
    copy = ReusedMemory().copy(np.full((3, 3), 7.0))
    gc.collect()
    np.testing.assert_array_equal(copy, 7)


def test_what_waits_has_a_limit():
    copies = ReusedMemory()
    held = [copies.copy(np.full(8, number, np.int64)) for number in range(50)]
    del held
    gc.collect()
    assert len(copies._spare) <= 4


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["float32", "float16", "int64", "bool"]),
            st.lists(st.integers(0, 4), max_size=3),
            st.booleans(),
        ),
        max_size=12,
    )
)
def test_held_copies_never_change(asked):
    """Whatever shapes follow each other, and whichever are let go."""
    copies, held = ReusedMemory(), []
    for number, (dtype, shape, keep) in enumerate(asked):
        source = np.full(shape, number % 2, dtype)
        copy = copies.copy(source)
        assert (copy.dtype, copy.shape) == (source.dtype, source.shape)
        if keep:
            held.append((copy, source))
    for copy, source in held:
        np.testing.assert_array_equal(copy, source)


def test_copies_let_go_in_another_thread_come_back():
    copies = ReusedMemory()
    place = address(copies.copy(np.zeros(1000)))
    gc.collect()
    copy = [copies.copy(np.zeros(1000))]
    assert address(copy[0]) == place
    thread = threading.Thread(target=copy.clear)
    thread.start()
    thread.join()
    assert address(copies.copy(np.zeros(1000))) == place
