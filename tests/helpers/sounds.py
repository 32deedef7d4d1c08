"""A sound for tests: one second of a tone that swells and fades, as a WAV file."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np

RATE_HZ = 16_000


def tone() -> np.ndarray:
    """Its samples, int16 [RATE_HZ]."""
    times_s = np.arange(RATE_HZ) / RATE_HZ
    loudness = np.sin(2 * np.pi * 220 * times_s) * (1 + np.sin(2 * np.pi * 3 * times_s))
    return (8000 * loudness).astype("<i2")


def write_tone(path: Path) -> Path:
    """Write it as a WAV file."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(tone().tobytes())
    return path
