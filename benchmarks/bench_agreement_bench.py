"""Do jetlift's latencies agree with a plain loop around the engine library? Exits 1 if not.

    python benchmarks/bench_agreement_bench.py BUNDLE [--part P] [--variant V] [--rounds 7]

Each variant is timed by `jetlift bench`'s own measuring and by a child that imports OpenVINO and
numpy alone, has a loop of five lines and shares no code with jetlift, in turns. The median over all
turns of the ratio of both medians must lie within five percent of one. Run it on a quiet machine:
what disturbs one side's turns more than the other's looks like disagreement.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jetlift.runtime.bundle import Bundle

ALLOWED = 0.05


def plain_loop(model: str, feeds_file: str, threads: int, runs: int) -> list[float]:
    """The other side: nothing of jetlift in this process."""
    import numpy as np
    import openvino as ov

    config = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
    }
    if model.endswith(".engine"):
        compiled = ov.Core().import_model(Path(model).read_bytes(), "CPU", config)
    else:
        compiled = ov.Core().compile_model(model, "CPU", config)
    with np.load(feeds_file) as arrays:
        feeds = dict(arrays)
    request = compiled.create_infer_request()
    samples_ms = []
    for index in range(runs + 10):
        start_s = time.perf_counter()
        request.infer(feeds)
        if index >= 10:
            samples_ms.append((time.perf_counter() - start_s) * 1e3)
    return samples_ms


def plain(model: Path, feeds: Path, threads: int, runs: int) -> list[float]:
    """Run `plain_loop` in a fresh process."""
    command = [sys.executable, __file__, "--plain", str(model), str(feeds), str(threads), str(runs)]
    safe = os.environ | {"PYTHONSAFEPATH": "1"}
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=safe)
    samples_ms: list[float] = json.loads(done.stdout)
    return samples_ms


def ours(bundle: Bundle, part: str, variant: str, threads: int, runs: int) -> list[float]:
    """Measure as `jetlift bench` does."""
    from jetlift.benchmarks import measure, stop

    rules = stop.StopRules(min_runs=runs, max_runs=runs, time_limit_s=600.0)
    job = measure.VariantJob(
        job="variant", bundle=str(bundle.folder), part=part, variant=variant, target="cpu",
        threads=threads, rules=rules, seed=0, samples=None,
    )  # fmt: skip
    answer = measure.run_child(job, measure.VariantAnswer, limit_s=measure.patience_s(rules))
    return list(answer.latency.samples_ms)


def compare(bundle: Bundle, part: str, variant: str, rounds: int, runs: int) -> float:
    """Time one variant both ways in turns, print a line, give the relative difference."""
    import numpy as np

    from jetlift.runtime.feeds import random_feeds

    engine = bundle.engine_path("cpu", part, variant)
    model = engine if engine.is_file() else bundle.path(bundle.variant(part, variant).file)
    threads = len(os.sched_getaffinity(0))
    left: list[float] = []
    right: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        feeds = Path(folder) / "feeds.npz"
        np.savez(feeds, **random_feeds(bundle.part(part)[1], 0))  # type: ignore[arg-type]
        for turn in range(rounds):
            if turn % 2 == 0:
                left.append(statistics.median(ours(bundle, part, variant, threads, runs)))
                right.append(statistics.median(plain(model, feeds, threads, runs)))
            else:
                right.append(statistics.median(plain(model, feeds, threads, runs)))
                left.append(statistics.median(ours(bundle, part, variant, threads, runs)))
    # Turns that are neighbours in time share the machine's mood, so each is compared with its own.
    difference = statistics.median(a / b for a, b in zip(left, right, strict=True)) - 1
    verdict = "agree" if abs(difference) <= ALLOWED else "DISAGREE"
    ours_ms, plain_ms = statistics.median(left), statistics.median(right)
    print(
        f"{part:10} {variant:6} {ours_ms:12.3f} {plain_ms:12.3f} {difference:+9.1%}  {verdict}",
        flush=True,
    )
    return abs(difference)


def main() -> int:
    """Compare every variant; 1 where one differs by more than allowed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--part")
    parser.add_argument("--variant")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--runs", type=int, default=100)
    given = parser.parse_args()
    from jetlift.runtime.bundle import Bundle

    bundle = Bundle.open(given.bundle)
    print(f"{'part':10} {'variant':6} {'jetlift, ms':>12} {'plain, ms':>12} {'apart':>9}")
    worst = max(
        compare(bundle, name, variant, given.rounds, given.runs)
        for name, part in bundle.manifest.parts.items()
        if given.part in (None, name)
        for variant in part.variants
        if given.variant in (None, variant)
    )
    print(f"largest difference {worst:.1%}, allowed {ALLOWED:.0%}")
    return int(worst > ALLOWED)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--plain"]:
        model_file, arrays_file, thread_count, run_count = sys.argv[2:]
        print(json.dumps(plain_loop(model_file, arrays_file, int(thread_count), int(run_count))))
    else:
        sys.exit(main())
