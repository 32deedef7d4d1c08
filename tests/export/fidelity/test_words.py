"""Word errors, token agreement and the interval of a change, by themselves and on a toy decoder."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jetlift.export.fidelity.words import (
    WordMetric,
    align,
    error_rate_percent,
    normalise,
    paired_interval,
    token_agreement,
    word_errors,
)
from jetlift.runtime.errors import UsageError

sequences = st.lists(st.integers(0, 3), max_size=8)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("And so, my fellow: ask NOT!", ["and", "so", "my", "fellow", "ask", "not"]),
        ("don't \u2014 it\u2019s 'quoted'", ["don't", "it's", "quoted"]),
        ("state-of-the-art 3.5 km", ["state", "of", "the", "art", "3", "5", "km"]),
        ("  ", []),
        ("na\u00efve \uff26\uff35\uff2c\uff2c _x_", ["na\u00efve", "full", "x"]),
        ("' ''", []),
    ],
)
def test_words_are_compared_without_case_and_punctuation(text, words):
    assert normalise(text) == words


@settings(deadline=None)
@given(st.text(max_size=40))
def test_normalising_twice_changes_nothing(text):
    assert normalise(" ".join(normalise(text))) == normalise(text)


def _distance(wanted, got) -> int:
    """The textbook recursion."""
    if not wanted or not got:
        return len(wanted) + len(got)
    if wanted[0] == got[0]:
        return _distance(wanted[1:], got[1:])
    return 1 + min(
        _distance(wanted[1:], got[1:]), _distance(wanted[1:], got), _distance(wanted, got[1:])
    )


@settings(deadline=None)
@given(st.lists(st.integers(0, 2), max_size=5), st.lists(st.integers(0, 2), max_size=5))
def test_edits_equal_the_textbook(wanted, got):
    assert align(wanted, got).edits == _distance(wanted, got)


@settings(deadline=None)
@given(sequences, sequences)
def test_alignment_is_within_its_bounds(wanted, got):
    found, back = align(wanted, got), align(got, wanted)
    assert found == back
    assert abs(len(wanted) - len(got)) <= found.edits <= max(len(wanted), len(got))
    assert max(len(wanted), len(got)) - found.edits <= found.equal <= min(len(wanted), len(got))
    assert (found.edits == 0) == (wanted == got)


def test_word_error_rate_is_of_the_corpus_and_not_the_mean_of_its_utterances():
    pairs = [("one", "won"), ("a b c d e f g h i", "a b c d e f g h i")]
    errors, words = zip(*(word_errors(*pair) for pair in pairs), strict=True)
    assert (errors, words) == ((1, 0), (1, 9))
    assert error_rate_percent(errors, words) == pytest.approx(10.0)


def test_a_babbling_transcriber_has_more_errors_than_there_are_words():
    assert word_errors("yes", "no no no") == (3, 1)


def test_a_rate_of_no_words_is_refused():
    with pytest.raises(UsageError, match="No word was spoken"):
        error_rate_percent([0], [0])


def test_interval_of_no_change_is_nothing_and_repeats():
    assert paired_interval([1, 2, 0], [1, 2, 0], [10, 10, 10]) == (0.0, 0.0)
    first = paired_interval([1, 2, 0, 4], [2, 2, 1, 3], [10, 12, 9, 11])
    assert first == paired_interval([1, 2, 0, 4], [2, 2, 1, 3], [10, 12, 9, 11])
    assert first[0] < first[1]


def test_interval_covers_the_truth_about_as_often_as_it_says():
    """200 corpora of 60 utterances from one population, whose change is +1 point."""
    random, held = np.random.default_rng(1), 0
    for _ in range(200):
        words = random.integers(8, 15, 60)
        errors = random.binomial(words, 0.25)
        other = errors + random.binomial(words, 0.05) - random.binomial(words, 0.04)
        low, high = paired_interval(errors, other, words, draws=500)
        held += low <= 1.0 <= high
    assert 180 <= held <= 199  # 95 % of 200 is 190


def test_the_interval_is_paired():
    """Both systems err alike, so the change is sure although the rate is not."""
    random = np.random.default_rng(2)
    words = np.full(50, 10)
    errors = random.integers(0, 9, 50)
    low, high = paired_interval(errors, errors + 1, words)
    assert low == pytest.approx(10.0)
    assert high == pytest.approx(10.0)


@settings(deadline=None)
@given(st.lists(sequences, min_size=1, max_size=4))
def test_tokens_agree_with_themselves(rows):
    assert token_agreement(rows, rows) == 1.0


def test_token_agreement_survives_a_shift():
    assert token_agreement([[1, 2, 3, 4]], [[9, 1, 2, 3, 4]]) == pytest.approx(4 / 5)
    assert token_agreement([[1, 2]], [[]]) == 0.0


# A toy decoder: the first value of an utterance's output says how many of its words are heard.
WORDS = ("alpha", "beta", "gamma", "delta")


def _toy(transcripts) -> tuple[WordMetric, list[int]]:
    batches: list[int] = []

    def decode(outputs, limits):
        (hidden,) = outputs.values()
        batches.append(len(hidden))
        return [
            tuple(range(int(row[0, 0])))[:limit] for row, limit in zip(hidden, limits, strict=True)
        ]

    metric = WordMetric(decode, lambda ids: " ".join(WORDS[i] for i in ids), transcripts)
    return metric, batches


def _outputs(*heard: float) -> dict[str, list[np.ndarray]]:
    return {"hidden": [np.array([[[count, 1.0]]], np.float32) for count in heard]}


def test_metric_counts_words_against_the_truth_and_tokens_against_fp32():
    metric, batches = _toy(["alpha beta", "alpha beta gamma"])
    figures = metric.figures(_outputs(2, 3), _outputs(2, 1))
    assert figures["wer_fp32"] == 0.0
    assert figures["wer"] == pytest.approx(100 * 2 / 5)
    assert figures["token_agreement"] == pytest.approx(3 / 5)
    assert figures["wer_change_low"] <= 40.0 <= figures["wer_change_high"]
    assert figures["cosine_min"] < figures["cosine_mean"] < 1
    assert set(metric.names) == set(figures)
    assert batches == [2, 2]


def test_metric_decodes_the_same_reference_once():
    metric, batches = _toy(["alpha"] * 9)
    reference = _outputs(*[1.0] * 9)
    metric.figures(reference, reference)
    metric.figures(reference, _outputs(*[1.0] * 9))
    assert batches == [8, 1] * 3  # once the reference, twice a variant, in batches of 8


def test_outputs_that_are_not_finite_hear_nothing():
    metric, _ = _toy(["alpha beta", "alpha"])
    figures = metric.figures(_outputs(2, 1), _outputs(float("nan"), 1))
    assert figures["wer"] == pytest.approx(100 * 2 / 3)
    assert metric.loss(figures) > 0
    same = metric.figures(_outputs(2, 1), _outputs(2, 1))
    assert metric.loss(same) == pytest.approx(0, abs=1e-12)
