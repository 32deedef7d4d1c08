from __future__ import annotations

import pytest
from helpers import tiny_bundle
from hypothesis import given
from hypothesis import strategies as st

from jetlift.engines.ops import count
from jetlift.engines.receipt import Layer, receipt, shortfall
from jetlift.runtime.passport import Receipt

COST = count(tiny_bundle.mlp(), {"x": (1, 16)})  # fc1 is 4/5 of the operations, y 1/5


def of(*layers: Layer) -> Receipt:
    return receipt(COST, layers, observed_by="a test")


def test_shares_are_of_operations_not_of_layers() -> None:
    got = of(Layer(("fc1", "act"), "int8"), Layer(("y",), "fp32"))
    assert got == Receipt("a test", {"fp32": 0.2, "int8": 0.8}, 0.0, {})


def test_a_layer_that_cannot_be_found_is_unobserved() -> None:
    assert of(Layer(("fc1",), "fp16")) == Receipt("a test", {"fp16": 0.8}, 0.2, {})


def test_the_surest_layer_decides() -> None:
    got = of(Layer(("fc1", "y"), "fp32", rank=2), Layer(("fc1",), "int8", rank=0))
    assert got.operations_share == {"fp32": 0.2, "int8": 0.8}


def test_without_costs_it_says_that_nothing_was_weighed() -> None:
    got = receipt(
        None, [Layer(("fc1",), "int8")], observed_by="a test", memory_bytes={"weights": 7}
    )
    assert (got.operations_share, got.unobserved_share) == ({}, 1.0)
    assert got.memory_bytes == {"weights": 7}
    assert "onnx" in got.observed_by


PRECISIONS = st.sampled_from(["int8", "fp16", "fp32"])


@given(
    st.lists(st.tuples(st.sampled_from(["fc1", "act", "y", "else"]), PRECISIONS, st.integers(0, 2)))
)
def test_shares_add_up(drawn: list[tuple[str, str, int]]) -> None:
    got = of(*(Layer((name,), precision, rank) for name, precision, rank in drawn))
    assert sum(got.operations_share.values()) + got.unobserved_share == pytest.approx(1)
    assert all(0 < share <= 1 for share in got.operations_share.values())


def test_what_was_asked_and_is_seen_is_no_shortfall() -> None:
    assert (
        shortfall({"int8": 80.0, "fp32": 20.0}, Receipt("", {"int8": 0.8, "fp32": 0.2}, 0, {}))
        == ""
    )


def test_fp32_where_fp16_was_asked_is_told() -> None:
    told = shortfall({"fp16": 1.0}, Receipt("", {"fp32": 1.0}, 0.0, {}))
    assert told.startswith("fp16 was asked for 100.0%")
    assert "0.0% are seen" in told


def test_what_nobody_saw_is_not_held_against_an_engine() -> None:
    assert shortfall({"int8": 1.0}, Receipt("", {"int8": 0.7}, 0.3, {})) == ""
    assert shortfall({"int8": 1.0}, Receipt("", {}, 1.0, {})) == ""


def test_a_graph_without_products_asks_for_nothing() -> None:
    assert shortfall({}, Receipt("", {}, 1.0, {})) == ""
