"""Which token comes next: what may be drawn, and that a seed repeats."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jetlift.runtime.errors import EngineLibraryError, UsageError
from jetlift.runtime.sampling import Sampler, SamplingOptions, candidates, probabilities

SCORES = arrays(
    np.float32, st.integers(1, 40), elements=st.floats(-50, 50, width=32) | st.just(-np.inf)
).filter(lambda scores: bool(np.isfinite(scores).any()))
TEMPERATURES = st.floats(1e-3, 1e3)
TOP_K, TOP_P, SEEDS = st.integers(1, 50), st.floats(0.01, 1.0), st.integers(0, 2**32 - 1)


@settings(deadline=None)
@given(SCORES, TEMPERATURES, TOP_K, SEEDS)
def test_top_k_never_picks_outside_the_k_best(scores, temperature, k, seed):
    options = SamplingOptions(temperature, top_k=k, seed=seed)
    sampler, least = Sampler(options), np.sort(scores)[::-1][:k].min()
    for _ in range(5):
        assert scores[sampler.pick(scores)] >= least
    assert len(candidates(scores, options)[0]) <= k


@settings(deadline=None)
@given(SCORES, TEMPERATURES, TOP_P, SEEDS)
def test_top_p_keeps_the_fewest_that_reach_it(scores, temperature, p, seed):
    options = SamplingOptions(temperature, top_p=p, seed=seed)
    ids, shares = candidates(scores, options)
    every = dict(zip(*map(list, candidates(scores, SamplingOptions(temperature))), strict=True))
    kept = [every[number] for number in ids.tolist()]
    assert kept == sorted(every.values(), reverse=True)[: len(kept)]
    assert sum(kept) >= p - 1e-9
    assert sum(kept[:-1]) < p + 1e-9
    assert shares.sum() == pytest.approx(1.0)
    assert Sampler(options).pick(scores) in ids


@settings(deadline=None)
@given(SCORES, st.none() | TOP_K, TOP_P)
def test_temperature_0_is_greedy_whatever_else_is_asked(scores, k, p):
    sampler = Sampler(SamplingOptions(0.0, top_k=k, top_p=p, seed=1))
    assert sampler.pick(scores) == int(np.argmax(scores))
    assert sampler.seed is None


@settings(deadline=None)
@given(SCORES, TEMPERATURES, TOP_P, SEEDS)
def test_a_seed_repeats(scores, temperature, p, seed):
    first, second = (Sampler(SamplingOptions(temperature, top_p=p, seed=seed)) for _ in range(2))
    assert [first.pick(scores) for _ in range(8)] == [second.pick(scores) for _ in range(8)]


@given(SCORES, TEMPERATURES)
def test_what_must_not_be_taken_is_never_a_candidate(scores, temperature):
    ids, shares = candidates(scores, SamplingOptions(temperature))
    assert np.isfinite(scores[ids]).all()
    assert (np.diff(shares) <= 1e-15).all()


def test_draws_follow_the_probabilities():
    scores = np.log(np.array([0.5, 0.3, 0.15, 0.05]))
    sampler = Sampler(SamplingOptions(1.0, seed=7))
    counts = np.bincount([sampler.pick(scores) for _ in range(20_000)], minlength=4) / 20_000
    np.testing.assert_allclose(counts, [0.5, 0.3, 0.15, 0.05], atol=0.012)


def test_a_chosen_seed_is_told_and_repeats_its_draws():
    scores = np.zeros(1000)
    chance = Sampler(SamplingOptions(1.0))
    drawn = [chance.pick(scores) for _ in range(5)]
    again = Sampler(SamplingOptions(1.0, seed=chance.seed))
    assert [again.pick(scores) for _ in range(5)] == drawn


def test_of_equal_scores_the_lower_ids_are_kept():
    ids, _ = candidates(np.array([1.0, 3.0, 3.0, 3.0, 5.0]), SamplingOptions(1.0, top_k=3))
    assert ids.tolist() == [4, 1, 2]


def test_the_smallest_temperature_is_the_best_and_nothing_overflows():
    assert Sampler(SamplingOptions(5e-324, seed=1)).pick(np.array([1.0, 2.0, 1.5])) == 1


@pytest.mark.parametrize(
    "wrong",
    [{"temperature": -0.1}, {"temperature": float("nan")}, {"temperature": float("inf")},
     {"top_p": 0.0}, {"top_p": 1.1}, {"top_p": float("nan")}, {"top_k": 0}, {"seed": -1},
     {"seed": 2**32}],
)  # fmt: skip
def test_options_out_of_their_range_are_refused(wrong):
    with pytest.raises(UsageError, match=r"Got (a|the|top)"):
        SamplingOptions(**wrong)


@pytest.mark.parametrize("scores", [[1.0, np.nan], [1.0, np.inf], [-np.inf, -np.inf]])
def test_scores_that_are_no_numbers_end_the_run(scores):
    for temperature in (0.0, 1.0):
        with pytest.raises(EngineLibraryError, match="NaN or infinity"):
            Sampler(SamplingOptions(temperature)).pick(np.array(scores))


def test_probabilities_sum_to_1_along_the_last_axis():
    shares = probabilities(np.array([[1000.0, 1000.0], [-1000.0, 0.0]]))
    np.testing.assert_allclose(shares, [[0.5, 0.5], [0.0, 1.0]], atol=1e-12)
