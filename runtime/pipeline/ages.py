"""Durations and rates of a run that may never end, in memory that does not grow.

Rules:
    G1  Durations are counted in buckets whose edges grow by 1 %, so a percentile is within 1 % of
        the true one (nearest rank) however many there were. Smallest, largest and mean are exact.
    G2  Below 1 us and above some hours everything shares a bucket; the exact ends still bound it.
    G3  One thread adds, any thread reads.
    G4  Durations that are kept themselves are the latest so many, eight bytes each.
"""

from __future__ import annotations

import math
import threading
from collections import deque

import numpy as np

from jetlift.runtime.errors import UsageError
from jetlift.runtime.pipeline.form import AgeSummary

_LOWEST_MS, _GROWTH, _BUCKETS = 1e-3, 1.01, 2350  # the last edge is beyond 3 hours
_LOG_GROWTH = math.log(_GROWTH)


class Ages:
    """Durations of one kind, in milliseconds (rules G1 to G3)."""

    def __init__(self) -> None:
        self._counts = np.zeros(_BUCKETS, np.int64)
        self._lock = threading.Lock()
        self._sum_ms, self._min_ms, self._max_ms = 0.0, math.inf, 0.0

    def add(self, duration_ms: float) -> None:
        """Count one; less than nothing, as a clock of another kind would give, is an error.

        Raises:
            UsageError: It is negative or no number.
        """
        if not duration_ms >= 0.0:
            raise UsageError(f"Got a duration of {duration_ms} ms", expected="0 or more")
        with self._lock:
            self._counts[_bucket(duration_ms)] += 1
            self._sum_ms += duration_ms
            self._min_ms = min(self._min_ms, duration_ms)
            self._max_ms = max(self._max_ms, duration_ms)

    def summary(self) -> AgeSummary | None:
        """What was counted so far; None where nothing was."""
        with self._lock:
            counts = self._counts.copy()
            sum_ms, low_ms, high_ms = self._sum_ms, self._min_ms, self._max_ms
        total = int(counts.sum())
        if not total:
            return None
        ranks = np.cumsum(counts)
        p50, p90, p99 = (
            min(max(_middle_ms(_at_rank(ranks, share, total)), low_ms), high_ms)
            for share in (0.5, 0.9, 0.99)
        )
        return AgeSummary(total, sum_ms / total, p50, p90, p99, high_ms)


def _bucket(duration_ms: float) -> int:
    if duration_ms <= _LOWEST_MS:
        return 0
    return min(_BUCKETS - 1, int(math.log(duration_ms / _LOWEST_MS) / _LOG_GROWTH))


def _at_rank(ranks: np.ndarray[tuple[int], np.dtype[np.int64]], share: float, total: int) -> int:
    """Bucket of the nearest rank."""
    return int(np.searchsorted(ranks, max(1, math.ceil(share * total))))


def _middle_ms(bucket: int) -> float:
    return _LOWEST_MS * float(_GROWTH ** (bucket + 0.5))


class Latest:
    """The latest durations, in milliseconds (rules G3 and G4).

    Args:
        most: How many are kept.
    """

    def __init__(self, most: int) -> None:
        self._kept_ms, self._count, self._lock = np.zeros(most), 0, threading.Lock()

    def add(self, duration_ms: float) -> None:
        """Keep one, in the place of the oldest where there are too many."""
        with self._lock:
            self._kept_ms[self._count % len(self._kept_ms)] = duration_ms
            self._count += 1

    def all(self) -> tuple[float, ...]:
        """Those that are kept, oldest first."""
        with self._lock:
            most, count = len(self._kept_ms), self._count
            kept_ms = np.roll(self._kept_ms, -count) if count > most else self._kept_ms[:count]
            return tuple(kept_ms.tolist())


class Rate:
    """Events per second over the last few seconds (rule G3).

    Args:
        window_s: How far back it looks.
        most: Events that it keeps at most; at higher rates it looks less far back.
    """

    def __init__(self, window_s: float = 5.0, most: int = 4096) -> None:
        self._window_s, self._at_s = window_s, deque[float](maxlen=most)
        self._lock = threading.Lock()

    def add(self, now_s: float) -> None:
        """Count an event."""
        with self._lock:
            self._at_s.append(now_s)

    def per_s(self, now_s: float) -> float:
        """Events per second; 0 with fewer than two in the window."""
        with self._lock:
            recent = [at_s for at_s in self._at_s if now_s - at_s <= self._window_s]
        if len(recent) < 2 or recent[-1] <= recent[0]:
            return 0.0
        # From the first event to now where the flow has stopped, else from event to event.
        gap_s = (recent[-1] - recent[0]) / (len(recent) - 1)
        silent_s = now_s - recent[-1]
        if silent_s <= gap_s:
            return 1.0 / gap_s
        return len(recent) / (now_s - recent[0])
