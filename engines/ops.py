"""What a graph costs: operations, bytes of weights, bytes of activations, node by node.

Rules:
    C1  A multiply-add counts as two operations (MAC x 2). A bias is where the sum starts and is free.
    C2  Elementwise work counts the arithmetic in OPERATIONS_PER_ELEMENT, one function (exp, erf,
        sqrt, ...) as one operation.
    C3  Moving, naming and typing data (Reshape, Transpose, Gather, Cast, QuantizeLinear,
        DequantizeLinear, ...) is no operation. It may well take time.
    C4  What depends on no input's content is folded when an engine is built, and is free.
    C5  A GEMM or convolution has the precision of what feeds it: int8 where DequantizeLinear of int8
        stands before both inputs, else the type of its data. Layout operators in between do not matter.
    C6  Each activation counts once, without fusion or reuse. The result of a DequantizeLinear and of
        a view (Reshape, Squeeze, ...) is no tensor of its own.
    C7  Nothing is guessed: a node without a rule, or of unknown shape, stands in `uncounted`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jetlift.engines.shapes import BoundGraph, Tensor, bind, onnx_library
from jetlift.runtime.manifest import Cost

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import onnx

# Per element of the result. Softmax: max, subtract, exp, sum, divide. LayerNormalization: mean,
# centre, square, sum, times inverse deviation, gain, bias. Sigmoid: negate, exp, add, divide.
# Gelu: divide, erf, add, two multiplications.
OPERATIONS_PER_ELEMENT: dict[str, int] = {
    **dict.fromkeys(
        ("Abs", "Add", "And", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "Ceil", "Cos", "Div",
         "Equal", "Erf", "Exp", "Floor", "Greater", "GreaterOrEqual", "IsInf", "IsNaN", "Less",
         "LessOrEqual", "Log", "Mod", "Mul", "Neg", "Not", "Or", "Pow", "Reciprocal", "Relu", "Round",
         "Sign", "Sin", "Sqrt", "Sub", "Tan", "Tanh", "Atan", "Where", "Xor", "CumSum"),
        1,
    ),
    **dict.fromkeys(("BatchNormalization", "Clip", "LeakyRelu", "PRelu", "ThresholdedRelu"), 2),
    **dict.fromkeys(("Celu", "Elu", "Selu", "Softplus", "Softsign"), 3),
    **dict.fromkeys(("HardSigmoid", "Sigmoid", "RMSNormalization"), 4),
    **dict.fromkeys(("Gelu", "HardSwish", "Mish", "Softmax", "Swish"), 5),
    "LogSoftmax": 6,
    **dict.fromkeys(("GroupNormalization", "InstanceNormalization", "LayerNormalization"), 7),
    "LpNormalization": 3,
    "DynamicQuantizeLinear": 4,
}  # fmt: skip

# Per element of the input: what is folded into one value.
OPERATIONS_PER_INPUT_ELEMENT: dict[str, int] = {
    **dict.fromkeys(
        ("ArgMax", "ArgMin", "GlobalAveragePool", "GlobalMaxPool", "ReduceMax", "ReduceMean", "ReduceMin",
         "ReduceProd", "ReduceSum", "TopK"),
        1,
    ),
    **dict.fromkeys(("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceSumSquare"), 2),
    "ReduceLogSumExp": 4,
}  # fmt: skip

FREE = frozenset({
    "Cast", "CastLike", "Compress", "Concat", "Constant", "ConstantOfShape", "DepthToSpace",
    "DequantizeLinear", "Dropout", "Expand", "EyeLike", "Flatten", "Gather", "GatherElements",
    "GatherND", "Identity", "NonZero", "OneHot", "Pad", "QuantizeLinear", "Range", "Reshape",
    "ScatterElements", "ScatterND", "Shape", "Size", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile",
    "Transpose", "Trilu", "Unsqueeze",
})  # fmt: skip

_VIEWS = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze", "DequantizeLinear"})
_LAYOUT = frozenset({"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
_PRECISIONS = {
    "FLOAT": "fp32", "FLOAT16": "fp16", "BFLOAT16": "bf16", "DOUBLE": "fp64",
    "INT8": "int8", "UINT8": "int8", "INT4": "int4", "UINT4": "int4",
    "FLOAT8E4M3FN": "fp8", "FLOAT8E5M2": "fp8", "FLOAT4E2M1": "fp4",
}  # fmt: skip


@dataclass(frozen=True)
class NodeCost:
    """What one node costs.

    Attributes:
        name: Its name, or that of its first output where it has none.
        operator: Its operator, as in `MatMul`.
        operations: By rules C1 to C4.
        precision: Of a GEMM or convolution (rule C5), else None.
        weighted: Whether a GEMM or convolution has a constant operand.
        input_bytes: Bytes of the activations it reads.
        weight_bytes: Bytes of the constants it reads, as they reach it.
        output_bytes: Bytes of the tensors it adds (rule C6).
    """

    name: str
    operator: str
    operations: float
    precision: str | None
    weighted: bool
    input_bytes: float
    weight_bytes: float
    output_bytes: float


@dataclass(frozen=True)
class GraphCost:
    """What a graph costs at given input shapes.

    Attributes:
        cost: The totals, as a bundle's manifest keeps them.
        nodes: One row per node that is not folded.
        uncounted: Nodes that could not be counted, as 'name (operator): reason' (rule C7).
    """

    cost: Cost
    nodes: tuple[NodeCost, ...]
    uncounted: tuple[str, ...]


def count(model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]]) -> GraphCost:
    """Count what one run of a graph costs (rules C1 to C7). `model` is not changed.

    Args:
        model: An ONNX model; its external data need not be loaded.
        shapes: Shape per graph input; those without dynamic axes may be left out.

    Raises:
        MissingPackageError: onnx is not installed.
        UsageError: A shape is missing, for no input, or does not fit the graph.
    """
    graph = bind(model, shapes)
    producers = {name: node for node in graph.nodes for name in node.output}
    rows, uncounted = [], []
    for node in graph.nodes:
        if all(name in graph.constants for name in node.output if name):  # C4
            continue
        row, problem = _row(node, graph, producers)
        rows.append(row)
        if problem:
            uncounted.append(f"{row.name} ({node.op_type}): {problem}")
    by_precision: dict[str, float] = {}
    for row in rows:
        if row.precision is not None:
            by_precision[row.precision] = by_precision.get(row.precision, 0.0) + row.operations
    cost = Cost(
        operations=sum(row.operations for row in rows),
        operations_by_precision=by_precision,
        weight_bytes=graph.weight_bytes,
        activation_bytes=sum(row.output_bytes for row in rows),
    )
    return GraphCost(cost, tuple(rows), tuple(uncounted))


def _row(
    node: onnx.NodeProto, graph: BoundGraph, producers: Mapping[str, onnx.NodeProto]
) -> tuple[NodeCost, str]:
    """One node's row, and why it could not be counted, if so."""
    operands = _OPERANDS.get(node.op_type)
    names = [name for name in node.input if name]
    operations, problem = _operations(node, graph)
    row = NodeCost(
        name=node.name or node.output[0],
        operator=node.op_type,
        operations=operations,
        precision=_precision(node, operands, graph, producers) if operands else None,
        weighted=bool(operands) and any(node.input[i] in graph.constants for i in operands or ()),
        input_bytes=sum(_size(graph, name) for name in names if name not in graph.constants),
        weight_bytes=sum(_size(graph, name) for name in names if name in graph.constants),
        output_bytes=0.0
        if node.op_type in _VIEWS
        else sum(_size(graph, n) for n in node.output if n),
    )
    return row, problem


