from __future__ import annotations

import pytest
from helpers import tiny_bundle
from hypothesis import given
from hypothesis import strategies as st

from jetlift.engines.ops import count
from jetlift.engines.receipt import NARROW, Layer, asked, receipt, shortfall
from jetlift.runtime.receipt import UNOBSERVED, Receipt, Shares, WideNode

# fc1 is 4/5 of the operations and of the weights, y 1/5
GRAPHS = {name: count(tiny_bundle.mlp(name), {"x": (1, 16)}) for name in tiny_bundle.PRECISIONS}
SECOND = {"fp16": "y_narrow"}  # the name of the second product, where it is not y


def of(*layers: Layer, graph: str = "fp32") -> Receipt:
    return receipt(GRAPHS[graph], layers, observed_by="a test", proves="nothing at all")


def test_shares_are_of_operations_not_of_layers() -> None:
    got = of(Layer(("fc1", "act"), "int8"), Layer(("y",), "fp32"))
    assert got.operations_share == {"fp32": 0.2, "int8": 0.8}
    assert got.unobserved_share == 0
    assert got.seen == Shares({"fp32": 0.2, "int8": 0.8}, {}, {"fp32": 0.2, "int8": 0.8})
    assert (got.observed_by, got.proves, got.outcome) == ("a test", "nothing at all", "as asked")


def test_a_layer_that_cannot_be_found_is_unobserved() -> None:
    got = of(Layer(("fc1",), "fp16"))
    assert (got.operations_share, got.unobserved_share) == ({"fp16": 0.8}, 0.2)
    assert got.seen is not None
    assert got.seen.weighted_operations == {"fp16": 0.8}


def test_the_surest_layer_decides() -> None:
    got = of(Layer(("fc1", "y"), "fp32", rank=2), Layer(("fc1",), "int8", rank=0))
    assert got.operations_share == {"fp32": 0.2, "int8": 0.8}


def test_int8_layers_are_those_that_are_surely_products() -> None:
    layers = [Layer((), "int8", 0), Layer((), "int8", 0), Layer((), "int8", 1), Layer((), "fp32")]
    assert of(*layers).int8_layers == 2


def test_without_costs_it_says_that_nothing_was_weighed() -> None:
    layers = [Layer(("fc1",), "int8")]
    got = receipt(None, layers, observed_by="a test", memory_bytes={"weights": 7})
    assert (got.operations_share, got.unobserved_share) == ({}, 1.0)
    assert (got.asked, got.seen, got.outcome) == (None, None, "not observed")
    assert (got.memory_bytes, got.int8_layers) == ({"weights": 7}, 1)
    assert "onnx" in got.observed_by


@pytest.mark.parametrize("graph", tiny_bundle.PRECISIONS)
def test_a_builder_that_tells_of_no_layer_is_no_pass(graph: str) -> None:
    got = receipt(GRAPHS[graph], None, observed_by="a silent builder", proves="everything")
    assert got.observed_by == UNOBSERVED == "graph only, builder not observed"
    assert (got.outcome, got.proves, got.seen) == ("not observed", "", None)
    assert got.asked == asked(GRAPHS[graph])
    assert shortfall(got, NARROW) == ""


@pytest.mark.parametrize("graph", tiny_bundle.PRECISIONS)
def test_the_graph_alone_gives_a_receipt_too(graph: str) -> None:
    assert asked(GRAPHS[graph]) == Shares({graph: 1.0}, {}, {graph: 1.0})


PRECISIONS = st.sampled_from(["int8", "fp16", "fp32"])


@given(
    st.lists(
        st.tuples(st.sampled_from(["fc1", "act", "y", "else"]), PRECISIONS, st.integers(0, 2))
    ),
    st.sampled_from(["fp32", "int8"]),
)
def test_shares_add_up_and_only_what_is_seen_wider_is_held_against_it(
    drawn: list[tuple[str, str, int]], graph: str
) -> None:
    got = of(*(Layer((name,), precision, rank) for name, precision, rank in drawn), graph=graph)
    assert sum(got.operations_share.values()) + got.unobserved_share == pytest.approx(1)
    assert all(0 < share <= 1 for share in got.operations_share.values())
    if graph == "int8":
        wide = sum(share for name, share in got.operations_share.items() if name != "int8")
        assert sum(node.operations_share for node in got.wider) == pytest.approx(wide)
        assert bool(shortfall(got, NARROW)) == (got.outcome == "wider than asked") == (wide > 0)
        assert (got.outcome == "as asked") == (got.operations_share == {"int8": 1.0})
    else:
        assert (got.wider, got.outcome) == ((), "as asked")


def test_fp32_where_fp16_was_asked_is_told_with_the_layers_names() -> None:
    layers = [Layer(("fc1",), "fp32"), Layer((SECOND["fp16"],), "fp32")]
    got = of(*layers, graph="fp16")
    assert got.wider == (
        WideNode("fc1", "fp16", "fp32", 0.8), WideNode("y_narrow", "fp16", "fp32", 0.2),
    )  # fmt: skip
    assert got.outcome == "wider than asked"
    assert shortfall(got, ["fp16"]) == (
        "fp16 was asked and fp32 runs for 100.0% of the GEMM and convolution operations: "
        "fc1 (80.0%), y_narrow (20.0%)"
    )
    assert shortfall(got, ["int8"]) == ""


def test_fp16_where_int8_was_asked_is_a_failure_too() -> None:
    got = of(Layer(("fc1",), "int8"), Layer(("y",), "fp16"), graph="int8")
    assert shortfall(got, NARROW).startswith("int8 was asked and fp16 runs for 20.0%")


def test_many_names_are_cut_short_after_the_worst() -> None:
    nodes = tuple(WideNode(f"n{i}", "int8", "fp32", 0.2 - i / 100) for i in range(9))
    made = Receipt("", "", "wider than asked", {}, 0.0, None, None, 0, nodes, {})
    told = shortfall(made, ["int8"])
    assert told.endswith("n0 (20.0%), n1 (19.0%), n2 (18.0%), n3 (17.0%), n4 (16.0%) and 4 more")


def test_narrow_nodes_that_nobody_saw_are_no_pass_and_no_failure() -> None:
    got = of(Layer(("fc1",), "int8"), graph="int8")
    assert (got.outcome, shortfall(got, NARROW)) == ("not observed", "")


def test_a_precision_that_nobody_knows_is_neither_failure_nor_pass() -> None:
    got = of(Layer(("fc1", "y"), "martian"), graph="int8")
    assert (got.wider, got.operations_share) == ((), {"martian": 1.0})
    assert got.outcome == "not observed"


def test_a_graph_without_products_asks_for_nothing() -> None:
    from onnx import TensorProto, helper

    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy"]
    relu = helper.make_node("Relu", ["x"], ["y"], name="relu")
    made = helper.make_graph([relu], "g", info[:1], info[1:])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    got = receipt(count(model, {}), [], observed_by="a test")
    assert (got.outcome, got.wider, got.operations_share) == ("as asked", (), {})
