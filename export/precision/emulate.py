"""What FP16 does to a result, computed where there is no FP16 arithmetic.

ONNX Runtime's CPU provider computes a typed FP16 graph in FP32 and rounds rarely, so it cannot
show FP16's loss. The emulated graph computes every operator in FP32 and rounds each of its float
results to FP16 and back, overflow to infinity included. That is what a processor with FP16 storage
and FP32 accumulation does (tensor cores do); it does not show the order of a reduction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx_ir as ir


def emulate_fp16(typed: ir.Model) -> ir.Model:
    """Turn a typed FP16 graph into an FP32 graph that rounds where the typed one would.

    Args:
        typed: A graph made by `to_fp16`; it is not changed. FP32 regions stay as they are.
    """
    import onnx_ir as ir

    model = typed.clone(deep_copy=False)
    graph = model.graph
    for node in list(graph):
        _widen_attributes(node)
        for value in node.outputs:
            if value.dtype == ir.DataType.FLOAT16:
                _round_after(graph, node, value)
    for value in graph.initializers.values():
        if value.const_value is not None and value.dtype == ir.DataType.FLOAT16:
            wide = value.const_value.numpy().astype(np.float32)
            value.const_value = ir.tensor(wide, name=value.name)
            value.type = ir.TensorType(ir.DataType.FLOAT)
    return model


def _round_after(graph: ir.Graph, node: ir.Node, value: ir.Value) -> None:
    import onnx_ir as ir

    value.type = ir.TensorType(ir.DataType.FLOAT)
    down = ir.node("Cast", [value], {"to": ir.DataType.FLOAT16}, name=f"{value.name}_round_down")
    up = ir.node("Cast", down.outputs, {"to": ir.DataType.FLOAT}, name=f"{value.name}_round_up")
    rounded = up.outputs[0]
    down.outputs[0].type = ir.TensorType(ir.DataType.FLOAT16)
    down.outputs[0].name, rounded.name = f"{value.name}_half", f"{value.name}_rounded"
    rounded.shape, rounded.type = value.shape, ir.TensorType(ir.DataType.FLOAT)
    value.replace_all_uses_with(rounded)
    down.replace_input_with(0, value)
    graph.insert_after(node, [down, up])


def _widen_attributes(node: ir.Node) -> None:
    """Casts and constants of the narrow type become wide; the rounding comes after them."""
    import onnx_ir as ir

    if node.op_type == "Cast" and node.attributes["to"].as_int() == ir.DataType.FLOAT16:
        node.attributes["to"] = ir.AttrInt64("to", ir.DataType.FLOAT)
    if node.op_type in ("Constant", "ConstantOfShape") and "value" in node.attributes:
        array = node.attributes["value"].as_tensor().numpy()
        if array.dtype == np.float16:
            wide = ir.tensor(array.astype(np.float32))
            node.attributes["value"] = ir.AttrTensor("value", wide)
