"""What the latencies of many runs say, whoever ran them.

Rules:
    S3  The interval of the median rests on order statistics alone (jetlift.runtime.medians).
    S4  A percentile is told only from enough runs to have one run beyond it on average; otherwise
        the figure is null with that reason.
    S5  No run is ever dropped. A run above p75 + 3 (p75 - p25) is an outlier (Tukey's outer fence,
        "Exploratory Data Analysis", 1977, chapter 2): something else happened in it, as a page
        fault, a collection or another process. Its share is told, from 20 runs on; where it is
        over 1 %, p99 is the time of such runs and not of the engine's ordinary ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jetlift.runtime.figure import Figure
from jetlift.runtime.medians import median_interval
from jetlift.runtime.record import Latency

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jetlift.runtime.record import StoppedBy

CONFIDENCE = 0.95
OUTLIERS_MATTER = 0.01  # from this share on p99 is theirs (rule S5)
_RUNS_FOR_OUTLIERS = 20


def percentile(samples: Sequence[float], percent: int, *, of: str = "timed runs") -> Figure:
    """A percentile, linear between samples, from 100 / (100 - percent) runs on (rule S4).

    Args:
        samples: Any numbers.
        percent: From 1 to 99.
        of: What was counted, in the plural, for the reason.
    """
    needed = -(-100 // (100 - percent))
    if len(samples) < needed:
        return Figure.missing(f"{len(samples)} {of}, and p{percent} asks for {needed}")
    return Figure(round(float(np.percentile(samples, percent)), 5))


def latency_of(
    samples_ms: Sequence[float],
    *,
    stopped_by: StoppedBy,
    confidence: float = CONFIDENCE,
    warmup_ms: Sequence[float] = (),
    settled: bool = False,
) -> Latency:
    """All statistics of one measurement.

    Args:
        samples_ms: Every timed run, at least one.
        stopped_by: What ended the timing.
        confidence: Of the median's interval.
        warmup_ms: Runs before these, which are in no figure.
        settled: Whether somebody saw that the latency had settled before the first of them.
    """
    interval = median_interval(samples_ms, confidence)
    few = f"{len(samples_ms)} timed runs are too few for {confidence:.0%} confidence"
    low, high = map(Figure, interval) if interval else [Figure.missing(few)] * 2
    above, share = outliers(samples_ms)
    return Latency(
        samples_ms=tuple(samples_ms),
        min_ms=min(samples_ms),
        mean_ms=round(float(np.mean(samples_ms)), 5),
        p50_ms=round(float(np.median(samples_ms)), 5),
        p90_ms=percentile(samples_ms, 90),
        p99_ms=percentile(samples_ms, 99),
        p50_low_ms=low,
        p50_high_ms=high,
        stopped_by=stopped_by,
        warmup_ms=tuple(warmup_ms),
        warmup_settled=settled,
        outlier_above_ms=above,
        outlier_share=share,
    )


def outliers(samples_ms: Sequence[float]) -> tuple[Figure, Figure]:
    """The time above which a run is an outlier, and the share of them (rule S5)."""
    if len(samples_ms) < _RUNS_FOR_OUTLIERS:
        few = Figure.missing(
            f"{len(samples_ms)} timed runs, and outliers ask for {_RUNS_FOR_OUTLIERS}"
        )
        return few, few
    low, high = (float(value) for value in np.percentile(samples_ms, (25, 75)))
    fence = high + 3 * (high - low)
    beyond = sum(sample > fence for sample in samples_ms)
    return Figure(round(fence, 5)), Figure(round(beyond / len(samples_ms), 6))
