"""The last two minutes of a run, one point per second, in memory that does not grow."""

from __future__ import annotations

import math
import threading
from collections import deque
from dataclasses import astuple, dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

POINTS = 120
EVERY_S = 1.0


@dataclass(frozen=True)
class Point:
    """One second of a run. None where nothing was measured or nothing came.

    Attributes:
        p50_ms: Median age of that second's results, capture to result.
        p99_ms: 99th percentile of the same (nearest rank).
        per_s: Results per second.
        rss_bytes: Memory of the process.
        power_w: Power drawn.
    """

    p50_ms: float | None
    p99_ms: float | None
    per_s: float | None
    rss_bytes: float | None
    power_w: float | None


NAMES = tuple(item.name for item in fields(Point))


class History:
    """The newest points. Thread-safe."""

    def __init__(self, points: int = POINTS) -> None:
        self._points = deque[Point](maxlen=points)
        self._number, self._lock = 0, threading.Lock()

    def add(self, point: Point) -> None:
        """Keep one more; the oldest goes where there is no room."""
        with self._lock:
            self._points.append(point)
            self._number += 1

    def newest(self) -> dict[str, Any]:
        """The last point as JSON-ready data, with its number; values are null before the first."""
        with self._lock:
            last = self._points[-1] if self._points else None
            number = self._number
        return {"number": number, "values": None if last is None else list(astuple(last))}

    def whole(self) -> dict[str, Any]:
        """Every point as JSON-ready data: `number` of the last one, and a list per name."""
        with self._lock:
            points, number = list(self._points), self._number
        columns = {name: [getattr(point, name) for point in points] for name in NAMES}
        return {"number": number, "room": self._points.maxlen, "columns": columns}


def nearest_rank(values: Sequence[float], share: float) -> float | None:
    """The value that at least `share` of all values do not exceed; None where there are none."""
    if not values:
        return None
    return sorted(values)[max(1, math.ceil(share * len(values))) - 1]
