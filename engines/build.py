"""From a bundle's graphs to engines with passports.

Rules:
    D1  An engine is written aside, then renamed, then its passport is written. A killed build
        leaves nothing that would load.
    D2  An engine whose passport says `load` is kept; whatever else is there is built anew.
    D3  The receipt is what the engine library shows of the finished engine, never what was asked.
    D4  Nothing here knows of precision: it is in the graph.
    D5  INT8 has to be faster than fp32, which gate.py finds out where the target is this machine.
"""

from __future__ import annotations

import importlib.metadata
import time
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Literal

from jetlift.engines import gate, openvino, ops, race, tensorrt
from jetlift.engines.receipt import NARROW, shortfall
from jetlift.engines.shapes import onnx_library
from jetlift.engines.targets import target as target_of
from jetlift.runtime import atomic
from jetlift.runtime.bundle import sha256_of
from jetlift.runtime.errors import (
    MissingPackageError,
    PassportError,
    UnknownNameError,
    UsageError,
)
from jetlift.runtime.passport import (
    SCHEMA_VERSION,
    Host,
    Passport,
    here,
    judge,
    onnx_sha256,
    passport_path,
    read_passport,
    write_passport,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from jetlift.engines.ops import GraphCost
    from jetlift.engines.receipt import Built
    from jetlift.engines.targets import Target
    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.manifest import Part, Variant

    Progress = Callable[[str, float], None]


# Precisions that a library is told to compute in fp32, whatever their type.
_WIDENED = {"openvino": ("fp16", "bf16")}


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


@dataclass(frozen=True)
class _Job:
    bundle: Bundle
    target: Target
    part: str
    precision: str

    @property
    def described(self) -> Part:
        return self.bundle.part(self.part)[1]

    @property
    def variant(self) -> Variant:
        return self.bundle.variant(self.part, self.precision)

    @property
    def onnx(self) -> Path:
        return self.bundle.path(self.variant.file)

    @property
    def engine_path(self) -> Path:
        return self.bundle.engine_path(self.target.name, self.part, self.precision)


def build(
    bundle: Bundle,
    target: str,
    precisions: Sequence[str] | None = None,
    *,
    race_limit_s: float = race.LIMIT_S,
    progress: Progress | None = None,
) -> list[BuildResult]:
    """Build a bundle's engines for a target (rules D1 to D5).

    Args:
        bundle: A verified bundle.
        target: Name of the target.
        precisions: Variants to build of every part that has them; None for all there are.
        race_limit_s: Seconds per part to time INT8 against fp32; 0 leaves it untimed.
        progress: Called with what is being done and the share of it all done, 0 to 1.

    Raises:
        UnknownNameError: No such target, or no part has such a variant.
        UsageError: The target needs no engines.
        MissingPackageError: The target's library is not installed.
        EngineLibraryError: The library refuses a graph. Engines built before stay.
        StorageError: The disk is full or not writable.
    """
    chosen = target_of(target)
    if chosen.library == "onnxruntime":
        raise UsageError(
            f"Target {target} has nothing to build: ONNX Runtime runs the graphs as they are",
            do=f"Run it right away: jetlift run {bundle.folder} INPUT --target {target}",
        )
    jobs = _jobs(bundle, chosen, precisions)
    host = _host_of(chosen)
    tell = progress or (lambda _doing, _share: None)
    steps = iter(range(len(jobs) + len(bundle.manifest.parts)))
    count = len(jobs) + len(bundle.manifest.parts)
    results = []
    for job in jobs:
        tell(f"{job.part} {job.precision} for {target}", next(steps) / count)
        results.append(_build_or_keep(job, host))
    results = gate.earn(
        bundle, chosen, host, results,
        limit_s=race_limit_s, tell=lambda doing: tell(doing, next(steps) / count),
    )  # fmt: skip
    tell(f"{len(results)} engines for {target}", 1.0)
    return results


def _jobs(bundle: Bundle, target: Target, precisions: Sequence[str] | None) -> list[_Job]:
    parts = bundle.manifest.parts
    known = list(dict.fromkeys(name for part in parts.values() for name in part.variants))
    for name in precisions or ():
        if name not in known:
            raise UnknownNameError(
                f"No part of {bundle.manifest.model} has a {name} variant",
                expected=f"One of {', '.join(known)}",
                do="Choose one of these, or export again with: --precision",
            )
    wanted = known if precisions is None else list(dict.fromkeys(precisions))
    return [
        _Job(bundle, target, name, precision)
        for name, part in parts.items()
        for precision in wanted
        if precision in part.variants
    ]


def _host_of(target: Target) -> Host:
    """The machine the engines are for: this one, with the GPU that the target names."""
    host = here(gpu=False)
    if target.library not in host.libraries:
        extra = {"openvino": "cpu", "tensorrt_rtx": "rtx"}[target.library]
        raise MissingPackageError(
            target.library, extra=extra, purpose=f"to build engines for {target.name}"
        )
    capability = target.compute_capability
    return replace(host, compute_capabilities=(capability,) if capability else ())


def _build_or_keep(job: _Job, host: Host) -> BuildResult:
    path = job.engine_path
    found, reason = _found(job, host)
    started = time.perf_counter()
    passport = _build(job, host) if found is None else found
    widened = _WIDENED.get(job.target.library, ())
    return BuildResult(
        part=job.part,
        precision=job.precision,
        engine_path=path,
        passport=passport,
        action="built" if found is None else "kept",
        reason=reason,
        seconds=time.perf_counter() - started if found is None else 0.0,
        shortfall=shortfall(passport.receipt, [name for name in NARROW if name not in widened]),
        widened=shortfall(passport.receipt, widened),
    )


def _found(job: _Job, host: Host) -> tuple[Passport | None, str]:
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
    return (passport if verdict.action == "load" else None), verdict.reason


def _build(job: _Job, host: Host) -> Passport:
    path = job.engine_path
    cost = _cost(job)
    with atomic.file_aside(path) as aside:
        built = _compile(job, aside, cost)
        passport = _passport(job, host, built, aside)
        passport_path(path).unlink(missing_ok=True)  # it speaks of the engine that goes now
    write_passport(passport, path)
    return passport


def _compile(job: _Job, destination: Path, cost: GraphCost | None) -> Built:
    capability = job.target.compute_capability
    if capability is None:
        return openvino.build_engine(job.onnx, destination, cost)
    inputs = job.described.inputs
    return tensorrt.build_engine(
        job.onnx, destination, cost, inputs=inputs, compute_capability=capability
    )


def _cost(job: _Job) -> GraphCost | None:
    """What the nodes cost, for the receipt. An engine can be built without knowing it."""
    try:
        onnx = onnx_library()
    except MissingPackageError:
        return None
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(str(job.onnx), load_external_data=False)
    except DecodeError:
        return None  # no graph: the engine library is about to refuse it, in one sentence
    shapes = {spec.name: spec.opt_shape for spec in job.described.inputs if spec.opt_shape}
    return ops.count(model, shapes)


def _passport(job: _Job, host: Host, built: Built, engine: Path) -> Passport:
    on_cpu = job.target.compute_capability is None
    return Passport(
        schema_version=SCHEMA_VERSION,
        engine_sha256=sha256_of(engine),
        engine_size_bytes=engine.stat().st_size,
        onnx_sha256=onnx_sha256(job.bundle, job.part, job.precision),
        bundle_sha256=job.bundle.sha256,
        model=job.bundle.manifest.model,
        part=job.part,
        variant=job.precision,
        target=job.target.name,
        library=job.target.library,  # type: ignore[arg-type]  # onnxruntime builds nothing
        library_version=host.libraries[job.target.library],
        arithmetic=built.arithmetic,
        machine=host.machine,
        cpu_name=host.cpu_name if on_cpu else None,
        isa=host.isa if on_cpu else (),
        compute_capability=job.target.compute_capability,
        receipt=built.receipt,
        speed=gate.untimed(job.bundle, job.part, job.precision, job.target),
        jetlift=importlib.metadata.version("jetlift"),
        built_at=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )
