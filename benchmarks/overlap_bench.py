"""Whether stages overlap: throughput against the slowest stage alone, and how old frames grow.

    python -m jetlift.benchmarks.overlap_bench [--items 300]

Stages, sources and engine are the shipped synthetic ones, which wait as they would for a device
and take no processor, so what is lost is the pipeline's own. Each row states its aim:

    files       at least 0.95 of the slowest stage's rate when it runs alone, measured beside it
    live        the same for a camera that is faster than the engine
    batches     the same, where four items share a run
    ages        p99 age of three cameras on one slow engine: at most the capture interval and
                twice the time of one run, and no more in the last third than in the first

Exit code 1 where a row misses its aim.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jetlift.runtime.clock import SYSTEM_CLOCK
from jetlift.runtime.pipeline.holder import TaskHolder
from jetlift.runtime.pipeline.pipeline import Pipeline, PipelineOptions
from jetlift.runtime.pipeline.synthetic import SyntheticSource, SyntheticTask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jetlift.runtime.pipeline.form import Result, Snapshot

AIM = 0.95
_GROWTH = 1.1  # of the median age, from the first third to the last


@dataclass(frozen=True)
class Row:
    """One row: what was seen against what was aimed at."""

    name: str
    seen: str
    aim: str
    met: bool


def run(
    task: SyntheticTask, sources: Sequence[SyntheticSource], options: PipelineOptions
) -> tuple[Snapshot, list[float]]:
    """A run, and the age of every result at the end of the stage `finish`, in order."""
    ages_ms: list[float] = []

    def told(result: Result) -> None:
        ages_ms.append(result.ages_ms["finish"])

    with TaskHolder(task) as holder:
        return Pipeline(sources, holder, options=options, told=told).run(), ages_ms


def alone_per_s(task: SyntheticTask, batch: int, runs: int) -> float:
    """Items per second of the engine with nothing around it."""
    feeds = {"x": np.zeros((batch, 1), np.float32)}
    began_s = SYSTEM_CLOCK.now_s()
    for _ in range(runs):
        task.engine.run(feeds)
    return runs * batch / (SYSTEM_CLOCK.now_s() - began_s)


def rate_row(
    name: str, task: SyntheticTask, source: SyntheticSource, options: PipelineOptions
) -> Row:
    """Throughput as a share of what the slowest stage reaches alone."""
    best = alone_per_s(task, options.batch, 50)
    snapshot, _ = run(task, [source], options)
    share = snapshot.done / snapshot.running_s / best
    seen = f"{snapshot.done / snapshot.running_s:.1f} of {best:.1f} per s: {share:.3f}"
    return Row(name, seen, f"at least {AIM}", share >= AIM)


def age_row(items: int) -> Row:
    """Ages of three cameras at 30 frames per second on an engine that takes 50 ms."""
    service_s, fps = 0.05, 30.0
    sources = [SyntheticSource(fps=fps, name=f"camera-{number}") for number in range(3)]
    task = SyntheticTask(prepare_s=0.004, infer_s=service_s, finish_s=0.002)
    snapshot, ages_ms = run(task, sources, PipelineOptions(limit=items))
    ranked = sorted(ages_ms)
    p99_ms = ranked[int(0.99 * (len(ranked) - 1))]
    aim_ms = (1 / fps + 2 * service_s) * 1000
    third = len(ages_ms) // 3
    first, last = (statistics.median(part) for part in (ages_ms[:third], ages_ms[-third:]))
    seen = f"p99 {p99_ms:.0f} ms; median {first:.0f} then {last:.0f} ms; {snapshot.dropped} dropped"
    return Row(
        "ages", seen, f"at most {aim_ms:.0f} ms", p99_ms <= aim_ms and last <= first * _GROWTH
    )


def slow() -> SyntheticTask:
    """A task whose engine takes longest."""
    return SyntheticTask(prepare_s=0.008, infer_s=0.020, finish_s=0.006)


def rows(items: int) -> list[Row]:
    """All rows."""
    plain = PipelineOptions()
    limited = PipelineOptions(limit=items)
    batched = PipelineOptions(batch=4, room=8)
    return [
        rate_row("files", slow(), SyntheticSource(items), plain),
        rate_row("live", slow(), SyntheticSource(fps=200.0), limited),
        rate_row(
            "batches",
            SyntheticTask(prepare_s=0.002, infer_s=0.030, per_item_s=0.001, finish_s=0.002),
            SyntheticSource(items),
            batched,
        ),
        age_row(items),
    ]


def main() -> int:
    """Measure, print, and say whether every aim is met."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--items", type=int, default=300)
    made = rows(parser.parse_args().items)
    for row in made:
        print(f"{row.name:8} {row.seen:58} {row.aim:18} {'met' if row.met else 'MISSED'}")
    return 0 if all(row.met for row in made) else 1


if __name__ == "__main__":
    raise SystemExit(main())
