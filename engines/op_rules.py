"""How many operations one node of an ONNX graph is.

Rules:
    R1  A multiply-add counts as two operations (MAC x 2). A bias is where the sum starts: free.
    R2  Elementwise work counts the arithmetic in OPERATIONS_PER_ELEMENT, one function (exp, erf,
        sqrt, ...) as one operation.
    R3  Moving, naming and typing data (FREE) is no operation. It may well take time.
    R4  Nothing is guessed: what has no rule says so.
    R5  What is masked or padded counts: a causal attention is a whole one, and a convolution reads
        the zeros around a picture. So do PyTorch's and fvcore's counters.
Operators are those of https://onnx.ai/onnx/operators/.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from jetlift.engines.shapes import onnx_library

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx

    from jetlift.engines.shapes import BoundGraph, Tensor

# Per element of the result. Softmax: max, subtract, exp, sum, divide. LayerNormalization: mean,
# centre, square, sum, times inverse deviation, gain, bias. RMSNormalization: square, sum, times
# inverse, gain. RotaryEmbedding: two multiplications, one addition. Sigmoid: negate, exp, add,
# divide. Gelu: divide, erf, add, two multiplications.
OPERATIONS_PER_ELEMENT: dict[str, int] = {
    **dict.fromkeys(
        ("Abs", "Acos", "Acosh", "Add", "And", "Asin", "Asinh", "Atan", "Atanh", "BitShift",
         "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Ceil", "Cos", "Cosh", "CumSum",
         "Div", "Equal", "Erf", "Exp", "Floor", "Greater", "GreaterOrEqual", "IsInf", "IsNaN",
         "Less", "LessOrEqual", "Log", "Mod", "Mul", "Neg", "Not", "Or", "Pow", "Reciprocal",
         "Relu", "Round", "Sign", "Sin", "Sinh", "Sqrt", "Sub", "Tan", "Tanh", "Where", "Xor"),
        1,
    ),
    **dict.fromkeys(
        ("BatchNormalization", "Clip", "LeakyRelu", "PRelu", "Shrink", "ThresholdedRelu"), 2
    ),
    **dict.fromkeys(("Celu", "Elu", "RotaryEmbedding", "Selu", "Softplus", "Softsign"), 3),
    **dict.fromkeys(("HardSigmoid", "Sigmoid", "RMSNormalization"), 4),
    **dict.fromkeys(("Gelu", "HardSwish", "Mish", "Softmax", "Swish"), 5),
    "LogSoftmax": 6,
    **dict.fromkeys(
        ("GroupNormalization", "InstanceNormalization", "LayerNormalization",
         "MeanVarianceNormalization"),
        7,
    ),
    "LpNormalization": 3,
    "DynamicQuantizeLinear": 4,
}  # fmt: skip

# Per element of the input: what is folded into one value.
OPERATIONS_PER_INPUT_ELEMENT: dict[str, int] = {
    **dict.fromkeys(
        ("ArgMax", "ArgMin", "GlobalAveragePool", "GlobalMaxPool", "ReduceMax", "ReduceMean",
         "ReduceMin", "ReduceProd", "ReduceSum", "TopK"),
        1,
    ),
    **dict.fromkeys(("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceSumSquare"), 2),
    "ReduceLogSumExp": 4,
}  # fmt: skip

FREE = frozenset({
    "Cast", "CastLike", "CenterCropPad", "Compress", "Concat", "Constant", "ConstantOfShape",
    "DepthToSpace", "DequantizeLinear", "Dropout", "Expand", "EyeLike", "Flatten", "Gather",
    "GatherElements", "GatherND", "Identity", "NonZero", "OneHot", "Pad", "QuantizeLinear", "Range",
    "Reshape", "ReverseSequence", "ScatterElements", "ScatterND", "Shape", "Size", "Slice",
    "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Trilu", "Unsqueeze",
})  # fmt: skip


def operations(node: onnx.NodeProto, graph: BoundGraph) -> tuple[float, str]:
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

    def has(self, index: int) -> bool:
        return len(self.node.input) > index and bool(self.node.input[index])

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
    """Every combination of the letters is one point; a sum over points is a multiply-add each."""
    equation = str(call.attribute("equation", b"").decode()).replace(" ", "")
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    if len(terms) > 2:
        raise _NoRule("equations of more than two operands have no rule: their order is not said")
    sizes: dict[str, int] = {}
    for index, term in enumerate(terms):
        for letter, size in _lettered(term, call.shape(index)):
            sizes[letter] = max(size, sizes.get(letter, 1))  # an axis of one spreads
    if not arrow:  # letters that occur once are kept, as NumPy has it
        right = "".join(sorted(letter for letter in set(left) if left.count(letter) == 1))
    summed = any(letter not in right for letter in sizes if letter.isalpha())
    points = math.prod(sizes.values())
    if len(terms) == 1:
        return points if summed else 0
    return (2 if summed else 1) * points


def _lettered(term: str, shape: tuple[int, ...]) -> list[tuple[str, int]]:
    """Letters and sizes of one operand; axes under an ellipsis are numbered from the last."""
    before, dots, after = term.partition("...")
    spread = len(shape) - len(before) - len(after) if dots else 0
    hidden = [str(spread - number) for number in range(spread)]
    return list(zip([*before, *hidden, *after], shape, strict=True))


def _attention(call: _Call) -> float:
    """Two products and a softmax over [batch, heads, queries, keys]; `Attention`, opset 23.

    Keys and values may be shared by groups of heads, and past ones count. A mask is added and a
    soft cap is a division, a tanh and a multiplication.
    """
    query, key, value = call.shape(0), call.shape(1), call.shape(2)
    if len(query) == 4:
        batch, heads, queries, width = query
        keys, value_width = key[2], value[3]
    else:
        heads, shared = call.attribute("q_num_heads", 0), call.attribute("kv_num_heads", 0)
        batch, queries, keys = query[0], query[1], key[1]
        width, value_width = query[2] // heads, value[2] // shared
    if call.has(4):
        keys += call.shape(4)[2]
    scores = batch * heads * queries * keys
    extra = call.has(3) + 3 * bool(call.attribute("softcap", 0.0))
    return 2 * scores * (width + value_width) + (OPERATIONS_PER_ELEMENT["Softmax"] + extra) * scores


def _recurrent(call: _Call) -> float:
    """The gates' products. The first two axes of x are time and batch, in either order."""
    return 2 * math.prod(call.shape(0)[:2]) * (call.operand(1).elements + call.operand(2).elements)