def _operations(node: onnx.NodeProto, graph: BoundGraph) -> tuple[float, str]:
    """Operations of a node, and why there are none where it cannot be counted."""
    kind = node.op_type
    if node.domain not in ("", "ai.onnx"):
        return 0.0, f"no rule for operators of {node.domain}"
    if kind in FREE:
        return 0.0, ""
    rule = _rule(kind)
    if rule is None:
        return 0.0, "no rule for this operator"
    call = _Call(node, graph)
    try:
        return float(rule(call)), ""
    except _UnknownShape as unknown:
        return 0.0, f"the shape of {unknown} is unknown"
    except _NoRule as none:
        return 0.0, str(none)


def _rule(kind: str) -> Callable[[_Call], float] | None:
    if kind in OPERATIONS_PER_ELEMENT:
        return lambda call: OPERATIONS_PER_ELEMENT[kind] * call.result.elements
    if kind in OPERATIONS_PER_INPUT_ELEMENT:
        return lambda call: OPERATIONS_PER_INPUT_ELEMENT[kind] * call.operand(0).elements
    return _RULES.get(kind)


class _UnknownShape(Exception):  # noqa: N818 - never leaves this module
    """A tensor's shape could not be found out."""


class _NoRule(Exception):  # noqa: N818 - never leaves this module
    """This form of an operator has no rule."""


