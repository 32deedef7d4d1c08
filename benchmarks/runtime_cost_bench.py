"""What the runtime costs over a loop written by hand, from a video to lines of JSON.

    python -m jetlift.benchmarks.runtime_cost_bench BUNDLE [VIDEO] [--rounds 11] [--frames 150]

BUNDLE is a YOLOX detector; without VIDEO one is made of generated pictures. Each round has one pass
of each row over the whole video, in changing order; engines are open before:

    hand, same      the loop of hand_loop.py, pictures prepared by jetlift's function
    hand, plain     the same loop with plain cv2.resize and a cast
    one thread      jetlift without overlap
    overlapped      jetlift as `jetlift run` runs files

A ratio is the median, over rounds, of a row's figure by that of `hand, same` in the same round.
Processor time is user and system of the whole process, decoding included; a busy machine moves it
less than the clock on the wall. Exit code 1 where the boxes differ from those of `hand, same`,
where one thread takes more than 1.03 of its processor time, or where overlapped takes as long.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from jetlift.benchmarks.hand_loop import HandLoop, plain_preparation, same_preparation
from jetlift.runtime.load import LoadedTask, load
from jetlift.runtime.manifest import ImagePreprocess
from jetlift.runtime.outlets import open_sink
from jetlift.runtime.pipeline.holder import TaskHolder
from jetlift.runtime.pipeline.pipeline import Pipeline, PipelineOptions
from jetlift.runtime.sources import open_frame_sources

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Pass = Callable[[Path, Path], int]

LIMIT = 1.03
SAME, PLAIN, ONE, OVERLAPPED = "hand, same", "hand, plain", "one thread", "overlapped"
_EDGE_PX, _SCORE = 0.1, 0.001  # rounding of the last digit written, and float32 along the way


@dataclass(frozen=True)
class Timing:
    """One pass.

    Attributes:
        wall_s: Time on the wall.
        cpu_s: Processor time of this process, user and system.
    """

    wall_s: float
    cpu_s: float


def generated_video(path: Path, frames: int, size_wh: tuple[int, int] = (640, 480)) -> None:
    """A video of discs that move over soft noise, from a fixed seed."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (12, 16, 3), np.uint8)
    ground = cv2.resize(coarse, size_wh, interpolation=cv2.INTER_CUBIC)
    starts, steps = random.uniform(0, 480, (8, 2)), random.uniform(-4, 4, (8, 2))
    colours = random.integers(0, 256, (8, 3))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 30.0, size_wh)
    for number in range(frames):
        picture = ground.copy()
        for place, colour in zip(starts + number * steps, colours, strict=True):
            centre = (int(place[0]) % size_wh[0], int(place[1]) % size_wh[1])
            cv2.circle(picture, centre, 40, tuple(map(int, colour)), -1)
        writer.write(picture)
    writer.release()


def through_jetlift(task: LoadedTask, *, overlap: bool) -> Pass:
    """A pass through the pipeline."""

    def run(video: Path, out: Path) -> int:
        with TaskHolder(task.task) as holder:
            sources = open_frame_sources([str(video)])
            options = PipelineOptions(overlap=overlap)
            return Pipeline(sources, holder, [open_sink(str(out))], options).run().done

    return run


def passes(folder: Path, threads: int, stack: ExitStack) -> dict[str, Pass]:
    """Every row with its engine open."""
    task = stack.enter_context(load(folder, target="cpu", precision="fp32", threads=threads))
    spec = task.bundle.part(task.part)[1].preprocess
    if not isinstance(spec, ImagePreprocess):
        sys.exit(f"{folder} is no detector of pictures")
    same, plain = (
        HandLoop(task.bundle, task.part, threads, prepare(spec))
        for prepare in (same_preparation, plain_preparation)
    )
    return {
        SAME: same.run,
        PLAIN: plain.run,
        ONE: through_jetlift(task, overlap=False),
        OVERLAPPED: through_jetlift(task, overlap=True),
    }


def timed(one_pass: Pass, video: Path, out: Path) -> Timing:
    """Time one pass."""
    gc.collect()
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    one_pass(video, out)
    return Timing(time.perf_counter() - wall_s, time.process_time() - cpu_s)


