from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from helpers import graphs, hard_graphs, qdq_graphs
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from jetlift.engines.ops import count
from jetlift.export import graph
from jetlift.export.precision.emulate import emulate_half
from jetlift.export.precision.fp16 import to_fp16, to_half
from jetlift.export.precision.half import half_of
from jetlift.runtime.errors import UsageError
from jetlift.runtime.manifest import TensorSpec

RANDOM = np.random.default_rng(7)
KINDS = ("fp16", "bf16")
NAMES = {"fp16": "FLOAT16", "bf16": "BFLOAT16"}
QUANTISED = (qdq_graphs.quantised_mlp, qdq_graphs.quantised_conv_net, qdq_graphs.weight_only)
LOWEST = float(np.finfo(np.float32).min)


def dtypes(model: ir.Model) -> set[str]:
    return {v.dtype.name for node in model.graph for v in node.outputs if v.dtype is not None}


def checked(model: ir.Model) -> ir.Model:
    """Types as inference sees them must equal the types that were written."""
    inferred = onnx.shape_inference.infer_shapes(
        ir.to_proto(model), check_type=True, strict_mode=True
    )
    onnx.checker.check_model(inferred, full_check=True)
    return model


def by_name(model: ir.Model) -> dict[str, ir.Node]:
    return {str(node.name): node for node in model.graph}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", [graphs.mlp, graphs.conv_net])
def test_typed_graph_keeps_its_borders_and_its_answer(make, kind):
    source = make()
    typed = checked(to_half(source, kind).model)
    assert dtypes(typed) == {"FLOAT", NAMES[kind]}
    assert [v.dtype.name for v in (*typed.graph.inputs, *typed.graph.outputs)] == ["FLOAT"] * 2
    assert all(v.dtype.name == NAMES[kind] for v in typed.graph.initializers.values())
    shape = [2, *source.graph.inputs[0].shape[1:]]
    x = RANDOM.standard_normal([int(axis) for axis in shape]).astype(np.float32)
    # ONNX Runtime has no BF16 arithmetic on the CPU.
    runnable = typed if kind == "fp16" else emulate_half(typed)
    wanted, got = graphs.run(source, {"x": x})[0], graphs.run(runnable, {"x": x})[0]
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, wanted, atol=2e-2 if kind == "fp16" else 1e-1)


def test_source_graph_is_not_changed():
    source = graphs.mlp()
    before = ir.to_proto(source).SerializeToString(deterministic=True)
    for kind in KINDS:
        emulate_half(to_half(source, kind).model)
    assert ir.to_proto(source).SerializeToString(deterministic=True) == before


def test_asked_nodes_stay_wide_with_casts_around():
    typed = to_fp16(graphs.mlp(), wide={"fc1"})
    checked(typed.model)
    assert typed.kept_wide == ("fc1: asked for",)
    assert by_name(typed.model)["fc1"].outputs[0].dtype == ir.DataType.FLOAT
    assert by_name(typed.model)["fc2"].outputs[0].dtype == ir.DataType.FLOAT16
    assert typed.model.graph.initializers["w1"].dtype == ir.DataType.FLOAT


def test_reasons_that_are_given_are_told():
    typed = to_half(graphs.mlp(), "bf16", wide={"fc1": "it reaches 1e9", "norm": ""})
    assert typed.kept_wide == ("fc1: it reaches 1e9",)
    assert by_name(typed.model)["norm"].outputs[0].dtype == ir.DataType.FLOAT


def test_every_node_wide_is_the_source_again():
    source = graphs.mlp()
    typed = to_fp16(source, wide={str(node.name) for node in source.graph})
    x = RANDOM.standard_normal((3, 16)).astype(np.float32)
    np.testing.assert_array_equal(
        graphs.run(typed.model, {"x": x})[0], graphs.run(source, {"x": x})[0]
    )


def test_unknown_node_is_refused():
    with pytest.raises(UsageError, match="No node is named nope"):
        to_fp16(graphs.mlp(), wide={"nope"})


def test_a_graph_of_the_other_type_is_refused():
    typed = to_half(graphs.mlp(), "fp16").model
    with pytest.raises(UsageError, match="is FLOAT16 already"):
        to_half(typed, "bf16")


def test_nodes_without_names_get_one():
    nodes = [
        helper.make_node("Neg", ["x"], ["a"]),
        helper.make_node("Abs", ["a"], ["b"], name="same"),
        helper.make_node("Relu", ["b"], ["y"], name="same"),
    ]
    source = graphs.model(nodes, {}, inputs={"x": ["batch"]}, outputs={"y": ["batch"]})
    typed = to_fp16(source, wide={"same_2"})
    assert typed.kept_wide == ("same_2: asked for",)
    assert {node.op_type: node.name for node in typed.model.graph}["Relu"] == "same_2"


