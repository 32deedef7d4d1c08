"""Explicit symmetric INT8: Q/DQ pairs where TensorRT and OpenVINO fuse them.

Rules:
    Q1  Activations: one scale per tensor, right before the node that reads it.
    Q2  Weights: one scale per output channel, the largest magnitude over 127.
    Q3  Zero points are int8 0. Biases stay float, since TensorRT's parser takes no int32 bias
        DequantizeLinear.
    Q4  A tensor gets one Q/DQ pair, shared by all its quantised readers.
    Q5  A weight's scale is never so small that a bias of its channel, counted in units of the
        activation's scale times it, leaves int32. Engines that fold biases into integers (ONNX
        Runtime does) would wrap around at a channel whose weights are nearly zero. What is lost
        is a 2^-30th of the bias per product.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jetlift.export.precision.scales import quantise_weight, scale_of
from jetlift.export.precision.sites import constant

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx_ir as ir

    from jetlift.export.precision.scales import Floats
    from jetlift.export.precision.sites import Site

_LARGEST_BIAS = 2.0**30  # half of int32, so that the products' sum has room beside it


def write_qdq(graph: ir.Graph, sites: Sequence[Site], clips: Mapping[str, float]) -> None:
    """Put Q/DQ pairs before the activations and a DequantizeLinear after int8 weights.

    Args:
        graph: The graph to change.
        sites: What to quantise.
        clips: Clipping magnitude per activation, by the name of the tensor the site reads.
    """
    _Writer(graph, clips).write(sites)


class _Writer:
    def __init__(self, graph: ir.Graph, clips: Mapping[str, float]) -> None:
        self.graph, self.clips = graph, clips
        self.activations: dict[str, ir.Value] = {}
        self.weights: dict[tuple[str, int], ir.Value] = {}
        self.floors: dict[tuple[str, int], Floats] = {}

    def write(self, sites: Sequence[Site]) -> None:
        for site in sites:
            self._note_floor(site)
        for site in sites:
            site.node.replace_input_with(0, self._activation(site.activation))
            site.node.replace_input_with(1, self._weight(site))

    def _note_floor(self, site: Site) -> None:
        """The least scale of each output channel of a weight, over all who read it (rule Q5)."""
        bias, key = site.bias, (str(site.weight.name), site.axis)
        if bias is not None and bias.size == site.array().shape[site.axis]:
            activation = float(scale_of(np.float32(self.clips[str(site.activation.name)])))
            floor = np.abs(bias) / (activation * _LARGEST_BIAS)
            known = self.floors.get(key, np.zeros_like(floor))
            self.floors[key] = np.maximum(known, floor).astype(np.float32)

    def _activation(self, value: ir.Value) -> ir.Value:
        """The value behind its Q/DQ pair, made once (rules Q1 and Q4)."""
        import onnx_ir as ir

        name = str(value.name)
        if name not in self.activations:
            scale = constant(self.graph, f"{name}_scale", scale_of(np.float32(self.clips[name])))
            zero = constant(self.graph, f"{name}_zero", np.zeros((), np.int8))
            down = ir.node("QuantizeLinear", [value, scale, zero], name=f"{name}_quantize")
            up = ir.node(
                "DequantizeLinear", [*down.outputs, scale, zero], name=f"{name}_dequantize"
            )
            _name(down, f"{name}_int8", value.shape, ir.DataType.INT8)
            self.activations[name] = _name(up, f"{name}_dq", value.shape, ir.DataType.FLOAT)
            producer = value.producer()
            if producer is None:
                self.graph.insert_before(self.graph[0], [down, up])
            else:
                self.graph.insert_after(producer, [down, up])
        return self.activations[name]

    def _weight(self, site: Site) -> ir.Value:
        """The weight as int8 behind its DequantizeLinear, made once per axis (rule Q2)."""
        import onnx_ir as ir

        name, key = str(site.weight.name), (str(site.weight.name), site.axis)
        if key not in self.weights:
            codes, scale = quantise_weight(site.array(), site.axis, self.floors.get(key))
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
            self.graph.insert_before(self.graph[0], [up])
        return self.weights[key]


def _name(node: ir.Node, name: str, shape: ir.Shape | None, dtype: ir.DataType) -> ir.Value:
    import onnx_ir as ir

    value = node.outputs[0]
    value.name, value.shape, value.type = name, shape, ir.TensorType(dtype)
    return value
