"""Rules of single operators, against loops that count every multiply-add."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers.op_graphs import floats, graph, node
from hypothesis import given, settings
from hypothesis import strategies as st

from jetlift.engines.ops import count

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

few = st.integers(1, 3)
many = settings(max_examples=30, deadline=None)


def operations(
    made: Any,
    inputs: Mapping[str, Sequence[int]],
    constants: Mapping[str, Any] | None = None,
    opset: int = 18,
) -> float:
    counted = count(graph([made], inputs, constants, opset=opset), {})
    assert counted.uncounted == ()
    return counted.cost.operations


@many
@given(batch=few, groups=few, into=few, out=few, size=st.integers(1, 4), kernel=few, stride=few)
def test_a_transposed_convolution_costs_what_its_loops_do(
    batch: int, groups: int, into: int, out: int, size: int, kernel: int, stride: int
) -> None:
    """Every cell of the input is scattered over a kernel, into its group's channels."""
    made = node("ConvTranspose", "x", "w", group=groups, strides=[stride] * 2)
    inputs = {"x": (batch, groups * into, size, size)}
    macs = sum(
        1
        for _ in itertools.product(
            range(batch), range(groups), range(into), range(size), range(size), range(out),
            range(kernel), range(kernel),
        )
    )  # fmt: skip
    weights = {"w": floats(groups * into, out, kernel, kernel)}
    assert operations(made, inputs, weights) == 2 * macs


@many
@given(channels=st.integers(1, 6), size=st.integers(3, 8), kernel=few, dilation=st.integers(1, 2))
def test_a_depthwise_convolution_costs_one_channel_each(
    channels: int, size: int, kernel: int, dilation: int
) -> None:
    reach = dilation * (kernel - 1)
    if reach >= size:
        return
    made = node("Conv", "x", "w", group=channels, dilations=[dilation] * 2)
    places = (size - reach) ** 2
    found = operations(
        made, {"x": (1, channels, size, size)}, {"w": floats(channels, 1, kernel, kernel)}
    )
    assert found == 2 * channels * places * kernel**2


@pytest.mark.parametrize("axes", [1, 3])
def test_convolutions_of_sound_and_of_volumes(axes: int) -> None:
    made = node("Conv", "x", "w")
    found = operations(made, {"x": (1, 2, *[6] * axes)}, {"w": floats(3, 2, *[3] * axes)})
    assert found == 2 * 4**axes * 3 * 2 * 3**axes


@many
@given(batch=few, rows=few, inner=few, columns=few)
def test_an_einsum_that_is_a_product_costs_the_same(
    batch: int, rows: int, inner: int, columns: int
) -> None:
    inputs = {"x": (batch, rows, inner), "z": (batch, inner, columns)}
    product = operations(node("MatMul", "x", "z"), inputs)
    for equation in ("bij,bjk->bik", "...ij,...jk->...ik", "bij,bjk"):
        made = node("Einsum", "x", "z", equation=equation)
        told = product if equation != "bij,bjk" else 2 * batch * rows * inner * columns
        assert operations(made, inputs) == told


@many
@given(
    letters=st.permutations("abc"),
    kept=st.sets(st.sampled_from("abc")),
    sizes=st.tuples(few, few, few),
)
def test_an_einsum_costs_one_multiply_add_per_point(
    letters: list[str], kept: set[str], sizes: tuple[int, int, int]
) -> None:
    size = dict(zip("abc", sizes, strict=True))
    left, right = letters[:2], letters[1:]
    equation = f"{''.join(left)},{''.join(right)}->{''.join(sorted(kept))}"
    inputs = {"x": [size[i] for i in left], "z": [size[i] for i in right]}
    points = int(np.prod(sizes))
    expected = points * (1 if kept == set("abc") else 2)
    assert operations(node("Einsum", "x", "z", equation=equation), inputs) == expected


@pytest.mark.parametrize(
    ("equation", "shape", "expected"),
    [("ii->i", (3, 3), 0), ("...i->...", (2, 3, 4), 24), ("...ij->...ji", (2, 3, 4), 0)],
)
def test_einsums_of_one_operand(equation: str, shape: tuple[int, ...], expected: int) -> None:
    assert operations(node("Einsum", "x", equation=equation), {"x": shape}) == expected


