from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jetlift.runtime.errors import InputError, UsageError
from jetlift.runtime.tasks import patchcore
from jetlift.runtime.tasks.patchcore import Memory


def features(*shape: int, seed: int = 0, spread: float = 1.0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return (spread * random.standard_normal(shape) + 3).astype(np.float32)


def plain_coreset(points: np.ndarray, count: int, first: int) -> list[int]:
    """Algorithm 1 of the paper, word for word, every distance from its definition."""
    chosen = [first]
    while len(chosen) < count:
        gaps = [min(math.dist(point, points[kept]) for kept in chosen) for point in points]
        chosen.append(int(np.argmax(gaps)))
    return chosen


def plain_score(bank: np.ndarray, tokens: np.ndarray, neighbours: int) -> float:
    """Eq. 6 and 7 of the paper, every distance from its definition."""
    nearest = [min(range(len(bank)), key=lambda m: math.dist(t, bank[m])) for t in tokens]
    gaps = [math.dist(t, bank[m]) for t, m in zip(tokens, nearest, strict=True)]
    oddest = int(np.argmax(gaps))
    entry = bank[nearest[oddest]]
    around = sorted(bank, key=lambda m: math.dist(m, entry))[:neighbours]
    total = sum(math.exp(math.dist(tokens[oddest], m)) for m in around)
    return (1 - math.exp(gaps[oddest]) / total) * gaps[oddest]


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 40), st.integers(2, 12), st.integers(1, 30), st.integers(0, 5))
def test_the_coreset_is_that_of_the_paper(points: int, dims: int, count: int, seed: int) -> None:
    drawn = features(points, dims, seed=seed)
    count = min(count, points)
    got = patchcore.coreset(drawn, count, seed).tolist()  # so few dimensions are not projected
    assert got == plain_coreset(drawn.astype(np.float64), count, got[0])


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 30), st.integers(1, 20), st.integers(1, 8), st.integers(0, 5))
def test_distances_are_those_to_the_nearest_entry(
    entries: int, patches: int, dims: int, seed: int
) -> None:
    bank, tokens = features(entries, dims, seed=seed), features(patches, dims, seed=seed + 9)
    distances, _ = Memory(bank).judge(tokens)
    exact = np.linalg.norm(tokens[:, None].astype(np.float64) - bank[None], axis=2).min(axis=1)
    np.testing.assert_allclose(distances, exact, rtol=1e-5, atol=1e-6)


def test_distances_are_those_of_scikit_learn() -> None:
    neighbors = pytest.importorskip("sklearn.neighbors")
    bank, tokens = features(500, 384, spread=4), features(2100, 384, seed=1, spread=5)
    theirs, indices = neighbors.NearestNeighbors(algorithm="brute").fit(bank).kneighbors(tokens, 1)
    distances, nearest = Memory(bank)._nearest(tokens)  # more rows than one block
    np.testing.assert_allclose(distances, theirs[:, 0], rtol=1e-5)
    np.testing.assert_array_equal(nearest, indices[:, 0])


@pytest.mark.parametrize("seed", range(6))
def test_the_score_is_re_weighted_as_in_the_paper(seed: int) -> None:
    bank, tokens = features(30, 6, seed=seed), features(16, 6, seed=seed + 50)
    _, score = Memory(bank).judge(tokens)
    wanted = plain_score(bank.astype(np.float64), tokens.astype(np.float64), patchcore.NEIGHBOURS)
    assert score == pytest.approx(wanted, rel=1e-4)


def test_a_memory_of_one_entry_scores_the_plain_distance() -> None:
    distances, score = Memory(features(1, 4)).judge(features(5, 4, seed=2))
    assert score == pytest.approx(float(distances.max()))


def test_distances_that_would_overflow_still_give_a_score() -> None:
    bank = np.array([[0.0], [5000.0], [-9000.0]], np.float32)
    _, score = Memory(bank).judge(np.array([[2000.0]], np.float32))
    assert score == pytest.approx(2000.0)  # the others are so far that the weight is one


def test_what_is_remembered_scores_nothing_and_what_is_not_scores_more() -> None:
    good = features(8, 16, 5)
    memory = patchcore.remember(good, seed=0, share=1.0)
    distances, score = memory.judge(good[3])
    assert distances.max() < 1e-3
    assert score < 1e-3
    assert memory.judge(good[3] + 4)[1] > 1


def test_the_share_decides_how_much_is_kept_and_the_seed_what() -> None:
    good = features(6, 20, 300)
    sizes = [len(patchcore.remember(good, 0, share).bank) for share in (0.05, 0.25, 1.0)]
    assert sizes == [6, 30, 120]
    first, again, other = (patchcore.remember(good, seed).bank for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_no_more_is_kept_than_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patchcore, "MOST_ENTRIES", 7)
    assert len(patchcore.remember(features(6, 20, 3), 0).bank) == 7


def test_equal_patches_are_kept_once() -> None:
    good = np.repeat(features(2, 3, 4), 10, axis=1)  # 60 patches, 6 of them different
    assert len(patchcore.remember(good, 0, share=1.0).bank) == 6


def test_a_coreset_on_a_projection_takes_one_of_each_group_however_rare() -> None:
    groups = np.repeat(np.arange(20), [200, *[3] * 19])
    points = features(20, 384, spread=9, seed=7)[groups] + features(257, 384)
    kept = patchcore.coreset(points, 20, 0)
    assert sorted(groups[kept].tolist()) == list(range(20))


def test_too_few_equal_or_a_wrong_share_are_refused() -> None:
    with pytest.raises(InputError, match="Got 1 good pictures"):
        patchcore.remember(features(1, 4, 3), 0)
    with pytest.raises(InputError, match="all the same"):
        patchcore.remember(np.repeat(features(1, 4, 3), 5, axis=0), 0)
    for share in (0.0, 1.1):
        with pytest.raises(UsageError, match="share"):
            patchcore.remember(features(3, 4, 3), 0, share)
