"""Graphs of one operator or a few, for tests that count them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx


def graph(
    nodes: Sequence[Any],
    inputs: Mapping[str, Sequence[Any]],
    constants: Mapping[str, Any] | None = None,
    *,
    output: str = "y",
    opset: int = 18,
    functions: Sequence[Any] = (),
) -> onnx.ModelProto:
    """A float32 graph; shapes may hold names."""
    given_inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))
        for name, shape in inputs.items()
    ]
    stored = [numpy_helper.from_array(np.asarray(a), name) for name, a in (constants or {}).items()]
    made = [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)]
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("own", 1)]
    return helper.make_model(
        helper.make_graph(nodes, "g", given_inputs, made, stored),
        opset_imports=opsets,
        ir_version=10,
        functions=functions,
    )


def node(kind: str, *inputs: str, **attributes: Any) -> Any:
    return helper.make_node(kind, list(inputs), ["y"], name="n", **attributes)


def floats(*shape: int) -> Any:
    return np.ones(shape, np.float32)
