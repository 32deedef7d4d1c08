"""What 16-bit floats do to a result, computed where there is no such arithmetic.

ONNX Runtime's CPU provider computes a typed FP16 graph in FP32 and rounds rarely, so it cannot
show FP16's loss, and it takes no BF16 graph at all. The emulated graph computes every operator in
FP32 and rounds each of its narrow results and back, by a pair of Casts: to nearest even, overflow
to infinity included, which equals numpy bit for bit.

What it shows: storage in 16 bits with accumulation in FP32, as tensor cores do; squares inside
norms, which TensorRT takes apart (composites.py). What it cannot show: the order in which a kernel
sums, which differs from engine to engine by FP32's rounding alone; a kernel that accumulates an
FP16 product in FP16, where a builder picks one: its error grows with the length of the sum; what an
engine keeps in FP32 across nodes that it fuses, which makes it better than the emulation. A node
kept wide has none of this: its sums are FP32 in every engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jetlift.export.precision.composites import open_composites
from jetlift.export.precision.wide_rules import name_nodes

if TYPE_CHECKING:
    import onnx_ir as ir


def emulate_half(typed: ir.Model) -> ir.Model:
    """Turn a typed 16-bit graph into an FP32 graph that rounds where the typed one would.

    Args:
        typed: A graph made by `to_half`; it is not changed. FP32 regions, Q/DQ pairs among them,
            stay as they are.
    """
    model = typed.clone(deep_copy=False)
    graph = model.graph
    name_nodes(graph)
    open_composites(model, wanted=lambda node: is_half(node.outputs[0]))
    for node in list(graph):
        _widen_attributes(node)
        for value in node.outputs:
            if is_half(value):
                _round_after(graph, node, value)
    _widen_constants(graph)
    return model


def emulate_fp16(typed: ir.Model) -> ir.Model:
    """`emulate_half` by its usual name."""
    return emulate_half(typed)


def is_half(value: ir.Value) -> bool:
    """Whether a value has a 16-bit float type."""
    import onnx_ir as ir

    return value.dtype in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def rounding(value: ir.Value, dtype: ir.DataType, name: str) -> tuple[list[ir.Node], ir.Value]:
    """The Casts that round a float32 value to a type and back, and what they give."""
    import onnx_ir as ir

    down = ir.node("Cast", [value], {"to": dtype}, name=f"{name}_round_down")
    up = ir.node("Cast", down.outputs, {"to": ir.DataType.FLOAT}, name=f"{name}_round_up")
    rounded = up.outputs[0]
    down.outputs[0].type, down.outputs[0].shape = ir.TensorType(dtype), value.shape
    down.outputs[0].name, rounded.name = f"{name}_half", f"{name}_rounded"
    rounded.shape, rounded.type = value.shape, ir.TensorType(ir.DataType.FLOAT)
    return [down, up], rounded


def _round_after(graph: ir.Graph, node: ir.Node, value: ir.Value) -> None:
    import onnx_ir as ir

    dtype = value.dtype or ir.DataType.FLOAT16
    value.type = ir.TensorType(ir.DataType.FLOAT)
    casts, rounded = rounding(value, dtype, str(value.name))
    value.replace_all_uses_with(rounded)
    casts[0].replace_input_with(0, value)
    graph.insert_after(node, casts)


def _widen_constants(graph: ir.Graph) -> None:
    import onnx_ir as ir

    for value in graph.initializers.values():
        if value.const_value is not None and is_half(value):
            wide = value.const_value.numpy().astype(np.float32)
            value.const_value = ir.tensor(wide, name=value.name)
            value.type = ir.TensorType(ir.DataType.FLOAT)


def _widen_attributes(node: ir.Node) -> None:
    """Casts and constants of the narrow type become wide; the rounding comes after them."""
    import onnx_ir as ir

    halves = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
    if node.op_type == "Cast" and node.attributes["to"].as_int() in halves:
        node.attributes["to"] = ir.AttrInt64("to", ir.DataType.FLOAT)
    if node.op_type in ("Constant", "ConstantOfShape") and "value" in node.attributes:
        tensor = node.attributes["value"].as_tensor()
        if tensor.dtype in halves:
            wide = ir.tensor(tensor.numpy().astype(np.float32))
            node.attributes["value"] = ir.AttrTensor("value", wide)
