"""What a build was asked for, what an attempt gave, and what is told of the engine in the end."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jetlift.engines.receipt import Built, receipt
from jetlift.engines.trt import cache
from jetlift.engines.trt.diagnosis import people_say
from jetlift.engines.trt.inspector import layers_of
from jetlift.runtime.passport import BuildSettings, Profile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from jetlift.engines.ops import GraphCost
    from jetlift.engines.trt.cache import TimingCache
    from jetlift.engines.trt.ladder import Climbed
    from jetlift.engines.trt.log import BuildLog
    from jetlift.engines.trt.options import BuildOptions
    from jetlift.engines.trt.profiles import Range
    from jetlift.engines.trt.watch import Watched

    Tell = Callable[[str, float], None]

_LOG_LISTS = (
    "The log lists the fused layers of the engine with the data types they read and write. It "
    "proves what the builder fused, and in which types"
)
_LOG_PROVES = {
    "tensorrt": _LOG_LISTS,
    "tensorrt_rtx": f"{_LOG_LISTS}; TensorRT-RTX picks each layer's kernel at run time, so it does "
    "not prove which instructions a GPU runs, nor that they are faster",
}
_INSPECTOR_PROVES = (
    "The engine inspector lists the engine's layers with the data types they read and write, and "
    "the kernels the builder chose for this GPU"
)


@dataclass
class Made:
    """What one attempt gave."""

    seen: Watched
    log: BuildLog
    layers: str | None
    timings: bytes | None


@dataclass(frozen=True)
class Job:
    """One engine to build."""

    onnx: Path
    destination: Path
    library: str
    compute_capability: str
    profiles: tuple[dict[str, Range], ...]
    cache: TimingCache | None
    tell: Tell
    deadline: float


def built(
    job: Job,
    climbed: Climbed[Made],
    made: Made,
    cost: GraphCost | None,
    notices: Sequence[str],
) -> Built:
    """Keep the timings and describe the engine that was made.

    Args:
        job: What was asked for.
        climbed: The attempts.
        made: What the last of them gave.
        cost: What the graph's nodes cost, for the receipt.
        notices: What the user was told before it started.

    Raises:
        StorageError: The timing cache cannot be written.
    """
    if job.cache is not None and made.timings is not None:
        cache.keep(job.cache.path, made.timings)
    inspected = layers_of(made.layers) if made.layers is not None else None
    layers = inspected or made.log.layers or None
    name = people_say(job.library)
    seen = receipt(
        cost,
        layers,
        observed_by=f"{name}'s engine inspector" if inspected else f"{name}'s detailed build log",
        proves=_INSPECTOR_PROVES if inspected else _LOG_PROVES[job.library],
        memory_bytes=made.log.memory,
    )
    exported = made.layers if inspected else None
    if exported is None and made.log.lines:
        exported = json.dumps({"Layers": made.log.lines}, indent=1, ensure_ascii=False)
    return Built(
        "as typed",
        seen,
        settings=_settings(job, climbed, made.log),
        layers=exported,
        notices=(*notices, *_fallback_notice(made.log, climbed.step.options)),
        peak_bytes=made.seen.peak_bytes,
    )


def _settings(job: Job, climbed: Climbed[Made], log: BuildLog) -> BuildSettings:
    options = climbed.step.options
    on_dla = options.dla_core is not None
    return BuildSettings(
        profile=_first(job.profiles),
        optimization_level=options.optimization_level,
        workspace_bytes=options.workspace_bytes,
        version_compatible=options.version_compatible,
        refittable=options.refittable,
        stripped=options.stripped,
        dla_core=options.dla_core,
        dla_fallback=_fallback(log) if on_dla else (),
        plugins=(),
        timing_cache_sha256=job.cache.sha256 if job.cache is not None else None,
        attempts=climbed.failures,
    )


def _first(profiles: Sequence[Mapping[str, Range]]) -> dict[str, Profile]:
    """The profile that sessions run with (rule O3 of profiles.py)."""
    return {name: Profile(own.min, own.opt, own.max) for name, own in profiles[0].items()}


def _fallback(log: BuildLog) -> tuple[str, ...]:
    """Layers that the DLA left to the GPU, by the library's answer and by its log."""
    return tuple(dict.fromkeys([*log.told.get("dla_fallback", ()), *log.dla_fallback]))


def _fallback_notice(log: BuildLog, options: BuildOptions) -> list[str]:
    if options.dla_core is None:
        return []
    names = _fallback(log)
    if not names:
        return [f"DLA core {options.dla_core} takes every layer"]
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return [f"DLA core {options.dla_core} leaves {len(names)} layers to the GPU: {shown}"]
