"""Frames that came whenever they came, on the even grid of a video.

Rules:
    G1  The rate is the median of what lies between the first frames, by their capture times where
        they have any, else by their times within their source.
    G2  A frame lies at the place of the grid nearest to its time, so that the video runs as fast as
        what was seen. A frame whose place is taken is left out; over a gap the one before stays.
    G3  A gap longer than LONGEST_GAP_S is cut out, as is a step back in time: the video goes on
        with the next place.
"""

from __future__ import annotations

from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jetlift.runtime.tasks.base import Item

DEFAULT_FPS, LEAST_FPS, MOST_FPS = 30.0, 1.0, 120.0
LONGEST_GAP_S = 3.0


def frame_time_s(item: Item) -> float:
    """When a frame was captured, or its time within its source (rule G1); 0 for neither."""
    captured_s = getattr(item, "captured_s", None)
    return float(captured_s if captured_s is not None else getattr(item, "time_s", 0.0))


def measured_fps(times_s: Sequence[float]) -> float:
    """Frames per second of frames with these times (rule G1)."""
    pairs = pairwise(times_s)
    steps_s = [later - earlier for earlier, later in pairs if later > earlier]
    if not steps_s:
        return DEFAULT_FPS
    # Three digits after the point tell 29.97 from 30, and hide the clock's last digits.
    return round(min(max(1 / median(steps_s), LEAST_FPS), MOST_FPS), 3)


class Timeline:
    """Says how often a frame is to be written (rules G2 and G3).

    Args:
        fps: Places per second.
    """

    def __init__(self, fps: float) -> None:
        self._fps = fps
        self._zero_s = self._last_s = 0.0
        self._place = -1

    def places(self, time_s: float) -> int:
        """Places from the last frame to this one: 0 leaves it out, 3 leave two between them."""
        gap_s = time_s - self._last_s
        self._last_s = time_s
        if self._place < 0 or not 0 < gap_s <= LONGEST_GAP_S:
            self._place += 1
            self._zero_s = time_s - self._place / self._fps
            return 1
        place = max(self._place, round((time_s - self._zero_s) * self._fps))
        passed, self._place = place - self._place, place
        return passed
