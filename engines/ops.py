"""What a graph costs: operations, bytes of weights, of activations and of traffic, node by node.

Rules:
    C1  Operations are counted by the rules of op_rules.py: a multiply-add is two.
    C2  What depends on no input's content is folded when an engine is built, and is free.
    C3  A GEMM or convolution has the precision of what feeds it: int8 where DequantizeLinear of
        int8 stands before both inputs, else the type of its data. Layout operators in between do
        not matter.
    C4  Each activation counts once, without fusion or reuse. The result of a DequantizeLinear and
        of a view (Reshape, Squeeze, ...) is no tensor of its own.
    C5  Nothing is guessed: a node without a rule, or of unknown shape, stands in `uncounted`.
    C6  A weight has the precision it is stored in, before DequantizeLinear and layout operators.
    C7  What is read and written, without fusion and with it, is counted by the rules of fusion.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jetlift.engines.fusion import LAYOUT, VIEWS, traffic
from jetlift.engines.op_rules import operations
from jetlift.engines.shapes import bind, onnx_library
from jetlift.runtime.manifest import Cost

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    import onnx

    from jetlift.engines.fusion import Group
    from jetlift.engines.shapes import BoundGraph

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
        operations: By rules C1 and C2.
        precision: Of a GEMM or convolution (rule C3), else None.
        weighted: Whether a GEMM or convolution has a constant operand.
        weight_elements: Elements of that operand; 0 where there is none.
        weight_precision: What they are stored in (rule C6); None where there is none.
        input_bytes: Bytes of the activations it reads.
        weight_bytes: Bytes of the constants it reads, as they reach it.
        output_bytes: Bytes of the tensors it adds (rule C4).
    """

    name: str
    operator: str
    operations: float
    precision: str | None
    weighted: bool
    weight_elements: float
    weight_precision: str | None
    input_bytes: float
    weight_bytes: float
    output_bytes: float


@dataclass(frozen=True)
class GraphCost:
    """What a graph costs at given input shapes.

    Attributes:
        cost: The totals, as a bundle's manifest keeps them.
        nodes: One row per node that is not folded.
        uncounted: Nodes that could not be counted, as 'name (operator): reason' (rule C5).
        groups: What runs as one where nodes are fused, and what each group moves (rule C7).
    """

    cost: Cost
    nodes: tuple[NodeCost, ...]
    uncounted: tuple[str, ...]
    groups: tuple[Group, ...] = ()


