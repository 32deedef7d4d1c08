"""Explicit symmetric INT8: Q/DQ pairs where TensorRT and OpenVINO fuse them.

Rules:
    Q1  Weighted MatMul, Gemm and Conv are quantised; products of two activations stay wide.
    Q2  Activations: one scale per tensor, its largest magnitude on the calibration samples
        over 127.
    Q3  Weights: one scale per output channel, its largest magnitude over 127.
    Q4  Zero points are int8 0. Biases stay float, since TensorRT's parser takes no int32 bias
        DequantizeLinear.
    Q5  A convolution that reads the graph's input stays wide: it is cheap, and what it loses is
        lost for good.
    Q6  A tensor gets one Q/DQ pair, shared by all its quantised consumers.
    Q7  Before scales are chosen, the outliers of activations that only linears read are migrated
        into the linears' weights (migrate.py), which leaves the float graph's answer as it was.
    Q8  How far they are migrated (alpha) is chosen by the outputs: of ALPHAS the one whose graph is
        nearest to the float graph on calibration samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.export.fidelity import row_cosines
from jetlift.export.precision.calibrate import Ranges, observe, reference_session
from jetlift.export.precision.fp16 import Typed, drop_unused_initializers
from jetlift.export.precision.migrate import candidates, constant, migrate
from jetlift.runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt
    import onnx_ir as ir

    Feeds = Mapping[str, npt.NDArray[Any]]
    Floats = npt.NDArray[np.float32]

QMAX = 127
ALPHAS = (0.5, 0.65, 0.8)
TRIAL_SAMPLES = 32
MINIMUM_OPSET = 13  # per-channel DequantizeLinear


@dataclass(frozen=True)
class Site:
    """One weighted node: its activation input, its weight, and the weight's output-channel axis."""

    node: ir.Node
    activation: ir.Value
    weight: ir.Value
    axis: int


