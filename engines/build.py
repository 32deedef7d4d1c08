"""From a bundle's graphs to engines with passports.

Rules:
    D1  An engine is in place only with its passport (build_one.py): a killed build leaves nothing
        that would load.
    D2  An engine whose passport says `load`, and that has every option asked for, is kept;
        whatever else is there is built anew.
    D3  The receipt is what the engine library shows of the finished engine, never what was asked.
    D4  Nothing here knows of precision: it is in the graph.
    D5  INT8 has to be faster than fp32, which gate.py finds out where the target is this machine.
    D6  An engine for a board is built on it. Elsewhere the board is handed over to (handover.py).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from jetlift.engines import build_one, gate, race
from jetlift.engines.build_one import Job
from jetlift.engines.handover import hand_over
from jetlift.engines.receipt import NARROW, shortfall
from jetlift.engines.targets import target as target_of
from jetlift.engines.trt.options import BuildOptions, as_arguments, lacking
from jetlift.engines.where import is_here
from jetlift.runtime.errors import (
    EngineLibraryError,
    MissingPackageError,
    PassportError,
    UsageError,
)
from jetlift.runtime.passport import here, judge, onnx_sha256, read_passport

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from jetlift.engines.handover import Handover
    from jetlift.engines.targets import Target
    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.passport import Host, Passport

    Progress = Callable[[str, float], None]
    Notify = Callable[[str], None]
    Built = Sequence["BuildResult"] | Handover  # what came of a target, here or elsewhere

__all__ = ["BuildOptions", "BuildResult", "build", "build_for", "hand_over_to", "is_elsewhere"]

# Precisions that a library is told to compute in fp32, whatever their type.
_WIDENED = {"openvino": ("fp16", "bf16")}
_EXTRAS = {"openvino": "cpu", "tensorrt_rtx": "rtx", "tensorrt": "tensorrt"}


@dataclass(frozen=True)
class BuildResult:
    """One engine after a build.

    Attributes:
        part: Part of the model.
        precision: Variant of the part.
        engine_path: Where the engine lies.
        passport: Its passport.
        action: `built`, or `kept` where the one that was there may load.
        reason: Why it was built or kept.
        seconds: Wall time of the build; 0 where it was kept.
        shortfall: What the builder made wider than the graph asks, with the nodes; else empty.
        widened: What the target widens by a rule of its own, with the nodes; else empty. The CPU
            target computes FP16 and BF16 in FP32 and says so.
        notices: Sentences on its build that the user should read.
    """

    part: str
    precision: str
    engine_path: Path
    passport: Passport
    action: Literal["built", "kept"]
    reason: str
    seconds: float
    shortfall: str
    widened: str
    notices: tuple[str, ...] = ()


def build(
    bundle: Bundle,
    target: str,
    precisions: Sequence[str] | None = None,
    *,
    options: BuildOptions | None = None,
    race_limit_s: float = race.LIMIT_S,
    progress: Progress = lambda _doing, _share: None,
    notify: Notify = lambda _sentence: None,
) -> list[BuildResult]:
    """Build a bundle's engines for a target (rules D1 to D6).

    Args:
        bundle: A verified bundle.
        target: Name of the target.
        precisions: Variants to build of every part that has them; None for all there are.
        options: How TensorRT is to build; its defaults if not given.
        race_limit_s: Seconds per part to time INT8 against fp32; 0 leaves it untimed.
        progress: Called with what is being done and the share of it all done, 0 to 1.
        notify: Takes a sentence the user should read, when it is due; the results have them too.

    Raises:
        UnknownNameError: No such target, or no part has such a variant.
        UsageError: The target needs no engines, is another machine, or cannot do what the options
            ask for.
        MissingPackageError: The target's library is not installed.
        EngineLibraryError: The library refuses a graph, or its builder died. Engines built before
            stay.
        StorageError: The disk is full or not writable.
    """
    chosen = target_of(target)
    _check_target(bundle, chosen, options)
    jobs = [Job(bundle, chosen, *named) for named in bundle.variants(precisions)]
    host = _host_of(chosen)
    count = len(jobs) + len(bundle.manifest.parts)
    results = []
    for index, job in enumerate(jobs):
        doing = f"{job.part} {job.precision} for {target}"
        progress(doing, index / count)

        def tell(_phase: str, share: float, index: int = index, doing: str = doing) -> None:
            progress(doing, (index + share) / count)

        results.append(_build_or_keep(job, host, options or BuildOptions(), tell, notify))
    steps = iter(range(len(jobs), count))
    results = gate.earn(
        bundle, chosen, host, results,
        limit_s=race_limit_s, tell=lambda doing: progress(doing, next(steps) / count),
    )  # fmt: skip
    progress(f"{len(results)} engines for {target}", 1.0)
    return results


def build_for(
    bundle: Bundle,
    target: str,
    precisions: Sequence[str] | None = None,
    *,
    options: BuildOptions | None = None,
    race_limit_s: float = race.LIMIT_S,
    jetpack: str | None = None,
    progress: Progress = lambda _doing, _share: None,
    notify: Notify = lambda _sentence: None,
) -> Built:
    """Build for a target where that can be done, else hand it over (rule D6).

    The arguments are those of `build` and `hand_over_to`, and so is what they raise.
    """
    if is_elsewhere(target):
        return hand_over_to(
            bundle, target, precisions,
            options=options, jetpack=jetpack, progress=progress, notify=notify,
        )  # fmt: skip
    return build(
        bundle, target, precisions,
        options=options, race_limit_s=race_limit_s, progress=progress, notify=notify,
    )  # fmt: skip


def is_elsewhere(target: str) -> bool:
    """Whether a target is a board and this machine is not it (rule D6).

    Raises:
        UnknownNameError: No such target.
    """
    chosen = target_of(target)
    return chosen.device is not None and not is_here(chosen, here(gpu=False))


def hand_over_to(
    bundle: Bundle,
    target: str,
    precisions: Sequence[str] | None = None,
    *,
    options: BuildOptions | None = None,
    jetpack: str | None = None,
    progress: Progress = lambda _doing, _share: None,
    notify: Notify = lambda _sentence: None,
) -> Handover:
    """Do for a board what can be done here: check, try the sibling, write the recipe (rule D6).

    Args:
        bundle: A verified bundle.
        target: Name of the board.
        precisions: Variants of every part that has them; None for all there are.
        options: How TensorRT is to build on the board.
        jetpack: JetPack release on the board; None for the newest that is fully known.
        progress: Called with what is being done.
        notify: Takes a sentence the user should read.

    Raises:
        UnknownNameError: No such target or release, or no part has such a variant.
        UsageError: The board can compute none of it, or has no such DLA core.
    """
    chosen, asked = target_of(target), options or BuildOptions()
    _check_dla(chosen, asked)
    # What TensorRT-RTX cannot do is for the board to do; the sibling tells of the graph alone.
    sibling = BuildOptions(
        optimization_level=asked.optimization_level,
        profile_buckets=asked.profile_buckets,
        time_limit_s=asked.time_limit_s,
    )
    return hand_over(
        bundle, chosen, precisions,
        jetpack=jetpack,
        sibling_builder=build_one.sibling_builder(bundle, chosen, sibling, notify),
        tell=lambda doing: progress(doing, 0.0),
        options=as_arguments(asked),
    )  # fmt: skip


def _check_target(bundle: Bundle, target: Target, options: BuildOptions | None) -> None:
    """Refuse what has nothing to build, or other options than it can do."""
    if target.library == "onnxruntime":
        raise UsageError(
            f"Target {target.name} has nothing to build: ONNX Runtime runs the graphs as they are",
            do=f"Run it right away: jetlift run {bundle.folder} INPUT --target {target.name}",
        )
    if target.library == "openvino" and options is not None and options != BuildOptions():
        given = ", ".join(f"--{name}" for name in as_arguments(options))
        raise UsageError(
            f"Target {target.name} is built by OpenVINO, which has none of {given or 'these'}",
            expected="Options of TensorRT with a target that it builds for",
        )
    _check_dla(target, options or BuildOptions())


def _check_dla(target: Target, options: BuildOptions) -> None:
    """Refuse a DLA core that a board does not have."""
    core, board = options.dla_core, target.device
    if core is not None and board is not None and core >= board.dla_count:
        raise UsageError(
            f"DLA core {core} was asked for and the {board.product} has {board.dla_count}",
            expected="A core that the board has, counted from 0, or none of --dla-core",
        )


def _host_of(target: Target) -> Host:
    """The machine the engines are for: this one, with the GPU that the target names."""
    host = here(gpu=target.library != "openvino")
    if target.library == "tensorrt" and not is_here(target, host):
        what = "board" if target.device is not None else "machine with such a GPU and its driver"
        raise UsageError(
            f"This machine is not {target.name}, and TensorRT builds for the GPU it runs on",
            expected=f"The build to run on the {what} itself",
            do="See what each target is and where it builds with: jetlift targets",
        )
    if target.library not in host.libraries:
        if target.library == "tensorrt" and host.board is not None:
            raise EngineLibraryError(
                "Python finds no tensorrt on this Jetson",
                expected="JetPack's own, which the system's Python has",
                do="Install it with: sudo apt-get install python3-libnvinfer",
            )
        raise MissingPackageError(
            target.library,
            extra=_EXTRAS[target.library],
            purpose=f"to build engines for {target.name}",
        )
    if target.library != "tensorrt_rtx":
        return host
    return replace(host, compute_capabilities=(target.compute_capability or "",))


def _build_or_keep(
    job: Job, host: Host, options: BuildOptions, tell: Progress, notify: Notify
) -> BuildResult:
    found, reason = _found(job, host, options)
    started = time.perf_counter()
    notices: tuple[str, ...] = ()
    if found is None:
        made = build_one.make(job, host, options, tell, notify)
        passport, notices = made.passport, made.notices
    else:
        passport = found
    widened = _WIDENED.get(job.target.library, ())
    return BuildResult(
        part=job.part,
        precision=job.precision,
        engine_path=job.engine_path,
        passport=passport,
        action="built" if found is None else "kept",
        reason=reason,
        seconds=time.perf_counter() - started if found is None else 0.0,
        shortfall=shortfall(passport.receipt, [name for name in NARROW if name not in widened]),
        widened=shortfall(passport.receipt, widened),
        notices=notices,
    )


def _found(job: Job, host: Host, options: BuildOptions) -> tuple[Passport | None, str]:
    """The engine that is there and may load (rule D2), or None, and why."""
    path = job.engine_path
    if not path.exists():
        return None, "none was there"
    try:
        passport = read_passport(path)
    except PassportError as error:
        return None, error.got
    expected = onnx_sha256(job.bundle, job.part, job.precision)
    verdict = judge(passport, host, path, onnx_sha256=expected, target=job.target.name)
    if verdict.action != "load" or passport is None:
        return None, verdict.reason
    if missing := lacking(passport.settings, options):
        return None, f"it was built without {missing}"
    return passport, verdict.reason