def cost_at(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> Cost:
    """What one run of a file's graph costs at the shapes that were fed to it.

    A manifest's cost is of the opt_shape; this is for all others. Weights are not read.

    Args:
        path: An ONNX file.
        shapes: Shape per graph input; those without dynamic axes may be left out.

    Raises:
        MissingPackageError: onnx is not installed.
        UsageError: A shape is missing, for no input, or does not fit the graph.
    """
    model = onnx_library().load(path, load_external_data=False)
    return count(model, shapes).cost


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
        if all(name in graph.constants for name in node.output if name):  # C2
            continue
        row, problem = _row(node, graph, producers)
        rows.append(row)
        if problem:
            uncounted.append(f"{row.name} ({node.op_type}): {problem}")
    heavy = [row for row in rows if row.precision is not None]
    weighted = [row for row in heavy if row.weighted]
    moved = traffic(graph, producers)
    cost = Cost(
        operations=sum(row.operations for row in rows),
        operations_by_precision=_summed((row.precision, row.operations) for row in heavy),
        weight_bytes=graph.weight_bytes,
        activation_bytes=sum(row.output_bytes for row in rows),
        uncounted=tuple(uncounted),
        weighted_operations_by_precision=_summed((r.precision, r.operations) for r in weighted),
        weight_elements_by_precision=_summed(
            (row.weight_precision, row.weight_elements) for row in weighted
        ),
        read_bytes=moved.read_bytes,
        written_bytes=moved.written_bytes,
        fused_read_bytes=moved.fused_read_bytes,
        fused_written_bytes=moved.fused_written_bytes,
    )
    return GraphCost(cost, tuple(rows), tuple(uncounted), moved.groups)


def _summed(pairs: Iterable[tuple[str | None, float]]) -> dict[str, float]:
    """Sum per precision, in order of appearance."""
    sums: dict[str, float] = {}
    for precision, amount in pairs:
        if precision is not None:
            sums[precision] = sums.get(precision, 0.0) + amount
    return sums


def _row(
    node: onnx.NodeProto, graph: BoundGraph, producers: Mapping[str, onnx.NodeProto]
) -> tuple[NodeCost, str]:
    """One node's row, and why it could not be counted, if so."""
    operands = _operands(node)
    names = [name for name in node.input if name]
    counted, problem = operations(node, graph)
    weight = next((node.input[i] for i in operands or () if node.input[i] in graph.constants), None)
    row = NodeCost(
        name=node.name or node.output[0],
        operator=node.op_type,
        operations=counted,
        precision=_precision(node, operands, graph, producers) if operands else None,
        weighted=weight is not None,
        weight_elements=0.0 if weight is None else float(graph.tensors[weight].elements),
        weight_precision=None if weight is None else _stored(weight, graph, producers),
        input_bytes=sum(_size(graph, name) for name in names if name not in graph.constants),
        weight_bytes=sum(_size(graph, name) for name in names if name in graph.constants),
        output_bytes=0.0
        if node.op_type in VIEWS
        else sum(_size(graph, n) for n in node.output if n),
    )
    return row, problem


# Which inputs of a GEMM or convolution are multiplied with one another, data first.
_OPERANDS: dict[str, tuple[int, int]] = {
    **dict.fromkeys(
        ("MatMul", "MatMulInteger", "Gemm", "Conv", "ConvInteger", "ConvTranspose", "Attention",
         "DeformConv",
         "LSTM", "GRU", "RNN"),
        (0, 1),
    ),
    **dict.fromkeys(("QLinearMatMul", "QLinearConv"), (0, 3)),
}  # fmt: skip


def _operands(node: onnx.NodeProto) -> tuple[int, int] | None:
    if node.op_type == "Einsum":
        return (0, 1) if len(node.input) == 2 else None
    return _OPERANDS.get(node.op_type)


def _precision(
    node: onnx.NodeProto,
    operands: tuple[int, int],
    graph: BoundGraph,
    producers: Mapping[str, onnx.NodeProto],
) -> str:
    kinds = [_quantised(node.input[index], graph, producers) for index in operands]
    # By name: unsigned activations with signed weights are an int8 product as well.
    stored = {_named(kind) for kind in kinds if kind is not None}
    if None not in kinds and len(stored) == 1:
        return stored.pop()
    return _named(graph.tensors[node.input[operands[0]]].kind)


def _quantised(name: str, graph: BoundGraph, producers: Mapping[str, onnx.NodeProto]) -> int | None:
    """Element type of what a DequantizeLinear before this tensor reads, or None without one."""
    while name in producers:
        node = producers[name]
        if node.op_type == "DequantizeLinear":
            return graph.tensors[node.input[0]].kind
        if node.op_type not in LAYOUT:
            return None
        name = node.input[0]
    return None


def _stored(name: str, graph: BoundGraph, producers: Mapping[str, onnx.NodeProto]) -> str:
    """What a weight is stored in (rule C6)."""
    while name in producers and producers[name].op_type in LAYOUT | {"DequantizeLinear"}:
        name = producers[name].input[0]
    return _named(graph.tensors[name].kind)


def _named(kind: int) -> str:
    name = str(onnx_library().TensorProto.DataType.Name(kind))
    return _PRECISIONS.get(name, name.lower())


def _size(graph: BoundGraph, name: str) -> float:
    tensor = graph.tensors.get(name)
    return 0.0 if tensor is None or tensor.shape is None else tensor.size_bytes
