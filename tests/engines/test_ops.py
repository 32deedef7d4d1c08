"""What a graph costs, against formulas worked out by hand."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from helpers import tiny_bundle, vit
from helpers.op_graphs import floats, graph, node
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from jetlift.engines.op_rules import (
    _RULES,
    FREE,
    OPERATIONS_PER_ELEMENT,
    OPERATIONS_PER_INPUT_ELEMENT,
)
from jetlift.engines.ops import count
from jetlift.runtime.errors import UsageError

WORKLOADS = Path(__file__).parents[2] / ".." / "shared" / "jetson" / "workloads.csv"
DINOV2_SMALL = {"width": 384, "depth": 12, "patch": 14}


CASES = [
    # operator, input shapes, constants, operations
    (node("MatMul", "x", "w"), {"x": (5, 7)}, {"w": floats(7, 3)}, 2 * 5 * 7 * 3),
    (node("MatMul", "x", "z"), {"x": (2, 4, 5, 7), "z": (7, 3)}, {}, 2 * 2 * 4 * 5 * 7 * 3),
    (node("MatMul", "x", "z"), {"x": (2, 1, 5, 7), "z": (4, 7, 3)}, {}, 2 * 2 * 4 * 5 * 7 * 3),
    (node("MatMul", "x", "w"), {"x": (7,)}, {"w": floats(7, 3)}, 2 * 7 * 3),
    (node("MatMul", "x", "w"), {"x": (5, 7)}, {"w": floats(7)}, 2 * 5 * 7),
    (
        node("Gemm", "x", "w", "b"),
        {"x": (5, 7)},
        {"w": floats(7, 3), "b": floats(3)},
        2 * 5 * 7 * 3,
    ),
    (node("Gemm", "x", "w", transA=1), {"x": (7, 5)}, {"w": floats(7, 3)}, 2 * 5 * 7 * 3),
    (node("Gemm", "x", "w", transB=1), {"x": (5, 7)}, {"w": floats(3, 7)}, 2 * 5 * 7 * 3),
    # 8 x 8 results of 6 channels, each from 2 channels of 3 x 3 (two groups of 4 / 2)
    (
        node("Conv", "x", "w", group=2, pads=[1, 1, 1, 1]),
        {"x": (1, 4, 8, 8)},
        {"w": floats(6, 2, 3, 3)},
        2 * 64 * 6 * 2 * 9,
    ),
    # 4 x 4 inputs of 3 channels, each met with 5 channels of 2 x 2
    (node("ConvTranspose", "x", "w"), {"x": (1, 3, 4, 4)}, {"w": floats(3, 5, 2, 2)}, 2 * 48 * 20),
    (node("Einsum", "x", "z", equation="bij,bjk->bik"), {"x": (2, 3, 4), "z": (2, 4, 5)}, {}, 240),
    (node("Einsum", "x", "z", equation="i,j->ij"), {"x": (3,), "z": (4,)}, {}, 12),
    (node("Einsum", "x", equation="ij->i"), {"x": (3, 4)}, {}, 12),
    (node("Einsum", "x", equation="ij->ji"), {"x": (3, 4)}, {}, 0),
    (node("Softmax", "x"), {"x": (3, 10)}, {}, 5 * 30),
    (node("LayerNormalization", "x", "w"), {"x": (3, 10)}, {"w": floats(10)}, 7 * 30),
    (node("Add", "x", "z"), {"x": (3, 1), "z": (1, 10)}, {}, 30),
    (node("Erf", "x"), {"x": (3, 10)}, {}, 30),
    (node("Max", "x", "z", "x"), {"x": (3,), "z": (3,)}, {}, 2 * 3),
    (node("ReduceMean", "x", "a"), {"x": (3, 10)}, {"a": np.array([1])}, 30),
    (node("GlobalAveragePool", "x"), {"x": (1, 3, 4, 4)}, {}, 48),
    (node("MaxPool", "x", kernel_shape=[2, 2], strides=[2, 2]), {"x": (1, 3, 4, 4)}, {}, 12 * 4),
    (
        node("Resize", "x", "", "s", mode="linear"),
        {"x": (1, 3, 4, 4)},
        {"s": np.array([1, 1, 2, 2], np.float32)},
        2 * 4 * (3 * 8 * 8),
    ),
    (
        node("Resize", "x", "", "s", mode="nearest"),
        {"x": (1, 3, 4, 4)},
        {"s": np.array([1, 1, 2, 2], np.float32)},
        0,
    ),
    (
        node("GRU", "x", "w", "r", hidden_size=4),
        {"x": (6, 2, 5)},
        {"w": floats(1, 12, 5), "r": floats(1, 12, 4)},
        2 * 6 * 2 * (60 + 48),
    ),
    (node("Transpose", "x"), {"x": (3, 10)}, {}, 0),
    (node("Reshape", "x", "s"), {"x": (3, 10)}, {"s": np.array([-1])}, 0),
]


@pytest.mark.parametrize(
    ("made", "inputs", "constants", "operations"), CASES, ids=[case[0].op_type for case in CASES]
)
def test_a_node_costs_what_its_formula_says(
    made: Any, inputs: dict[str, Any], constants: dict[str, Any], operations: int
) -> None:
    counted = count(graph([made], inputs, constants), {})
    assert counted.uncounted == ()
    assert counted.cost.operations == operations


@pytest.mark.parametrize("shape", ["4d", "3d"])
def test_attention_is_two_products_and_a_softmax(shape: str) -> None:
    heads, queries, keys, width = 2, 5, 7, 8
    scores = 3 * heads * queries * keys
    if shape == "4d":
        inputs = {n: (3, heads, t, width) for n, t in (("q", queries), ("k", keys), ("v", keys))}
        made = node("Attention", "q", "k", "v")
    else:
        inputs = {n: (3, t, heads * width) for n, t in (("q", queries), ("k", keys), ("v", keys))}
        made = node("Attention", "q", "k", "v", q_num_heads=heads, kv_num_heads=heads)
    counted = count(graph([made], inputs, opset=23), {})
    assert counted.uncounted == ()
    assert counted.cost.operations == 2 * scores * 2 * width + 5 * scores


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 3),
    groups=st.integers(1, 3),
    per_group=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    size=st.integers(5, 9),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    pad=st.integers(0, 1),
)
def test_a_convolution_costs_what_its_loops_do(
    batch: int,
    groups: int,
    per_group: tuple[int, int],
    size: int,
    kernel: int,
    stride: int,
    pad: int,
) -> None:
    inputs, outputs = groups * per_group[0], groups * per_group[1]
    made = node("Conv", "x", "w", group=groups, strides=[stride] * 2, pads=[pad] * 4)
    model = graph(
        [made],
        {"x": (batch, inputs, size, size)},
        {"w": floats(outputs, per_group[0], kernel, kernel)},
    )
    steps = len(range(0, size + 2 * pad - kernel + 1, stride))
    macs = batch * outputs * steps * steps * per_group[0] * kernel * kernel
    assert count(model, {}).cost.operations == 2 * macs


def test_no_operator_has_two_rules() -> None:
    tables = [OPERATIONS_PER_ELEMENT, OPERATIONS_PER_INPUT_ELEMENT, FREE, _RULES]
    names = [name for table in tables for name in table]
    assert len(names) == len(set(names))


def test_every_operator_with_a_rule_exists() -> None:
    known = {
        schema.name for schema in onnx.defs.get_all_schemas_with_history() if not schema.domain
    }
    for table in (OPERATIONS_PER_ELEMENT, OPERATIONS_PER_INPUT_ELEMENT, FREE, _RULES):
        assert set(table) <= known, set(table) - known


def test_dinov2_small_is_what_the_paper_formula_says() -> None:
    counted = count(vit.vit(**DINOV2_SMALL, heads=6, size=224), {"pixel_values": (1, 3, 224, 224)})
    assert counted.uncounted == ()
    macs = vit.products_macs(**DINOV2_SMALL, size=224)
    assert macs == 6_123_561_984
    assert counted.cost.operations_by_precision == {"fp32": 2 * macs}
    tokens, width = 257, 384
    # Per block: two norms of 7, biases (3 + 1 of width, 4 + 1 of the MLP), two residuals, Erf of
    # the 4-wide hidden layer, softmax of 5 over 6 heads; nothing else computes.
    block = tokens * width * (2 * 7 + 9 + 2 + 4) + 5 * 6 * tokens**2
    assert counted.cost.operations == 2 * macs + 12 * block


def test_a_batch_costs_so_many_times_one() -> None:
    model = vit.vit(**DINOV2_SMALL, heads=6, size=224)
    one, four = (count(model, {"pixel_values": (n, 3, 224, 224)}).cost for n in (1, 4))
    assert four.operations == 4 * one.operations
    assert four.activation_bytes == pytest.approx(4 * one.activation_bytes, rel=1e-6)
    assert four.weight_bytes == one.weight_bytes


@pytest.mark.skipif(not WORKLOADS.is_file(), reason="shared/jetson is not beside this checkout")
@pytest.mark.parametrize("size", [308, 364, 406, 518])
def test_it_agrees_with_the_measured_workloads(size: int) -> None:
    """The table was counted from PyTorch modules, and knows DINOv2-small at these sizes."""
    with WORKLOADS.open() as file:
        rows = {row["workload_key"]: row for row in csv.DictReader(file)}
    listed = rows[f"vit_small_patch14_dinov2@{size}"]
    counted = count(
        vit.vit(**DINOV2_SMALL, heads=6, size=size), {"pixel_values": (1, 3, size, size)}
    )
    products = sum(counted.cost.operations_by_precision.values())
    assert products / 2e9 == pytest.approx(float(listed["gmacs"]), rel=1e-4)


def test_precision_is_what_feeds_the_products() -> None:
    for precision in ("fp32", "fp16", "int8"):
        for model, shapes in (
            (tiny_bundle.mlp(precision), {"x": (2, 16)}),
            (tiny_bundle.image(precision), {"pixel_values": (2, 3, 32, 32)}),
        ):
            counted = count(model, shapes)
            assert set(counted.cost.operations_by_precision) == {precision}
            assert counted.uncounted == ()


def test_the_tiny_mlp_by_hand() -> None:
    cost = {
        name: count(tiny_bundle.mlp(name), {"x": (3, 16)}).cost for name in tiny_bundle.PRECISIONS
    }
    products = 2 * 3 * (16 * 32 + 32 * 4)
    weights, biases, scales = 16 * 32 + 32 * 4, 32, 32 + 4
    for item in cost.values():
        assert item.operations == products + 3 * 32  # and a Relu
    # x is the caller's; fc1, act and y are made
    assert cost["fp32"].activation_bytes == 4 * 3 * (32 + 32 + 4)
    assert cost["fp32"].weight_bytes == 4 * (weights + biases)
    # a narrow copy of x, fc1, act, y and its wide copy
    assert cost["fp16"].activation_bytes == 2 * 3 * (16 + 32 + 32 + 4) + 4 * 3 * 4
    assert cost["fp16"].weight_bytes == 2 * (weights + biases)
    # int8 codes of x and act beside fc1, act and y; what DequantizeLinear makes is no tensor
    assert cost["int8"].activation_bytes == 3 * (16 + 32) + 4 * 3 * (32 + 32 + 4)
    activations = 2 * (4 + 1)  # a scale and a zero point for x and for act
    assert cost["int8"].weight_bytes == weights + 4 * (biases + scales) + scales + activations


def quantised_weight_alone() -> onnx.ModelProto:
    up = helper.make_node("DequantizeLinear", ["w", "s", "z"], ["wd"])
    constants = {"w": np.ones((7, 3), np.int8), "s": np.float32(1), "z": np.int8(0)}
    return graph([up, node("MatMul", "x", "wd")], {"x": (5, 7)}, constants)


def test_a_quantised_weight_alone_makes_no_int8_product() -> None:
    assert count(quantised_weight_alone(), {}).cost.operations_by_precision == {"fp32": 210}


def test_layout_between_dequantization_and_product_does_not_matter() -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["wd"]),
        helper.make_node("Transpose", ["wd"], ["wt"], perm=[1, 0]),
        node("MatMul", "xd", "wt"),
    ]
    constants = {"w": np.ones((3, 7), np.int8), "s": np.float32(1), "z": np.int8(0)}
    counted = count(graph(nodes, {"x": (5, 7)}, constants), {})
    assert counted.cost.operations_by_precision == {"int8": 210}
    (row,) = [row for row in counted.nodes if row.operator == "MatMul"]
    assert row.weighted


def test_rows_say_what_each_node_moves() -> None:
    counted = count(tiny_bundle.mlp(), {"x": (3, 16)})
    gemm, relu, matmul = counted.nodes
    assert (gemm.name, gemm.operator, gemm.weighted) == ("fc1", "Gemm", True)
    assert (gemm.input_bytes, gemm.weight_bytes, gemm.output_bytes) == (192, 4 * (512 + 32), 384)
    assert (relu.precision, relu.weighted) == (None, False)
    assert matmul.operations == 2 * 3 * 32 * 4


def test_a_node_without_a_name_bears_its_outputs() -> None:
    made = helper.make_node("MatMul", ["x", "w"], ["y"])
    (row,) = count(graph([made], {"x": (1, 2)}, {"w": floats(2, 2)}), {}).nodes
    assert row.name == "y"


def test_products_of_two_activations_are_told_apart() -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), node("MatMul", "h", "z")]
    counted = count(graph(nodes, {"x": (5, 7), "z": (3, 2)}, {"w": floats(7, 3)}), {}).cost
    assert counted.operations_by_precision == {"fp32": 210 + 60}
    assert counted.weighted_operations_by_precision == {"fp32": 210}
    assert counted.weight_elements_by_precision == {"fp32": 21}


def test_a_weight_has_the_precision_it_is_stored_in() -> None:
    alone = count(quantised_weight_alone(), {}).cost  # which computes in fp32
    assert alone.weighted_operations_by_precision == {"fp32": 210}
    assert alone.weight_elements_by_precision == {"int8": 21}
    for precision in tiny_bundle.PRECISIONS:
        cost = count(tiny_bundle.mlp(precision), {"x": (3, 16)}).cost
        assert cost.weight_elements_by_precision == {precision: 16 * 32 + 32 * 4}
        assert cost.weighted_operations_by_precision == {precision: 2 * 3 * (16 * 32 + 32 * 4)}


def test_what_depends_on_no_input_is_free() -> None:
    nodes = [helper.make_node("Exp", ["w"], ["we"]), node("MatMul", "x", "we")]
    counted = count(graph(nodes, {"x": (5, 7)}, {"w": floats(7, 3)}), {})
    assert [row.operator for row in counted.nodes] == ["MatMul"]
    assert counted.nodes[0].weighted


def test_shapes_that_onnx_cannot_follow_are_computed() -> None:
    """arange(length) * x, as exporters write positions: inference alone stops at Range."""
    nodes = [
        helper.make_node("Shape", ["x"], ["length"], start=1, end=2),
        helper.make_node("Squeeze", ["length"], ["count"]),
        helper.make_node("Range", ["zero", "count", "one"], ["places"]),
        helper.make_node("Cast", ["places"], ["positions"], to=TensorProto.FLOAT),
        helper.make_node("Where", ["yes", "positions", "positions"], ["kept"]),
        helper.make_node("Mul", ["x", "kept"], ["scaled"]),
        node("MatMul", "scaled", "w"),
    ]
    constants = {"zero": np.int64(0), "one": np.int64(1), "yes": np.bool_(1), "w": floats(6, 3)}
    model = graph(nodes, {"x": ["batch", "length"]}, constants)
    counted = count(model, {"x": (4, 6)})
    assert counted.uncounted == ()
    assert counted.cost.operations == 4 * 6 + 2 * 4 * 6 * 3


def test_local_functions_are_looked_into() -> None:
    opset = helper.make_opsetid("", 18)
    inner = [helper.make_node("MatMul", ["a", "b"], ["c"]), helper.make_node("Relu", ["c"], ["d"])]
    function = helper.make_function("own", "Layer", ["a", "b"], ["d"], inner, [opset])
    call = helper.make_node("Layer", ["x", "w"], ["y"], domain="own")
    model = graph([call], {"x": ["n", 7]}, {"w": floats(7, 3)}, functions=[function])
    assert count(model, {"x": (5, 7)}).cost.operations == 210 + 15


def test_what_has_no_rule_is_told_and_costs_nothing() -> None:
    nodes = [
        helper.make_node("Mystery", ["x"], ["m"], name="strange", domain="own"),
        helper.make_node("Relu", ["m"], ["r"], name="after"),
        helper.make_node("Det", ["x"], ["det"], name="det"),
        node("Einsum", "x", "x", "x", equation="ij,jk,kl->il"),
    ]
    counted = count(graph(nodes, {"x": (4, 4)}), {})
    assert counted.cost.operations == 0
    told = " | ".join(counted.uncounted)
    assert "strange (Mystery): no rule for operators of own" in told
    assert "after (Relu): the shape of r is unknown" in told
    assert "det (Det): no rule for this operator" in told
    assert "n (Einsum): equations of more than two operands" in told


def test_the_model_is_left_as_it_was() -> None:
    model = tiny_bundle.image("int8")
    before = model.SerializeToString(deterministic=True)
    count(model, {"pixel_values": (2, 3, 32, 32)})
    assert model.SerializeToString(deterministic=True) == before


def test_weights_beside_the_graph_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "mlp.onnx"
    onnx.save(
        tiny_bundle.mlp(hidden=4096),
        path,
        save_as_external_data=True,
        location="mlp.data",
        size_threshold=1024,
    )
    (tmp_path / "mlp.data").unlink()
    counted = count(onnx.load(path, load_external_data=False), {"x": (1, 16)})
    assert counted.cost.weight_bytes == 4 * (16 * 4096 + 4096 + 4096 * 4)
    assert counted.cost.operations_by_precision == {"fp32": 2 * (16 * 4096 + 4096 * 4)}


@pytest.mark.parametrize(
    ("shapes", "told"),
    [
        ({}, "dynamic axes"),
        ({"x": (1, 15)}, "Shape [1, 15]"),
        ({"x": (16,)}, "Shape [16]"),
        ({"x": (1, 16), "z": (1,)}, "z, which is no input"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(shapes: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError) as caught:
        count(tiny_bundle.mlp(), shapes)
    assert told in str(caught.value)


def test_shapes_that_contradict_the_graph_are_refused() -> None:
    model = graph([node("MatMul", "x", "w")], {"x": ["a", "b"]}, {"w": floats(7, 3)})
    with pytest.raises(UsageError, match="do not fit the graph"):
        count(model, {"x": (5, 6)})
