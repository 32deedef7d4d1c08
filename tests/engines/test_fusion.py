"""What a graph moves, against sums worked out by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from helpers import tiny_bundle
from helpers.op_graphs import floats, graph
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from jetlift.engines.ops import cost_at, count
from jetlift.runtime.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

make = helper.make_node
F32 = 4


def moved(model: onnx.ModelProto) -> tuple[float, ...]:
    cost = count(model, {}).cost
    found = (cost.read_bytes, cost.written_bytes, cost.fused_read_bytes, cost.fused_written_bytes)
    assert None not in found
    return tuple(item / F32 for item in found if item is not None)


def test_a_chain_after_a_product_stays_with_it() -> None:
    """Bias and a Gelu in five nodes, one of which reads what the first made."""
    nodes = [
        make("MatMul", ["x", "w"], ["h"]),
        make("Add", ["h", "b"], ["a"]),
        make("Div", ["a", "root"], ["d"]),
        make("Erf", ["d"], ["e"]),
        make("Add", ["e", "one"], ["f"]),
        make("Mul", ["a", "f"], ["y"]),
    ]
    weights = {"w": floats(7, 3), "b": floats(3), "root": floats(1), "one": floats(1)}
    model = graph(nodes, {"x": (5, 7)}, weights)
    x, w, h = 35, 21, 15
    assert moved(model) == (
        x + w + (h + 3) + (h + 1) + h + (h + 1) + 2 * h,
        6 * h,
        x + w + 3 + 1 + 1,
        h,
    )
    (group,) = count(model, {}).groups
    assert group.operators == ("MatMul", "Add", "Div", "Erf", "Add", "Mul")


def test_a_residual_is_read_once_more_and_written() -> None:
    nodes = [
        make("MatMul", ["x", "w"], ["h"]),
        make("Relu", ["h"], ["r"]),
        make("MatMul", ["r", "w"], ["p"]),
        make("Add", ["p", "r"], ["y"]),
    ]
    model = graph(nodes, {"x": (5, 7)}, {"w": floats(7, 7)})
    t, w = 35, 49
    first, second = count(model, {}).groups
    assert (first.operators, second.operators) == (("MatMul", "Relu"), ("MatMul", "Add"))
    # r is one tensor of the second group, whichever of its nodes read it
    assert moved(model) == (2 * (t + w) + t + 2 * t, 4 * t, 2 * (t + w), 2 * t)


def test_a_norm_in_single_nodes_follows_too() -> None:
    nodes = [
        make("MatMul", ["x", "w"], ["h"]),
        make("ReduceMean", ["h", "axis"], ["m"]),
        make("Sub", ["h", "m"], ["c"]),
        make("Mul", ["c", "c"], ["s"]),
        make("ReduceMean", ["s", "axis"], ["v"]),
        make("Sqrt", ["v"], ["q"]),
        make("Div", ["c", "q"], ["y"]),
    ]
    model = graph(nodes, {"x": (5, 7)}, {"w": floats(7, 3), "axis": np.array([1])})
    read, written = moved(model)[2:]
    assert (read, written) == (35 + 21 + 2, 15)  # the axis is one int64


def test_views_move_nothing_and_do_not_part_a_chain() -> None:
    nodes = [
        make("MatMul", ["x", "w"], ["h"]),
        make("Reshape", ["h", "shape"], ["v"]),
        make("Relu", ["v"], ["y"]),
    ]
    model = graph(nodes, {"x": (5, 7)}, {"w": floats(7, 3), "shape": np.array([15])})
    assert moved(model) == (35 + 21 + 15, 30, 35 + 21, 15)


def test_what_the_caller_asks_for_is_written() -> None:
    nodes = [make("MatMul", ["x", "w"], ["h"]), make("Relu", ["h"], ["y"])]
    model = graph(nodes, {"x": (5, 7)}, {"w": floats(7, 3)})
    model.graph.output.append(helper.make_tensor_value_info("h", onnx.TensorProto.FLOAT, None))
    assert moved(model)[3] == 2 * 15


def test_a_table_is_not_read_whole() -> None:
    nodes = [make("Gather", ["w", "i"], ["y"])]
    indices = helper.make_tensor_value_info("i", onnx.TensorProto.INT64, [5])
    model = graph(nodes, {}, {"w": floats(1000, 8)})
    model.graph.input.append(indices)
    assert moved(model) == (40 + 10, 40, 40 + 10, 40)


def test_int8_moves_codes() -> None:
    bytes_read = {
        name: count(tiny_bundle.mlp(name), {"x": (64, 16)}).cost.fused_read_bytes or 0
        for name in ("fp32", "int8")
    }
    weights = 16 * 32 + 32 * 4
    assert bytes_read["fp32"] == F32 * (64 * 16 + weights + 32 + 64 * 32)
    # x as it comes and its codes, codes of the activation, codes of the weights, the bias
    assert bytes_read["int8"] == F32 * 64 * 16 + 64 * 16 + 64 * 32 + weights + F32 * 32


def chains(kinds: list[str], sources: list[int]) -> onnx.ModelProto:
    """Square products and elementwise nodes, each of two earlier tensors."""
    names, nodes = ["x"], []
    for number, kind in enumerate(kinds):
        left, right = (names[sources[2 * number + i] % len(names)] for i in range(2))
        nodes.append(make(kind, [left, right], [f"t{number}"], name=f"n{number}"))
        names.append(f"t{number}")
    nodes.append(make("Relu", [names[-1]], ["y"], name="last"))
    return graph(nodes, {"x": (4, 4)}, {"w": floats(4, 4)})


@settings(max_examples=60, deadline=None)
@given(data=st.data(), kinds=st.lists(st.sampled_from(["MatMul", "Add", "Mul"]), max_size=9))
def test_fusion_never_moves_more_and_groups_can_run_in_order(
    data: st.DataObject, kinds: list[str]
) -> None:
    size = 2 * len(kinds)
    sources = data.draw(st.lists(st.integers(0, 9), min_size=size, max_size=size))
    counted = count(chains(kinds, sources), {})
    read, written, fused_read, fused_written = moved(chains(kinds, sources))
    assert fused_read <= read
    assert fused_written <= written
    assert sum(len(group.operators) for group in counted.groups) == len(kinds) + 1
    # a product begins a group, and only one stands in it
    for group in counted.groups:
        assert group.operators[1:].count("MatMul") == 0


def test_a_file_is_counted_at_the_shape_that_was_fed(tmp_path: Path) -> None:
    model = graph([make("MatMul", ["x", "w"], ["y"])], {"x": ["n", 7]}, {"w": floats(7, 3)})
    path = tmp_path / "graph.onnx"
    onnx.save(model, path, save_as_external_data=True, location="data", size_threshold=0)
    (tmp_path / "data").unlink()  # weights are not read
    for rows in (1, 5, 64):
        assert cost_at(path, {"x": (rows, 7)}).operations == 2 * rows * 21
    with pytest.raises(UsageError, match="dynamic axes"):
        cost_at(path, {})


def rows_of(model: Any) -> list[str]:
    return [group.name for group in count(model, {}).groups]


def test_groups_bear_the_name_of_what_begins_them() -> None:
    nodes = [make("MatMul", ["x", "w"], ["h"], name="first"), make("Transpose", ["h"], ["y"])]
    assert rows_of(graph(nodes, {"x": (5, 7)}, {"w": floats(7, 3)})) == ["first", "y"]