def differing(first: Path, second: Path) -> int:
    """Frames whose boxes differ by more than rounding."""
    rows = [
        [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for path in (first, second)
    ]
    if len(rows[0]) != len(rows[1]):
        return max(len(rows[0]), len(rows[1]))
    return sum(not _alike(one, other) for one, other in zip(*rows, strict=True))


def _alike(one: Mapping[str, list[float]], other: Mapping[str, list[float]]) -> bool:
    if one["label_ids"] != other["label_ids"]:
        return False
    near = np.allclose(one["scores"], other["scores"], rtol=0, atol=_SCORE)
    return near and np.allclose(one["boxes_xyxy"], other["boxes_xyxy"], rtol=0, atol=_EDGE_PX)


def measure(
    rows: Mapping[str, Pass], video: Path, folder: Path, rounds: int
) -> tuple[dict[str, list[Timing]], dict[str, int]]:
    """Timings of every row, round by round, and frames whose boxes differ."""
    names = list(rows)
    for name, one_pass in rows.items():  # warm-up, whose results are compared
        one_pass(video, folder / f"{name}.jsonl")
    truth = folder / f"{SAME}.jsonl"
    apart = {name: differing(truth, folder / f"{name}.jsonl") for name in (ONE, OVERLAPPED)}
    timings: dict[str, list[Timing]] = {name: [] for name in names}
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            timings[name].append(timed(rows[name], video, folder / f"{name}.jsonl"))
    return timings, apart


def ratio(timings: Sequence[Timing], beside: Sequence[Timing], of: str) -> float:
    """Median of the paired ratios of one figure."""
    pairs = zip(timings, beside, strict=True)
    return float(statistics.median(getattr(one, of) / getattr(other, of) for one, other in pairs))


def report(timings: Mapping[str, Sequence[Timing]], apart: Mapping[str, int], frames: int) -> bool:
    """Print every row; whether every aim is met."""
    print(f"{'':12} {'cpu ms':>8} {'ratio':>6} {'wall ms':>8} {'ratio':>6}   a frame, medians")
    for name, taken in timings.items():
        cpu_ms, wall_ms = (
            statistics.median(getattr(one, of) for one in taken) * 1000 / frames
            for of in ("cpu_s", "wall_s")
        )
        cpu, wall = (ratio(taken, timings[SAME], of) for of in ("cpu_s", "wall_s"))
        print(f"{name:12} {cpu_ms:8.3f} {cpu:6.3f} {wall_ms:8.3f} {wall:6.3f}")
    cpu = ratio(timings[ONE], timings[SAME], "cpu_s")
    wall = ratio(timings[OVERLAPPED], timings[SAME], "wall_s")
    same = not any(apart.values())
    told = "every box" if same else f"NOT the boxes of {apart} frames"
    print(f"one thread {cpu:.3f} of the loop's processor time (limit {LIMIT}); ", end="")
    print(f"overlapped {wall:.3f} of its time (limit below 1); {told} as in the loop")
    return same and cpu <= LIMIT and wall < 1


def main() -> int:
    """Measure, print, and say whether every aim is met."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("video", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--frames", type=int, default=150, help="of the generated video")
    parser.add_argument("--threads", type=int, default=1, help="of the engine")
    asked = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        video = asked.video or folder / "generated.mp4"
        if asked.video is None:
            generated_video(video, asked.frames)
        rows = passes(asked.bundle, asked.threads, stack)
        timings, apart = measure(rows, video, folder, asked.rounds)
        lines = (folder / f"{SAME}.jsonl").read_text(encoding="utf-8").splitlines()
        boxes = [len(json.loads(line)["scores"]) for line in lines]
        print(
            f"{len(boxes)} frames, {statistics.mean(boxes):.1f} boxes each, {asked.rounds} rounds, "
            f"{asked.threads} engine threads, {os.cpu_count()} processors, "
            f"load {os.getloadavg()[0]:.1f}"
        )
        return 0 if report(timings, apart, len(boxes)) else 1


if __name__ == "__main__":
    raise SystemExit(main())
