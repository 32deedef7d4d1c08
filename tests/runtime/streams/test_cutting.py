from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jetlift.runtime.audio import read_sound
from jetlift.runtime.streams.cutting import CONTEXT_S, Cutter
from jetlift.runtime.voice import WIDEN_S, voiced

RATE = 8000


def noise(seconds: float, rms: float) -> np.ndarray:
    return np.random.default_rng(0).normal(0, rms, round(seconds * RATE)).astype(np.float32)


def cut(samples: np.ndarray, chunk: int = 2000, longest_s: float = 30.0) -> list:
    cutter, windows = Cutter(RATE, longest_s), []
    for start in range(0, len(samples), chunk):
        windows += cutter.push(samples[start : start + chunk])
    return windows + cutter.flush()


def test_two_words_with_a_pause_are_two_windows():
    quiet = noise(3, 1e-4)
    samples = np.concatenate([quiet, noise(1, 0.2), quiet, noise(2, 0.2), quiet])
    windows = cut(samples)
    spans = [(window.start / RATE, window.end / RATE) for window in windows]
    wanted = [(3 - WIDEN_S, 4 + WIDEN_S), (7 - WIDEN_S, 9 + WIDEN_S)]
    np.testing.assert_allclose(spans, wanted, atol=0.3)
    for window in windows:
        np.testing.assert_array_equal(window.samples, samples[window.start : window.end])


def test_a_window_comes_before_the_sound_ends():
    cutter = Cutter(RATE, 30)
    assert cutter.push(np.concatenate([noise(3, 1e-4), noise(1, 0.2)])) == []
    assert len(cutter.push(noise(1.0, 1e-4))) == 1


def test_silence_makes_no_window_and_is_not_kept():
    cutter = Cutter(RATE, 30)
    for _ in range(60):
        assert cutter.push(noise(1, 1e-4)) == []
    assert len(cutter._kept) <= (CONTEXT_S + 1) * RATE
    assert cutter.flush() == []


def test_long_speech_is_cut_at_a_quiet_moment():
    speech = np.tile(np.concatenate([noise(1.5, 0.2), noise(0.3, 0.001)]), 18)
    windows = cut(np.concatenate([noise(3, 1e-4), speech]), longest_s=10)
    assert all(len(window.samples) <= 10 * RATE for window in windows)
    assert len(windows) >= 3
    for window in windows[:-1]:
        assert np.abs(window.samples[-80:]).max() < 0.01


def test_a_gap_is_in_no_window():
    cutter = Cutter(RATE, 30)
    assert cutter.push(np.concatenate([noise(3, 1e-4), noise(1, 0.2)])) == []
    (before,) = cutter.skip(5 * RATE)
    assert before.end == 4 * RATE
    cutter.push(np.concatenate([noise(3, 1e-4), noise(1, 0.2)]))
    (behind,) = cutter.flush()
    assert behind.start == pytest.approx((9 + 3 - WIDEN_S) * RATE, abs=0.1 * RATE)


def test_all_of_real_speech_is_in_the_windows(speech):
    sound = read_sound(speech)
    quiet = np.zeros(2 * sound.sample_rate_hz, np.float32)
    samples = np.concatenate([quiet, sound.samples, quiet])
    cutter, windows = Cutter(sound.sample_rate_hz, 5.0), []
    for start in range(0, len(samples), 4000):
        windows += cutter.push(samples[start : start + 4000])
    windows += cutter.flush()
    heard = sum(len(window.samples) for window in windows)
    wanted = sum(end - start for start, end in voiced(samples, sound.sample_rate_hz))
    assert heard >= 0.9 * wanted
    assert all(len(window.samples) <= 5 * sound.sample_rate_hz for window in windows)


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.floats(0.1, 3), st.sampled_from([0, 1e-4, 0.01, 0.3])), max_size=12),
    st.integers(200, 9000),
    st.floats(1, 6),
)
def test_windows_are_pieces_of_the_sound_in_order(pieces, chunk, longest_s):
    samples = np.concatenate([noise(0.1, 0), *(noise(*piece) for piece in pieces)])
    windows = cut(samples, chunk, longest_s)
    assert all(len(window.samples) <= round(longest_s * RATE) for window in windows)
    assert all(first.end <= second.start for first, second in itertools.pairwise(windows))
    for window in windows:
        np.testing.assert_array_equal(window.samples, samples[window.start : window.end])
