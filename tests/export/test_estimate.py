from __future__ import annotations

import pytest

from jetlift.engines.ops import NodeCost
from jetlift.export.precision.estimate import RANKED_FOR, saved_by_int8
from jetlift.jetson.facts import device


def row(name: str, *, operations: float, elements: float, weighted: bool = True) -> NodeCost:
    return NodeCost(
        name=name,
        operator="Conv",
        operations=operations,
        precision="fp32",
        weighted=weighted,
        weight_elements=0.0,
        weight_precision="fp32",
        input_bytes=2 * elements,
        weight_bytes=elements,
        output_bytes=elements,
    )


def test_arithmetic_binds_where_there_is_much_of_it():
    board = device(RANKED_FOR)
    saved = saved_by_int8([row("busy", operations=1e12, elements=10)], board)
    by_hand = 1 / board.dense.fp16_tflops - 1 / board.dense.int8_tops
    assert saved == {"busy": pytest.approx(by_hand)}


def test_traffic_binds_where_there_is_little_arithmetic():
    board = device(RANKED_FOR)
    saved = saved_by_int8([row("moving", operations=10, elements=1e9)], board)
    assert saved == {"moving": pytest.approx(1e9 / (board.memory_bandwidth_gbps * 1e9))}


def test_products_of_two_activations_are_left_out():
    rows = [row("attention", operations=1e9, elements=10, weighted=False)]
    assert saved_by_int8(rows, device(RANKED_FOR)) == {}
