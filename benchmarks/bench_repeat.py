"""How a benchmark was set up and is repeated: the record's settings, packages and command line."""

from __future__ import annotations

import importlib.metadata
import shlex
from typing import TYPE_CHECKING

from jetlift.runtime.record import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from jetlift.benchmarks.more import More
    from jetlift.benchmarks.stop import StopRules
    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.record import Result

SAMPLES = 16  # real ones that are fed, at most


def settings_of(rules: StopRules, threads: int | None, seed: int, inputs: str) -> Settings:
    """The record's settings.

    Args:
        rules: When measuring stopped.
        threads: Threads asked for; None where the engine library chose.
        seed: Seed of random inputs.
        inputs: Where the inputs came from, in words.
    """
    return Settings(
        min_runs=rules.min_runs,
        max_runs=rules.max_runs,
        time_limit_s=rules.time_limit_s,
        half_width_percent=rules.half_width_percent,
        confidence=rules.confidence,
        warmup_max_runs=rules.warmup_max_runs,
        warmup_limit_s=rules.warmup_limit_s,
        threads=threads,
        seed=seed,
        inputs=inputs,
    )


def inputs_of(samples: Path | None, seed: int) -> str:
    """Where the inputs come from, in words."""
    if samples is None:
        return f"random, seed {seed}"
    return f"up to {SAMPLES} real samples of {samples.name}, in turn"


def packages(results: Sequence[Result]) -> dict[str, str]:
    """Versions of the packages that took part."""
    versions = {name: importlib.metadata.version(name) for name in ("jetlift", "numpy")}
    return versions | {result.engine.library: result.engine.version for result in results}


def command_line(
    bundle: Bundle,
    target: str,
    precisions: Sequence[str] | None,
    threads: int | None,
    rules: StopRules,
    samples: Path | None,
    out: Path | None,
    more: More,
) -> str:
    """The command line that measures the same again, with names of folders alone (record R4)."""
    words = ["jetlift", "bench", bundle.folder.name, "--target", target]
    if precisions:
        words += ["--precision", ",".join(precisions)]
    if threads is not None:
        words += ["--threads", str(threads)]
    words += ["--time-limit-s", f"{rules.time_limit_s:g}"]
    if samples is not None:
        words += ["--samples", samples.name]
    return shlex.join([*words, *more.words(), "-o", out.name if out is not None else "report"])