def _pool(call: _Call) -> float:
    kernel: list[int] = call.attribute("kernel_shape", [])
    return call.result.elements * math.prod(kernel)


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


def _deformed(call: _Call) -> float:
    """Each tap is read between four cells and met with its weights; `DeformConv` of pictures."""
    taps = math.prod(call.shape(1)[2:])
    height, width = (call.result.shape or ())[2:]
    read = call.shape(0)[0] * call.shape(0)[1] * height * width * taps
    return _conv(call) + 2 * 4 * read + (read if call.has(4) else 0)


def _roi_align(call: _Call) -> float:
    """Each bin is the mean, or the largest, of samples that are read between four cells."""
    per_axis: int = call.attribute("sampling_ratio", 0)
    if not per_axis:
        raise _NoRule("as many samples as a region is large: their number is no matter of shapes")
    return call.result.elements * per_axis**2 * (2 * 4 + 1)


def _response_normalised(call: _Call) -> float:
    """Squares of `size` channels are summed; then a factor, a bias, a power and a division."""
    size: int = call.attribute("size", 1)
    return call.result.elements * (2 * size + 4)


def _variadic(call: _Call) -> float:
    extra = call.node.op_type == "Mean"
    return call.result.elements * (len(call.node.input) - 1 + extra)


_RULES: dict[str, Callable[[_Call], float]] = {
    "MatMul": _matmul, "MatMulInteger": _matmul, "QLinearMatMul": _matmul, "Gemm": _gemm,
    "Conv": _conv, "ConvInteger": _conv, "QLinearConv": lambda call: _conv(call, 3),
    "ConvTranspose": _conv_transpose, "Einsum": _einsum, "Attention": _attention,
    "DeformConv": _deformed, "RoiAlign": _roi_align, "LRN": _response_normalised,
    "LSTM": _recurrent, "GRU": _recurrent, "RNN": _recurrent,
    "AveragePool": _pool, "MaxPool": _pool, "LpPool": lambda call: 2 * _pool(call),
    "Resize": _resize, "GridSample": _grid_sample,
    **dict.fromkeys(("Max", "Min", "Sum", "Mean"), _variadic),
}  # fmt: skip
