"""Whether a run without end keeps its memory and its files: a hundred thousand inferences.

    python -m jetlift.benchmarks.soak_bench BUNDLE PICTURES [--items 100000] [--precision fp32]

The pictures go round and round through the whole pipeline of a live source: prepare, engine,
finish, a sink of JSON lines in a folder that is thrown away. After a warm-up, resident memory and
open descriptors are read a hundred times. The slope is that of the straight line nearest to the
readings. Exit code 1 where memory grows by 1 MB per 10,000 inferences or more, or a descriptor or
thread stays open.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jetlift.jetson.board import ProcessProbe
from jetlift.runtime.folder_sink import FolderSink
from jetlift.runtime.pipeline.form import SourceHealth
from jetlift.runtime.pipeline.holder import TaskHolder
from jetlift.runtime.pipeline.pipeline import Pipeline, PipelineOptions
from jetlift.runtime.sources import Frame, open_source

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LIMIT_MB_PER_10000 = 1.0
_READINGS = 100


class Round:
    """Frames over and over, as a camera that waits until each is taken."""

    name, live = "round", False

    def __init__(self, frames: Sequence[Frame]) -> None:
        self._frames, self._stop, self._given = frames, threading.Event(), 0

    def frames(self) -> Iterator[Frame]:
        """See FrameSource.frames."""
        while not self._stop.is_set():
            frame = self._frames[self._given % len(self._frames)]
            self._given += 1
            yield Frame(self.name, self._given - 1, 0.0, frame.image_bgr)

    def health(self) -> SourceHealth:
        """See FrameSource.health."""
        return SourceHealth(self.name, self.live, "when it was given", self._given)

    def close(self) -> None:
        """See FrameSource.close."""
        self._stop.set()


def open_files() -> int:
    """Descriptors of this process."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def slope_mb(done: Sequence[int], rss_bytes: Sequence[float]) -> float:
    """Growth in megabytes per 10,000 inferences, by least squares."""
    slope = np.polyfit(np.asarray(done, np.float64), np.asarray(rss_bytes, np.float64), 1)[0]
    return float(slope) * 10_000 / 1e6


def soak(asked: argparse.Namespace) -> tuple[list[int], list[float], list[int], list[int]]:
    """Inferences, memory, descriptors and threads at each reading."""
    from jetlift.runtime.load import load

    with open_source([str(path) for path in asked.pictures], limit=64) as source:
        frames = list(source)
    probe = ProcessProbe()
    rows: tuple[list[int], list[float], list[int], list[int]] = ([], [], [], [])
    warm = asked.items // 10
    each = max(1, (asked.items - warm) // _READINGS)
    with (
        tempfile.TemporaryDirectory() as folder,
        load(asked.bundle, target="cpu", precision=asked.precision, threads=asked.threads) as task,
    ):
        count = 0

        def told(_result: object) -> None:
            nonlocal count
            count += 1
            if count > warm and (count - warm) % each == 0:
                rows[0].append(count)
                rows[1].append(float(probe.read().rss_bytes.value or 0))
                rows[2].append(open_files())
                rows[3].append(threading.active_count())

        sink = FolderSink(Path(folder) / "results", label="soak", endless=True)
        options = PipelineOptions(limit=asked.items)
        holder = TaskHolder(task.task)
        Pipeline([Round(frames)], holder, [sink], options, told=told).run()
    return rows


def main() -> int:
    """Measure, print, and say whether nothing grows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("pictures", type=Path, nargs="+")
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    done, rss, files, threads = soak(asked)
    slope = slope_mb(done, rss)
    print(
        f"{done[-1]} inferences, resident {rss[0] / 1e6:.1f} MB after warm-up, {rss[-1] / 1e6:.1f}"
    )
    print(f"slope {slope:+.3f} MB per 10,000 (limit {LIMIT_MB_PER_10000:g})")
    print(f"descriptors {files[0]} to {max(files)}, threads {threads[0]} to {max(threads)}")
    flat = max(files) <= files[0] and max(threads) <= threads[0]
    return 0 if slope < LIMIT_MB_PER_10000 and flat else 1


if __name__ == "__main__":
    raise SystemExit(main())
