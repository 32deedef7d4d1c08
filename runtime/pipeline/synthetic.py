"""Synthetic sources and stages, which wait instead of working: for tests, dry runs, benchmarks.

What a pipeline costs by itself, and whether its stages overlap, is seen where the stages wait as
they do for a device: a waiting stage takes no processor, so any loss is the pipeline's own.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from jetlift.runtime.clock import SYSTEM_CLOCK, Clock
from jetlift.runtime.manifest import TensorSpec
from jetlift.runtime.pipeline.form import SourceHealth
from jetlift.runtime.session.fake import FakeSession
from jetlift.runtime.sources import Frame
from jetlift.runtime.tasks.base import Outcome, Prepared, StepTask, place_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt

    from jetlift.runtime.tasks.base import Array, Item

    Picture = npt.NDArray[np.uint8]


class SyntheticSource:
    """Grey frames at a rate, or as fast as they are taken.

    Args:
        count: How many; None goes on until it is closed.
        fps: Frames per second of a live source; None is not live, and goes as fast as it is taken.
        size_wh: Their size in pixels.
        name: What it calls itself.
        clock: Paces it, and tells the moment of capture.
    """

    def __init__(
        self,
        count: int | None = None,
        *,
        fps: float | None = None,
        size_wh: tuple[int, int] = (64, 48),
        name: str = "synthetic",
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._count, self._fps, self._size_wh, self._name = count, fps, size_wh, name
        self._clock, self._stop, self._captured = clock, threading.Event(), 0

    @property
    def name(self) -> str:
        """See FrameSource.name."""
        return self._name

    @property
    def live(self) -> bool:
        """See FrameSource.live."""
        return self._fps is not None

    def frames(self) -> Iterator[Frame]:
        """See FrameSource.frames."""
        start_s = self._clock.now_s()
        while not self._stop.is_set() and (self._count is None or self._captured < self._count):
            index = self._captured
            time_s = index / self._fps if self._fps else 0.0
            due_s = start_s + time_s - self._clock.now_s()
            if self._fps and due_s > 0 and self._clock.wait(self._stop, due_s):
                return
            grey = np.full((self._size_wh[1], self._size_wh[0], 3), index % 256, np.uint8)
            self._captured += 1
            captured_s = self._clock.now_s() if self._fps else None
            yield Frame(self._name, index, time_s, grey, captured_s)

    def health(self) -> SourceHealth:
        """See FrameSource.health."""
        return SourceHealth(self._name, self.live, "when the frame was made", self._captured)

    def close(self) -> None:
        """See FrameSource.close."""
        self._stop.set()


class SyntheticTask(StepTask):
    """Waits where a task would work. Its engine takes any number of items in one run.

    Args:
        prepare_s: Seconds per item before the engine.
        infer_s: Seconds per run of the engine, whatever the number of items.
        per_item_s: Seconds more per item of a run.
        finish_s: Seconds per item after the engine.
        clock: What it waits by.
    """

    name = "synthetic"

    def __init__(
        self,
        *,
        prepare_s: float = 0.0,
        infer_s: float = 0.0,
        per_item_s: float = 0.0,
        finish_s: float = 0.0,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._prepare_s, self._infer_s, self._per_item_s = prepare_s, infer_s, per_item_s
        self._finish_s, self._clock, self._never = finish_s, clock, threading.Event()
        spec = TensorSpec("x", "float32", ("batch", 1))
        self._engine = FakeSession([spec], [replace(spec, name="y")], self._compute)

    @property
    def engine(self) -> FakeSession:
        """See StepTask.engine."""
        return self._engine

    def _compute(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        self._wait(self._infer_s + self._per_item_s * len(feeds["x"]))
        return {"y": feeds["x"] + np.float32(1)}

    def prepare(self, item: Item) -> Prepared:
        """See StepTask.prepare."""
        self._wait(self._prepare_s)
        return Prepared({"x": np.array([[item.index]], np.float32)})

    def finish(self, item: Item, prepared: Prepared, outputs: Mapping[str, Array]) -> Outcome:
        """See StepTask.finish."""
        del prepared
        self._wait(self._finish_s)
        return Outcome(place_of(item) | {"value": float(outputs["y"][0, 0])}, {})

    def draw(self, item: Item, outcome: Outcome) -> Picture | None:
        """The frame as it is; see Task.draw."""
        del outcome
        return item.image_bgr if isinstance(item, Frame) else None

    def _wait(self, seconds: float) -> None:
        if seconds:
            self._clock.wait(self._never, seconds)