def attention(heads: int, shared: int, past: int, **attributes: Any) -> tuple[Any, dict[str, Any]]:
    """Five queries over seven new keys of width 8, heads in groups, behind `past` old ones."""
    inputs = {"q": (2, 5, heads * 8), "k": (2, 7, shared * 8), "v": (2, 7, shared * 8)}
    names = ["q", "k", "v"]
    if past:
        names += ["", "pk", "pv"]
        inputs |= {"pk": (2, shared, past, 8), "pv": (2, shared, past, 8)}
    made = node("Attention", *names, q_num_heads=heads, kv_num_heads=shared, **attributes)
    if past:
        made.output.extend(["key", "value"])
    return made, inputs


@pytest.mark.parametrize("past", [0, 11])
@pytest.mark.parametrize(("heads", "shared"), [(4, 4), (4, 2), (4, 1)])
@pytest.mark.parametrize("causal", [0, 1])
def test_attention_with_shared_and_past_keys(
    past: int, heads: int, shared: int, causal: int
) -> None:
    made, inputs = attention(heads, shared, past, is_causal=causal)
    scores = 2 * heads * 5 * (7 + past)
    assert operations(made, inputs, opset=23) == 2 * scores * 16 + 5 * scores


def test_a_mask_and_a_soft_cap_cost_a_little() -> None:
    inputs = {"q": (1, 2, 5, 8), "k": (1, 2, 7, 8), "v": (1, 2, 7, 8), "m": (5, 7)}
    made = node("Attention", "q", "k", "v", "m", softcap=30.0)
    scores = 2 * 5 * 7
    assert operations(made, inputs, opset=23) == 2 * scores * 16 + (5 + 1 + 3) * scores


@pytest.mark.parametrize(
    ("made", "inputs", "constants", "expected", "opset"),
    [
        (node("GroupNormalization", "x", "w", "b", num_groups=2), {"x": (1, 4, 6)},
         {"w": floats(4), "b": floats(4)}, 7 * 24, 21),
        (node("InstanceNormalization", "x", "w", "b"), {"x": (1, 4, 6)},
         {"w": floats(4), "b": floats(4)}, 7 * 24, 18),
        (node("RMSNormalization", "x", "w"), {"x": (3, 10)}, {"w": floats(10)}, 4 * 30, 23),
        (node("LRN", "x", size=5), {"x": (1, 4, 3, 3)}, {}, 14 * 36, 18),
        (node("LpPool", "x", kernel_shape=[2, 2]), {"x": (1, 1, 3, 3)}, {}, 2 * 4 * 4, 18),
        (node("Resize", "x", "", "s", mode="cubic"), {"x": (1, 1, 4, 4)},
         {"s": np.array([1, 1, 2, 2], np.float32)}, 2 * 16 * 64, 18),
        (node("GridSample", "x", "g", mode="linear"), {"x": (1, 2, 4, 4), "g": (1, 3, 3, 2)}, {},
         2 * 4 * 18, 20),
        (node("RoiAlign", "x", "r", "i", output_height=2, output_width=2, sampling_ratio=2),
         {"x": (1, 3, 8, 8), "r": (5, 4)}, {"i": np.zeros(5, np.int64)}, 5 * 3 * 4 * 4 * 9, 16),
        (node("DeformConv", "x", "w", "o"), {"x": (1, 2, 5, 5), "o": (1, 18, 3, 3)},
         {"w": floats(4, 2, 3, 3)}, 2 * 9 * 4 * 2 * 9 + 8 * 2 * 9 * 9, 19),
        (node("LSTM", "x", "w", "r", hidden_size=4, direction="bidirectional"), {"x": (6, 2, 5)},
         {"w": floats(2, 16, 5), "r": floats(2, 16, 4)}, 2 * 6 * 2 * 2 * (80 + 64), 18),
    ],
    ids=lambda item: getattr(item, "op_type", ""),
)  # fmt: skip
def test_operators_by_hand(
    made: Any, inputs: dict[str, Any], constants: dict[str, Any], expected: int, opset: int
) -> None:
    assert operations(made, inputs, constants, opset) == expected
