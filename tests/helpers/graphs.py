"""Small real ONNX graphs for tests, seeded; no figure of theirs says anything about a model."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper


def mlp(width: int = 16, seed: int = 0) -> ir.Model:
    """x [batch, width] -> Gemm, Relu, MatMul, Add -> y [batch, 8], with a LayerNormalization."""
    random = np.random.default_rng(seed)
    weights = {
        "gamma": random.uniform(0.5, 1.5, width),
        "beta": random.standard_normal(width) * 0.1,
        "w1": random.standard_normal((32, width)) / np.sqrt(width),
        "b1": random.standard_normal(32) * 0.1,
        "w2": random.standard_normal((32, 8)) / np.sqrt(32),
        "b2": random.standard_normal(8) * 0.1,
    }
    nodes = [
        helper.make_node("LayerNormalization", ["x", "gamma", "beta"], ["n"], name="norm"),
        helper.make_node("Gemm", ["n", "w1", "b1"], ["h"], name="fc1", transB=1),
        helper.make_node("Relu", ["h"], ["r"], name="relu"),
        helper.make_node("MatMul", ["r", "w2"], ["m"], name="fc2"),
        helper.make_node("Add", ["m", "b2"], ["y"], name="bias"),
    ]
    return model(nodes, weights, inputs={"x": ["batch", width]}, outputs={"y": ["batch", 8]})


def conv_net(seed: int = 0) -> ir.Model:
    """x [batch, 3, 16, 16] -> two convolutions, the second depthwise -> y [batch, 8, 8, 8]."""
    random = np.random.default_rng(seed)
    weights = {
        "w1": random.standard_normal((8, 3, 3, 3)) * 0.2,
        "b1": random.standard_normal(8) * 0.1,
        "w2": random.standard_normal((8, 1, 3, 3)) * 0.3,
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c"], name="stem", pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node(
            "Conv", ["r", "w2"], ["y"], name="depthwise", pads=[1] * 4, strides=[2, 2], group=8
        ),
    ]
    axes = {"x": ["batch", 3, 16, 16]}
    return model(nodes, weights, inputs=axes, outputs={"y": ["batch", 8, 8, 8]})


def silu_net(seed: int = 0) -> ir.Model:
    """x [batch, 3, 16, 16] -> Conv, SiLU -> a 1 x 1 convolution, and another reader of the SiLU."""
    random = np.random.default_rng(seed)
    weights = {
        "w1": random.standard_normal((8, 3, 3, 3)) * random.uniform(0.05, 2, (8, 1, 1, 1)),
        "w2": random.standard_normal((4, 8, 1, 1)) * 0.3,
        "b2": random.standard_normal(4) * 0.1,
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c"], name="stem", pads=[1] * 4),
        helper.make_node("Sigmoid", ["c"], ["g"], name="gate"),
        helper.make_node("Mul", ["c", "g"], ["s"], name="silu"),
        helper.make_node("Conv", ["s", "w2", "b2"], ["y"], name="pointwise"),
        helper.make_node("Relu", ["s"], ["z"], name="other"),
    ]
    axes = {"x": ["batch", 3, 16, 16]}
    outputs = {"y": ["batch", 4, 16, 16], "z": ["batch", 8, 16, 16]}
    return model(nodes, weights, inputs=axes, outputs=outputs)


def model(
    nodes: list[onnx.NodeProto],
    weights: dict[str, np.ndarray],
    *,
    inputs: dict[str, list[int | str]],
    outputs: dict[str, list[int | str]],
) -> ir.Model:
    """Put float32 nodes together as a checked opset 18 model with inferred shapes."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()],
        [numpy_helper.from_array(np.asarray(a, np.float32), n) for n, a in weights.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    proto = onnx.shape_inference.infer_shapes(proto, strict_mode=True)
    onnx.checker.check_model(proto)
    return ir.from_proto(proto)


def run(graph: ir.Model, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Compute a graph with ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(
        ir.to_proto(graph).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, feeds)
