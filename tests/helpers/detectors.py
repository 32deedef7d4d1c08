"""A detector in a kilobyte, with the raw output of a YOLOX head and a behaviour one can foresee.

Each cell looks at its mean colour: bright ones hold something, red is class 0 and blue class 1. A
box is as large as its cell. The level of stride 16 sees twice as keenly as the others, so that a
square of 16 pixels on the grid is found once at that level.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 64
STRIDES = (8, 16, 32)
LABELS = ("red", "blue")
CELLS = sum((SIDE // stride) ** 2 for stride in STRIDES)


def detector(*, opset: int = 18, decoded: bool = False, logits: bool = False) -> onnx.ModelProto:
    """The graph: images [1, 3, 64, 64] in BGR 0..255 -> output [1, 84, 7].

    Args:
        opset: Opset of the graph.
        decoded: Give centres in pixels, as a graph with decoding inside does.
        logits: Leave the sigmoid out.
    """
    nodes, constants = [], []

    def constant(name: str, array: np.ndarray) -> str:
        constants.append(numpy_helper.from_array(array, name))
        return name

    def add(kind: str, inputs: list[str], name: str, **attributes: object) -> str:
        nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    for stride in STRIDES:
        weight, bias = _head(stride)
        tag = str(stride)
        pool = {"kernel_shape": [stride, stride], "strides": [stride, stride]}
        seen = add("AveragePool", ["images"], f"pool{tag}", **pool)
        head = [seen, constant(f"weight{tag}", weight), constant(f"bias{tag}", bias)]
        raw = add("Conv", head, f"head{tag}", kernel_shape=[1, 1])
        starts, ends = (constant(f"{n}{tag}", np.array(v)) for n, v in (("from", [0]), ("to", [4])))
        rest = constant(f"rest{tag}", np.array([7]))
        axis = constant(f"axis{tag}", np.array([1]))
        place = add("Slice", [raw, starts, ends, axis], f"place{tag}")
        score = add("Slice", [raw, ends, rest, axis], f"score{tag}")
        if not logits:
            score = add("Sigmoid", [score], f"sure{tag}")
        both = add("Concat", [place, score], f"both{tag}", axis=1)
        flat = constant(f"flat{tag}", np.array([1, 7, -1]))
        add("Reshape", [both, flat], f"level{tag}")
    levels = add("Concat", [f"level{stride}" for stride in STRIDES], "levels", axis=2)
    last = add("Transpose", [levels], "cells" if decoded else "output", perm=[0, 2, 1])
    if decoded:
        factors, terms = _decoding()
        grown = add("Mul", [last, constant("factors", factors)], "grown")
        add("Add", [grown, constant("terms", terms)], "output")
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, CELLS, 7])],
        constants,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(made, full_check=True)
    return made


def picture(*squares: tuple[int, int, str]) -> np.ndarray:
    """Black, uint8 [64, 64, 3] in BGR, with squares of 16 pixels at (left, top, colour)."""
    image_bgr = np.zeros((SIDE, SIDE, 3), np.uint8)
    for left, top, colour in squares:
        image_bgr[top : top + 16, left : left + 16] = (
            (0, 0, 250) if colour == "red" else (250, 0, 0)
        )
    return image_bgr


def _head(stride: int) -> tuple[np.ndarray, np.ndarray]:
    """Weight [7, 3, 1, 1] and bias [7] of a level."""
    weight, bias = np.zeros((7, 3), np.float32), np.zeros(7, np.float32)
    bias[:2] = 0.5  # the centre of the cell; a logarithm of 0 makes the box as large as it
    keen = 0.04 if stride == 16 else 0.01
    weight[4] = (keen, keen, keen)
    bias[4] = -6.0
    weight[5], weight[6] = (-0.04, 0, 0.04), (0.04, 0, -0.04)
    bias[5:] = -3.0  # the grey of letterboxing is neither
    return weight[:, :, None, None], bias


def _decoding() -> tuple[np.ndarray, np.ndarray]:
    """Factors and terms [1, cells, 7] that bring centres to pixels."""
    factors, terms = np.ones((1, CELLS, 7), np.float32), np.zeros((1, CELLS, 7), np.float32)
    start = 0
    for stride in STRIDES:
        side = SIDE // stride
        row, column = np.divmod(np.arange(side * side), side)
        level = slice(start, start + side * side)
        factors[0, level, :2] = stride
        terms[0, level, :2] = np.stack([column, row], axis=1) * stride
        start += side * side
    return factors, terms
