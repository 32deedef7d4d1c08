from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from helpers import graphs, qdq_graphs
from onnx import helper

from jetlift.export.precision.emulate import emulate_half
from jetlift.export.precision.fp16 import to_fp16, to_half
from jetlift.export.precision.wide_rules import makers_of

RANDOM = np.random.default_rng(8)
KINDS = ("fp16", "bf16")
NAMES = {"fp16": "FLOAT16", "bf16": "BFLOAT16"}
QUANTISED = (qdq_graphs.quantised_mlp, qdq_graphs.quantised_conv_net, qdq_graphs.weight_only)


def checked(model: ir.Model) -> ir.Model:
    inferred = onnx.shape_inference.infer_shapes(
        ir.to_proto(model), check_type=True, strict_mode=True
    )
    onnx.checker.check_model(inferred, full_check=True)
    return model


def by_name(model: ir.Model) -> dict[str, ir.Node]:
    return {str(node.name): node for node in model.graph}


def test_bf16_declares_the_first_opset_whose_convolution_takes_it():
    assert to_half(graphs.conv_net(), "bf16").model.opset_imports[""] == 22
    assert to_half(graphs.conv_net(), "fp16").model.opset_imports[""] == 18


def test_bf16_keeps_wide_what_the_standard_forbids():
    nodes = [
        helper.make_node("Einsum", ["x", "x"], ["e"], name="einsum", equation="bi,bi->bi"),
        helper.make_node("Relu", ["e"], ["y"], name="relu"),
    ]
    source = graphs.model(nodes, {}, inputs={"x": ["batch", 4]}, outputs={"y": ["batch", 4]})
    typed = to_half(source, "bf16")
    checked(typed.model)
    assert typed.kept_wide == ("einsum: Einsum takes no bf16 in opset 22",)
    assert to_half(source, "fp16").kept_wide == ()


def test_an_operator_that_changes_its_meaning_keeps_the_opset():
    nodes = [
        helper.make_node("GridSample", ["x", "grid"], ["g"], name="sample"),
        helper.make_node("Conv", ["g", "w"], ["c"], name="conv"),
        helper.make_node("Relu", ["c"], ["y"], name="relu"),
    ]
    weights = {"grid": np.zeros((1, 2, 2, 2)), "w": np.ones((2, 3, 1, 1))}
    axes = {"x": [1, 3, 4, 4]}
    source = graphs.model(nodes, weights, inputs=axes, outputs={"y": [1, 2, 2, 2]})
    typed = to_half(source, "bf16")
    checked(typed.model)
    assert typed.model.opset_imports[""] == 18
    told = "takes no bf16 in opset 18"
    assert typed.kept_wide == (f"sample: GridSample {told}", f"conv: Conv {told}")
    assert by_name(typed.model)["relu"].outputs[0].dtype == ir.DataType.BFLOAT16


def test_an_operator_of_another_domain_stays_wide():
    nodes = [
        helper.make_node("Mystery", ["x"], ["h"], name="strange", domain="own"),
        helper.make_node("Relu", ["h"], ["y"], name="relu"),
    ]
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2])
    y, h = (helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [2]) for n in "yh")
    made = helper.make_graph(nodes, "g", [x], [y], value_info=[h])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    typed = to_fp16(ir.from_proto(helper.make_model(made, opset_imports=opsets, ir_version=10)))
    assert typed.kept_wide == ("strange: own.Mystery is not in the ONNX standard",)


@pytest.mark.parametrize("kind", ["fp16", "bf16"])
def test_a_timesteps_angle_is_computed_wide(kind):
    """t * frequencies -> sine and cosine -> Gemm, as diffusion models have it."""
    nodes = [
        helper.make_node("Mul", ["t", "frequencies"], ["angle"], name="angle"),
        helper.make_node("Sin", ["angle"], ["s"], name="sine"),
        helper.make_node("Cos", ["angle"], ["c"], name="cosine"),
        helper.make_node("Concat", ["s", "c"], ["both"], name="both", axis=1),
        helper.make_node("MatMul", ["both", "w"], ["y"], name="layer"),
    ]
    random = np.random.default_rng(0)
    frequencies = np.exp(-np.log(1e4) * np.arange(8) / 8)[None].astype(np.float32)
    weights = {"frequencies": frequencies, "w": random.standard_normal((16, 4)) / 4}
    source = graphs.model(nodes, weights, inputs={"t": [1, 1]}, outputs={"y": [1, 4]})
    typed = to_half(source, kind)
    checked(typed.model)
    angle = "of an angle that may be large"
    assert typed.kept_wide == (f"sine: Sin {angle}", f"cosine: Cos {angle}")
    narrow = {name for name, node in by_name(typed.model).items()
              if node.outputs[0].dtype != ir.DataType.FLOAT}  # fmt: skip
    assert {"layer", "both"} <= narrow
    assert not {"angle", "sine", "cosine"} & narrow


