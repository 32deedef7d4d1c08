"""How old frames from a real RTSP server are at the end of a slow engine, for minutes on end.

    python -m jetlift.benchmarks.live_bench [--seconds 600] [--service-ms 60] [--restarts 2]

A real server on loopback (GStreamer's, H.264) serves pictures at 30 frames per second into which
their number and the moment of drawing are drawn. The pipeline reads them with `rtsp://`, and the
engine is one that takes `--service-ms` per frame. A frame's age is counted from that drawn moment,
so encoder, network and decoder are in it. At even distances the server is killed, and started
again on its port two seconds later.

Aims, each of which makes the exit code 1 where it is missed:
    age      p99 of all frames: at most the capture interval and twice the time of one run
    growth   the median of the last third is at most a tenth above that of the first
    healing  the first frame after a restart is there within 5 s of the server's return, and every
             loss is counted
"""

from __future__ import annotations

import argparse
import statistics
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jetlift.benchmarks.rtsp_server import StampedServer, StreamForm
from jetlift.runtime.clock import SYSTEM_CLOCK
from jetlift.runtime.pipeline.holder import TaskHolder
from jetlift.runtime.pipeline.pipeline import Pipeline, PipelineOptions
from jetlift.runtime.pipeline.synthetic import SyntheticTask
from jetlift.runtime.sources import Frame, open_frame_sources
from jetlift.runtime.streams.stamp import read_stamp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jetlift.runtime.pipeline.form import Result, Snapshot

HEALED_S, GROWTH, AWAY_S = 5.0, 1.1, 2.0
FORM = StreamForm((640, 480), 30)


@dataclass
class Seen:
    """What came out of the pipeline.

    Attributes:
        at_s: When each frame's result was there.
        age_ms: Its age then, by the moment drawn into it.
        unread: Frames whose code could not be read.
    """

    at_s: list[float] = field(default_factory=list)
    age_ms: list[float] = field(default_factory=list)
    unread: int = 0

    def add(self, result: Result) -> None:
        """Take one."""
        now_s = SYSTEM_CLOCK.now_s()
        stamp = read_stamp(result.item.image_bgr) if isinstance(result.item, Frame) else None
        if stamp is None:
            self.unread += 1
            return
        self.at_s.append(now_s)
        self.age_ms.append((now_s - stamp.time_s) * 1000)

    def first_after(self, moment_s: float) -> float | None:
        """Seconds from a moment to the next frame; None where none came."""
        return next((at_s - moment_s for at_s in self.at_s if at_s > moment_s), None)


class Restarts:
    """Kills the server at even distances and starts it again, in a thread.

    Args:
        server: The one that runs.
        every_s: Seconds between two.
        count: How many.
    """

    def __init__(self, server: StampedServer, every_s: float, count: int) -> None:
        self.server, self._every_s, self._count = server, every_s, count
        self.back_s: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def _work(self) -> None:
        for _ in range(self._count):
            if self._stop.wait(self._every_s):
                return
            port = self.server.port
            self.server.close()
            if self._stop.wait(AWAY_S):
                return
            self.server = StampedServer(FORM, port)
            self.back_s.append(SYSTEM_CLOCK.now_s())

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """Kill the server for good."""
        self._stop.set()
        self._thread.join()
        self.server.close()


def measure(asked: argparse.Namespace) -> tuple[Seen, list[float], Snapshot]:
    """Frames seen, the moments at which the server came back, and the pipeline at its end."""
    seen = Seen()
    restarts = Restarts(StampedServer(FORM), asked.seconds / (asked.restarts + 1), asked.restarts)
    try:
        sources = open_frame_sources([restarts.server.url])
        task = SyntheticTask(prepare_s=0.002, infer_s=asked.service_ms / 1000, finish_s=0.001)
        with TaskHolder(task) as holder:
            pipeline = Pipeline(sources, holder, options=PipelineOptions(), told=seen.add)
            restarts.start()
            until_s = SYSTEM_CLOCK.now_s() + asked.seconds

            def tick() -> None:
                if SYSTEM_CLOCK.now_s() >= until_s:
                    pipeline.stop()

            snapshot = pipeline.run(tick)
    finally:
        restarts.close()
    return seen, restarts.back_s, snapshot


def percentile(values: Sequence[float], share: float) -> float:
    """By nearest rank."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))]


def show_minutes(seen: Seen) -> None:
    """A line per minute, so that growth would be seen."""
    start_s = seen.at_s[0]
    for minute in range(int((seen.at_s[-1] - start_s) // 60) + 1):
        low_s = start_s + minute * 60
        ages = [
            age_ms
            for at_s, age_ms in zip(seen.at_s, seen.age_ms, strict=True)
            if low_s <= at_s < low_s + 60
        ]
        if ages:
            p50, p99 = percentile(ages, 0.5), percentile(ages, 0.99)
            print(
                f"minute {minute + 1:2}: {len(ages):5} frames, p50 {p50:.0f} ms, p99 {p99:.0f} ms"
            )


def main() -> int:
    """Measure, print, and say whether every aim is met."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--service-ms", type=float, default=60.0)
    parser.add_argument("--restarts", type=int, default=2)
    asked = parser.parse_args()
    seen, back_s, snapshot = measure(asked)
    show_minutes(seen)
    aim_ms = 1000 / FORM.fps + 2 * asked.service_ms
    p99_ms = percentile(seen.age_ms, 0.99)
    third = len(seen.age_ms) // 3
    first_ms, last_ms = (
        statistics.median(part) for part in (seen.age_ms[:third], seen.age_ms[-third:])
    )
    healed_s = [seen.first_after(moment_s) for moment_s in back_s]
    source = snapshot.sources[0]
    print(f"{len(seen.age_ms)} frames, {snapshot.dropped} dropped, {seen.unread} codes unreadable")
    print(
        f"age p99 {p99_ms:.0f} ms (aim {aim_ms:.0f}); median {first_ms:.0f}, then {last_ms:.0f} ms"
    )
    told = ", ".join("never" if item is None else f"{item:.1f} s" for item in healed_s)
    print(f"server restarted {len(back_s)} times, counted {source.reconnects}; back after {told}")
    met = (
        p99_ms <= aim_ms
        and last_ms <= first_ms * GROWTH
        and all(item is not None and item <= HEALED_S for item in healed_s)
        and source.reconnects >= len(back_s) == asked.restarts
    )
    print("met" if met else "MISSED")
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
