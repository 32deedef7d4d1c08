from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest
from helpers import graphs
from onnx import helper

from jetlift.export.precision.emulate import emulate_half
from jetlift.export.precision.fp16 import to_fp16, to_half
from jetlift.export.precision.half import BF16, FP16, half_of

KINDS = ("fp16", "bf16")
LOWEST = float(np.finfo(np.float32).min)


def by_name(model: ir.Model) -> dict[str, ir.Node]:
    return {str(node.name): node for node in model.graph}


def scaled(constant: float) -> ir.Model:
    node = helper.make_node("Mul", ["x", "k"], ["y"], name="scale")
    axes = {"x": ["batch", 4]}
    return graphs.model(
        [node], {"k": np.float32([constant])}, inputs=axes, outputs={"y": ["batch", 4]}
    )


def only_constant(model: ir.Model) -> float:
    (constant,) = model.graph.initializers.values()
    return float(constant.const_value.numpy().astype(np.float32).item())


def test_constant_beyond_fp16_keeps_its_node_wide_and_says_so():
    typed = to_fp16(scaled(1e6))
    assert typed.kept_wide == ("scale: constant 1e+06 is beyond FP16",)
    x = np.ones((1, 4), np.float32)
    assert graphs.run(typed.model, {"x": x})[0].tolist() == [[1e6] * 4]
    assert to_half(scaled(1e6), "bf16").kept_wide == ()


def test_a_bound_becomes_the_types_own_extreme():
    assert to_fp16(scaled(LOWEST)).kept_wide == ()
    assert only_constant(to_fp16(scaled(LOWEST)).model) == -65504.0
    bf16 = only_constant(to_half(scaled(LOWEST), "bf16").model)
    assert bf16 == float(ml_dtypes.finfo(ml_dtypes.bfloat16).min)


@pytest.mark.parametrize("infinity", [float("inf"), -float("inf")])
def test_infinity_stays_infinity(infinity):
    for kind in KINDS:
        assert only_constant(to_half(scaled(infinity), kind).model) == infinity


@pytest.mark.parametrize(("guard", "wanted"), [(1e-12, 2.0**-24), (-1e-9, -(2.0**-24)), (0.0, 0.0)])
def test_a_guard_of_a_division_does_not_become_zero(guard, wanted):
    assert only_constant(to_fp16(scaled(guard)).model) == wanted
    assert only_constant(to_half(scaled(guard), "bf16").model) == pytest.approx(guard, rel=1e-2)


def masked(constant: float, *, only: bool = True) -> ir.Model:
    nodes = [
        helper.make_node("Mul", ["hidden", "k"], ["mask"], name="mask"),
        helper.make_node("Add", ["x", "mask"], ["a"], name="add"),
        helper.make_node("Softmax", ["a"], ["y" if only else "p"], name="softmax"),
    ]
    if not only:
        nodes.append(helper.make_node("Sub", ["p", "mask"], ["y"], name="other"))
    hidden = np.float32([[0, 0, 0, 1]])
    weights = {"k": np.float32(constant), "hidden": hidden}
    return graphs.model(nodes, weights, inputs={"x": ["batch", 4]}, outputs={"y": ["batch", 4]})


@pytest.mark.parametrize("mask", [-1e9, -1e38, LOWEST])
def test_a_mask_leaves_room_for_what_is_added_to_it(mask):
    source = masked(mask)
    typed = to_fp16(source)
    assert typed.kept_wide == ()
    assert typed.model.graph.initializers["k_fp16"].const_value.numpy().item() == -30000.0
    x = np.float32([[-900, -950, -901, 800]])
    wanted, got = (graphs.run(m, {"x": x})[0] for m in (source, emulate_half(typed.model)))
    assert got[0, 3] == wanted[0, 3] == 0
    np.testing.assert_allclose(got, wanted, atol=1e-3)


def test_a_large_number_that_others_read_too_is_no_mask():
    assert to_fp16(masked(-1e9, only=False)).kept_wide == ("mask: constant 1e+09 is beyond FP16",)


def test_a_mask_is_no_bound_of_a_clip():
    nodes = [
        helper.make_node("Clip", ["x", "k"], ["c"], name="clip"),
        helper.make_node("Add", ["c", "k"], ["y"], name="add"),
    ]
    source = graphs.model(
        nodes, {"k": np.float32(LOWEST)}, inputs={"x": ["batch"]}, outputs={"y": ["batch"]}
    )
    typed = to_fp16(source).model
    values = {n: v.const_value.numpy().item() for n, v in typed.graph.initializers.items()}
    assert sorted(values.values()) == [-65504.0, -30000.0]
    assert values[by_name(typed)["clip"].inputs[1].name] == -65504.0


@pytest.mark.parametrize("half", [FP16, BF16], ids=lambda half: half.kind)
def test_a_types_limits_are_what_its_rounding_does(half):
    below = np.nextafter(np.float32(half.to_infinity), np.float32(0))
    assert half.rounded(np.float32([half.largest, below])).tolist() == [half.largest] * 2
    assert np.isinf(half.rounded(np.float32([half.to_infinity]))).all()
    smallest = np.float32([half.smallest, half.smallest / 2])
    assert half.rounded(smallest).tolist() == [half.smallest, 0.0]


def test_kinds_by_name():
    assert half_of("bf16") is BF16
    assert half_of("fp16").dtype == ir.DataType.FLOAT16