def test_what_makes_places_is_named_and_nothing_else():
    """A plane's features are read at scaled points, next to a branch that reads nothing."""
    nodes = [
        helper.make_node("Mul", ["points", "half"], ["scaled"], name="scale"),
        helper.make_node("Add", ["scaled", "centre"], ["moved"], name=""),
        helper.make_node("Shape", ["moved"], ["size"], name="size"),
        helper.make_node("Reshape", ["moved", "size"], ["grid"], name="shape"),
        helper.make_node("Relu", ["plane"], ["kept"], name="plane_side"),
        helper.make_node("GridSample", ["kept", "grid"], ["read"], name="sample"),
        helper.make_node("Sqrt", ["read"], ["y"], name="after"),
    ]
    weights = {"half": np.array(0.5), "centre": np.array(0.1), "plane": np.ones((1, 3, 4, 4))}
    axes = {"points": [1, 2, 2, 2]}
    source = graphs.model(nodes, weights, inputs=axes, outputs={"y": [1, 3, 2, 2]})
    named = makers_of(source, {"GridSample": 1})
    assert named.keys() == {"scale", "Add_1", "size", "shape"}
    assert set(named.values()) == {"makes the places that sample reads"}
    assert makers_of(source, {}) == makers_of(source, {"Gather": 1}) == {}
    typed = to_half(source, "fp16", wide=named)
    checked(typed.model)
    assert by_name(typed.model)["Add_1"].outputs[0].dtype == ir.DataType.FLOAT
    assert by_name(typed.model)["after"].inputs[0].dtype == ir.DataType.FLOAT16


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


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", QUANTISED)
def test_integer_kernels_keep_their_float32_scales(make, kind):
    source = make()
    typed = to_half(source, kind)
    checked(typed.model)
    assert typed.kept_wide == ()
    nodes = by_name(typed.model)
    for name, node in by_name(source).items():
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            kept = nodes[name].inputs[1].const_value.numpy()
            np.testing.assert_array_equal(kept, node.inputs[1].const_value.numpy())
            assert nodes[name].inputs[1].dtype == ir.DataType.FLOAT
    narrow = {name for name, node in nodes.items() if node.outputs[0].dtype.name == NAMES[kind]}
    wanted = {
        qdq_graphs.quantised_mlp: {"tanh0", "tanh1", "negate"},
        qdq_graphs.quantised_conv_net: set(),
        qdq_graphs.weight_only: {"fc"},
    }[make]
    assert {name for name in narrow if nodes[name].op_type != "Cast"} == wanted


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tiny", [1.0, 1e-4, 1e-12])
def test_int8_with_a_narrow_rest_bears_tiny_scales(kind, tiny):
    source = qdq_graphs.quantised_mlp(tiny=tiny, activation=0.02 if tiny == 1 else 1e-3)
    scale = source.graph.initializers["w0_scale"].const_value.numpy()
    # What a scale in FP16 would be, and the product of both that biases are divided by.
    assert (scale.astype(np.float16)[0] == 0) == (tiny < 1e-4)
    assert ((scale * 1e-3).astype(np.float16)[0] == 0) == (tiny < 1)
    typed = to_half(source, kind)
    x = RANDOM.standard_normal((16, qdq_graphs.WIDTH)).astype(np.float32)
    wanted = graphs.run(source, {"x": x})[0]
    got = graphs.run(emulate_half(typed.model), {"x": x})[0]
    error = np.linalg.norm(got - wanted) / np.linalg.norm(wanted)
    assert error < {"fp16": 1e-2, "bf16": 5e-2}[kind]
