"""What one run of a graph reads from memory and writes to it, without fusion and with it.

Rules:
    F1  Without fusion every node reads each of its tensors once and writes its results.
    F2  A view (Reshape, Squeeze, ...) and a DequantizeLinear move nothing: who reads their result
        reads what lies in memory, which for INT8 are the codes. A weight is read as it is stored.
    F3  Nodes that pick (PICKERS) read as much of their first input as they write: a table of
        embeddings is not read whole. Nodes that ask for a shape (ASKERS) move nothing.
    F4  With fusion nodes run in groups. A node of FOLLOWERS (elementwise work, activations,
        normalisation, softmax, reductions, casts, quantisation) joins the group of the last node
        that made one of its inputs; every other node begins a group. So a chain after a GEMM or
        convolution, with its bias, residual and norm, is one group, and so is a chain on its own.
    F5  A group reads each tensor that it did not make once, and writes each that another group or
        the caller reads once. What it alone reads never goes to memory.
    F6  Nothing else fuses. Between the two products of an attention the scores go to memory, unless
        the graph holds `Attention`; pooling, resizing and layout begin groups. Engines may do
        better (TensorRT's attention kernels) or worse; these figures are of the graph.
    F7  Nothing stays in a cache from one group to the next, and a tensor of unknown shape weighs
        nothing. Scales and zero points, which are small, are left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jetlift.engines.op_rules import OPERATIONS_PER_ELEMENT, OPERATIONS_PER_INPUT_ELEMENT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import onnx

    from jetlift.engines.shapes import BoundGraph

VIEWS = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze", "DequantizeLinear"})
LAYOUT = frozenset({"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
ASKERS = frozenset({"Shape", "Size", "Constant"})
PICKERS = frozenset({"Gather", "GatherElements", "GatherND", "Slice"})
# Reductions that shrink a whole map before other nodes go on (global pooling, search for the
# largest) begin a group: nothing after them is of the size of what stands before.
_STANDS_ALONE = frozenset(
    {"GlobalAveragePool", "GlobalMaxPool", "ArgMax", "ArgMin", "TopK", "CumSum"}
)
FOLLOWERS = (
    frozenset(OPERATIONS_PER_ELEMENT)
    | frozenset(OPERATIONS_PER_INPUT_ELEMENT)
    | {"Max", "Min", "Sum", "Mean", "Cast", "CastLike", "Dropout", "QuantizeLinear"}
) - _STANDS_ALONE
_SCALED = {"QuantizeLinear": 1, "DequantizeLinear": 1}  # inputs beyond these are small (rule F7)


@dataclass(frozen=True)
class Group:
    """Nodes that run as one (rule F4).

    Attributes:
        name: Name of the node that begins it, or of that node's first output.
        operators: Operators of its nodes, in order.
        read_bytes: What it reads from memory (rule F5).
        written_bytes: What it writes there.
    """

    name: str
    operators: tuple[str, ...]
    read_bytes: float
    written_bytes: float


@dataclass(frozen=True)
class Traffic:
    """Bytes read and written in one run.

    Attributes:
        read_bytes: Read without fusion (rule F1).
        written_bytes: Written without fusion.
        groups: The groups with fusion (rules F4 and F5).
    """

    read_bytes: float
    written_bytes: float
    groups: tuple[Group, ...]

    @property
    def fused_read_bytes(self) -> float:
        """Read with fusion."""
        return sum(group.read_bytes for group in self.groups)

    @property
    def fused_written_bytes(self) -> float:
        """Written with fusion."""
        return sum(group.written_bytes for group in self.groups)


@dataclass
class _Step:
    """A node that runs: bytes it reads per tensor in memory, bytes per tensor it makes."""

    node: onnx.NodeProto
    reads: dict[str, float]
    makes: dict[str, float]
    group: int = 0


@dataclass
class _Ways:
    """What of each tensor passes between groups."""

    made_by: dict[str, _Step] = field(default_factory=dict)
    read_by: dict[str, set[int]] = field(default_factory=dict)


def traffic(graph: BoundGraph, producers: Mapping[str, onnx.NodeProto]) -> Traffic:
    """Bytes that one run moves (rules F1 to F7).

    Args:
        graph: A graph whose shapes are known.
        producers: The node that makes a tensor, by the tensor's name.
    """
    steps = [
        _step(node, graph, producers)
        for node in graph.nodes
        if node.op_type not in VIEWS | ASKERS
        and not all(name in graph.constants for name in node.output if name)
    ]
    return Traffic(
        read_bytes=sum(sum(step.reads.values()) for step in steps),
        written_bytes=sum(sum(step.makes.values()) for step in steps),
        groups=_groups(steps, {_source(name, graph, producers) for name in graph.outputs}),
    )


def _step(
    node: onnx.NodeProto, graph: BoundGraph, producers: Mapping[str, onnx.NodeProto]
) -> _Step:
    makes = {name: _size(graph, name) for name in node.output if name}
    given = [name for name in node.input[: _SCALED.get(node.op_type)] if name]
    reads: dict[str, float] = {}
    for index, name in enumerate(given):
        stored = _source(name, graph, producers)
        picked = node.op_type in PICKERS and index == 0
        reads[stored] = (
            min(_size(graph, stored), sum(makes.values())) if picked else _size(graph, stored)
        )
    return _Step(node, reads, makes)


def _source(name: str, graph: BoundGraph, producers: Mapping[str, onnx.NodeProto]) -> str:
    """The tensor in memory that a name stands for (rule F2)."""
    while name in producers:
        node = producers[name]
        stored = name in graph.constants and node.op_type in LAYOUT
        if node.op_type not in VIEWS and not stored:
            return name
        name = node.input[0]
    return name


def _groups(steps: Sequence[_Step], wanted: Iterable[str]) -> tuple[Group, ...]:
    """Groups of steps in topological order.

    A node's inputs come from groups that began no later than the one it joins (rule F4 takes the
    last). So groups can run in the order they begin: none waits for one that waits for it.
    """
    ways, members = _Ways(), dict[int, list[_Step]]()
    for number, step in enumerate(steps):
        makers = [ways.made_by[name].group for name in step.reads if name in ways.made_by]
        follows = step.node.op_type in FOLLOWERS and makers
        step.group = max(makers) if follows else number
        members.setdefault(step.group, []).append(step)
        ways.made_by.update(dict.fromkeys(step.makes, step))
        for name in step.reads:
            ways.read_by.setdefault(name, set()).add(step.group)
    asked = frozenset(wanted)
    return tuple(_group(number, inside, ways, asked) for number, inside in members.items())


def _group(number: int, inside: Sequence[_Step], ways: _Ways, wanted: frozenset[str]) -> Group:
    made = {name: size for step in inside for name, size in step.makes.items()}
    read = {name: size for step in inside for name, size in step.reads.items() if name not in made}
    written = sum(
        size
        for name, size in made.items()
        if name in wanted or ways.read_by.get(name, set()) - {number}
    )
    first = inside[0].node
    operators = tuple(step.node.op_type for step in inside)
    return Group(first.name or first.output[0], operators, sum(read.values()), written)


def _size(graph: BoundGraph, name: str) -> float:
    tensor = graph.tensors.get(name)
    return 0.0 if tensor is None or tensor.shape is None else tensor.size_bytes
