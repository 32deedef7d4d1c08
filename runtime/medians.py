"""Confidence intervals of a median from order statistics, which assume no distribution.

Latencies have long right tails, so means and normal intervals say little of them: Hoefler and
Belli, "Scientific Benchmarking of Parallel Computing Systems", 2015,
https://doi.org/10.1145/2807591.2807644, section 3.1.3.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence


def median_interval(samples: Sequence[float], confidence: float) -> tuple[float, float] | None:
    """Confidence interval of the median: what a sign test at that confidence would not refuse.

    Returns:
        Its ends, which are samples; None where there are too few samples for that confidence.
    """
    rank = median_rank(len(samples), confidence)
    if rank is None:
        return None
    ordered = np.sort(np.asarray(samples, np.float64))
    return float(ordered[rank]), float(ordered[len(samples) - 1 - rank])


@lru_cache(maxsize=4096)
def median_rank(count: int, confidence: float) -> int | None:
    """How many samples to leave out at each end, so that the rest covers the median.

    With X(1) <= ... <= X(n), the interval from X(r+1) to X(n-r) misses the median with a
    probability of at most 2 P(Binomial(n, 1/2) <= r). This is the largest r that may be.

    Returns:
        r, or None where even the whole range of the samples covers it less often than asked.
    """
    allowed = (1 - confidence) / 2 * 2.0 ** min(count, 900)
    shift = max(count - 900, 0)  # 2**count overflows a float beyond 1023
    tail, term, rank = 0, 1, None
    for below in range(count // 2 + 1):
        tail += term
        if (tail >> shift) > allowed:
            break
        rank = below
        term = term * (count - below) // (below + 1)
    return rank
