"""The structure of a ViT without its weights: kilobytes of ONNX that count like the real one.

Weights are external data that is nowhere, so whoever reads them fails.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 18


def vit(*, width: int, depth: int, heads: int, patch: int, size: int) -> onnx.ModelProto:
    """pixel_values [batch, 3, size, size] -> tokens [batch, 1 + (size / patch)², width]."""
    return _Writer(width, heads).model(depth, patch, size)


def products_macs(*, width: int, depth: int, patch: int, size: int) -> int:
    """Multiply-adds of its products, on paper.

    The patch convolution meets P patches with 3 patch² inputs each; a block has 4 width² weights in
    attention and 8 width² in its MLP for each of T = P + 1 tokens, and two products of T² width.
    """
    patches = (size // patch) ** 2
    tokens = patches + 1
    convolution = patches * width * 3 * patch * patch
    return convolution + depth * (12 * tokens * width**2 + 2 * tokens**2 * width)


class _Writer:
    def __init__(self, width: int, heads: int) -> None:
        self.width, self.heads = width, heads
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def weight(self, *shape: int) -> str:
        tensor = TensorProto(
            data_type=TensorProto.FLOAT, dims=shape, name=f"w{len(self.constants)}"
        )
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="nowhere.data")
        self.constants.append(tensor)
        return tensor.name

    def constant(self, *values: int) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def linear(self, x: str, inputs: int, outputs: int) -> str:
        return self.add(
            "Add", [self.add("MatMul", [x, self.weight(inputs, outputs)]), self.weight(outputs)]
        )

    def norm(self, x: str) -> str:
        return self.add("LayerNormalization", [x, self.weight(self.width), self.weight(self.width)])

    def heads_of(self, x: str) -> str:
        shape = self.constant(0, 0, self.heads, self.width // self.heads)
        return self.add("Transpose", [self.add("Reshape", [x, shape])], perm=[0, 2, 1, 3])

    def attention(self, x: str) -> str:
        q, k, v = (self.heads_of(self.linear(x, self.width, self.width)) for _ in range(3))
        scores = self.add("MatMul", [q, self.add("Transpose", [k], perm=[0, 1, 3, 2])])
        mixed = self.add("MatMul", [self.add("Softmax", [scores], axis=-1), v])
        joined = self.add("Transpose", [mixed], perm=[0, 2, 1, 3])
        flat = self.add("Reshape", [joined, self.constant(0, 0, self.width)])
        return self.linear(flat, self.width, self.width)

    def block(self, x: str) -> str:
        x = self.add("Add", [x, self.attention(self.norm(x))])
        hidden = self.linear(self.norm(x), self.width, 4 * self.width)
        return self.add(
            "Add", [x, self.linear(self.add("Erf", [hidden]), 4 * self.width, self.width)]
        )

    def model(self, depth: int, patch: int, size: int) -> onnx.ModelProto:
        kernel = self.weight(self.width, 3, patch, patch)
        x = self.add("Conv", ["pixel_values", kernel], strides=[patch, patch])
        x = self.add("Reshape", [x, self.constant(0, self.width, -1)])
        x = self.add("Transpose", [x], perm=[0, 2, 1])
        batch = self.add("Shape", ["pixel_values"], start=0, end=1)
        wide = self.add("Concat", [batch, self.constant(1, self.width)], axis=0)
        x = self.add(
            "Concat", [self.add("Expand", [self.weight(1, 1, self.width), wide]), x], axis=1
        )
        for _ in range(depth):
            x = self.block(x)
        self.nodes[-1].output[0] = "tokens"
        given = helper.make_tensor_value_info(
            "pixel_values", TensorProto.FLOAT, ["batch", 3, size, size]
        )
        made = helper.make_tensor_value_info(
            "tokens", TensorProto.FLOAT, ["batch", None, self.width]
        )
        graph = helper.make_graph(self.nodes, "vit", [given], [made], self.constants)
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9
        )
