"""Judges INT8 graphs of one part by one rule, whoever made them.

Rules:
    J1  Every graph is computed by ONNX Runtime on the CPU on the same samples, and compared with
        the bundle's fp32 graph by the part's own metric.
    J2  INT8 share: operations of weighted GEMM and convolution that the graph types as INT8, of
        those of the fp32 graph (engines/ops.py). Products of two activations count apart. A graph
        that cannot be counted whole has no share.
    J3  A graph that does not load, run or build is told in a remark.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jetlift.benchmarks.compare_form import RtxCheck
from jetlift.runtime.errors import EngineLibraryError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from jetlift.engines.ops import GraphCost
    from jetlift.export.fidelity import Metric
    from jetlift.export.samples import Samples
    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.manifest import Part

    Collected = dict[str, list[npt.NDArray[Any]]]

COMPUTE_CAPABILITY = "8.6"
# Folding and fusion move no weighted operation; what differs by more was not counted whole.
_WHOLE = 1e-3


@dataclass(frozen=True)
class Counted:
    """Operations of a graph, MAC x 2.

    Attributes:
        weighted: Of GEMM and convolution with a weight, per precision.
        products: Of products of two activations, per precision.
        uncounted: Nodes without a count, with the reason.
    """

    weighted: dict[str, float]
    products: dict[str, float]
    uncounted: tuple[str, ...]


class Judge:
    """Judges graphs of one part against its fp32 graph.

    Args:
        bundle: The bundle.
        part_name: Name of the part.
        samples: The samples to judge on.
        tell: Called with the share of the samples that is done, 0 to 1.
    """

    def __init__(
        self, bundle: Bundle, part_name: str, samples: Samples, tell: Callable[[float], None]
    ) -> None:
        self._bundle, self._samples, self._tell = bundle, samples, tell
        self._name = part_name
        self._part: Part = bundle.part(part_name)[1]
        self._fp32 = bundle.path(self._part.variants["fp32"].file)

    def figures(self, graph: Path) -> dict[str, float]:
        """The metric's figures of a graph (rule J1).

        Raises:
            EngineLibraryError: It does not load or run, or has other outputs.
        """
        got = self._outputs(graph)
        missing = [name for name in self._reference if name not in got]
        if missing:
            raise EngineLibraryError(
                f"The graph has no output {missing[0]}", expected=f"Has {', '.join(got)}"
            )
        return self._metric.figures(self._reference, got)

    def shares(self, graph: Path) -> tuple[float, float | None]:
        """INT8 share of the weighted operations, and of products of two activations (rule J2).

        Raises:
            UsageError: The graph cannot be counted.
        """
        counted, whole = _counted(graph, self._part), self._fp32_counted
        total, got = sum(whole.weighted.values()), sum(counted.weighted.values())
        if not total or abs(got - total) > _WHOLE * total:
            why = f": {counted.uncounted[0]}" if counted.uncounted else ""
            raise UsageError(
                f"{got / total if total else 0:.1%} of fp32's weighted operations are counted{why}"
            )
        products = sum(whole.products.values())
        narrow = counted.products.get("int8", 0.0) / products if products else None
        return counted.weighted.get("int8", 0.0) / total, narrow

    def rtx(self, graph: Path) -> RtxCheck:
        """Build a graph with TensorRT-RTX for SM 8.6.

        Raises:
            MissingPackageError: It is not installed.
        """
        from jetlift.engines.trt.build import build_engine

        with tempfile.TemporaryDirectory(prefix="jetlift-compare-") as folder:
            try:
                built = build_engine(
                    graph,
                    Path(folder) / "engine",
                    _cost(graph, self._part),
                    inputs=self._part.inputs,
                    compute_capability=COMPUTE_CAPABILITY,
                )
            except (EngineLibraryError, UsageError) as error:
                return RtxCheck(built=False, told=error.got, int8_share=None)
        seen = built.receipt.seen
        share = seen.weighted_operations.get("int8", 0.0) if seen is not None else None
        return RtxCheck(built=True, told="", int8_share=share)

    @cached_property
    def _metric(self) -> Metric:
        from jetlift.export.recipes import metric_for

        return metric_for(self._bundle, self._name, self._samples)

    @cached_property
    def _reference(self) -> Collected:
        return self._outputs(self._fp32)

    @cached_property
    def _fp32_counted(self) -> Counted:
        return _counted(self._fp32, self._part)

    def _outputs(self, graph: Path) -> Collected:
        from jetlift.export.fidelity import outputs_of
        from jetlift.runtime.session.onnxruntime import OnnxRuntimeSession

        count = len(self._samples.feeds)
        done = iter(range(1, count + 1))
        with OnnxRuntimeSession.from_onnx(graph) as session:
            return outputs_of(
                session, self._samples.feeds, progress=lambda: self._tell(next(done) / count)
            )


def _counted(graph: Path, part: Part) -> Counted:
    cost = _cost(graph, part)
    weighted: dict[str, float] = {}
    products: dict[str, float] = {}
    for row in cost.nodes:
        if row.precision is not None:
            sums = weighted if row.weighted else products
            sums[row.precision] = sums.get(row.precision, 0.0) + row.operations
    return Counted(weighted, products, cost.uncounted)


def _cost(graph: Path, part: Part) -> GraphCost:
    import onnx
    from google.protobuf.message import DecodeError

    from jetlift.engines.ops import count

    try:
        proto = onnx.load(graph, load_external_data=False)
    except DecodeError as error:
        raise UsageError("the file is no ONNX graph") from error
    return count(proto, {s.name: s.opt_shape for s in part.inputs if s.opt_shape is not None})