@pytest.mark.parametrize("kind", KINDS)
def test_casts_and_constants_inside_follow_the_type(kind):
    nodes = [
        helper.make_node("Cast", ["x"], ["i"], name="down", to=onnx.TensorProto.INT64),
        helper.make_node("Cast", ["i"], ["f"], name="up", to=onnx.TensorProto.FLOAT),
        helper.make_node("Constant", [], ["k"], name="k", value_float=0.5),
        helper.make_node("Mul", ["f", "k"], ["y"], name="half"),
    ]
    source = graphs.model(nodes, {}, inputs={"x": ["batch"]}, outputs={"y": ["batch"]})
    typed = checked(to_half(source, kind).model)
    got = graphs.run(emulate_half(typed), {"x": np.float32([3.7, -2.0])})[0]
    assert got.tolist() == [1.5, -1.0]


SOURCES = {
    "mlp": graphs.mlp(),
    "conv_net": graphs.conv_net(),
    "mask": hard_graphs.attention(1.0, mask=True)[0],
    "residual": hard_graphs.residual()[0],
    "rms_norm": hard_graphs.rms_norm()[0],
    "l2_norm": hard_graphs.l2_norm()[0],
    "quantised_mlp": qdq_graphs.quantised_mlp(tiny=1e-12),
    "quantised_conv_net": qdq_graphs.quantised_conv_net(),
}


@given(name=st.sampled_from(sorted(SOURCES)), kind=st.sampled_from(KINDS), data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_choice_of_wide_nodes_gives_a_graph_that_says_what_it_holds(
    name, kind, data, tmp_path_factory
):
    source, half = SOURCES[name], half_of(kind)
    wide = data.draw(st.sets(st.sampled_from([str(node.name) for node in source.graph])))
    typed = checked(to_half(source, kind, wide=wide).model)
    path = tmp_path_factory.mktemp("typed") / "a.onnx"
    graph.save(graph.infer(typed), path)
    proto = onnx.load(path)
    onnx.checker.check_model(proto, full_check=True)
    again, declared = ir.from_proto(proto), {v.name: v.dtype for v in values(typed)}
    assert {value.name: value.dtype for value in values(again)} == declared
    for value in again.graph.initializers.values():
        array = value.const_value.numpy()
        assert value.const_value.dtype == value.dtype
        assert np.isfinite(array.astype(np.float64)).all()
        if value.dtype == half.dtype:
            assert np.abs(array.astype(np.float64)).max(initial=0) <= half.largest
    for node in again.graph:
        if node.name in wide:
            assert all(v.dtype != half.dtype for v in (*node.inputs, *node.outputs) if v)


def values(model: ir.Model) -> list[ir.Value]:
    return [value for node in model.graph for value in (*node.inputs, *node.outputs) if value]


BUILDS = {
    "mlp-fp16": (graphs.mlp, "fp16", {"fp16": 1.0}),
    "mlp-bf16": (graphs.mlp, "bf16", {"bf16": 1.0}),
    "conv-bf16": (graphs.conv_net, "bf16", {"bf16": 1.0}),
    "int8-fp16": (qdq_graphs.quantised_mlp, "fp16", {"int8": 1.0}),
    "int8-bf16": (qdq_graphs.quantised_mlp, "bf16", {"int8": 1.0}),
    "int8-conv-fp16": (qdq_graphs.quantised_conv_net, "fp16", {"int8": 1.0}),
}


@pytest.mark.parametrize("case", BUILDS)
def test_tensorrt_builds_what_the_graph_asks_for(case, tmp_path):
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed (jetlift[rtx])")
    pytest.importorskip("polygraphy", reason="Polygraphy is not installed (jetlift[rtx])")
    from jetlift.engines.trt.build import build_engine

    make, kind, share = BUILDS[case]
    typed = to_half(make(), kind).model
    path = tmp_path / "a.onnx"
    graph.save(graph.infer(typed), path)
    axes = [int(axis) for axis in typed.graph.inputs[0].shape[1:]]
    shapes = [(batch, *axes) for batch in (1, 1, 4)]
    spec = TensorSpec("x", "float32", ("batch", *axes), *shapes)
    cost = count(onnx.load(path), {"x": shapes[1]})
    built = build_engine(path, tmp_path / "a.engine", cost, inputs=[spec], compute_capability="8.6")
    assert built.receipt.operations_share == share
    assert built.receipt.unobserved_share == 0
