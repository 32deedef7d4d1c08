from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
import pytest
from helpers.search_index import STAMP, directions

from jetlift.benchmarks import search_bench
from jetlift.benchmarks.search_bench import drawn_around, exact_rows, recall


def test_drawn_vectors_have_the_mean_and_covariance_of_the_real_ones():
    real = directions(200, 6)
    drawn = drawn_around(real, 40_000, seed=1, noise=0.7)
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), 1, atol=1e-5)
    # Before they are brought to length 1 the two agree; after it, directions do.
    angle = drawn.mean(axis=0) @ real.mean(axis=0)
    assert angle / np.linalg.norm(drawn.mean(axis=0)) / np.linalg.norm(real.mean(axis=0)) > 0.98
    assert not np.array_equal(drawn[:50], drawn_around(real, 50, seed=2, noise=0.7))
    np.testing.assert_array_equal(
        drawn_around(real, 50, seed=2, noise=0.7), drawn_around(real, 50, seed=2, noise=0.7)
    )
    near = drawn_around(real, 50, seed=1, noise=0.0)
    assert (near @ real.T).max(axis=1).min() > 0.999


def test_the_truth_is_that_of_a_plain_sort(monkeypatch):
    monkeypatch.setattr(search_bench, "_BLOCK", 70)
    vectors, queries = directions(300, 8), directions(20, 8, seed=1)
    plain = np.argsort(-(queries @ vectors.T), axis=1)[:, :10]
    assert recall(exact_rows(vectors, queries), plain) == 1.0


def test_recall_counts_what_was_found_in_any_order():
    true = np.arange(20).reshape(2, 10)
    assert recall(true[:, ::-1], true) == 1.0
    assert recall(np.where(true % 10 < 5, true, -1), true) == 0.5


def test_the_index_finds_what_it_must_among_20_000(tmp_path, capsys):
    """The benchmark's own path in its short form: made, saved, opened in fresh processes, asked."""
    pytest.importorskip("faiss")
    asked = argparse.Namespace(count=20_000, queries=40, noise=0.7, scans=True)
    found = search_bench.bench(directions(300, 32), replace(STAMP), tmp_path, asked)
    assert found >= search_bench.RECALL
    printed = capsys.readouterr().out
    assert printed.count("recall") >= 4
    for row in ("index", *search_bench.SCANS):
        assert f"\n{row} " in printed
