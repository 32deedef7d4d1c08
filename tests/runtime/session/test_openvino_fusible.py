"""What OpenVINO is handed so that it fuses: the same values, fewer passes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from jetlift.runtime.session.openvino import OpenVINOSession, executed_layers, read_onnx
from jetlift.runtime.session.openvino_split import declared
from jetlift.runtime.session.openvino_steps import settings_for

pytest.importorskip("openvino")

ROWS, WIDTH, INNER = 6, 16, 32


def write(path: Path, nodes: list[Any], constants: dict[str, Any], out: list[Any]) -> Path:
    made = helper.make_graph(
        nodes, "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", ROWS, WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, out)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )  # fmt: skip
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def gelu_net(path: Path, half: Any, *, aside: bool = False, int8: bool = False) -> Path:
    """Rows flattened for a Gemm, brought back, GELU with a factor, flattened for another one.

    Args:
        path: Where to write it.
        half: In place of GELU's factor of a half.
        aside: Whether something that works on whole columns reads the flattened rows too.
        int8: Whether the second Gemm's input goes through int8.
    """
    random = np.random.default_rng(3)
    node = helper.make_node
    nodes = [
        node("Reshape", ["x", "flat_in"], ["rows"]),
        node("Gemm", ["rows", "w1", "b1"], ["wide"]),
        node("Reshape", ["wide", "back_inner"], ["h"]),
        node("Div", ["h", "root"], ["h1"]),
        node("Erf", ["h1"], ["h2"]),
        node("Add", ["h2", "one"], ["h3"]),
        node("Mul", ["half", "h3"], ["h4"]),
        node("Mul", ["h", "h4"], ["gelu"]),
        node("Reshape", ["gelu", "flat_inner"], ["rows2"]),
        *(
            [
                node("QuantizeLinear", ["rows2", "scale", "zero"], ["steps"]),
                node("DequantizeLinear", ["steps", "scale", "zero"], ["again"]),
            ]
            if int8
            else []
        ),
        node("Gemm", ["again" if int8 else "rows2", "w2", "b2"], ["narrow"]),
        *([node("CumSum", ["narrow", "axis"], ["summed"])] if aside else []),
        node("Reshape", ["summed" if aside else "narrow", "back"], ["y"]),
    ]
    weights = {
        name: random.standard_normal(shape).astype(np.float32)
        for name, shape in
        {"w1": (WIDTH, INNER), "b1": (INNER,), "w2": (INNER, WIDTH), "b2": (WIDTH,)}.items()
    }  # fmt: skip
    constants = weights | {
        "flat_in": np.array([-1, WIDTH]), "back_inner": np.array([-1, ROWS, INNER]),
        "flat_inner": np.array([-1, INNER]), "back": np.array([-1, ROWS, WIDTH]),
        "root": np.float32(math.sqrt(2)), "one": np.float32(1), "half": np.float32(half),
        "scale": np.float32(0.1), "zero": np.int8(0), "axis": np.int64(0),
    }  # fmt: skip
    used = {name for item in nodes for name in item.input}
    kept = {name: value for name, value in constants.items() if name in used}
    return write(path, nodes, kept, ["batch", ROWS, WIDTH])


def outputs(path: Path, batch: int) -> tuple[Any, Any, list[str]]:
    """Of OpenVINO, of the reference, and the kinds of layers that OpenVINO executes."""
    from jetlift.runtime.session.onnxruntime import OnnxRuntimeSession

    x = np.random.default_rng(0).standard_normal((batch, ROWS, WIDTH)).astype(np.float32)
    with OpenVINOSession.from_onnx(path, threads=1) as session:
        kinds = [layer.kind for layer in executed_layers(session.compiled)]
        found = session.run({"x": x})["y"]
    with OnnxRuntimeSession.from_onnx(path, threads=1) as reference:
        return found, reference.run({"x": x})["y"], kinds


FACTORS = [0.5, np.linspace(0.2, 3, INNER, dtype=np.float32)]


@pytest.mark.parametrize("half", FACTORS, ids=["half", "per channel"])
@pytest.mark.parametrize("aside", [False, True])
@pytest.mark.parametrize("batch", [1, 3])
def test_the_values_stay(tmp_path, half, aside, batch):
    pytest.importorskip("onnxruntime")
    path = gelu_net(tmp_path / "net.onnx", half, aside=aside)
    found, wanted, _ = outputs(path, batch)
    assert found.shape == (batch, ROWS, WIDTH)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_int8_between_the_products_stays_as_near(tmp_path):
    pytest.importorskip("onnxruntime")
    path = gelu_net(tmp_path / "net.onnx", FACTORS[1], int8=True)
    found, wanted, _ = outputs(path, 2)
    assert np.abs(found - wanted).max() <= np.abs(wanted).max() * 0.02


def test_a_factor_per_channel_is_a_gelu_and_nothing_is_flattened(tmp_path):
    model = read_onnx(gelu_net(tmp_path / "net.onnx", FACTORS[1]))
    kinds = [node.get_type_name() for node in model.get_ordered_ops()]
    assert kinds.count("Gelu") == 1
    assert "Erf" not in kinds
    moved = [
        node
        for node in model.get_ordered_ops()
        if node.get_type_name() == "Reshape"
        and node.input_value(0).get_node().get_type_name() != "Constant"  # a bias
    ]
    assert moved == []


def test_a_plain_gelu_is_left_to_openvino(tmp_path):
    model = read_onnx(gelu_net(tmp_path / "net.onnx", 0.5))
    assert "Erf" in [node.get_type_name() for node in model.get_ordered_ops()]


def test_what_works_on_columns_keeps_the_flattened_rows(tmp_path):
    model = read_onnx(gelu_net(tmp_path / "net.onnx", 0.5, aside=True))
    kinds = [node.get_type_name() for node in model.get_ordered_ops()]
    assert "CumSum" in kinds
    wanted = 2  # to the rows that are summed, and back
    assert kinds.count("Reshape") >= wanted


def attention(path: Path, queries: int) -> Path:
    """Scores of so many queries over all rows, their softmax, and a sum."""
    node = helper.make_node
    nodes = [
        node("Slice", ["x", "from", "to", "axes"], ["q"]),
        node("Transpose", ["x"], ["k"], perm=[0, 2, 1]),
        node("MatMul", ["q", "k"], ["scores"]),
        node("Softmax", ["scores"], ["shares"], axis=-1),
        node("MatMul", ["shares", "x"], ["y"]),
    ]
    places = {"from": np.array([0]), "to": np.array([queries]), "axes": np.array([1])}
    return write(path, nodes, places, ["batch", queries, WIDTH])


@pytest.mark.parametrize(("queries", "is_step"), [(1, True), (4, False)])
def test_attention_of_one_query_alone_is_not_fused(tmp_path, queries, is_step):
    path = attention(tmp_path / "net.onnx", queries)
    assert bool(settings_for(read_onnx(path))) is is_step
    found, wanted, kinds = outputs(path, 2)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    if is_step:
        assert kinds.count("MatMul") == 2


def test_a_graph_without_attention_has_no_settings(tmp_path):
    assert settings_for(read_onnx(gelu_net(tmp_path / "net.onnx", 0.5))) == {}


def joint_net(path: Path, *, int8: bool, shift: bool, masked: bool) -> Path:
    """Attention with a joint product of query, key and value, and a mask that hides nothing."""
    random = np.random.default_rng(5)
    node = helper.make_node
    weights = random.normal(0, 0.3, (WIDTH, 3 * WIDTH)).astype(np.float32)
    nodes, constants = [], {"sizes": np.full(3, WIDTH, np.int64)}
    if int8:
        scale = (np.abs(weights).max(axis=0) / 127).astype(np.float32)
        constants |= {"steps": np.round(weights / scale).astype(np.int8), "by": scale,
                      "zeros": np.zeros(3 * WIDTH, np.int8)}  # fmt: skip
        constants |= {"x_by": np.float32(0.03), "x_zero": np.int8(0)}
        nodes += [node("DequantizeLinear", ["steps", "by", "zeros"], ["w"], axis=1),
                  node("QuantizeLinear", ["x", "x_by", "x_zero"], ["x_steps"]),
                  node("DequantizeLinear", ["x_steps", "x_by", "x_zero"], ["given"])]  # fmt: skip
    else:
        constants["w"] = weights
        nodes += [node("Identity", ["x"], ["given"])]
    nodes += [node("MatMul", ["given", "w"], ["joint"], name="joint")]
    if shift:
        constants["shift"] = random.normal(size=3 * WIDTH).astype(np.float32)
        nodes += [node("Add", ["joint", "shift"], ["shifted"])]
    nodes += [
        node("Split", ["shifted" if shift else "joint", "sizes"], ["q0", "k0", "v0"], axis=-1)
    ]
    for name in "qkv":
        constants[f"{name}_bias"] = random.normal(size=WIDTH).astype(np.float32)
        nodes += [node("Add", [f"{name}0", f"{name}_bias"], [name])]
    nodes += [node("Transpose", ["k"], ["kt"], perm=[0, 2, 1]), node("MatMul", ["q", "kt"], ["s"])]
    scores = "s"
    if masked:
        constants |= {"all": np.ones((1, ROWS, 1), bool), "end": np.array([ROWS, ROWS], np.int64)}
        constants |= {"none": np.float32(0), "lots": np.float32(-1e9)}
        constants |= {"first": np.array([0], np.int64)}
        nodes += [node("Shape", ["x"], ["shape"]), node("Gather", ["shape", "first"], ["batch"]),
                  node("Concat", ["batch", "end"], ["wide"], axis=0),
                  node("Expand", ["all", "wide"], ["passes"]),
                  node("Where", ["passes", "none", "lots"], ["mask"]),
                  node("Add", ["s", "mask"], ["hidden"])]  # fmt: skip
        scores = "hidden"
    nodes += [node("Softmax", [scores], ["p"], axis=-1), node("MatMul", ["p", "v"], ["y"])]
    return write(path, nodes, constants, ["batch", ROWS, WIDTH])


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_a_joint_product_is_taken_apart_and_the_values_stay(tmp_path, int8, shift, masked):
    path = joint_net(tmp_path / "net.onnx", int8=int8, shift=shift, masked=masked)
    x = np.random.default_rng(1).normal(size=(2, ROWS, WIDTH)).astype(np.float32)
    kinds = [node.get_type_name() for node in read_onnx(path).get_ordered_ops()]
    assert not {"Split", "VariadicSplit", "Select"} & set(kinds)
    with OpenVINOSession.from_onnx(path) as session:
        got = session.run({"x": x})["y"]
        layers = executed_layers(session.compiled)
    wanted = ort.InferenceSession(path).run(None, {"x": x})[0]
    np.testing.assert_allclose(
        got, wanted, rtol=0.05 if int8 else 1e-4, atol=0.05 if int8 else 1e-4
    )
    named = {declared(name) for layer in layers for name in layer.nodes}
    assert "joint" in named


def test_a_mask_that_hides_something_stays(tmp_path):
    path = joint_net(tmp_path / "net.onnx", int8=False, shift=False, masked=True)
    model = onnx.load(path)
    (hides,) = (it for it in model.graph.initializer if it.name == "all")
    some = np.ones((1, ROWS, 1), bool)
    some[0, 2] = False
    hides.CopyFrom(numpy_helper.from_array(some, "all"))
    onnx.save(model, path)
    assert "Select" in [node.get_type_name() for node in read_onnx(path).get_ordered_ops()]


@pytest.mark.parametrize("name", ["joint", "joint/part.2", "joint/part.11/WithoutBiases"])
def test_a_part_is_called_after_its_node(name):
    assert declared(name) == "joint"
