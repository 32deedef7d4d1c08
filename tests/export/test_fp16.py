from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from helpers import graphs
from onnx import helper

from jetlift.export import graph
from jetlift.export.precision.emulate import emulate_fp16
from jetlift.export.precision.fp16 import to_fp16
from jetlift.runtime.errors import UsageError

RANDOM = np.random.default_rng(7)


def dtypes(model: ir.Model) -> set[str]:
    return {v.dtype.name for node in model.graph for v in node.outputs if v.dtype is not None}


def checked(model: ir.Model) -> ir.Model:
    """Types as inference sees them must equal the types that were written."""
    inferred = onnx.shape_inference.infer_shapes(
        ir.to_proto(model), check_type=True, strict_mode=True
    )
    onnx.checker.check_model(inferred, full_check=True)
    return model


@pytest.mark.parametrize("make", [graphs.mlp, graphs.conv_net])
def test_typed_graph_keeps_its_borders_and_its_answer(make):
    source = make()
    typed = checked(to_fp16(source).model)
    assert dtypes(typed) == {"FLOAT", "FLOAT16"}
    assert [v.dtype.name for v in (*typed.graph.inputs, *typed.graph.outputs)] == ["FLOAT"] * 2
    assert all(v.dtype.name == "FLOAT16" for v in typed.graph.initializers.values())
    shape = [2, *source.graph.inputs[0].shape[1:]]
    x = RANDOM.standard_normal([int(axis) for axis in shape]).astype(np.float32)
    wanted, got = graphs.run(source, {"x": x})[0], graphs.run(typed, {"x": x})[0]
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, wanted, atol=2e-2)


def test_source_graph_is_not_changed():
    source = graphs.mlp()
    before = ir.to_proto(source).SerializeToString(deterministic=True)
    to_fp16(source)
    assert ir.to_proto(source).SerializeToString(deterministic=True) == before


def test_asked_nodes_stay_wide_with_casts_around():
    typed = to_fp16(graphs.mlp(), wide={"fc1"})
    checked(typed.model)
    assert typed.kept_wide == ("fc1: asked for",)
    by_name = {node.name: node for node in typed.model.graph}
    assert by_name["fc1"].outputs[0].dtype == ir.DataType.FLOAT
    assert by_name["fc2"].outputs[0].dtype == ir.DataType.FLOAT16
    assert typed.model.graph.initializers["w1"].dtype == ir.DataType.FLOAT


def test_every_node_wide_is_the_source_again():
    source = graphs.mlp()
    typed = to_fp16(source, wide={str(node.name) for node in source.graph})
    x = RANDOM.standard_normal((3, 16)).astype(np.float32)
    np.testing.assert_array_equal(
        graphs.run(typed.model, {"x": x})[0], graphs.run(source, {"x": x})[0]
    )


def scaled(constant: float) -> ir.Model:
    node = helper.make_node("Mul", ["x", "k"], ["y"], name="scale")
    axes = {"x": ["batch", 4]}
    return graphs.model(
        [node], {"k": np.float32([constant])}, inputs=axes, outputs={"y": ["batch", 4]}
    )


def test_constant_beyond_fp16_keeps_its_node_wide_and_says_so():
    typed = to_fp16(scaled(1e6))
    assert typed.kept_wide == ("scale: constant 1e+06 is beyond FP16",)
    x = np.ones((1, 4), np.float32)
    assert graphs.run(typed.model, {"x": x})[0].tolist() == [[1e6] * 4]


def test_mask_constant_becomes_fp16s_own_extreme():
    typed = to_fp16(scaled(float(np.finfo(np.float32).min)))
    assert typed.kept_wide == ()
    (constant,) = typed.model.graph.initializers.values()
    assert constant.const_value.numpy().tolist() == [-65504.0]


def test_casts_and_constants_inside_follow_the_type():
    nodes = [
        helper.make_node("Cast", ["x"], ["i"], name="down", to=onnx.TensorProto.INT64),
        helper.make_node("Cast", ["i"], ["f"], name="up", to=onnx.TensorProto.FLOAT),
        helper.make_node("Constant", [], ["k"], name="k", value_float=0.5),
        helper.make_node("Mul", ["f", "k"], ["y"], name="half"),
    ]
    source = graphs.model(nodes, {}, inputs={"x": ["batch"]}, outputs={"y": ["batch"]})
    typed = checked(to_fp16(source).model)
    assert graphs.run(typed, {"x": np.float32([3.7, -2.0])})[0].tolist() == [1.5, -1.0]


def test_unknown_node_is_refused():
    with pytest.raises(UsageError, match="No node is named nope"):
        to_fp16(graphs.mlp(), wide={"nope"})


def test_subgraph_and_what_feeds_it_stay_wide():
    branch = [
        helper.make_graph(
            [helper.make_node(op, ["inner", "inner"], ["o"], name=op)],
            op,
            [],
            [helper.make_tensor_value_info("o", onnx.TensorProto.FLOAT, ["batch"])],
        )
        for op in ("Add", "Mul")
    ]
    nodes = [
        helper.make_node("Relu", ["x"], ["inner"], name="feeds"),
        helper.make_node("ReduceMax", ["x"], ["top"], name="top", keepdims=0),
        helper.make_node("Cast", ["top"], ["flag"], name="flag", to=onnx.TensorProto.BOOL),
        helper.make_node(
            "If", ["flag"], ["z"], name="if", then_branch=branch[0], else_branch=branch[1]
        ),
        helper.make_node("Neg", ["z"], ["y"], name="neg"),
    ]
    source = graphs.model(nodes, {}, inputs={"x": ["batch"]}, outputs={"y": ["batch"]})
    typed = to_fp16(source)
    checked(typed.model)
    assert set(typed.kept_wide) == {"feeds: feeds a subgraph", "if: If holds a subgraph"}
    assert graphs.run(typed.model, {"x": np.float32([1, 3])})[0].tolist() == [-2.0, -6.0]


def test_emulation_rounds_every_result_and_overflows_to_infinity():
    nodes = [
        helper.make_node("Add", ["x", "one"], ["s"], name="add"),
        helper.make_node("Mul", ["s", "s"], ["y"], name="square"),
    ]
    source = graphs.model(
        nodes, {"one": np.float32([1])}, inputs={"x": ["n"]}, outputs={"y": ["n"]}
    )
    x = np.float32([2**-12, 0.3, 299.0])
    emulated = emulate_fp16(to_fp16(source).model)
    assert dtypes(emulated) == {"FLOAT", "FLOAT16"}
    half = x.astype(np.float16)
    total = (half.astype(np.float32) + 1).astype(np.float16).astype(np.float32)
    with np.errstate(over="ignore"):
        wanted = (total * total).astype(np.float16).astype(np.float32)
    assert np.isinf(wanted[2])
    np.testing.assert_array_equal(graphs.run(emulated, {"x": x})[0], wanted)


def test_real_fp16_files_are_accepted_after_a_round_trip(tmp_path):
    typed = to_fp16(graphs.conv_net()).model
    assert graph.save(graph.infer(typed), tmp_path / "a.onnx") == ()
    again = ir.load(tmp_path / "a.onnx")
    assert dtypes(again) == dtypes(typed)
    assert len(again.graph) == len(typed.graph)
