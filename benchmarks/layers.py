"""Time per layer, where the engine tells: OpenVINO's counters, in a short run of its own.

Rules:
    Y1  Counting costs time, so it is done in a fresh process, on a graph compiled for it, and no
        other figure of a record comes from there.
    Y2  Operations are those of the ONNX nodes that the library names as a layer's; where a name is
        none of the graph's, the layer has its time alone.
    Y3  An engine that was built before tells no times: the same graph is compiled again for this.
        Other libraries are not asked, and have no table.
"""

from __future__ import annotations

import statistics
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from jetlift.benchmarks import measure
from jetlift.runtime.bundle import Bundle
from jetlift.runtime.errors import MachineError, MissingPackageError
from jetlift.runtime.feeds import random_feeds
from jetlift.runtime.figure import Figure
from jetlift.runtime.layer_form import LayerTime

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jetlift.runtime.record import Record, Result

_WORKER = (sys.executable, "-m", "jetlift.benchmarks.layers_child")
_RUNS, _WARMUP, _LIMIT_S = 10, 2, 300.0


@dataclass(frozen=True)
class LayersJob:
    """One variant whose layers are to be timed.

    Attributes:
        job: Says which job this is.
        bundle: The bundle's folder.
        part: Name of the part.
        variant: Name of the variant.
        threads: Threads to compute with, or None for the library's choice.
        seed: Seed of the random inputs.
    """

    job: Literal["layers"]
    bundle: str
    part: str
    variant: str
    threads: int | None
    seed: int


@dataclass(frozen=True)
class LayersAnswer:
    """What the child found."""

    layers: tuple[LayerTime, ...]


def with_layers(record: Record, bundle: Bundle, *, threads: int | None, seed: int) -> Record:
    """The record with times per layer where OpenVINO computed (rules Y1 to Y3)."""
    results = tuple(_timed(result, bundle, threads, seed) for result in record.results)
    return replace(record, results=results, command=f"{record.command} --layers")


def _timed(result: Result, bundle: Bundle, threads: int | None, seed: int) -> Result:
    if result.engine.library != "openvino":
        return result
    folder = str(bundle.folder)
    job = LayersJob("layers", folder, result.part, result.variant, threads, seed)
    try:
        answer = measure.run_child(job, LayersAnswer, limit_s=_LIMIT_S, worker=_WORKER)
    except MachineError:  # what was measured stands; the record has no table of layers
        return result
    return replace(result, layers=answer.layers)


def time_layers(job: LayersJob) -> LayersAnswer:
    """Compile a variant with counters, run it, and read them. Runs in the child.

    Raises:
        JetliftError: The bundle or the run failed.
    """
    from jetlift.runtime.session import openvino as ov
    from jetlift.runtime.session.openvino_steps import settings_for

    bundle = Bundle.open(job.bundle)
    path = bundle.path(bundle.variant(job.part, job.variant).file)
    feeds = random_feeds(bundle.part(job.part)[1], job.seed)
    model = ov.read_onnx(path)
    config = ov.configuration("f32", job.threads) | settings_for(model) | {"PERF_COUNT": True}
    with ov.failures("time the layers"):
        compiled = ov.core().compile_model(model, "CPU", config)
        request = compiled.create_infer_request()
        given = {name: feeds[name] for port in compiled.inputs for name in port.names & set(feeds)}
        times: dict[str, list[float]] = {}
        kinds: dict[str, str] = {}
        for index in range(_WARMUP + _RUNS):
            request.infer(given)
            if index >= _WARMUP:
                _gather(request.get_profiling_info(), times, kinds)
        nodes = _nodes_of(compiled)
    counts = _operations(path, {name: array.shape for name, array in feeds.items()})
    layers = (
        LayerTime(
            name=name,
            kind=kinds[name],
            nodes=nodes.get(name, ()),
            time_ms=round(statistics.median(own), 5),
            operations=_counted(nodes.get(name, ()), counts),
        )
        for name, own in times.items()
    )
    return LayersAnswer(tuple(sorted(layers, key=lambda layer: -layer.time_ms)))


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


def _counted(nodes: tuple[str, ...], counts: Mapping[str, float] | None) -> Figure:
    """Rule Y2."""
    if counts is None:
        return Figure.missing("onnx is not installed, which counts operations")
    plain = {name.split("/WithoutBiases")[0] for name in nodes}
    known = [counts[name] for name in plain if name in counts]
    if not known:
        return Figure.missing("the library names no node of the graph as this layer's")
    return Figure(sum(known))
