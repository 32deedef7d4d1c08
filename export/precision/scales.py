"""Symmetric scales: of weights per output channel, of activations by the best calibrator.

Calibrators of an activation, each a clipping magnitude m with scale m / 127:
    max         the largest magnitude on the calibration samples
    percentile  the magnitude below which 99.99 % of the values lie
    mse         the clip with the least mean squared rounding and clipping error
    entropy     the clip whose quantised histogram has the least Kullback-Leibler divergence
                (Migacz, 8-bit Inference with TensorRT, GTC 2017)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from jetlift.export.precision.calibrate import Activation
    from jetlift.export.precision.sites import Site

    Floats = npt.NDArray[np.float32]

QMAX = 127
_PERCENTILE = 99.99
_RATIOS = np.geomspace(0.05, 1.0, 32)
_BINS, _FIRST_BIN = 2048, 128


def scale_of(magnitudes: npt.NDArray[Any]) -> Floats:
    """Symmetric scale: largest magnitude over 127; a channel of zeros gets 1 and stays zero."""
    positive = np.maximum(magnitudes, np.finfo(np.float32).tiny * QMAX)
    return np.where(magnitudes == 0, 1.0, positive / QMAX).astype(np.float32)


def quantise_weight(
    weight: Floats, axis: int, floor: Floats | None = None
) -> tuple[npt.NDArray[np.int8], Floats]:
    """Per-channel symmetric int8.

    Args:
        weight: Float weight of any rank.
        axis: Its output-channel axis.
        floor: The least scale each channel may have; None sets none.

    Returns:
        The int8 weight of the same shape, and one float32 scale per channel. Round to nearest
        even, as QuantizeLinear does; each element is within half a scale of the original.
    """
    others = tuple(i for i in range(weight.ndim) if i != axis)
    scale = scale_of(np.max(np.abs(weight), axis=others))
    scale = scale if floor is None else np.maximum(scale, floor)
    codes = np.rint(weight.astype(np.float64) / _along(scale, weight.ndim, axis))
    return np.clip(codes, -QMAX, QMAX).astype(np.int8), scale


def rounded_weight(weight: Floats, axis: int) -> Floats:
    """What a weight is after quantisation."""
    codes, scale = quantise_weight(weight, axis)
    return codes.astype(np.float32) * _along(scale, weight.ndim, axis)


def rounded(values: Floats, clip: float) -> Floats:
    """What values are after symmetric quantisation with a clipping magnitude."""
    scale = scale_of(np.float32(clip))
    return np.asarray(np.clip(np.rint(values / scale), -QMAX - 1, QMAX) * scale, np.float32)


def _along(scale: Floats, rank: int, axis: int) -> Floats:
    shape = [1] * rank
    shape[axis] = -1
    return scale.reshape(shape)


def clip_max(seen: Activation) -> float:
    """The largest magnitude on every sample."""
    return float(seen.largest.max(initial=0.0))


def clip_percentile(seen: Activation) -> float:
    """The magnitude below which nearly all values lie."""
    return float(np.percentile(np.abs(seen.rows), _PERCENTILE))


def clip_mse(seen: Activation) -> float:
    """The clip with the least squared error."""
    largest = clip_max(seen)
    errors = [float(np.square(rounded(seen.rows, r * largest) - seen.rows).sum()) for r in _RATIOS]
    return float(_RATIOS[int(np.argmin(errors))]) * largest


def clip_entropy(seen: Activation) -> float:
    """The clip whose quantised histogram diverges least from the clipped one."""
    largest = clip_max(seen)
    counts, edges = np.histogram(np.abs(seen.rows), bins=_BINS, range=(0.0, largest or 1.0))
    tried = range(_FIRST_BIN, _BINS + 1, 16)
    losses = [_divergence(counts.astype(np.float64), stop) for stop in tried]
    return float(edges[tried[int(np.argmin(losses))]])


def _divergence(counts: npt.NDArray[np.float64], stop: int) -> float:
    """KL divergence of the histogram clipped at a bin from its 128-level form."""
    wanted = counts[:stop].copy()
    wanted[-1] += counts[stop:].sum()
    level = np.minimum(np.arange(stop) * QMAX // max(1, stop - 1), QMAX)
    filled = counts[:stop] > 0
    totals = np.bincount(level, weights=counts[:stop], minlength=QMAX + 1)
    members = np.bincount(level, weights=filled.astype(np.float64), minlength=QMAX + 1)
    spread = np.divide(totals, members, out=np.zeros_like(totals), where=members > 0)
    got = np.where(filled, spread[level], 0.0)
    p, q = wanted / max(wanted.sum(), 1.0), got / max(got.sum(), 1.0)
    seen = p > 0
    return float(np.sum(p[seen] * np.log(p[seen] / np.maximum(q[seen], 1e-12))))


CALIBRATORS: dict[str, Callable[[Activation], float]] = {
    "max": clip_max,
    "percentile": clip_percentile,
    "mse": clip_mse,
    "entropy": clip_entropy,
}


def best_calibrator(seen: Activation, sites: Sequence[Site]) -> tuple[str, float]:
    """The calibrator whose scale harms the sites' results least.

    The harm is the geometric mean of two figures, the mean and the largest relative squared error
    of a row: clipping that helps most rows may not pay with one that loses its meaning.

    Args:
        seen: The tensor on the calibration samples, as the sites read it.
        sites: Who reads it.

    Returns:
        Name of the calibrator, and the clip.
    """
    clips = {name: clip(seen) for name, clip in CALIBRATORS.items()}
    harms = {}
    for name, clip in clips.items():
        error = rounded(seen.rows, clip) - seen.rows
        harms[name] = sum(_harm(error, seen.rows, site) for site in sites)
    best = min(harms, key=lambda name: harms[name])
    return best, clips[best]


def _harm(error: Floats, rows: Floats, site: Site) -> float:
    if site.is_conv:
        # Energy of the weights behind each channel: rows are single pixels, not patches.
        energy = np.square(site.matrix()).sum(axis=(2, 3)).reshape(-1)
        lost, whole = np.square(error) @ energy, np.square(rows) @ energy
    else:
        lost = np.square(site.answer(error)).sum(axis=1)
        whole = np.square(site.answer(rows)).sum(axis=1)
    relative = lost / np.maximum(whole, 1e-12 + 1e-3 * whole.mean())
    return float(np.sqrt(relative.mean() * relative.max()))
