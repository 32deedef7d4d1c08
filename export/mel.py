"""The mel filter bank: which frequencies belong to one mel band, and how much."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# The scale of Slaney's Auditory Toolbox (1998): linear up to 1 kHz, a logarithm above.
_LINEAR_HZ_PER_MEL = 200 / 3
_BREAK_HZ, _BREAK_MEL = 1000.0, 15.0
_LOG_STEP = np.log(6.4) / 27


def filter_bank(mel_bins: int, n_fft: int, sample_rate_hz: int) -> Floats:
    """Triangles of equal area, evenly spaced on the mel scale from 0 Hz to the Nyquist frequency.

    Equal to librosa.filters.mel(sr, n_fft, n_mels) and to the filters of transformers' Whisper.

    Returns:
        float64 [mel_bins, n_fft // 2 + 1].
    """
    nyquist_hz = sample_rate_hz / 2
    edges_hz = _to_hz(np.linspace(0.0, float(_to_mel(np.array(nyquist_hz))), mel_bins + 2))
    bins_hz = np.linspace(0.0, nyquist_hz, n_fft // 2 + 1)
    left, middle, right = edges_hz[:-2, None], edges_hz[1:-1, None], edges_hz[2:, None]
    rising, falling = (bins_hz - left) / (middle - left), (right - bins_hz) / (right - middle)
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    return np.asarray(triangles * 2.0 / (right - left))


def _to_mel(hz: Floats) -> Floats:
    logarithmic = _BREAK_MEL + np.log(np.maximum(hz, _BREAK_HZ) / _BREAK_HZ) / _LOG_STEP
    return np.where(hz < _BREAK_HZ, hz / _LINEAR_HZ_PER_MEL, logarithmic)


def _to_hz(mel: Floats) -> Floats:
    logarithmic = _BREAK_HZ * np.exp(_LOG_STEP * (mel - _BREAK_MEL))
    return np.where(mel < _BREAK_MEL, mel * _LINEAR_HZ_PER_MEL, logarithmic)
