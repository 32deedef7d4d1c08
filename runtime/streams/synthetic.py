"""A source without a camera: `synthetic://640x480@30?frames=100`.

Rules:
    Z1  Frame n is due n / FPS seconds after the first, and is drawn when it is due. Its number and
        its moment, by the source's clock, are in the picture (jetlift.runtime.streams.stamp).
    Z2  It is live: a frame whose moment is past when the next one is due, because nobody took it,
        is not drawn later but counted in `dropped`, and leaves a gap in the numbers.
    Z3  With `frames=N` it ends once the moment of frame N - 1 is over.
"""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING

import cv2
import numpy as np

from jetlift.runtime.clock import SYSTEM_CLOCK
from jetlift.runtime.errors import UsageError
from jetlift.runtime.pipeline.form import SourceHealth
from jetlift.runtime.sources import Frame
from jetlift.runtime.streams.options import Options
from jetlift.runtime.streams.stamp import LEAST_SIZE_WH, Stamp, draw_stamp

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from jetlift.runtime.clock import Clock

SCHEME = "synthetic://"
CLOCK = "when the picture was drawn"
_FORM = re.compile(r"synthetic://(\d{1,5})x(\d{1,5})@(\d{1,4}(?:\.\d+)?)(?:\?(.*))?")
_MOST_SIDE_PX, _MOST_FPS = 8192, 1000.0
_TEXT_HEIGHT_PX = 22  # of OpenCV's plain font at scale 1


class SyntheticSource:
    """Frames drawn here, with their number and moment in the picture (rules Z1 to Z3).

    Args:
        name: `synthetic://WxH@FPS` and, behind `?`, `frames=N`.
        clock: What paces it and is drawn.

    Raises:
        UsageError: The name is not of this form, or a number is out of its range.
    """

    live = True

    def __init__(self, name: str, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self.name, self._clock = name, clock
        self.size_wh, self.fps, self._count = _parsed(name)
        self._stop = threading.Event()
        self._captured = self._dropped = 0
        self._ground = _ground(self.size_wh)

    def frames(self) -> Iterator[Frame]:
        """See FrameSource.frames."""
        start_s, number = self._clock.now_s(), 0
        while self._count is None or number < self._count:
            ahead_s = start_s + number / self.fps - self._clock.now_s()
            if self._clock.wait(self._stop, max(0.0, ahead_s)):
                return
            now_s = self._clock.now_s()
            self._captured += 1
            yield Frame(self.name, number, now_s - start_s, self._draw(number, now_s), now_s)
            number = self._next(number, self._clock.now_s() - start_s)

    def health(self) -> SourceHealth:
        """See FrameSource.health."""
        return SourceHealth(
            self.name, live=True, clock=CLOCK, captured=self._captured, dropped=self._dropped,
            connected=not self._stop.is_set(),
        )  # fmt: skip

    def close(self) -> None:
        """See FrameSource.close."""
        self._stop.set()

    def _next(self, number: int, passed_s: float) -> int:
        """The next frame whose moment is not over (rule Z2)."""
        due = max(number + 1, int(passed_s * self.fps))
        due = due if self._count is None else min(due, max(self._count, number + 1))
        self._dropped += due - number - 1
        return due

    def _draw(self, number: int, now_s: float) -> npt.NDArray[np.uint8]:
        width, height = self.size_wh
        image_bgr = self._ground.copy()
        left = number * max(1, width // 64) % width  # a bar that moves, for people to see
        image_bgr[height // 2 : height * 3 // 4, left : left + max(2, width // 32)] = (40, 220, 240)
        scale = max(0.4, height / 20 / _TEXT_HEIGHT_PX)
        text, place = f"{number}  {now_s:.3f} s", (width // 24, height * 9 // 10)
        cv2.putText(image_bgr, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 1)
        draw_stamp(image_bgr, Stamp(number, int(now_s * 1e6)))
        return np.asarray(image_bgr, np.uint8)


def _parsed(name: str) -> tuple[tuple[int, int], float, int | None]:
    match = _FORM.fullmatch(name)
    if match is None:
        raise UsageError(
            f"{name} is no synthetic source", expected="synthetic://640x480@30 or with ?frames=100"
        )
    size_wh, fps = (int(match[1]), int(match[2])), float(match[3])
    fits = all(
        least <= side <= _MOST_SIDE_PX for least, side in zip(LEAST_SIZE_WH, size_wh, strict=True)
    )
    if not fits or not 0 < fps <= _MOST_FPS:
        raise UsageError(
            f"{name} asks for {size_wh[0]}x{size_wh[1]} at {fps:g} frames per second",
            expected=f"Sides of {LEAST_SIZE_WH[0]}x{LEAST_SIZE_WH[1]} to {_MOST_SIDE_PX} and a "
            f"rate above 0 and up to {_MOST_FPS:g}",
        )
    options = Options(name, match[4] or "")
    count = options.whole("frames", 1, 2**32)
    options.finish()
    return size_wh, fps, count


def _ground(size_wh: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """A gradient to draw on, uint8 [H, W, 3]."""
    width, height = size_wh
    image = np.empty((height, width, 3), np.uint8)
    image[..., 0] = np.linspace(40, 160, width).astype(np.uint8)
    image[..., 1] = np.linspace(30, 120, height).astype(np.uint8)[:, None]
    image[..., 2] = 50
    return image
