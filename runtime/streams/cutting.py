"""Cuts sound that goes on for ever into windows at its pauses.

Rules:
    W1  A window is a stretch that may be speech (jetlift.runtime.voice). It ends where nothing is
        heard for PAUSE_S behind it, so that it comes soon and words stay whole.
    W2  A stretch longer than `longest_s` is cut at its quietest moment of the last CHOICE_S.
    W3  Windows are in order and never overlap. What is between them is let go; CONTEXT_S of it are
        kept to know the floor that speech stands out from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jetlift.runtime.voice import WIDEN_S, voiced

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

PAUSE_S, CHOICE_S, CONTEXT_S = 0.8, 5.0, 10.0
_FRAME_S = 0.03


@dataclass(frozen=True, eq=False)
class Window:
    """A piece of sound.

    Attributes:
        start: Its first sample, counted from the beginning of everything.
        samples: float32 [n].
    """

    start: int
    samples: Floats

    @property
    def end(self) -> int:
        """The sample behind its last."""
        return self.start + len(self.samples)


class Cutter:
    """Takes sound as it comes and gives windows (rules W1 to W3).

    Args:
        rate_hz: Samples per second.
        longest_s: Longest window.
    """

    def __init__(self, rate_hz: int, longest_s: float) -> None:
        self._rate_hz, self._longest = rate_hz, round(longest_s * rate_hz)
        self._widened = round(WIDEN_S * rate_hz)
        self._kept: Floats = np.empty(0, np.float32)
        self._first = self._told = 0  # where `kept` begins, and up to where windows were given

    def push(self, samples: Floats) -> list[Window]:
        """Windows that are complete with these samples, float32 [n]."""
        self._kept = np.concatenate([self._kept, samples])
        made = []
        while (window := self._next(ended=False)) is not None:
            made.append(window)
        return made

    def flush(self) -> list[Window]:
        """What is left, where no more comes."""
        made = []
        while (window := self._next(ended=True)) is not None:
            made.append(window)
        return made

    def skip(self, count: int) -> list[Window]:
        """So many samples were lost: what was heard before is given, and numbers go on behind."""
        made = self.flush()
        self._first += len(self._kept) + count
        self._told, self._kept = self._first, self._kept[:0]
        return made

    def _next(self, *, ended: bool) -> Window | None:
        total = self._first + len(self._kept)
        quiet = 0 if ended else round((PAUSE_S - WIDEN_S) * self._rate_hz)
        stretches = voiced(self._kept, self._rate_hz, pause_s=0.0) if len(self._kept) else ()
        for low, high in stretches:
            start, end = max(self._first + low, self._told), self._first + high
            if end <= self._told + self._widened * bool(self._told):
                continue  # nothing is heard in it behind what was given
            if end - start > self._longest:
                return self._cut(start, self._quietest(start + self._longest))
            if end + quiet <= total:
                return self._cut(start, end)
            self._forget(start)
            return None
        self._forget(total)
        return None

    def _cut(self, start: int, end: int) -> Window:
        self._told = end
        return Window(start, self._kept[start - self._first : end - self._first].copy())

    def _quietest(self, end: int) -> int:
        """The middle of the quietest frame before `end` (rule W2)."""
        frame = max(1, round(_FRAME_S * self._rate_hz))
        choice = min(round(CHOICE_S * self._rate_hz), self._longest // 2)
        part = self._kept[end - choice - self._first : end - self._first].astype(np.float64)
        count = len(part) // frame
        if not count:
            return end
        levels = np.square(part[: count * frame]).reshape(count, frame).mean(axis=1)
        return end - choice + int(levels.argmin()) * frame + frame // 2

    def _forget(self, needed: int) -> None:
        """Keep what is needed from a sample on, and some before it (rule W3)."""
        first = max(self._first, needed - round(CONTEXT_S * self._rate_hz))
        self._kept, self._first = self._kept[first - self._first :], first
