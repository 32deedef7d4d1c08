from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jetlift.runtime.tasks import search_exact
from jetlift.runtime.tasks.search_exact import nearest_rows, stored, unit_rows

WHOLE = st.integers(-3, 3)  # products of small whole numbers tie often


@given(
    rows=st.lists(st.tuples(WHOLE, WHOLE, WHOLE).filter(any), min_size=1, max_size=60),
    query=st.tuples(WHOLE, WHOLE, WHOLE).filter(any),
    count=st.integers(1, 12),
    block=st.integers(1, 70),
)
def test_the_best_are_found_in_order_whatever_the_blocks(rows, query, count, block):
    vectors = np.array(rows, np.float16)
    direction = unit_rows(np.array([query], np.float16))
    before = search_exact._BLOCK
    search_exact._BLOCK = block
    try:
        (found,) = nearest_rows(vectors, direction, count)
    finally:
        search_exact._BLOCK = before
    scores = unit_rows(vectors) @ direction[0]
    assert len(found) == min(count, len(rows))
    assert len(set(found)) == len(found)
    plain = np.sort(scores)[::-1][: len(found)]
    np.testing.assert_allclose(scores[found], plain, atol=1e-6)


@given(st.integers(0, 2**32 - 1), st.integers(1, 400))
def test_a_stored_vector_scores_one_with_itself_and_others_by_less_than_a_thousandth(seed, size):
    random = np.random.default_rng(seed)
    vectors = random.standard_normal((2, size)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    kept = unit_rows(stored(vectors))
    assert abs(float(kept[0] @ vectors[0]) - 1) < 1e-6
    assert abs(float(kept[0] @ vectors[1]) - float(vectors[0] @ vectors[1])) < 1e-3


def test_a_zero_row_gives_no_nan():
    assert not unit_rows(np.zeros((2, 3), np.float16)).any()
