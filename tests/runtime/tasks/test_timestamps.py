"""Rules for time stamps, against transformers' own on the same logits; and how they are read."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jetlift.runtime.tasks.timestamps import Piece, Reading, StampRules, read_stamps

END, UNTIMED, FIRST, VOCABULARY = 40, 45, 46, 46 + 120
RULES = StampRules(FIRST, END, UNTIMED)


@pytest.fixture(scope="module")
def reference():
    """transformers' WhisperTimeStampLogitsProcessor; the prompt is two tokens long."""
    from transformers import WhisperTimeStampLogitsProcessor

    asked = SimpleNamespace(
        no_timestamps_token_id=UNTIMED, eos_token_id=END, bos_token_id=END,
        max_initial_timestamp_index=50,
    )  # fmt: skip
    return WhisperTimeStampLogitsProcessor(asked, begin_index=2)


texts = st.integers(0, END - 1)
stamps = st.integers(FIRST, VOCABULARY - 1)
sequences = st.lists(st.one_of(texts, stamps), max_size=8)


@settings(max_examples=100, deadline=None)
@given(sequences, st.integers(0, 2**32 - 1), st.floats(0.1, 8.0))
def test_rules_equal_those_of_transformers(reference, tokens, seed, spread):
    logits = np.random.default_rng(seed).normal(0, spread, VOCABULARY).astype(np.float32)
    ids = torch.tensor([[END + 1, END + 2, *tokens]])
    wanted = reference(ids, torch.from_numpy(logits[None].copy()))[0].numpy()
    RULES.apply(logits, tokens)
    np.testing.assert_array_equal(np.isneginf(logits), np.isneginf(wanted))
    np.testing.assert_array_equal(logits[np.isfinite(logits)], wanted[np.isfinite(wanted)])


def _decoded(seed: int, length: int) -> list[int]:
    """What a model that knows nothing says under the rules."""
    random, tokens = np.random.default_rng(seed), []
    while len(tokens) < length:
        logits = random.normal(0, 3, VOCABULARY).astype(np.float32)
        logits[END + 1 : UNTIMED] = -np.inf  # controls are always suppressed
        RULES.apply(logits, tokens)
        token = int(logits.argmax())
        if token == END:
            break
        tokens.append(token)
    return tokens


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 40))
def test_whatever_the_logits_segments_are_in_order_and_last(seed, length):
    tokens = _decoded(seed, length)
    if tokens:
        assert FIRST <= tokens[0] <= FIRST + 50
    assert UNTIMED not in tokens
    reading = read_stamps(tokens, FIRST)
    ends = [piece.end for piece in reading.pieces]
    assert all(piece.tokens for piece in reading.pieces)
    assert None not in ends[:-1]
    assert all(piece.end is None or piece.start < piece.end for piece in reading.pieces)
    assert all(a.end <= b.start for a, b in itertools.pairwise(reading.pieces))
    if reading.heard is not None:
        assert reading.heard == ends[-1] > 0
    said = [token for piece in reading.pieces for token in piece.tokens]
    text = [token for token in tokens if token < FIRST]
    assert said == text[: len(said)]
    assert reading.goes_on == (len(said) < len(text))


def _at(*tokens):
    """Text below 100, time stamps from 100 on."""
    return read_stamps(tokens, 100)


def test_what_openai_whisper_would_do_with_each_kind_of_end():
    assert _at() == Reading((), None)
    assert _at(1, 2) == Reading((Piece(0, None, (1, 2)),), None)
    # One segment; a single time stamp at the end means silence up to the window's end.
    assert _at(100, 1, 105) == Reading((Piece(0, 5, (1,)),), None)
    assert _at(103, 1, 105, 106, 2, 110) == Reading((Piece(3, 5, (1,)), Piece(6, 10, (2,))), None)
    # A pair at the end: the next segment begins there.
    assert _at(100, 1, 105, 105) == Reading((Piece(0, 5, (1,)),), 5)
    # Speech goes on: what has no end is heard again in the next window.
    assert _at(100, 1, 105, 106, 2) == Reading((Piece(0, 5, (1,)),), 5, goes_on=True)
    assert _at(100, 100) == Reading((), None)
