"""Time per layer, where the engine tells: OpenVINO's counters, TensorRT's profiler.

Rules:
    Y1  Counting costs time, so it is done in a fresh process, in a short run of its own, and no
        other figure of a record comes from there.
    Y2  Operations are those of the ONNX nodes that the library names as a layer's; where a name is
        none of the graph's, the layer has its time alone. TensorRT joins the names of nodes that it
        fused by ` + `, and all of them have to be the graph's.
    Y3  An OpenVINO engine that was built before tells no times: the same graph is compiled again
        for this. A TensorRT engine tells its own. Other libraries are not asked.
    Y4  It comes after all measuring, so whatever goes wrong here leaves what was measured as it is:
        the record tells it among `not_done`, with the reason.
"""

from __future__ import annotations

import statistics
import sys
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from jetlift.benchmarks import measure
from jetlift.runtime.bundle import Bundle
from jetlift.runtime.errors import JetliftError, MissingPackageError, UsageError
from jetlift.runtime.feeds import random_feeds
from jetlift.runtime.figure import Figure
from jetlift.runtime.layer_form import LayerTime
from jetlift.runtime.scenario_form import NotDone
from jetlift.runtime.session.openvino_split import PART, declared

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from jetlift.benchmarks.measure import Feeds
    from jetlift.runtime.record import Record, Result
    from jetlift.runtime.session.trt_layers import LayerSession

_WORKER = (sys.executable, "-m", "jetlift.benchmarks.layers_child")
_RUNS, _WARMUP, _LIMIT_S = 10, 2, 300.0
_WHAT = "time per layer"
_TOLD_BY = ("openvino", "tensorrt", "tensorrt_lean", "tensorrt_rtx")


@dataclass(frozen=True)
class LayersJob(measure.OfAVariant):
    """One variant whose layers are to be timed."""

    job: Literal["layers"]


@dataclass(frozen=True)
class LayersAnswer:
    """What the child found."""

    layers: tuple[LayerTime, ...]


def with_layers(
    record: Record, bundle: Bundle, *, threads: int | None, seed: int, tell: Callable[[str], None]
) -> Record:
    """The record with times per layer, where the engine tells them (rules Y1 to Y4).

    Args:
        record: What was measured.
        bundle: Of this bundle.
        threads: Threads to compute with, or None for the library's choice.
        seed: Seed of the random inputs.
        tell: Told each variant before its layers are timed.
    """
    results, not_done = [], []
    for result in record.results:
        tell(f"{result.part} {result.variant}, {_WHAT}")
        try:
            results.append(
                replace(result, layers=_timed(result, bundle, record.target, threads, seed))
            )
        except JetliftError as error:  # Y4
            results.append(result)
            not_done.append(NotDone(result.part, result.variant, _WHAT, str(error)))
    return replace(
        record,
        results=tuple(results),
        not_done=(*record.not_done, *not_done),
        command=f"{record.command} --layers",
    )


def _timed(
    result: Result, bundle: Bundle, target: str, threads: int | None, seed: int
) -> tuple[LayerTime, ...]:
    library = result.engine.library
    if library not in _TOLD_BY:
        raise UsageError(f"{library} was not asked", expected=f"One of {', '.join(_TOLD_BY)}")
    folder = str(bundle.folder)
    job = LayersJob("layers", folder, result.part, result.variant, target, threads, seed)
    return measure.run_child(job, LayersAnswer, limit_s=_LIMIT_S, worker=_WORKER).layers


def time_layers(job: LayersJob) -> LayersAnswer:
    """Run a variant so that its layers are timed, and read the times. Runs in the child.

    Raises:
        JetliftError: The bundle or the run failed.
    """
    bundle = Bundle.open(job.bundle)
    path = bundle.path(bundle.variant(job.part, job.variant).file)
    feeds = random_feeds(bundle.part(job.part)[1], job.seed)
    counts = _operations(path, {name: array.shape for name, array in feeds.items()})
    if job.target == "cpu":
        found = _by_openvino(job, path, feeds)
    else:
        found = _by_tensorrt(job, bundle, feeds, counts)
    parts = _parts_of(found.nodes.values())
    layers = (
        LayerTime(
            name=name,
            kind=found.kinds[name],
            nodes=found.nodes.get(name, ()),
            time_ms=round(statistics.median(own), 5),
            operations=_counted(_heavy(found, name), counts, parts),
        )
        for name, own in found.times.items()
    )
    return LayersAnswer(tuple(sorted(layers, key=lambda layer: -layer.time_ms)))


