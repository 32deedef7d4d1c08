from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest
from helpers import graphs
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper

from jetlift.export.precision.calibrate import reference_session
from jetlift.export.precision.composites import open_composites
from jetlift.export.precision.emulate import emulate_half
from jetlift.export.precision.fp16 import to_half

RANDOM = np.random.default_rng(11)
TYPES = {"fp16": np.float16, "bf16": ml_dtypes.bfloat16}
# Halfway between two neighbours, and the float32 beside it: where rounding goes wrong.
BORDERS = [
    0.0, -0.0, 65504.0, 65519.996, 65520.0, 65536.0, -65520.0, 2.0**-14, 2.0**-24, 2.0**-25,
    2.0**-25 * 1.0000001, -(2.0**-26), 1 + 2.0**-11, 1 + 3 * 2.0**-11, 1 + 2.0**-8, 1 + 3 * 2.0**-9,
    3.3895314e38, 3.3961775e38, 3.4028235e38, -3.4028235e38, 1e-45, 9.1835e-41, 4.5e-41, 1e30,
    float("inf"), -float("inf"),
]  # fmt: skip


def rounder(kind: str):
    node = helper.make_node("Identity", ["x"], ["y"], name="same")
    source = graphs.model([node], {}, inputs={"x": ["n"]}, outputs={"y": ["n"]})
    emulated = emulate_half(to_half(source, kind).model)
    session = reference_session(emulated)
    return lambda x: session.run(["y"], {"x": x})[0]


ROUNDERS = {kind: rounder(kind) for kind in TYPES}


def as_numpy(x: np.ndarray, kind: str) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        return x.astype(TYPES[kind]).astype(np.float32)


@pytest.mark.parametrize("kind", TYPES)
@given(
    x=hnp.arrays(
        np.float32, st.integers(1, 64), elements=st.floats(width=32) | st.sampled_from(BORDERS)
    )
)
@settings(max_examples=200, deadline=None)
def test_emulated_rounding_is_numpys(kind, x):
    np.testing.assert_array_equal(ROUNDERS[kind](x), as_numpy(x, kind))


@pytest.mark.parametrize("kind", TYPES)
def test_emulated_rounding_is_numpys_on_every_border_and_on_a_million_patterns(kind):
    with np.errstate(invalid="ignore"):
        every = np.arange(2**16, dtype=np.uint16).view(TYPES[kind]).astype(np.float64)
    finite = np.unique(every[np.isfinite(every)])
    middles = ((finite[:-1] + finite[1:]) / 2).astype(np.float32)
    patterns = RANDOM.integers(0, 2**32, 1_000_000, dtype=np.uint64).astype(np.uint32)
    beside = [np.nextafter(middles, np.float32(to)) for to in (-np.inf, np.inf)]
    values = [np.float32(BORDERS), finite.astype(np.float32), middles, *beside]
    x = np.concatenate([*values, patterns.view(np.float32)])
    np.testing.assert_array_equal(ROUNDERS[kind](x), as_numpy(x, kind))


def test_emulation_rounds_every_result_and_overflows_to_infinity():
    nodes = [
        helper.make_node("Add", ["x", "one"], ["s"], name="add"),
        helper.make_node("Mul", ["s", "s"], ["y"], name="square"),
    ]
    source = graphs.model(
        nodes, {"one": np.float32([1])}, inputs={"x": ["n"]}, outputs={"y": ["n"]}
    )
    x = np.float32([2**-12, 0.3, 299.0])
    for kind in TYPES:
        total = as_numpy(as_numpy(x, kind) + 1, kind)
        wanted = as_numpy(total * total, kind)
        assert np.isinf(wanted[2]) == (kind == "fp16")
        emulated = emulate_half(to_half(source, kind).model)
        np.testing.assert_array_equal(graphs.run(emulated, {"x": x})[0], wanted)


def test_wide_nodes_are_not_rounded():
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["s"], name="square"),
        helper.make_node("Sqrt", ["s"], ["y"], name="root"),
    ]
    source = graphs.model(nodes, {}, inputs={"x": ["n"]}, outputs={"y": ["n"]})
    x = np.float32([300.0])
    assert np.isinf(graphs.run(emulate_half(to_half(source, "fp16").model), {"x": x})[0]).all()
    wide = to_half(source, "fp16", wide={"square", "root"}).model
    assert graphs.run(emulate_half(wide), {"x": x})[0].tolist() == [300.0]


COMPOSITES = {
    "ReduceL2": {}, "ReduceSumSquare": {}, "ReduceLogSumExp": {"keepdims": 0}, "ReduceLogSum": {},
    "LpNormalization": {"axis": -1}, "LpNormalization/1": {"axis": 1},
}  # fmt: skip


def composite(operator: str, opset: int) -> ir.Model:
    operator, attributes = operator.partition("/")[0], dict(COMPOSITES[operator])
    inputs, axes = ["x"], []
    if operator.startswith("Reduce"):
        if opset >= 18:
            inputs, axes = ["x", "axes"], [helper.make_tensor("axes", TensorProto.INT64, [1], [-1])]
        else:
            attributes["axes"] = [-1]
    node = helper.make_node(operator, inputs, ["y"], name="it", **attributes)
    keeps = attributes.get("keepdims", 1)
    shape = [3, 5] if operator == "LpNormalization" else [3, 1][: 2 if keeps else 1]
    graph = helper.make_graph(
        [node], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        axes,
    )  # fmt: skip
    opsets = [helper.make_opsetid("", opset)]
    return ir.from_proto(helper.make_model(graph, opset_imports=opsets, ir_version=8))


@pytest.mark.parametrize("opset", [17, 18])
@pytest.mark.parametrize("operator", COMPOSITES)
def test_opened_operators_give_what_they_gave(operator, opset):
    source = composite(operator, opset)
    opened = source.clone()
    steps = open_composites(opened)
    assert {node.op_type for node in opened.graph}.isdisjoint(operator.split("/"))
    assert set(steps.values()) == {"it"}
    assert set(steps) == {node.name for node in opened.graph}
    x = RANDOM.uniform(0.1, 3, (3, 5)).astype(np.float32)
    wanted = graphs.run(source, {"x": x})[0]
    np.testing.assert_allclose(graphs.run(opened, {"x": x})[0], wanted, rtol=1e-6)


def test_squares_inside_a_norm_overflow_as_they_do_in_tensorrt():
    source = composite("ReduceL2", 18)
    x = np.full((3, 5), 300, np.float32)
    typed = to_half(source, "fp16").model
    assert np.isinf(graphs.run(emulate_half(typed), {"x": x})[0]).all()
    wide = to_half(source, "fp16", wide={"it"}).model
    assert [n.op_type for n in emulate_half(wide).graph].count("ReduceL2") == 1
    np.testing.assert_allclose(
        graphs.run(emulate_half(wide), {"x": x})[0], graphs.run(source, {"x": x})[0]
    )
