"""Whether the same measurement says the same again.

    python -m jetlift.benchmarks.repeat_bench BUNDLE [--runs 5] [--variant int8] [--part PART]

Measures the median latency of one variant several times, each in a fresh process, as `jetlift
bench` does. Exit code 1 where the medians lie further apart than 5 % of their middle although no
run calls itself noisy; a spread on a machine that is told to be noisy is no lie, and is told.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from jetlift.benchmarks import measure, results
from jetlift.benchmarks.stop import StopRules, brief
from jetlift.jetson import board
from jetlift.runtime.bundle import Bundle
from jetlift.runtime.errors import JetliftError
from jetlift.runtime.record import Recheck

if TYPE_CHECKING:
    from collections.abc import Sequence

SPREAD_PERCENT = 5.0


@dataclass(frozen=True)
class Repeat:
    """One measuring: its median, and what disturbed it."""

    p50_ms: float
    noise: tuple[str, ...]


def spread_percent(medians_ms: Sequence[float]) -> float:
    """From the smallest to the largest, in percent of their median."""
    return (max(medians_ms) - min(medians_ms)) / statistics.median(medians_ms) * 100


def passes(repeats: Sequence[Repeat]) -> bool:
    """Whether the medians agree, or the machine was said to be noisy."""
    apart = spread_percent([repeat.p50_ms for repeat in repeats]) > SPREAD_PERCENT
    return not apart or any(repeat.noise for repeat in repeats)


def once(job: measure.VariantJob) -> Repeat:
    """Measure once, and once more briefly: noise is judged as a benchmark judges it."""
    machine = board.describe_machine()
    answer = _child(job)
    again = _child(replace(job, rules=brief(job.rules))).latency
    moved = (again.p50_ms / answer.latency.p50_ms - 1) * 100
    recheck = Recheck(len(again.samples_ms), again.p50_ms, round(moved, 2))
    return Repeat(answer.latency.p50_ms, results.noise(answer, recheck, machine))


def _child(job: measure.VariantJob) -> measure.VariantAnswer:
    return measure.run_child(job, measure.VariantAnswer, limit_s=measure.patience_s(job.rules))


def main() -> int:
    """Measure, print, and say whether the medians agree."""
    try:
        return _repeat(_asked())
    except JetliftError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--part")
    parser.add_argument("--variant", default="fp32")
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--time-limit-s", type=float, default=StopRules.time_limit_s)
    asked = parser.parse_args()
    if asked.runs < 2:
        parser.error("--runs takes 2 or more")
    return asked


def _repeat(asked: argparse.Namespace) -> int:
    bundle = Bundle.open(asked.bundle)
    part = asked.part or next(iter(bundle.manifest.parts))
    rules = StopRules(time_limit_s=asked.time_limit_s)
    job = measure.VariantJob(
        "variant", str(bundle.folder), part, asked.variant, asked.target, asked.threads, 0, rules,
        None,
    )  # fmt: skip
    repeats: list[Repeat] = []
    for number in range(asked.runs):
        repeats.append(once(job))
        told = "; ".join(repeats[-1].noise) or "quiet"
        print(f"run {number + 1} of {asked.runs}: p50 {repeats[-1].p50_ms:.3f} ms ({told})")
    apart = spread_percent([repeat.p50_ms for repeat in repeats])
    noisy = any(repeat.noise for repeat in repeats)
    print(
        f"{part} {asked.variant}: medians of {asked.runs} runs lie within {apart:.1f} % of each "
        f"other; the machine was {'noisy' if noisy else 'quiet'}; limit {SPREAD_PERCENT:g} %"
    )
    return 0 if passes(repeats) else 1


if __name__ == "__main__":
    raise SystemExit(main())
