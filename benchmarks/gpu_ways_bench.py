"""Which way of running an engine on this GPU is the fastest: measured, not assumed.

    python benchmarks/gpu_ways_bench.py BUNDLE --target orin-nano-8gb [--precision fp16]

The ways are those of `GpuOptions`: copies through pinned memory, mapped memory without copies, a
CUDA graph, both, and two runs under way at once. Latency is from the feeds to the outputs in hand;
with two under way the figure is the time per result instead. Each way gets its turn in every round,
so that a clock that falls meanwhile falls for all. Not run on a GPU so far.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import TYPE_CHECKING

import numpy as np

from jetlift.runtime.bundle import Bundle
from jetlift.runtime.session import GpuOptions, open_session

if TYPE_CHECKING:
    from jetlift.runtime.manifest import TensorSpec
    from jetlift.runtime.session.base import Array
    from jetlift.runtime.session.tensorrt import TensorRTSession

WAYS = {
    "copies": GpuOptions(),
    "mapped": GpuOptions(mapped=True),
    "graph": GpuOptions(cuda_graph=True),
    "mapped, graph": GpuOptions(mapped=True, cuda_graph=True),
    "two under way": GpuOptions(overlap=True, cuda_graph=True),
}
WARM_UP_RUNS = 20


def example(spec: TensorSpec) -> Array:
    """A seeded array of the shape that an input is measured at. Ones are valid token ids."""
    shape = spec.opt_shape or tuple(axis if isinstance(axis, int) else 1 for axis in spec.shape)
    if spec.dtype == "float32":
        return np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    return np.ones(shape, spec.dtype)


def times_ms(session: TensorRTSession, feeds: dict[str, Array], runs: int) -> list[float]:
    """Milliseconds of each run, one after the other."""
    taken = []
    for _ in range(runs):
        started = time.perf_counter_ns()
        session.run(feeds)
        taken.append((time.perf_counter_ns() - started) / 1e6)
    return taken


def times_two_under_way_ms(
    session: TensorRTSession, feeds: dict[str, Array], runs: int
) -> list[float]:
    """Milliseconds from one result to the next, with a run under way meanwhile."""
    taken = []
    session.submit(feeds)
    started = time.perf_counter_ns()
    for _ in range(runs):
        session.submit(feeds)
        session.collect()
        now = time.perf_counter_ns()
        taken.append((now - started) / 1e6)
        started = now
    session.collect()
    return taken


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle")
    parser.add_argument("--target", required=True)
    parser.add_argument("--part")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--runs", type=int, default=100, help="runs of each way in a round")
    asked = parser.parse_args()
    bundle = Bundle.open(asked.bundle)
    part = asked.part or next(iter(bundle.manifest.parts))
    measured: dict[str, list[float]] = {name: [] for name in WAYS}
    for turn in range(asked.rounds):
        for name, gpu in WAYS.items():
            measure = times_two_under_way_ms if gpu.overlap else times_ms
            with open_session(
                bundle, part, asked.precision, target=asked.target, gpu=gpu
            ) as opened:
                session: TensorRTSession = opened  # type: ignore[assignment] # a GPU target's is one
                feeds = {spec.name: example(spec) for spec in session.inputs}
                measure(session, feeds, WARM_UP_RUNS)
                measured[name] += measure(session, feeds, asked.runs)
        print(f"round {turn + 1} of {asked.rounds}")
    print(
        f"{part} {asked.precision} on {session.info.device}, milliseconds: median, 99th percentile"
    )
    for name, taken in measured.items():
        print(f"{name:15} {statistics.median(taken):8.3f} {np.percentile(taken, 99):8.3f}")


if __name__ == "__main__":
    main()