@dataclass
class _Found:
    """Milliseconds of each run, kind and ONNX nodes, per layer."""

    times: dict[str, list[float]] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    nodes: dict[str, tuple[str, ...]] = field(default_factory=dict)


def _by_openvino(job: LayersJob, path: Path, feeds: Feeds) -> _Found:
    """Compile with counters, run, and read them."""
    from jetlift.runtime.session import openvino as ov
    from jetlift.runtime.session.openvino_steps import settings_for

    found = _Found()
    model = ov.read_onnx(path)
    config = ov.configuration("f32", job.threads) | settings_for(model) | {"PERF_COUNT": True}
    with ov.failures("time the layers"):
        compiled = ov.core().compile_model(model, "CPU", config)
        request = compiled.create_infer_request()
        given = {name: feeds[name] for port in compiled.inputs for name in port.names & set(feeds)}
        for index in range(_WARMUP + _RUNS):
            request.infer(given)
            if index >= _WARMUP:
                _gather(request.get_profiling_info(), found.times, found.kinds)
        found.nodes = _nodes_of(compiled)
    return found


def _by_tensorrt(
    job: LayersJob, bundle: Bundle, feeds: Feeds, counts: Mapping[str, float] | None
) -> _Found:
    """Run the built engine with a profiler."""
    from jetlift.runtime.session import open_session
    from jetlift.runtime.session.base import GpuOptions
    from jetlift.runtime.session.trt_layers import LayerSession

    session = open_session(
        bundle, job.part, job.variant, target=job.target, gpu=GpuOptions(layers=True)
    )
    with closing(session):
        if not isinstance(session, LayerSession):
            raise UsageError(f"{session.info.library} was not asked", expected="TensorRT")
        return profiled(session, feeds, counts)


def profiled(session: LayerSession, feeds: Feeds, counts: Mapping[str, float] | None) -> _Found:
    """Layers of an engine of TensorRT's (rule Y2).

    Args:
        session: It counts its layers.
        feeds: Fed in each run.
        counts: Operations per ONNX node; None where they were not counted.
    """
    for _ in range(_WARMUP):
        session.run(feeds)
    session.take_layers()
    for _ in range(_RUNS):
        session.run(feeds)
    times = session.take_layers()
    fused = {name: tuple(name.split(" + ")) for name in times}
    known = {name: nodes for name, nodes in fused.items() if set(nodes) <= set(counts or ())}
    return _Found(times, dict.fromkeys(times, session.info.library), known)


def _gather(infos: Any, times: dict[str, list[float]], kinds: dict[str, str]) -> None:  # noqa: ANN401
    for info in infos:
        if str(info.status).endswith("EXECUTED"):
            times.setdefault(info.node_name, []).append(info.real_time.total_seconds() * 1e3)
            kinds[info.node_name] = f"{info.node_type}, {info.exec_type}"


def _nodes_of(compiled: Any) -> dict[str, tuple[str, ...]]:  # noqa: ANN401
    """ONNX nodes per layer, by the layer's name."""
    found = {}
    for node in compiled.get_runtime_model().get_ops():
        told = node.get_rt_info()["originalLayersNames"]
        text = str(getattr(told, "value", told))
        found[node.get_friendly_name()] = tuple(filter(None, text.split(",")))
    return found


def _operations(path: Any, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, float] | None:  # noqa: ANN401
    """Operations per ONNX node; None where onnx is not installed."""
    from jetlift.engines.ops import count
    from jetlift.engines.shapes import onnx_library

    try:
        model = onnx_library().load(path, load_external_data=False)
    except MissingPackageError:
        return None
    return {row.name: row.operations for row in count(model, shapes).nodes}


def _heavy(found: _Found, name: str) -> tuple[str, ...]:
    """Nodes whose operations are a layer's; what is added behind a product bears its name too."""
    return () if found.kinds[name].startswith("Eltwise") else found.nodes.get(name, ())


def _parts_of(layers: Iterable[tuple[str, ...]]) -> Mapping[str, int]:
    """Into how many products of like width a node was taken apart, where it was."""
    named = {name for nodes in layers for name in nodes if PART in name}
    return Counter(declared(name) for name in {name.split("/WithoutBiases")[0] for name in named})


def _counted(
    nodes: tuple[str, ...], counts: Mapping[str, float] | None, parts: Mapping[str, int]
) -> Figure:
    """Rule Y2."""
    if counts is None:
        return Figure.missing("onnx is not installed, which counts operations")
    names = dict.fromkeys(map(declared, nodes))
    known = [counts[name] / parts.get(name, 1) for name in names if name in counts]
    if not known:
        return Figure.missing("the library names no node of the graph as this layer's")
    return Figure(sum(known))