class _Call:
    """A node with the shapes around it."""

    def __init__(self, node: onnx.NodeProto, graph: BoundGraph) -> None:
        self.node, self.graph = node, graph

    def attribute(self, name: str, default: Any) -> Any:  # noqa: ANN401 - attributes are of any type
        for item in self.node.attribute:
            if item.name == name:
                return onnx_library().helper.get_attribute_value(item)
        return default

    def operand(self, index: int) -> Tensor:
        return self._known(self.node.input[index])

    def shape(self, index: int) -> tuple[int, ...]:
        return self.operand(index).shape or ()

    @property
    def result(self) -> Tensor:
        return self._known(self.node.output[0])

    def _known(self, name: str) -> Tensor:
        tensor = self.graph.tensors[name]
        if tensor.shape is None:
            raise _UnknownShape(name)
        return tensor


def _matmul(call: _Call) -> float:
    return 2 * call.result.elements * call.shape(0)[-1]


def _gemm(call: _Call) -> float:
    return 2 * call.result.elements * call.shape(0)[0 if call.attribute("transA", 0) else 1]


def _conv(call: _Call, weight: int = 1) -> float:
    # A weight is [M, C / group, k...].
    return 2 * call.result.elements * math.prod(call.shape(weight)[1:])


def _conv_transpose(call: _Call) -> float:
    # A weight is [C, M / group, k...]: every input element meets all of it but C.
    return 2 * call.operand(0).elements * math.prod(call.shape(1)[1:])


def _einsum(call: _Call) -> float:
    equation = call.attribute("equation", b"").decode().replace(" ", "")
    left, _, right = equation.partition("->")
    terms = left.split(",")
    if "." in equation or len(terms) > 2 or "->" not in equation:
        raise _NoRule("only explicit equations of one or two operands have a rule")
    sizes: dict[str, int] = {}
    for index, term in enumerate(terms):
        sizes.update(zip(term, call.shape(index), strict=True))
    points = math.prod(sizes.values())
    if len(terms) == 1:
        return points if set(left) != set(right) else 0
    return (2 if set(sizes) != set(right) else 1) * points


def _attention(call: _Call) -> float:
    """Two products and a softmax over [batch, heads, queries, keys]; `Attention`, opset 23."""
    query, key, value = call.shape(0), call.shape(1), call.shape(2)
    if len(call.node.input) > 4 and call.node.input[4]:
        raise _NoRule("attention with past keys has no rule")
    if len(query) == 4:
        batch, heads, queries, width = query
        keys, value_width = key[2], value[3]
    else:
        heads, shared = call.attribute("q_num_heads", 0), call.attribute("kv_num_heads", 0)
        batch, queries, keys = query[0], query[1], key[1]
        width, value_width = query[2] // heads, value[2] // shared
    scores = batch * heads * queries * keys
    return 2 * scores * (width + value_width) + OPERATIONS_PER_ELEMENT["Softmax"] * scores


