"""Where in a sound somebody may be speaking, by its level alone.

A model made for speech writes words for silence and for noise as well, so what cannot be speech is
never shown to it. The gate is made to let through too much rather than too little: a frame passes
where it is louder than the sound's own floor, so steady noise (a fan, hiss, hum) is held back at
any level and everything that changes (music, steps, a slammed door) passes. What passes is judged
again by the model's own probability that nothing was said.

Rules:
    V1  The level of a frame of 30 ms is the standard deviation of its samples, so an offset does
        not count, in dB below full scale.
    V2  The floor is the level that a tenth of the frames stay below. A frame passes at FLOOR_DB
        above it, and never below LEAST_DBFS.
    V3  What passes is widened by WIDEN_S to both sides, since words begin and end softly. Stretches
        with less than PAUSE_S between them become one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]
    Stretches = list[tuple[int, int]]

LEAST_DBFS, FLOOR_DB, FLOOR_PERCENTILE = -70.0, 4.0, 10
WIDEN_S, PAUSE_S = 0.5, 2.0
_FRAME_S = 0.03
_NOTHING_DBFS = -200.0


def voiced(samples: Floats, sample_rate_hz: int, *, pause_s: float = PAUSE_S) -> Stretches:
    """Stretches that may be speech (rules V1 to V3).

    Args:
        samples: float32 [n] of about -1..1.
        sample_rate_hz: Samples per second.
        pause_s: In place of PAUSE_S.

    Returns:
        First sample and end of each, in order, apart from each other; empty for silence.
    """
    frame = max(1, round(_FRAME_S * sample_rate_hz))
    levels = _levels(samples, frame)
    threshold = max(LEAST_DBFS, float(np.percentile(levels, FLOOR_PERCENTILE)) + FLOOR_DB)
    passing = np.concatenate([[False], levels > threshold, [False]])
    edges = np.flatnonzero(np.diff(passing)).reshape(-1, 2) * frame
    widen, pause = (round(length_s * sample_rate_hz) for length_s in (WIDEN_S, pause_s))
    return _joined(edges.tolist(), widen, pause, len(samples))


def _levels(samples: Floats, frame: int) -> npt.NDArray[np.float64]:
    """Level of each frame in dBFS; the last frame is as long as the sound lasts (rule V1)."""
    starts = np.arange(0, len(samples), frame)
    counts = np.diff(np.append(starts, len(samples)))
    wide = samples.astype(np.float64)
    mean = np.add.reduceat(wide, starts) / counts
    variance = np.add.reduceat(np.square(wide - np.repeat(mean, counts)), starts) / counts
    return np.asarray(10 * np.log10(np.maximum(variance, 10 ** (_NOTHING_DBFS / 10))))


def _joined(stretches: list[list[int]], widen: int, pause: int, length: int) -> Stretches:
    """Rule V3."""
    made: Stretches = []
    for start, end in stretches:
        low, high = max(0, start - widen), min(length, end + widen)
        if made and low < made[-1][1] + pause:
            made[-1] = (made[-1][0], high)
        else:
            made.append((low, high))
    return made
