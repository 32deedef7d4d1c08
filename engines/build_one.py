"""One engine of a bundle: compiled aside, described, put in place with its passport.

Rules:
    S1  An engine is written aside, then renamed, then its passport is written. A killed build
        leaves nothing that would load.
    S2  The library's own list of the layers lies beside the engine as `<engine>.layers.json`,
        where the library gives one.
"""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import cached_property
from typing import TYPE_CHECKING

from jetlift.engines import gate, openvino, ops
from jetlift.engines.receipt import held_to
from jetlift.engines.shapes import onnx_library
from jetlift.engines.trt import build as trt
from jetlift.engines.where import board_of, capability_of
from jetlift.runtime import atomic
from jetlift.runtime.bundle import sha256_of
from jetlift.runtime.errors import MissingPackageError
from jetlift.runtime.passport import (
    SCHEMA_VERSION,
    Passport,
    built_on,
    onnx_sha256,
    passport_path,
    write_passport,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import onnx

    from jetlift.engines.handover import SiblingBuilder
    from jetlift.engines.ops import GraphCost
    from jetlift.engines.receipt import Built
    from jetlift.engines.targets import Target
    from jetlift.engines.trt.options import BuildOptions
    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.manifest import Part, Variant
    from jetlift.runtime.passport import Host

    Tell = Callable[[str, float], None]
    Notify = Callable[[str], None]

LAYERS_SUFFIX = ".layers.json"


@dataclass(frozen=True)
class Job:
    """One engine to build."""

    bundle: Bundle
    target: Target
    part: str
    precision: str

    @property
    def described(self) -> Part:
        """The part, as the bundle describes it."""
        return self.bundle.part(self.part)[1]

    @property
    def variant(self) -> Variant:
        """The variant, as the bundle describes it."""
        return self.bundle.variant(self.part, self.precision)

    @property
    def onnx(self) -> Path:
        """Its graph."""
        return self.bundle.path(self.variant.file)

    @property
    def engine_path(self) -> Path:
        """Where its engine lies."""
        return self.bundle.engine_path(self.target.name, self.part, self.precision)


@dataclass(frozen=True)
class Made:
    """A finished engine."""

    passport: Passport
    notices: tuple[str, ...]


def layers_path(engine_path: Path) -> Path:
    """Where the list of an engine's layers lies (rule S2)."""
    return engine_path.with_name(engine_path.name + LAYERS_SUFFIX)


def make(job: Job, host: Host, options: BuildOptions, tell: Tell, notify: Notify) -> Made:
    """Build an engine and put it in place (rules S1 and S2).

    Args:
        job: What to build.
        host: The machine it is for.
        options: How TensorRT is to build it; a CPU has none.
        tell: Called with what the builder does and the share of it that is done.
        notify: Takes a sentence the user should read.
    """
    path = job.engine_path
    graph = _Graph(job)
    with atomic.file_aside(path) as aside:
        built = _compile(job, aside, graph, host, options, tell, notify)
        built = replace(built, receipt=held_to(built.receipt, graph.cost, job.variant))
        passport = _passport(job, host, built, aside)
        for old in (passport_path(path), layers_path(path)):
            old.unlink(missing_ok=True)  # they speak of the engine that goes now
    if built.layers is not None:
        atomic.write_bytes(layers_path(path), built.layers.encode())
    write_passport(passport, path)
    return Made(passport, built.notices)


def sibling_builder(
    bundle: Bundle, target: Target, options: BuildOptions, notify: Notify
) -> SiblingBuilder:
    """What compiles a board's graphs for the nearest GPU that TensorRT-RTX knows."""

    def build(part: str, precision: str, destination: Path, capability: str) -> Built:
        job = Job(bundle, target, part, precision)
        graph = _Graph(job)
        return trt.build_engine(
            job.onnx,
            destination,
            graph.cost,
            inputs=job.described.inputs,
            compute_capability=capability,
            options=options,
            operations=graph.operations,
            notify=notify,
        )

    return build


class _Graph:
    """What a job's graph costs. An engine can be built without knowing it."""

    def __init__(self, job: Job) -> None:
        self._job = job

    @cached_property
    def _model(self) -> onnx.ModelProto | None:
        try:
            library = onnx_library()
        except MissingPackageError:
            return None
        from google.protobuf.message import DecodeError

        try:
            model: onnx.ModelProto = library.load(str(self._job.onnx), load_external_data=False)
        except DecodeError:
            return None  # no graph: the engine library is about to refuse it, in one sentence
        return model

    @cached_property
    def cost(self) -> GraphCost | None:
        """At the shapes the part is built best for."""
        inputs = self._job.described.inputs
        shapes = {spec.name: spec.opt_shape for spec in inputs if spec.opt_shape}
        return None if self._model is None else ops.count(self._model, shapes)

    @property
    def operations(self) -> Callable[[Mapping[str, tuple[int, ...]]], float] | None:
        """Operations of one run by shapes; None where the graph cannot be read."""
        model = self._model
        if model is None:
            return None
        return lambda shapes: ops.count(model, dict(shapes)).cost.operations


def _compile(
    job: Job,
    destination: Path,
    graph: _Graph,
    host: Host,
    options: BuildOptions,
    tell: Tell,
    notify: Notify,
) -> Built:
    if job.target.library == "openvino":
        return openvino.build_engine(job.onnx, destination, graph.cost)
    return trt.build_engine(
        job.onnx,
        destination,
        graph.cost,
        inputs=job.described.inputs,
        compute_capability=capability_of(job.target, host) or "",
        library=job.target.library,
        options=options,
        device=_device(job.target, host),
        operations=graph.operations,
        tell=tell,
        notify=notify,
    )


def _device(target: Target, host: Host) -> str:
    """What timings are kept for: the board in its power mode, or the GPU."""
    if target.device is not None:
        mode = host.board.power_mode if host.board is not None else None
        return f"{target.device.name} {mode or 'unknown mode'}"
    return host.gpu.name if host.gpu is not None else "no GPU"


def _passport(job: Job, host: Host, built: Built, engine: Path) -> Passport:
    library = job.target.library
    on_cpu = library == "openvino"
    board = board_of(host)
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
        library=library,  # type: ignore[arg-type]  # onnxruntime builds nothing
        library_version=host.libraries[library],
        arithmetic=built.arithmetic,
        machine=host.machine,
        cpu_name=host.cpu_name if on_cpu else None,
        isa=host.isa if on_cpu else (),
        compute_capability=None if on_cpu else capability_of(job.target, host),
        cuda_version=None if on_cpu else host.cuda_of(library),
        built_on=None if on_cpu else built_on(host, board.modules if board else ()),
        settings=built.settings,
        receipt=built.receipt,
        speed=gate.untimed(job.bundle, job.part, job.precision, job.target, host),
        jetlift=importlib.metadata.version("jetlift"),
        built_at=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )
