"""Which nodes stay FP32 in a 16-bit graph whatever the samples say.

Rules:
    W1  Nodes whose float results have one type by the standard or in every engine, nodes the
        standard does not know, nodes with a subgraph and whatever feeds one, nodes with a constant
        that the type cannot hold.
    W2  Q/DQ pairs keep float32 scales, and so does all that an engine makes one integer kernel of:
        the node behind DequantizeLinear, its bias, its activation where a QuantizeLinear follows.
        A scale in FP16 may round to zero, which TensorRT's parser refuses
        (onnx-tensorrt@96e7811:onnxOpImporters.cpp, 'Scale coefficients must all be positive').
        The product of two rounds to zero sooner: ONNX Runtime 1.32 divides biases by it. And by
        its build log TensorRT-RTX 1.7 then writes the integer sums of a GEMM as FP16 before they
        are scaled, and five int8 products pass 65504. With float32 scales all that is float32, in
        as many kernels.
    W3  A BF16 graph is raised to opset 22, the first in which convolutions and pooling take BF16,
        unless it holds an operator that means something else there.
    W4  Sine and cosine, and the arithmetic that makes their angle. A timestep of 999 has steps of
        0.5 in FP16 and of 4 in BF16: a good part of a turn.
    W5  Where a recipe says that an input of an operator is a place to read at, all that makes it
        (`makers_of`). A search would find that by thousands of runs of the graph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jetlift.export.precision.half import only_masks, takes
from jetlift.runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import onnx_ir as ir

    from jetlift.export.precision.half import Half

# Inputs that stay float32 whatever the node computes in: https://onnx.ai/onnx/operators/
FIXED_INPUTS = {"Resize": frozenset({1, 2}), "Upsample": frozenset({1})}
WIDE_OPERATORS = {
    "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "RandomNormal",
    "RandomUniform", "RandomNormalLike", "RandomUniformLike", "NonMaxSuppression",
    "Range", "EyeLike", "Multinomial", "Bernoulli", "StringNormalizer",
}  # fmt: skip
# Operators whose meaning changes between opset 18 and 22 (onnx/docs/Changelog.md).
_CHANGED = {"DFT", "GridSample", "GroupNormalization"}
BF16_OPSET = 22
_TURNS = {"Sin", "Cos"}
_LAYOUT = {"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity"}
_ANGLE = {"Mul", "Add", "Sub", "Div", "Neg", "Expand", "Concat", "Slice", *_LAYOUT}
_ACTIVATIONS = {"Relu", "Clip", "LeakyRelu", "PRelu", "HardSwish", "HardSigmoid"}


def wide_by_rule(model: ir.Model, half: Half, asked: Mapping[str, str]) -> dict[str, str]:
    """Names of wide nodes with the reason; an empty reason is not worth telling.

    Args:
        model: A float32 graph whose nodes have names.
        half: The narrow type.
        asked: Reasons by the names of nodes that are to stay wide anyway.

    Raises:
        UsageError: A name in `asked` is no node.
    """
    graph = model.graph
    if unknown := set(asked) - {node.name for node in graph}:
        raise UsageError(f"No node is named {min(unknown)}", expected="Names of nodes")
    reasons = dict(asked)
    integer = integer_nodes(graph)
    for node in graph:
        why = "" if node in integer else _reason(node, model.opset_imports, half)
        if why is not None:
            reasons.setdefault(str(node.name), why)
    for node in _makers_of_angles(graph):
        reasons.setdefault(str(node.name), "")
    for value in _captured_by_subgraphs(graph):
        producer = value.producer()
        if producer is not None:
            reasons.setdefault(str(producer.name), "feeds a subgraph")
    return reasons


def fixed_inputs(node: ir.Node, opsets: Mapping[str, int], half: Half) -> frozenset[int]:
    """Inputs of a narrow node that stay float32."""
    taken = takes(node.domain, node.op_type, opsets.get(node.domain, 1), half.kind)
    by_standard = taken.inputs if taken is not None else frozenset()
    return by_standard | FIXED_INPUTS.get(node.op_type, frozenset())


def raised_opset(model: ir.Model, half: Half) -> int:
    """The opset in which the graph is to be written (rule W3)."""
    opset = model.opset_imports.get("", 1)
    if half.kind != "bf16" or not 18 <= opset < BF16_OPSET:
        return opset
    return opset if any(node.op_type in _CHANGED for node in model.graph) else BF16_OPSET


def name_nodes(graph: ir.Graph) -> None:
    """Give each node a name of its own; names that are so already stay."""
    seen: set[str] = set()
    for index, node in enumerate(graph):
        if not node.name or node.name in seen:
            node.name = f"{node.name or node.op_type}_{index}"
        seen.add(node.name)


def integer_nodes(graph: ir.Graph) -> set[ir.Node]:
    """Q/DQ and what an engine computes in integers between them (rule W2)."""
    found: set[ir.Node] = set()
    for node in graph:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            found.add(node)
            continue
        inputs = [value for value in node.inputs if value is not None and _is_activation(value)]
        producers = [_behind_layout(value) for value in inputs]
        if producers and all(item and item.op_type == "DequantizeLinear" for item in producers):
            found |= {node, *_layout_before(node), *_finish(node)}
    return found


def _makers_of_angles(graph: ir.Graph) -> set[ir.Node]:
    """The arithmetic that makes the angles of sines and cosines (rule W4)."""
    found: set[ir.Node] = set()
    waiting = [node for node in graph if node.op_type in _TURNS]
    while waiting:
        above = [value.producer() for value in waiting.pop().inputs if value is not None]
        fresh = {node for node in above if node is not None and node.op_type in _ANGLE} - found
        found |= fresh
        waiting += fresh
    return found


def makers_of(model: ir.Model, places: Mapping[str, int]) -> dict[str, str]:
    """The nodes that compute with floats on the way to some inputs, with the reason (rule W5).

    Args:
        model: A float32 graph. It is not changed; nodes go by the names that `to_half` gives them.
        places: Position of the input, by operator.
    """
    if not places:
        return {}
    graph = model.clone(deep_copy=False).graph
    name_nodes(graph)
    reasons: dict[ir.Node, str] = {}
    for node in graph:
        waiting = [node.inputs[places[node.op_type]]] if node.op_type in places else []
        while waiting:
            value = waiting.pop()
            above = value.producer() if value is not None else None
            if above is not None and above not in reasons:
                reasons[above] = f"makes the places that {node.name} reads"
                waiting += above.inputs
    return {str(node.name): why for node, why in reasons.items() if _touches_floats(node)}


def _touches_floats(node: ir.Node) -> bool:
    values = [value for value in (*node.inputs, *node.outputs) if value is not None]
    return any(value.dtype is not None and value.dtype.name == "FLOAT" for value in values)


def _is_activation(value: ir.Value) -> bool:
    floating = value.dtype is not None and value.dtype.is_floating_point()
    return floating and value.const_value is None


def _behind_layout(value: ir.Value) -> ir.Node | None:
    node = value.producer()
    while node is not None and node.op_type in _LAYOUT and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    return node


def _layout_before(node: ir.Node) -> Iterator[ir.Node]:
    for value in node.inputs:
        above = value.producer() if value is not None else None
        while above is not None and above.op_type in _LAYOUT:
            yield above
            source = above.inputs[0]
            above = source.producer() if source is not None else None


def _finish(node: ir.Node) -> list[ir.Node]:
    """The bias after a product, and the activation where a QuantizeLinear follows it."""
    finish: list[ir.Node] = []
    current = node
    while (after := _only_reader(current)) is not None:
        if after.op_type == "Add" and current is node and _has_constant(after):
            finish.append(after)
        elif after.op_type in _ACTIVATIONS and _is_quantised(after):
            return [*finish, after]
        else:
            break
        current = after
    return finish


def _only_reader(node: ir.Node) -> ir.Node | None:
    uses = list(node.outputs[0].uses())
    single = len(uses) == 1 and not node.outputs[0].is_graph_output()
    return uses[0].node if single else None


def _has_constant(node: ir.Node) -> bool:
    return any(value is not None and value.const_value is not None for value in node.inputs)


def _is_quantised(node: ir.Node) -> bool:
    readers = [use.node.op_type for use in node.outputs[0].uses()]
    return bool(readers) and set(readers) == {"QuantizeLinear"}


def _reason(node: ir.Node, opsets: Mapping[str, int], half: Half) -> str | None:
    """Why a node stays wide (rule W1), or None."""
    if any(attribute.type.name in ("GRAPH", "GRAPHS") for attribute in node.attributes.values()):
        return f"{node.op_type} holds a subgraph"
    floats = {
        i
        for i, value in enumerate(node.outputs)
        if value.dtype is not None
        and value.dtype.name == "FLOAT"
        and (value.uses() or value.is_graph_output())
    }
    if node.op_type in WIDE_OPERATORS and floats:
        return node.op_type
    if node.op_type in _TURNS:
        return f"{node.op_type} of an angle that may be large"
    taken = takes(node.domain, node.op_type, opsets.get(node.domain, 1), half.kind)
    if taken is None:
        return f"{node.domain or 'ai.onnx'}.{node.op_type} is not in the ONNX standard"
    if taken.outputs & floats:
        return f"{node.op_type} takes no {half.kind} in opset {opsets.get(node.domain, 1)}"
    if big := _beyond(node, half):
        return f"constant {big:.3g} is beyond {half.kind.upper()}"
    return None


def _beyond(node: ir.Node, half: Half) -> float | None:
    """The largest constant of a node that the type cannot hold and that is no mask."""
    found = []
    for value in node.inputs:
        tensor = value.const_value if value is not None else None
        if value is None or tensor is None or tensor.dtype.name != "FLOAT":
            continue
        big = half.beyond(np.asarray(tensor.numpy()))
        if big is not None and not only_masks(value):
            found.append(big)
    return max(found, default=None)


def _captured_by_subgraphs(graph: ir.Graph) -> list[ir.Value]:
    import onnx_ir as ir

    captured: list[ir.Value] = []
    for subgraph in graph.subgraphs():
        for node in ir.traversal.RecursiveGraphIterator(subgraph):
            captured += [
                value for value in node.inputs if value is not None and value.graph is graph
            ]
    return captured
