"""How far a build is, from the phases that the library's progress monitor tells.

Phases lie in each other: one that is started within another is part of the other's current step.
They may run side by side and be told from several threads (IProgressMonitor, docs.nvidia.com).
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_SMALLEST_GAIN = 0.01  # what is less is not told, so that a log of thousands of steps stays short


@dataclass
class _Phase:
    parent: str | None
    steps: int
    done: int = 0


class Phases:
    """The phases of one build, and the share of it that is done.

    Args:
        tell: Called with the name of the phase and the share, 0 to 1, which never goes back.
    """

    def __init__(self, tell: Callable[[str, float], None]) -> None:
        self._tell = tell
        self._lock = threading.Lock()
        self._open: dict[str, _Phase] = {}
        self._told = -1.0

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase began, within `parent` where there is one."""
        with self._lock:
            self._open[name] = _Phase(parent, max(1, steps))
            self._report(name)

    def step(self, name: str) -> None:
        """One of the phase's steps is done."""
        with self._lock:
            if name in self._open:
                self._open[name].done += 1
                self._report(name)

    def finish(self, name: str) -> None:
        """The phase ended, whether all of its steps were told or not."""
        with self._lock:
            ended = self._open.pop(name, None)
            if ended is not None and ended.parent is None:
                self._report(name, 1.0)

    def _report(self, name: str, share: float | None = None) -> None:
        share = max(self._told, self._share() if share is None else share)
        if share - self._told >= _SMALLEST_GAIN or (share >= 1.0 > self._told):
            self._told = share
            self._tell(name, share)

    def _share(self) -> float:
        tops = [name for name, phase in self._open.items() if phase.parent not in self._open]
        return max((self._share_of(name, set()) for name in tops), default=0.0)

    def _share_of(self, name: str, seen: set[str]) -> float:
        phase = self._open[name]
        inner = [
            self._share_of(other, seen | {name})
            for other, own in self._open.items()
            if own.parent == name and other not in seen | {name}
        ]
        current = sum(inner) / len(inner) if inner and phase.done < phase.steps else 0.0
        return min(1.0, (phase.done + current) / phase.steps)
