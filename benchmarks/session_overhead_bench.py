"""What `session.run` costs beyond the engine's own call, as a ratio.

    python benchmarks/session_overhead_bench.py BUNDLE [--precision fp32 --precision int8]

Both sides run the same compiled graph in this process, one after the other and in changing order,
on the same input. The bare side is the least that OpenVINO can be asked to do: input set once,
`infer()`, output left where it lies. The session's side checks its feeds and hands out outputs that
belong to the caller. The ratio is the median over pairs of neighbouring calls, which a machine that
slows down or speeds up meanwhile moves least. Exit code 1 where one is above the limit.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
from typing import TYPE_CHECKING

import numpy as np

from jetlift.runtime.bundle import Bundle
from jetlift.runtime.session import open_session
from jetlift.runtime.session.openvino import OpenVINOSession, library

if TYPE_CHECKING:
    from collections.abc import Callable

    from jetlift.runtime.manifest import TensorSpec
    from jetlift.runtime.session.base import Array

LIMIT = 1.02
WARM_UP_RUNS = 10
MINIMUM_PAIRS = 50


def example(spec: TensorSpec) -> Array:
    """A seeded array of the shape that an input is measured at. Ones are valid token ids."""
    shape = spec.opt_shape or tuple(axis if isinstance(axis, int) else 1 for axis in spec.shape)
    if spec.dtype == "float32":
        return np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    return np.ones(shape, spec.dtype)


def bare_call(session: OpenVINOSession, feeds: dict[str, Array]) -> Callable[[], object]:
    """The engine's own call on a request of its own."""
    request = session.compiled.create_infer_request()
    for index, spec in enumerate(session.inputs):
        tensor = library().Tensor(feeds[spec.name], shared_memory=True)
        request.set_input_tensor(index, tensor)
    return request.infer  # type: ignore[no-any-return]


def timed_ms(call: Callable[[], object]) -> float:
    """Wall time of one call in milliseconds."""
    started = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - started) / 1e6


def pairs_ms(
    ours: Callable[[], object], bare: Callable[[], object], seconds: float
) -> list[tuple[float, float]]:
    """Milliseconds of neighbouring calls, ours first in every other pair, for so long."""
    for _ in range(WARM_UP_RUNS):
        ours()
        bare()
    pairs: list[tuple[float, float]] = []
    end = time.perf_counter() + seconds
    gc.disable()
    try:
        while time.perf_counter() < end or len(pairs) < MINIMUM_PAIRS:
            if len(pairs) % 2:
                pairs.append((timed_ms(ours), timed_ms(bare)))
            else:
                second = timed_ms(bare)
                pairs.append((timed_ms(ours), second))
    finally:
        gc.enable()
    return pairs


def measure(
    bundle: Bundle, part: str, precision: str, threads: int | None, seconds: float
) -> float:
    """Print and return the ratio for one variant."""
    with open_session(bundle, part, precision, threads=threads) as session:
        if not isinstance(session, OpenVINOSession):
            sys.exit("OpenVINO is not installed: pip install 'jetlift[cpu]'")
        feeds = {spec.name: example(spec) for spec in session.inputs}
        pairs = pairs_ms(lambda: session.run(feeds), bare_call(session, feeds), seconds)
    ratio = statistics.median(ours / bare for ours, bare in pairs)
    ours_ms, bare_ms = (statistics.median(side) for side in zip(*pairs, strict=True))
    print(
        f"{bundle.manifest.model} {part} {precision}: ratio {ratio:.4f} over {len(pairs)} pairs; "
        f"medians: session.run {ours_ms:.3f} ms, bare call {bare_ms:.3f} ms"
    )
    return ratio


def main() -> int:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("bundle", help="folder made by 'jetlift export'")
    parser.add_argument("--part", action="append", help="default: every part")
    parser.add_argument("--precision", action="append", help="default: every variant")
    parser.add_argument("--threads", type=int, help="default: OpenVINO's choice")
    parser.add_argument("--seconds", type=float, default=20.0, help="per variant (default 20)")
    parser.add_argument("--limit", type=float, default=LIMIT, help=f"default {LIMIT}")
    asked = parser.parse_args()
    bundle = Bundle.open(asked.bundle)
    ratios = [
        measure(bundle, part, precision, asked.threads, asked.seconds)
        for part in asked.part or bundle.manifest.parts
        for precision in asked.precision or bundle.part(part)[1].variants
    ]
    worst = max(ratios)
    verdict = "ok" if worst <= asked.limit else "too slow"
    print(f"worst ratio {worst:.4f}, limit {asked.limit}: {verdict}")
    return 0 if worst <= asked.limit else 1


if __name__ == "__main__":
    sys.exit(main())
