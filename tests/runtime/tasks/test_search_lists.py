from __future__ import annotations

import sys

import numpy as np
import pytest
from helpers.search_index import directions, index_around, rows_of
from hypothesis import given
from hypothesis import strategies as st

from jetlift.runtime.errors import ArtefactError, MissingPackageError
from jetlift.runtime.tasks import search_build, search_lists
from jetlift.runtime.tasks.search_build import index_of, updated
from jetlift.runtime.tasks.search_exact import nearest_rows
from jetlift.runtime.tasks.search_index import Index
from jetlift.runtime.tasks.search_lists import Lists, is_outgrown, list_count

pytest.importorskip("faiss")


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return directions(3000, 24)


def share_found(index: Index, queries: np.ndarray, count: int = 10) -> float:
    truth = nearest_rows(index.tables.vectors, queries, count)
    found = [index.nearest_rows(query, count)[0] for query in queries]
    return float(np.mean([len(set(a) & set(b)) / count for a, b in zip(found, truth, strict=True)]))


def test_queries_that_are_not_in_it_find_what_an_exact_search_finds(vectors):
    index = index_around(vectors, "approximate")
    tuning = index.head.tuning
    assert tuning is not None
    assert (index.head.method, tuning.trained_on) == ("approximate", 3000)
    assert tuning.recall_at_10 >= search_lists.RECALL_WANTED or tuning.probes == tuning.lists
    assert share_found(index, directions(60, 24, seed=1)) >= 0.97


def test_scores_are_exact_and_what_is_in_it_finds_itself(vectors):
    exact, near = index_around(vectors), index_around(vectors, "approximate")
    for row in range(0, 3000, 211):
        hits, truth = near.nearest(vectors[row], 5), exact.nearest(vectors[row], 5)
        assert (hits[0].entry.index, hits[0].score) == (row, pytest.approx(1, abs=1e-6))
        scores = {hit.entry.index: hit.score for hit in truth}
        for hit in hits:
            assert hit.score == pytest.approx(scores.get(hit.entry.index, hit.score), abs=1e-6)
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_the_same_vectors_make_the_same_lists(vectors, tmp_path):
    for name in ("a", "b"):
        index_around(vectors, "approximate").lists.save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_rows_come_and_go_and_the_lists_follow(vectors):
    index = index_around(vectors[:2000], "approximate")
    trained = index.head.tuning
    dropped = np.zeros(2000, np.bool_)
    dropped[::4] = True
    after = updated(index, dropped, rows_of(vectors[2000:2500], start=2000), None)
    assert (len(after), len(after.lists)) == (2000, 2000)
    assert after.head.tuning == trained  # not made anew
    left = [*(row for row in range(2000) if row % 4), *range(2000, 2500)]
    assert [entry.index for entry in after.entries] == left
    assert after.nearest(vectors[2400], 1)[0].entry.index == 2400
    assert after.nearest(vectors[4], 1)[0].entry.index != 4
    assert share_found(after, directions(40, 24, seed=2)) >= 0.97
    assert len(set(after.tables.keys)) == 2000


def test_outgrown_lists_are_made_anew(vectors):
    index = index_around(vectors[:500], "approximate")
    after = updated(index, np.zeros(500, np.bool_), rows_of(vectors[500:], start=500), None)
    assert after.head.tuning is not None
    assert after.head.tuning.trained_on == 3000


def test_from_a_size_on_the_search_is_approximate(vectors, monkeypatch):
    monkeypatch.setattr(search_build, "APPROXIMATE_FROM", 1000)
    assert index_of_method(vectors[:999]) == "exact"
    assert index_of_method(vectors[:1000]) == "approximate"
    assert index_of_method(vectors[:1000], "exact") == "exact"
    small = index_around(vectors[:900])
    grown = updated(small, np.zeros(900, np.bool_), rows_of(vectors[900:1100], start=900), None)
    assert grown.head.method == "approximate"
    back = updated(grown, np.zeros(1100, np.bool_), rows_of(vectors[:0]), "exact")
    assert (back.head.method, back.head.tuning, back.lists) == ("exact", None, None)


def index_of_method(vectors, method=None) -> str:
    return index_of(index_around(vectors[:2]).head.stamp, rows_of(vectors), method).head.method


def test_without_faiss_the_extra_is_named_and_large_indexes_are_exact(
    vectors, tmp_path, monkeypatch
):
    index_around(vectors, "approximate").save(tmp_path / "i")
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.setattr(search_build, "_has_faiss", lambda: False)
    monkeypatch.setattr(search_build, "APPROXIMATE_FROM", 1000)
    with pytest.raises(MissingPackageError, match=r"jetlift\[search\]"):
        search_build.check_method("approximate")
    with pytest.raises(MissingPackageError, match=r"jetlift\[search\]") as caught:
        Index.load(tmp_path / "i")
    assert caught.value.exit_code == 4
    plain = index_around(vectors)
    assert plain.head.method == "exact"
    assert "faiss is not installed" in search_build.notices_of(plain, None)[0]


def test_a_file_that_faiss_cannot_read_is_refused(vectors, tmp_path):
    import faiss

    tuning = index_around(vectors[:100], "approximate").head.tuning
    (tmp_path / "x").write_bytes(b"none of it")
    with pytest.raises(ArtefactError, match="cannot be read by FAISS"):
        Lists.open(tmp_path / "x", tuning, mapped=False)
    faiss.write_index(faiss.IndexFlatIP(24), str(tmp_path / "flat"))
    with pytest.raises(ArtefactError, match="another index of FAISS"):
        Lists.open(tmp_path / "flat", tuning, mapped=False)


@pytest.mark.parametrize("rows", [1, 2, 3, 17])
def test_a_handful_can_be_in_lists_too(rows):
    vectors = directions(rows, 8)
    index = index_around(vectors, "approximate")
    assert index.nearest(vectors[0], 30)[0].entry.index == 0
    assert len(index.nearest(vectors[0], 30)) == rows


@given(st.integers(1, 10**9))
def test_there_are_no_more_lists_than_rows_and_never_too_many(rows):
    count = list_count(rows)
    assert 1 <= count <= min(rows, 4096)
    assert count >= min(rows, 16)


def test_outgrown_is_more_than_twice(vectors):
    tuning = index_around(vectors[:100], "approximate").head.tuning
    assert not is_outgrown(tuning, 200)
    assert is_outgrown(tuning, 201)
