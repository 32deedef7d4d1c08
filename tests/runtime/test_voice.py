"""The gate: silence and steady noise are held back at any level, speech never is."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jetlift.runtime.audio import read_sound
from jetlift.runtime.voice import PAUSE_S, WIDEN_S, voiced

RATE = 16_000


def _noise(seconds: float, rms: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, rms, int(seconds * RATE)).astype(np.float32)


def _hum(seconds: float) -> np.ndarray:
    return (0.3 * np.sin(np.arange(int(seconds * RATE)) * 2 * np.pi * 50 / RATE)).astype(np.float32)


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros(5 * RATE, np.float32),
        np.zeros(1, np.float32),
        np.ones(1, np.float32),
        np.full(3 * RATE, 0.5, np.float32),  # an offset
        _noise(20, 1e-4),
        _noise(20, 0.01),
        _noise(20, 0.3),
        _hum(10),
    ],
)
def test_silence_and_steady_noise_are_held_back(samples):
    assert voiced(samples, RATE) == []


def _at(*bursts: tuple[float, float], total_s: float, floor: float = 1e-4) -> np.ndarray:
    samples = _noise(total_s, floor)
    for start_s, end_s in bursts:
        length = int((end_s - start_s) * RATE)
        samples[int(start_s * RATE) :][:length] += _noise(length / RATE, 0.1, seed=1)[:length]
    return samples


def test_stretches_are_widened_and_joined_over_short_pauses():
    samples = _at((5, 6), (6.5 + PAUSE_S, 10), (18, 19), total_s=30)
    stretches = np.array(voiced(samples, RATE)) / RATE
    wanted = [(5 - WIDEN_S, 10 + WIDEN_S), (18 - WIDEN_S, 19 + WIDEN_S)]
    np.testing.assert_allclose(stretches, wanted, atol=0.04)


@pytest.mark.parametrize("snr_db", [30, 10, 5, 3])
def test_speech_passes_in_noise(speech, snr_db):
    sound = read_sound(speech)
    rms = float(np.sqrt(np.mean(np.square(sound.samples))))
    noise = _noise(len(sound.samples) / RATE, rms / 10 ** (snr_db / 20))[: len(sound.samples)]
    quiet = noise[: 2 * sound.sample_rate_hz]
    mixed = np.concatenate([quiet, sound.samples + noise, quiet]).astype(np.float32)
    stretches = voiced(mixed, sound.sample_rate_hz)
    heard = sum(end - start for start, end in stretches) / sound.sample_rate_hz
    assert heard > 10.5
    assert stretches[0][0] < 2.5 * sound.sample_rate_hz


@pytest.mark.parametrize("gain", [0.01, 0.1, 1.0])
def test_speech_passes_at_any_level(speech, gain):
    sound = read_sound(speech)
    ((start, end),) = voiced(gain * sound.samples, sound.sample_rate_hz)
    assert (end - start) / sound.sample_rate_hz > 10.5


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 8 * RATE), st.integers(0, 99), st.sampled_from([1000, 16_000, 44_100]))
def test_stretches_lie_in_the_sound_apart_and_in_order(count, seed, rate_hz):
    random = np.random.default_rng(seed)
    levels = np.repeat(random.choice([0, 0.001, 0.3], -(-count // 4000)), 4000)[:count]
    stretches = voiced((random.normal(0, 1, count) * levels).astype(np.float32), rate_hz)
    assert all(0 <= start < end <= count for start, end in stretches)
    assert all(a[1] < b[0] for a, b in itertools.pairwise(stretches))
