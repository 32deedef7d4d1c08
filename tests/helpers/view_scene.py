"""A run without a model: a moving scene with known boxes, and figures that go with it."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
import numpy.typing as npt

from jetlift.runtime.clock import SYSTEM_CLOCK, Clock
from jetlift.runtime.drawing import box_overlay
from jetlift.runtime.errors import UsageError
from jetlift.runtime.pipeline.form import (
    AgeSummary,
    Result,
    SinkHealth,
    Snapshot,
    SourceHealth,
    StageSummary,
)
from jetlift.runtime.record import Figure
from jetlift.runtime.sources import Frame
from jetlift.runtime.tasks.base import Outcome
from jetlift.runtime.view.board import ViewBoard
from jetlift.runtime.view.form import BudgetLine, Prompting, Told, ViewOptions
from jetlift.runtime.view.server import ViewServer

SIZE_WH = (960, 540)
CAMERA = "csi://0"
_MIB = 2**20


@dataclass(frozen=True)
class _Thing:
    label: str
    kind: int
    lane: float  # height of its middle, as a share of the picture's
    size_wh: tuple[int, int]
    colour: tuple[int, int, int]
    offset: float  # where it begins, as a share of the way
    score: float


THINGS = (
    _Thing("crate", 0, 0.60, (150, 118), (92, 142, 190), 0.02, 0.94),
    _Thing("crate", 0, 0.62, (120, 92), (84, 126, 168), 0.35, 0.91),
    _Thing("drum", 1, 0.58, (96, 138), (150, 118, 66), 0.62, 0.88),
    _Thing("parcel", 2, 0.64, (110, 70), (150, 168, 186), 0.84, 0.79),
)


def scene(number: int) -> tuple[npt.NDArray[np.uint8], list[list[float]], list[_Thing]]:
    """A conveyor with things on it at frame `number`: picture, boxes, what is in them."""
    width, height = SIZE_WH
    shade = np.linspace(58, 96, height, dtype=np.float32)[:, None, None]
    picture = np.broadcast_to(shade * np.array([1.0, 0.97, 0.92], np.float32), (height, width, 3))
    picture = np.ascontiguousarray(picture.astype(np.uint8))
    for x in range(60, width, 210):
        cv2.rectangle(picture, (x, 60), (x + 130, 250), (112, 108, 100), -1)
        cv2.rectangle(picture, (x, 60), (x + 130, 250), (74, 72, 68), 3)
    cv2.rectangle(picture, (0, 380), (width, 450), (52, 50, 48), -1)
    for x in range(-(number * 4) % 60 - 60, width, 60):
        cv2.line(picture, (x, 380), (x - 24, 450), (66, 64, 61), 3)
    cv2.rectangle(picture, (0, 450), (width, 470), (34, 33, 32), -1)
    boxes, seen = [], []
    for thing in THINGS:
        wide, high = thing.size_wh
        way = width + 2 * wide
        x = int((thing.offset * way + number * 4) % way) - wide
        bottom = 418
        box = [max(0, x), bottom - high, min(width - 1, x + wide), bottom]
        if box[2] - box[0] < 24:
            continue
        _draw(picture, thing, x, bottom)
        boxes.append([float(edge) for edge in box])
        seen.append(thing)
    return picture, boxes, seen


def _draw(picture: npt.NDArray[np.uint8], thing: _Thing, x: int, bottom: int) -> None:
    wide, high = thing.size_wh
    top = bottom - high
    dark = tuple(int(part * 0.7) for part in thing.colour)
    if thing.label == "drum":
        cv2.rectangle(picture, (x, top + 14), (x + wide, bottom - 12), thing.colour, -1)
        for y in (top + 14, bottom - 12):
            cv2.ellipse(picture, (x + wide // 2, y), (wide // 2, 13), 0, 0, 360, dark, -1)
        cv2.line(picture, (x, top + high // 2), (x + wide, top + high // 2), dark, 4)
        return
    cv2.rectangle(picture, (x, top), (x + wide, bottom), thing.colour, -1)
    if thing.label == "crate":
        for y in range(top, bottom, high // 4):
            cv2.line(picture, (x, y), (x + wide, y), dark, 3)
        cv2.line(picture, (x, bottom), (x + wide, top), dark, 6)
        cv2.rectangle(picture, (x, top), (x + wide, bottom), dark, 5)
    else:
        cv2.rectangle(picture, (x + wide // 2 - 9, top), (x + wide // 2 + 9, bottom), dark, -1)


@dataclass
class Scene:
    """A pipeline of nothing but a scene. Its figures can be set by hand.

    Attributes:
        clock: Tells ages.
        age_s: How old a frame is when it is written.
        connected: Whether the camera delivers.
        budget: Limits.
        refuse: Prompts that the task refuses.
    """

    clock: Clock = SYSTEM_CLOCK
    age_s: float = 0.041
    connected: bool = True
    reconnects: int = 0
    dropped: int = 3
    trouble: str = ""
    power: Figure = field(default_factory=lambda: Figure(14.6))
    budget: tuple[BudgetLine, ...] = ()
    refuse: tuple[str, ...] = ()
    prompts: list[str] = field(default_factory=lambda: ["crate", "drum", "parcel"])
    written: int = 0
    drawn: int = 0
    changes: list[list[str]] = field(default_factory=list)
    per_s: float = 29.9

    def told(self, **changed: object) -> Told:
        """What the page is told of this run."""
        told = Told(
            "yolox-s",
            "detect",
            self.snapshot,
            lambda: self.budget,
            Prompting(lambda: tuple(self.prompts), self.change),
        )
        return replace(told, **changed)  # type: ignore[arg-type]

    def change(self, prompts: list[str]) -> None:
        refused = [prompt for prompt in prompts if prompt in self.refuse]
        if refused:
            raise UsageError(
                f"The prompt '{refused[0]}' has 90 tokens", expected="77 at most", do="Shorten it"
            )
        self.changes.append(prompts)
        self.prompts = prompts

    def write(self, board: ViewBoard) -> None:
        """One result onto the board, drawn only where somebody looks."""
        board.write(self.result(drawn=board.wants_pictures))

    def result(self, *, drawn: bool = True) -> Result:
        number = self.written
        self.written += 1
        picture, boxes, seen = scene(number)
        captured_s = self.clock.now_s() - self.age_s
        item = Frame(CAMERA, number, number / 30, picture, captured_s)
        scores = [
            round(thing.score + 0.02 * math.sin(number / 9 + thing.offset * 9), 4) for thing in seen
        ]
        fields = {
            "source": CAMERA,
            "index": number,
            "time_s": round(number / 30, 3),
            "boxes_xyxy": boxes,
            "scores": scores,
            "labels": [thing.label for thing in seen],
            "label_ids": [thing.kind for thing in seen],
        }
        image = None
        if drawn:
            self.drawn += 1
            captions = [f"{t.label} {s:.2f}" for t, s in zip(seen, scores, strict=True)]
            image = box_overlay(picture, boxes, captions, [thing.kind for thing in seen])
        return Result(item, Outcome(fields, {}), image)

    def snapshot(self) -> Snapshot:
        age = self.age_s * 1000
        stages = tuple(
            StageSummary(name, self.written, busy, _ages(service), _ages(age * share))
            for name, busy, service, share in (
                ("capture", 0.08, 2.4, 0.2),
                ("prepare", 0.11, 3.1, 0.3),
                ("infer", 0.72, 24.2, 0.9),
                ("finish", 0.05, 1.2, 0.95),
                ("sink", 0.09, 1.9, 1.0),
            )
        )
        source = SourceHealth(
            CAMERA,
            live=True,
            clock="when the driver filled the buffer",
            captured=self.written + self.dropped,
            reconnects=self.reconnects,
            connected=self.connected,
            trouble=self.trouble,
        )
        sinks = (
            SinkHealth("jsonl", self.written),
            SinkHealth("mqtt", max(0, self.written - 2), 2, connected=True),
        )
        return Snapshot(
            running_s=self.written / 30,
            done=self.written,
            per_s=self.per_s,
            dropped=self.dropped,
            stale=0,
            skipped=0,
            stages=stages,
            sources=(source,),
            sinks=sinks,
            rss_bytes=Figure(412 * _MIB + (self.written // 30) % 7 * _MIB // 4),
            power_w=self.power,
        )


def _ages(middle_ms: float) -> AgeSummary:
    return AgeSummary(100, middle_ms, middle_ms, middle_ms * 1.2, middle_ms * 1.4, middle_ms * 2)


BUDGET = (
    BudgetLine("latency p99", Figure(57.4), 66.0, "ms", "lower", ok=True),
    BudgetLine("throughput", Figure(29.9), 25.0, "per s", "higher", ok=True),
    BudgetLine("memory", Figure(412.0), 400.0, "MiB", "lower", ok=False),
    BudgetLine("power", Figure(14.6), 15.0, "W", "lower", ok=True),
    BudgetLine("fidelity mAP", Figure.missing("no samples were given"), 0.40, "", "higher", None),
)


@contextlib.contextmanager
def running(
    board: ViewBoard, scene_: Scene, *, fps: float = 30.0, each: Callable[[int], None] | None = None
) -> Iterator[None]:
    """Write results in a thread of their own for as long as the block runs."""
    stop = threading.Event()

    def write() -> None:
        with board:
            for number in itertools.count():
                if each is not None:
                    each(number)
                scene_.write(board)
                if stop.wait(1 / fps):
                    return

    thread = threading.Thread(target=write, name="scene")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def main() -> None:
    """Serve the scene until Ctrl-C: python tests/helpers/view_scene.py --at 127.0.0.1:8090."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--at", default="")
    parser.add_argument("--seconds", type=float, default=600.0)
    options = parser.parse_args()
    scene_ = Scene(budget=BUDGET)

    def wave(number: int) -> None:
        scene_.age_s = 0.041 + 0.006 * math.sin(number / 50) + (0.02 if number % 97 == 0 else 0)
        scene_.per_s = 29.4 + 0.5 * math.sin(number / 70)

    board = ViewBoard(scene_.told(), ViewOptions())
    with ViewServer(board, options.at) as server:
        print(server.url, flush=True)  # noqa: T201
        with running(board, scene_, each=wave):
            time.sleep(options.seconds)


if __name__ == "__main__":
    main()
