"""Small Q/DQ graphs, as a quantiser writes them; float32 scales, zero points 0."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH = 32


def quantised_mlp(*, tiny: float = 1.0, activation: float = 0.02) -> ir.Model:
    """x [batch, 32] -> Tanh, MatMul with bias in INT8, Tanh, MatMul in INT8 -> y.

    Args:
        tiny: Factor on the first channel of the first weight, as a channel that died has it.
        activation: Scale of the activations.
    """
    random = np.random.default_rng(3)
    weights = [(random.standard_normal((WIDTH, WIDTH)) / 6).astype(np.float32) for _ in "ab"]
    weights[0][:, 0] *= tiny
    constants: dict[str, Any] = {"bias": random.standard_normal(WIDTH).astype(np.float32)}
    nodes = [helper.make_node("Tanh", ["x"], ["h0"], name="tanh0")]
    for i, weight in enumerate(weights):
        nodes += _quantised(f"h{i}", activation, constants)
        nodes += _weight(f"w{i}", weight, constants)
        nodes.append(helper.make_node("MatMul", [f"h{i}_dq", f"w{i}_dq"], [f"m{i}"], name=f"fc{i}"))
    nodes += [
        helper.make_node("Add", ["m0", "bias"], ["a0"], name="bias"),
        helper.make_node("Tanh", ["a0"], ["h1"], name="tanh1"),
        helper.make_node("Neg", ["m1"], ["y"], name="negate"),
    ]
    return _model(_in_order(nodes), constants, [WIDTH], [WIDTH])


def quantised_conv_net() -> ir.Model:
    """x [batch, 8, 8, 8] -> Conv and Relu in INT8 -> Conv in INT8 -> y."""
    random = np.random.default_rng(4)
    constants: dict[str, Any] = {}
    nodes = _quantised("x", 0.03, constants)
    for name, source, result in (("a", "x_dq", "c"), ("b", "r_dq", "y")):
        weight = (random.standard_normal((8, 8, 3, 3)) / 9).astype(np.float32)
        nodes += _weight(name, weight, constants, axis=0)
        inputs = [source, f"{name}_dq"]
        nodes.append(helper.make_node("Conv", inputs, [result], name=f"conv_{name}", pads=[1] * 4))
    nodes.append(helper.make_node("Relu", ["c"], ["r"], name="relu"))
    nodes += _quantised("r", 0.02, constants)
    return _model(_in_order(nodes), constants, [8, 8, 8], [8, 8, 8])


def weight_only() -> ir.Model:
    """x [batch, 32] -> MatMul of a float activation with an INT8 weight -> y."""
    weight = (np.random.default_rng(5).standard_normal((WIDTH, WIDTH)) / 6).astype(np.float32)
    constants: dict[str, Any] = {}
    nodes = _weight("w", weight, constants)
    nodes.append(helper.make_node("MatMul", ["x", "w_dq"], ["y"], name="fc"))
    return _model(nodes, constants, [WIDTH], [WIDTH])


def _quantised(name: str, scale: float, constants: dict[str, Any]) -> list[onnx.NodeProto]:
    constants |= {f"{name}_scale": np.float32(scale), f"{name}_zero": np.int8(0)}
    rest = [f"{name}_scale", f"{name}_zero"]
    return [
        helper.make_node("QuantizeLinear", [name, *rest], [f"{name}_q"], name=f"{name}_quantise"),
        helper.make_node(
            "DequantizeLinear", [f"{name}_q", *rest], [f"{name}_dq"], name=f"{name}_dequantise"
        ),
    ]


def _weight(
    name: str, weight: np.ndarray, constants: dict[str, Any], axis: int = 1
) -> list[onnx.NodeProto]:
    others = tuple(i for i in range(weight.ndim) if i != axis)
    scale = np.abs(weight).max(axis=others, keepdims=True) / 127
    constants |= {
        f"{name}_q": np.rint(weight / scale).astype(np.int8),
        f"{name}_scale": scale.reshape(-1).astype(np.float32),
        f"{name}_zero": np.zeros(scale.size, np.int8),
    }
    inputs = [f"{name}_q", f"{name}_scale", f"{name}_zero"]
    return [
        helper.make_node(
            "DequantizeLinear", inputs, [f"{name}_dq"], name=f"{name}_dequantise", axis=axis
        )
    ]


def _in_order(nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    made = {name for node in nodes for name in node.output}
    ordered: list[onnx.NodeProto] = []
    done: set[str] = set()
    while len(ordered) < len(nodes):
        for node in nodes:
            if node not in ordered and all(n not in made or n in done for n in node.input):
                ordered.append(node)
                done |= set(node.output)
    return ordered


def _model(
    nodes: list[onnx.NodeProto],
    constants: dict[str, Any],
    shape: Sequence[int],
    result: Sequence[int],
) -> ir.Model:
    graph = helper.make_graph(
        nodes,
        "quantised",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", *result])],
        [numpy_helper.from_array(np.asarray(a), name) for name, a in constants.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    proto = onnx.shape_inference.infer_shapes(proto, strict_mode=True)
    onnx.checker.check_model(proto)
    return ir.from_proto(proto)
