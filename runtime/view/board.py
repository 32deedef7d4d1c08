"""The hand-over between a pipeline and the page that shows it.

Rules:
    V1  `write` keeps the newest result and returns. It encodes nothing, copies nothing and waits
        for nobody, however many viewers there are and however slow they are.
    V2  Pictures are wanted only while somebody looks, and a little longer.
    V3  A picture is not copied: whoever writes a result never changes its pictures afterwards.
    V4  Whoever asks for a picture gets the newest; those in between are skipped.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from typing import TYPE_CHECKING

from jetlift.runtime.clock import SYSTEM_CLOCK, Clock
from jetlift.runtime.pipeline.form import SinkHealth
from jetlift.runtime.view.form import Ended, Newest, ViewOptions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Self

    from jetlift.runtime.pipeline.form import Result
    from jetlift.runtime.view.form import Told

_MOST_AGES = 4096  # between two points of the history; more than a second of them say no more


class ViewBoard:
    """A sink that holds the newest result for the page (rules V1 to V4). Thread-safe.

    Args:
        told: What its owner tells about the run.
        options: How much the view may cost.
        clock: Tells ages; the one that `captured_s` is of.
    """

    def __init__(
        self, told: Told, options: ViewOptions | None = None, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self.told, self.options, self.clock = told, options or ViewOptions(), clock
        self._changed = threading.Condition()
        self._newest: Newest | None = None
        self._ages_ms = deque[float](maxlen=_MOST_AGES)
        self._watching = 0
        self._left_s: float | None = None
        self._ended: Ended | None = None
        self._troubles: dict[str, str] = {}
        self._closed = False

    # The pipeline's side.

    @property
    def name(self) -> str:
        """See Sink.name."""
        return "view"

    @property
    def wants_pictures(self) -> bool:
        """Whether the task is to draw the next result (rule V2)."""
        return self.told.shows == "drawn" and self._wanted()

    def write(self, result: Result) -> None:
        """Take one result (rules V1 and V3)."""
        now_s = self.clock.now_s()
        captured_s = getattr(result.item, "captured_s", None)
        age_ms = None if captured_s is None else max(0.0, now_s - captured_s) * 1000
        picture = self._picture(result)
        with self._changed:
            number = 1 if self._newest is None else self._newest.number + 1
            self._newest = Newest(number, result, picture, now_s, age_ms)
            if age_ms is not None:
                self._ages_ms.append(age_ms)
            self._changed.notify_all()

    def health(self) -> SinkHealth:
        """See Sink.health. What is `written` was on the board; viewers may have seen less."""
        with self._changed:
            written = 0 if self._newest is None else self._newest.number
            trouble = " ".join(self._troubles.values())
        return SinkHealth("view", written, connected=not trouble, trouble=trouble)

    def __enter__(self) -> Self:
        with self._changed:
            self._ended = None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        stopped = error is None or isinstance(error, KeyboardInterrupt)
        with self._changed:
            self._ended = Ended(stopped, "" if stopped else str(error) or type(error).__name__)

    # The view's side.

    @property
    def ended(self) -> Ended | None:
        """How the run ended; None while it has not."""
        with self._changed:
            return self._ended

    @property
    def newest(self) -> Newest | None:
        """The newest result; None before the first."""
        with self._changed:
            return self._newest

    @property
    def watching(self) -> int:
        """Viewers now."""
        with self._changed:
            return self._watching

    @contextlib.contextmanager
    def viewer(self) -> Iterator[None]:
        """Somebody looks, for as long as the block runs (rule V2)."""
        with self._changed:
            self._watching += 1
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._watching -= 1
                self._left_s = self.clock.now_s()

    def next_picture(self, after: int) -> Newest | None:
        """Wait until somebody looks and there is a picture newer than result `after`.

        Returns:
            The newest result, which has a picture; None where the board was closed.
        """
        with self._changed:
            while not self._closed:
                newest = self._newest
                shows = newest is not None and newest.picture_bgr is not None
                if newest is not None and shows and self._watching and newest.number > after:
                    return newest
                self._changed.wait()
        return None

    def take_ages_ms(self) -> list[float]:
        """Ages of the results since the last call."""
        with self._changed:
            ages_ms = list(self._ages_ms)
            self._ages_ms.clear()
        return ages_ms

    def complain(self, who: str, trouble: str) -> None:
        """Tell of something that went wrong in a part of the view; empty where it is over."""
        with self._changed:
            self._troubles.pop(who, None)
            if trouble:
                self._troubles[who] = trouble

    def open_view(self) -> None:
        """Let `next_picture` wait (again)."""
        with self._changed:
            self._closed = False

    def close_view(self) -> None:
        """Let `next_picture` return, now and from now on."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _wanted(self) -> bool:
        with self._changed:
            if self._watching:
                return True
            left_s = self._left_s
        return left_s is not None and self.clock.now_s() - left_s < self.options.grace_s

    def _picture(self, result: Result) -> npt.NDArray[np.uint8] | None:
        if self.told.shows == "drawn":
            return result.drawn_bgr
        if self.told.shows == "input":
            return getattr(result.item, "image_bgr", None)
        return None