def _recurrent(call: _Call) -> float:
    """The gates' products; x is [time, batch, features] or, with layout 1, [batch, time, features]."""
    return 2 * math.prod(call.shape(0)[:2]) * (call.operand(1).elements + call.operand(2).elements)


def _pool(call: _Call) -> float:
    return call.result.elements * math.prod(call.attribute("kernel_shape", []))


def _resize(call: _Call) -> float:
    """Each result is a weighted sum of 2 (linear) or 4 (cubic) neighbours per axis that changes."""
    taps = {b"nearest": 0, b"linear": 2, b"cubic": 4}[call.attribute("mode", b"nearest")]
    source, result = call.shape(0), call.result.shape or ()
    axes = sum(a != b for a, b in zip(source, result, strict=True))
    return 2 * call.result.elements * taps**axes if taps and axes else 0


def _grid_sample(call: _Call) -> float:
    mode = call.attribute("mode", b"linear")
    taps = {b"nearest": 0, b"linear": 2, b"bilinear": 2, b"cubic": 4, b"bicubic": 4}[mode]
    return 2 * call.result.elements * taps ** (len(call.shape(0)) - 2) if taps else 0


def _variadic(call: _Call) -> float:
    extra = call.node.op_type == "Mean"
    return call.result.elements * (len(call.node.input) - 1 + extra)


_RULES: dict[str, Callable[[_Call], float]] = {
    "MatMul": _matmul, "MatMulInteger": _matmul, "QLinearMatMul": _matmul, "Gemm": _gemm,
    "Conv": _conv, "ConvInteger": _conv, "QLinearConv": lambda call: _conv(call, 3),
    "ConvTranspose": _conv_transpose, "Einsum": _einsum, "Attention": _attention,
    "LSTM": _recurrent, "GRU": _recurrent, "RNN": _recurrent,
    "AveragePool": _pool, "MaxPool": _pool, "Resize": _resize, "GridSample": _grid_sample,
    **dict.fromkeys(("Max", "Min", "Sum", "Mean"), _variadic),
}  # fmt: skip

# Which inputs of a GEMM or convolution are multiplied with one another, data first.
_OPERANDS: dict[str, tuple[int, int]] = {
    **dict.fromkeys(("MatMul", "MatMulInteger", "Gemm", "Conv", "ConvInteger", "ConvTranspose"), (0, 1)),
    **dict.fromkeys(("Attention", "LSTM", "GRU", "RNN"), (0, 1)),
    **dict.fromkeys(("QLinearMatMul", "QLinearConv"), (0, 3)),
}  # fmt: skip


def _precision(
    node: onnx.NodeProto,
    operands: tuple[int, int],
    graph: BoundGraph,
    producers: Mapping[str, onnx.NodeProto],
) -> str:
    stored = {_quantised(node.input[index], graph, producers) for index in operands}
    if len(stored) == 1 and (kind := stored.pop()) is not None:
        return _named(kind)
    return _named(graph.tensors[node.input[operands[0]]].kind)


def _quantised(name: str, graph: BoundGraph, producers: Mapping[str, onnx.NodeProto]) -> int | None:
    """Element type of what a DequantizeLinear before this tensor reads, or None without one."""
    while name in producers:
        node = producers[name]
        if node.op_type == "DequantizeLinear":
            return graph.tensors[node.input[0]].kind
        if node.op_type not in _LAYOUT:
            return None
        name = node.input[0]
    return None


def _named(kind: int) -> str:
    name = str(onnx_library().TensorProto.DataType.Name(kind))
    return _PRECISIONS.get(name, name.lower())


def _size(graph: BoundGraph, name: str) -> float:
    tensor = graph.tensors.get(name)
    return 0.0 if tensor is None or tensor.shape is None else tensor.size_bytes
