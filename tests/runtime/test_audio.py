"""Sound files, resampling against signals that are known, and log-mel against transformers."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jetlift.export.mel import filter_bank
from jetlift.export.recipes.whisper import PREPROCESS
from jetlift.runtime.audio import LogMel, Sound, read_sound, resample
from jetlift.runtime.errors import BundleError, InputError, MissingPackageError, UsageError

soundfile = pytest.importorskip("soundfile", reason="soundfile is not installed")


def _tones(rate_hz: int, seconds: float = 1.5, hz=(100, 440, 3000)) -> np.ndarray:
    time_s = np.arange(int(rate_hz * seconds)) / rate_hz
    return sum(np.sin(2 * np.pi * f * time_s) for f in hz).astype(np.float32) / len(hz)


@pytest.fixture(scope="module")
def log_mel(tmp_path_factory) -> LogMel:
    path = tmp_path_factory.mktemp("mel") / "filters.npy"
    np.save(path, filter_bank(80, 400, 16_000))
    return LogMel(PREPROCESS, path)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3", ".aiff"])
def test_every_kind_of_file_gives_the_same_sound(tmp_path, suffix):
    tones = 0.5 * _tones(44_100)
    path = tmp_path / f"sound{suffix}"
    soundfile.write(path, np.stack([tones, tones], axis=1), 44_100)
    sound = read_sound(path)
    assert sound.sample_rate_hz == 44_100
    assert sound.samples.dtype == np.float32
    assert sound.duration_s == pytest.approx(1.5, abs=0.06)  # MP3 pads
    if suffix in (".wav", ".flac", ".aiff"):
        np.testing.assert_allclose(sound.samples, tones, atol=2**-15)


def test_channels_are_averaged(tmp_path):
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.array([[0.5, -0.25], [1.0, 0.0]]), 16_000, subtype="FLOAT")
    np.testing.assert_allclose(read_sound(path).samples, [0.125, 0.5])


def test_the_real_recording(speech):
    sound = read_sound(speech)
    assert sound.sample_rate_hz == 44_100
    assert sound.duration_s == pytest.approx(11.0, abs=0.01)


def test_without_soundfile_a_flac_is_refused_and_a_wav_is_not(tmp_path, monkeypatch):
    for suffix in (".flac", ".wav"):
        soundfile.write(tmp_path / f"sound{suffix}", _tones(16_000), 16_000)
    monkeypatch.setitem(sys.modules, "soundfile", None)
    assert len(read_sound(tmp_path / "sound.wav").samples) == 24_000
    with pytest.raises(MissingPackageError, match=r"jetlift\[audio\].*ffmpeg -i .*sound.flac"):
        read_sound(tmp_path / "sound.flac")


@pytest.mark.parametrize(
    ("samples", "rate_hz", "told"),
    [
        (np.array([0.0, np.nan], np.float32), 16_000, "NaN or infinite"),
        (np.array([0.0, np.inf], np.float32), 16_000, "NaN or infinite"),
        (np.zeros(0, np.float32), 16_000, "holds no sound"),
        (np.zeros(5, np.float32), 999, "999 samples per second"),
    ],
)
def test_sound_that_cannot_be_used_is_refused(tmp_path, samples, rate_hz, told):
    path = tmp_path / "sound.wav"
    soundfile.write(path, samples, rate_hz, subtype="FLOAT")
    with pytest.raises(InputError, match=told):
        read_sound(path)


def test_files_that_are_no_sound_are_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_sound(tmp_path / "nothing.wav")
    (tmp_path / "text.flac").write_text("no sound")
    with pytest.raises(InputError, match="no sound that can be read"):
        read_sound(tmp_path / "text.flac")


@pytest.mark.parametrize("rate_hz", [8000, 11_025, 22_050, 44_100, 48_000, 96_000, 22_051])
def test_tones_stay_what_they_are(rate_hz):
    made = resample(_tones(rate_hz), rate_hz, 16_000)
    assert made.dtype == np.float32
    assert len(made) == 24_000
    inner = slice(500, -500)
    np.testing.assert_allclose(made[inner], _tones(16_000)[inner], atol=5e-5)


@pytest.mark.parametrize("rate_hz", [22_050, 44_100, 48_000])
def test_what_the_lower_rate_cannot_hold_is_gone(rate_hz):
    assert np.abs(resample(_tones(rate_hz, hz=(9000,)), rate_hz, 16_000)[500:-500]).max() < 1e-4


def test_the_right_rate_leaves_samples_as_they_are():
    tones = _tones(16_000)
    assert resample(tones, 16_000, 16_000) is tones


rates_hz = st.integers(40, 2400).map(lambda step: 25 * step)


@settings(max_examples=30, deadline=None)
@given(rates_hz, rates_hz, st.integers(1, 300))
def test_any_rates_give_the_right_length_and_finite_samples(from_hz, to_hz, count):
    made = resample(np.ones(count, np.float32), from_hz, to_hz)
    assert len(made) == -(-count * to_hz // from_hz)
    assert np.isfinite(made).all()
    assert np.abs(made).max() < 1.3  # ringing at the edges alone


def test_filter_bank_equals_that_of_transformers():
    from transformers import WhisperFeatureExtractor

    wanted = WhisperFeatureExtractor().mel_filters
    np.testing.assert_allclose(filter_bank(80, 400, 16_000), wanted.T, atol=1e-12)


def test_log_mel_equals_that_of_transformers(log_mel, speech):
    from transformers import WhisperFeatureExtractor

    extractor = WhisperFeatureExtractor()
    samples = log_mel.prepare(read_sound(speech))
    made = log_mel.window(samples)
    assert made.shape == (1, 80, 3000)
    assert made.dtype == np.float32
    wanted = extractor(samples, sampling_rate=16_000, return_tensors="np").input_features
    np.testing.assert_allclose(made, wanted, atol=1e-4)  # by torch, in float32
    padded = np.pad(samples, (0, 480_000 - len(samples)))[None]
    np.testing.assert_allclose(made, extractor._np_extract_fbank_features(padded, "cpu"), atol=1e-6)


@pytest.mark.parametrize("count", [0, 480_001])
def test_a_window_takes_no_more_than_it_holds(log_mel, count):
    with pytest.raises(UsageError, match="1 to 480000"):
        log_mel.window(np.zeros(count, np.float32))


def test_silence_and_a_whole_window_are_finite(log_mel):
    for samples in (np.zeros(1, np.float32), np.ones(480_000, np.float32)):
        assert np.isfinite(log_mel.window(samples)).all()


def test_prepare_resamples(log_mel):
    assert len(log_mel.prepare(Sound(_tones(44_100), 44_100))) == 24_000


@pytest.mark.parametrize(
    "content", [b"no array", np.zeros((80, 200)), np.zeros((80, 201), int), np.zeros(201)]
)
def test_a_filter_bank_of_another_form_is_refused(tmp_path, content):
    path = tmp_path / "filters.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content)
    with pytest.raises(BundleError, match=r"filters\.npy"):
        LogMel(PREPROCESS, path)


@pytest.mark.parametrize("count", [1, 399, 400, 160_000, 479_798, 479_799, 479_800, 480_000])
def test_added_silence_is_not_computed_and_nothing_changes(log_mel, monkeypatch, count):
    samples = np.random.default_rng(0).standard_normal(count).astype(np.float32)
    found = log_mel.window(samples)
    monkeypatch.setattr(log_mel, "_frames_heard", lambda _samples, frames: frames)
    np.testing.assert_allclose(found, log_mel.window(samples), rtol=0, atol=1e-6)
