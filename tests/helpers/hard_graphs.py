"""Graphs that FP16 breaks, each in the way that real networks do; seeded, opset 18."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from helpers import graphs
from onnx import helper, numpy_helper

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

    Feeds = dict[str, np.ndarray]

WIDTH = 32


def _random(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _axis(values: list[int]) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), "axes")


def _model(nodes: list[Any], weights: dict[str, Any], outputs: list[Any], *names: str) -> ir.Model:
    """A model whose inputs are [1, 8, WIDTH]; every reduction is over the last axis."""
    axes = helper.make_node("Constant", [], ["axes"], name="axes", value=_axis([-1]))
    inputs = {name: ["batch", 8, WIDTH] for name in names or ("x",)}
    return graphs.model([axes, *nodes], weights, inputs=inputs, outputs={"y": outputs})


def _linear(source: str, result: str, name: str) -> onnx.NodeProto:
    return helper.make_node("MatMul", [source, f"w_{name}"], [result], name=name)


def layer_norm_in_steps() -> tuple[ir.Model, list[Feeds]]:
    """LayerNorm as single operators over values of some 300, whose squares overflow FP16."""
    weights = {"two": 2.0, "eps": 1e-5, "w_in": _random(WIDTH, WIDTH) / 6,
               "w_out": _random(WIDTH, WIDTH, seed=2) / 6}  # fmt: skip
    nodes = [
        _linear("x", "h", "in"),
        helper.make_node("ReduceMean", ["h", "axes"], ["mean"], name="mean"),
        helper.make_node("Sub", ["h", "mean"], ["centred"], name="centre"),
        helper.make_node("Pow", ["centred", "two"], ["squares"], name="square"),
        helper.make_node("ReduceMean", ["squares", "axes"], ["variance"], name="variance"),
        helper.make_node("Add", ["variance", "eps"], ["safe"], name="epsilon"),
        helper.make_node("Sqrt", ["safe"], ["deviation"], name="root"),
        helper.make_node("Div", ["centred", "deviation"], ["n"], name="divide"),
        _linear("n", "y", "out"),
    ]
    model = _model(nodes, weights, ["batch", 8, WIDTH])
    return model, [{"x": _random(1, 8, WIDTH, seed=i) * 300} for i in range(4)]


def attention(scale: float, *, mask: bool = False) -> tuple[ir.Model, list[Feeds]]:
    """Scaled attention; `scale` multiplies queries. A mask of -1e38 hides the last keys."""
    hidden = np.zeros((1, 1, 8), np.float32)
    hidden[..., 6:] = 1
    weights = {
        "w_q": _random(WIDTH, WIDTH, seed=3) * scale, "w_k": _random(WIDTH, WIDTH, seed=4),
        "w_v": _random(WIDTH, WIDTH, seed=5) / 6, "factor": 1 / (scale * WIDTH),
        "hidden": hidden, "floor": np.float32(-1e38),
    }  # fmt: skip
    nodes = [
        _linear("x", "q", "q"), _linear("x", "k", "k"), _linear("x", "v", "v"),
        helper.make_node("Transpose", ["k"], ["kt"], name="turn", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "kt"], ["logits"], name="logits"),
        helper.make_node("Mul", ["logits", "factor"], ["scaled"], name="scale"),
        helper.make_node("Mul", ["hidden", "floor"], ["mask"], name="floor"),
        helper.make_node("Add", ["scaled", "mask"], ["masked"], name="mask"),
        helper.make_node("Softmax", ["masked" if mask else "scaled"], ["p"], name="softmax"),
        helper.make_node("MatMul", ["p", "v"], ["y"], name="mix"),
    ]  # fmt: skip
    if not mask:
        nodes = [node for node in nodes if node.name not in ("floor", "mask")]
        del weights["hidden"], weights["floor"]
    model = _model(nodes, weights, ["batch", 8, WIDTH])
    return model, [{"x": _random(1, 8, WIDTH, seed=i)} for i in range(4)]


def residual() -> tuple[ir.Model, list[Feeds]]:
    """Two residual blocks over a stream with one channel of 1e5, as large transformers have."""
    ones, zeros = np.ones(WIDTH, np.float32), np.zeros(WIDTH, np.float32)
    spike = np.zeros((1, 1, WIDTH), np.float32)
    spike[..., 3] = 1e5 / 4
    weights = {"gamma": ones, "beta": zeros, "spike": spike, "four": np.float32(4),
               "w_a": _random(WIDTH, WIDTH, seed=6) / 6, "w_b": _random(WIDTH, WIDTH, seed=7) / 6,
               "w_c": _random(WIDTH, WIDTH, seed=8) / 6}  # fmt: skip
    nodes = [
        _linear("x", "a", "a"),
        helper.make_node("Mul", ["spike", "four"], ["outlier"], name="outlier"),
        helper.make_node("Add", ["a", "outlier"], ["stream0"], name="add0"),
    ]
    for i, name in enumerate(("b", "c")):
        inputs = [f"stream{i}", "gamma", "beta"]
        nodes += [
            helper.make_node("LayerNormalization", inputs, [f"n{i}"], name=f"norm{i}"),
            _linear(f"n{i}", f"h{i}", name),
            helper.make_node("Tanh", [f"h{i}"], [f"t{i}"], name=f"tanh{i}"),
            helper.make_node(
                "Add", [f"stream{i}", f"t{i}"], [f"stream{i + 1}"], name=f"add{i + 1}"
            ),
        ]
    nodes.append(
        helper.make_node("LayerNormalization", ["stream2", "gamma", "beta"], ["y"], name="last")
    )
    model = _model(nodes, weights, ["batch", 8, WIDTH])
    return model, [{"x": _random(1, 8, WIDTH, seed=i)} for i in range(4)]


def rms_norm(epsilon: float = 1e-8) -> tuple[ir.Model, list[Feeds]]:
    """RMSNorm as single operators over values of 1e-4, whose squares FP16 has not."""
    weights = {"eps": np.float32(epsilon), "w_in": _random(WIDTH, WIDTH) / 6,
               "w_out": _random(WIDTH, WIDTH, seed=2) / 6}  # fmt: skip
    nodes = [
        _linear("x", "h", "in"),
        helper.make_node("Mul", ["h", "h"], ["squares"], name="square"),
        helper.make_node("ReduceMean", ["squares", "axes"], ["mean"], name="mean"),
        helper.make_node("Add", ["mean", "eps"], ["safe"], name="epsilon"),
        helper.make_node("Sqrt", ["safe"], ["rms"], name="root"),
        helper.make_node("Div", ["h", "rms"], ["n"], name="divide"),
        _linear("n", "y", "out"),
    ]
    model = _model(nodes, weights, ["batch", 8, WIDTH])
    return model, [{"x": _random(1, 8, WIDTH, seed=i) * 1e-4} for i in range(4)]


def l2_norm() -> tuple[ir.Model, list[Feeds]]:
    """An embedding divided by its length: TensorRT squares inside ReduceL2, and 300² overflows."""
    weights = {"w_in": _random(WIDTH, WIDTH) / 6}
    nodes = [
        _linear("x", "h", "in"),
        helper.make_node("ReduceL2", ["h", "axes"], ["length"], name="length"),
        helper.make_node("Div", ["h", "length"], ["y"], name="divide"),
    ]
    model = _model(nodes, weights, ["batch", 8, WIDTH])
    return model, [{"x": _random(1, 8, WIDTH, seed=i) * 300} for i in range(4)]