def to_int8(
    model: ir.Model,
    samples: Sequence[Feeds],
    *,
    progress: Callable[[float], None] | None = None,
) -> Typed:
    """Quantise a float32 graph (rules Q1 to Q8). The model given is not changed.

    Args:
        model: A float32 graph, opset 13 or newer.
        samples: Graph inputs of the calibration samples.
        progress: Called with the share of samples seen, 0 to 1.

    Raises:
        UsageError: The opset is too old, or nothing in the graph can be quantised.
        InputError: The samples are empty or give NaN.
    """
    opset = model.opset_imports.get("", 0)
    if opset < MINIMUM_OPSET:
        raise UsageError(
            f"The graph is of opset {opset}",
            expected=f"Opset {MINIMUM_OPSET} or newer, which has per-channel scales",
        )
    sites, kept_wide = find_sites(model.graph)
    if not sites:
        raise UsageError(
            "The graph has no weighted MatMul, Gemm or Conv to quantise",
            do="Export it without int8",
        )
    groups = candidates(sites)
    names = [str(site.activation.name) for site in sites]
    ranges = observe(model, names, samples, by_channel=groups.keys(), progress=progress)
    if not groups:
        return Typed(_quantised(model, ranges, None), tuple(kept_wide))
    tried = [_quantised(model, ranges, alpha) for alpha in ALPHAS]  # Q8
    losses = _losses(model, tried, samples[:: max(1, len(samples) // TRIAL_SAMPLES)])
    return Typed(tried[int(np.argmin(losses))], tuple(kept_wide))


def _quantised(model: ir.Model, ranges: Ranges, alpha: float | None) -> ir.Model:
    """One quantised graph; `alpha` None migrates nothing."""
    copy = model.clone(deep_copy=False)
    sites, _ = find_sites(copy.graph)
    maxima = dict(ranges.tensors)
    if alpha is not None:
        maxima |= migrate(copy.graph, candidates(sites), ranges.channels, alpha=alpha)
        sites, _ = find_sites(copy.graph)
    _Quantiser(copy.graph, maxima).quantise(sites)
    drop_unused_initializers(copy.graph)
    return copy


def _losses(model: ir.Model, tried: Sequence[ir.Model], samples: Sequence[Feeds]) -> list[float]:
    """How far each quantised graph's outputs are from the float graph's (Q8).

    The loss of an output is the geometric mean of two figures, one minus its mean cosine and one
    minus its lowest: a graph that is a little nearer on average may not pay with a row far off.
    """
    outputs = [str(value.name) for value in model.graph.outputs]
    reference = reference_session(model)
    wanted = [reference.run(outputs, dict(feeds)) for feeds in samples]
    losses = []
    for candidate in tried:
        session = reference_session(candidate)
        got = [session.run(outputs, dict(feeds)) for feeds in samples]
        loss = 0.0
        for index in range(len(outputs)):
            pairs = zip(wanted, got, strict=True)
            cosines = np.concatenate([row_cosines(a[index], b[index]) for a, b in pairs])
            loss += float(np.sqrt((1 - cosines.mean()) * (1 - cosines.min())))
        losses.append(loss)
    return losses


def scale_of(magnitudes: Floats) -> Floats:
    """Symmetric scale: largest magnitude over 127; a channel of zeros gets 1 and stays zero."""
    positive = np.maximum(magnitudes, np.finfo(np.float32).tiny * QMAX)
    return np.where(magnitudes == 0, 1.0, positive / QMAX).astype(np.float32)


def quantise_weight(weight: Floats, axis: int) -> tuple[npt.NDArray[np.int8], Floats]:
    """Per-channel symmetric int8.

    Args:
        weight: Float weight of any rank.
        axis: Its output-channel axis.

    Returns:
        The int8 weight of the same shape, and one float32 scale per channel. Round to nearest
        even, as QuantizeLinear does; each element is within half a scale of the original.
    """
    others = tuple(i for i in range(weight.ndim) if i != axis)
    scale = scale_of(np.max(np.abs(weight), axis=others))
    shape = [1] * weight.ndim
    shape[axis] = -1
    codes = np.rint(weight.astype(np.float64) / scale.reshape(shape))
    return np.clip(codes, -QMAX, QMAX).astype(np.int8), scale


def find_sites(graph: ir.Graph) -> tuple[list[Site], list[str]]:
    """What there is to quantise, and the nodes that stay wide with the reason (Q1, Q5)."""
    sites: list[Site] = []
    kept_wide: list[str] = []
    for node in graph:
        site = _site_of(node)
        if site is None:
            continue
        if node.op_type == "Conv" and site.activation.is_graph_input():  # Q5
            kept_wide.append(f"{node.name}: convolution of the input")
        else:
            sites.append(site)
    return sites, kept_wide


def _site_of(node: ir.Node) -> Site | None:
    """What there is to quantise at a node, or None (Q1)."""
    if node.op_type not in ("MatMul", "Gemm", "Conv"):
        return None
    activation, weight = node.inputs[0], node.inputs[1]
    if activation is None or weight is None or weight.const_value is None:
        return None
    rank = len(weight.const_value.shape)
    if activation.const_value is not None or rank < 2 or weight.const_value.dtype.name != "FLOAT":
        return None
    if node.op_type == "Conv":
        return Site(node, activation, weight, 0)
    if node.op_type == "MatMul":
        return Site(node, activation, weight, rank - 1) if rank == 2 else None
    attributes = node.attributes
    if "transA" in attributes and attributes["transA"].as_int():
        return None
    transposed = "transB" in attributes and attributes["transB"].as_int()
    return Site(node, activation, weight, 0 if transposed else 1)


class _Quantiser:
    """Writes the Q/DQ pairs into one graph."""

    def __init__(self, graph: ir.Graph, maxima: Mapping[str, float]) -> None:
        self.graph, self.maxima = graph, maxima
        self.activations: dict[str, ir.Value] = {}
        self.weights: dict[tuple[str, int], ir.Value] = {}

    def quantise(self, sites: Sequence[Site]) -> None:
        for site in sites:
            site.node.replace_input_with(0, self._activation(site.activation))
            site.node.replace_input_with(1, self._weight(site))

    def _activation(self, value: ir.Value) -> ir.Value:
        """The value behind its Q/DQ pair, made once (Q2, Q6)."""
        import onnx_ir as ir

        name = str(value.name)
        if name not in self.activations:
            scale = constant(self.graph, f"{name}_scale", scale_of(np.float32(self.maxima[name])))
            zero = constant(self.graph, f"{name}_zero", np.zeros((), np.int8))
            down = ir.node("QuantizeLinear", [value, scale, zero], name=f"{name}_quantize")
            up = ir.node(
                "DequantizeLinear", [*down.outputs, scale, zero], name=f"{name}_dequantize"
            )
            _name(down, f"{name}_int8", value.shape, ir.DataType.INT8)
            self.activations[name] = _name(up, f"{name}_dq", value.shape, ir.DataType.FLOAT)
            self._insert([down, up], after=value.producer())
        return self.activations[name]

    def _weight(self, site: Site) -> ir.Value:
        """The weight as int8 behind its DequantizeLinear, made once per axis (Q3)."""
        import onnx_ir as ir

        name, key = str(site.weight.name), (str(site.weight.name), site.axis)
        if key not in self.weights and site.weight.const_value is not None:
            codes, scale = quantise_weight(site.weight.const_value.numpy(), site.axis)
            suffix = "" if (name, 1 - site.axis) not in self.weights else f"_{site.axis}"
            inputs = [
                constant(self.graph, f"{name}_int8{suffix}", codes),
                constant(self.graph, f"{name}_scale{suffix}", scale),
                constant(self.graph, f"{name}_zero{suffix}", np.zeros(scale.shape, np.int8)),
            ]
            up = ir.node(
                "DequantizeLinear", inputs, {"axis": site.axis}, name=f"{name}_dequantize{suffix}"
            )
            shape = site.weight.shape
            self.weights[key] = _name(up, f"{name}_dq{suffix}", shape, ir.DataType.FLOAT)
            self._insert([up], after=None)
        return self.weights[key]

    def _insert(self, nodes: list[ir.Node], *, after: ir.Node | None) -> None:
        if after is None:
            self.graph.insert_before(self.graph[0], nodes)
        else:
            self.graph.insert_after(after, nodes)


def _name(node: ir.Node, name: str, shape: ir.Shape | None, dtype: ir.DataType) -> ir.Value:
    import onnx_ir as ir

    value = node.outputs[0]
    value.name, value.shape, value.type = name, shape, ir.TensorType(dtype)
    return value
