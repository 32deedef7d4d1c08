"""What is widened together: a value with all its forms, or the constants of a node."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jetlift.export.precision.switched import Switched

# Operators that move numbers and compute none: rounding before or after them is the same.
_MOVES = {
    "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Split", "Slice",
    "Expand", "Concat", "Tile", "Gather", "GatherND", "GatherElements", "Cast",
    "DepthToSpace", "SpaceToDepth",
}  # fmt: skip


@dataclass(frozen=True)
class Unit:
    """What is widened together.

    Attributes:
        name: The value's name, or which constants they are.
        nodes: Nodes that have to be wide, without those that are so by rule.
        edges: Positions of the switches that round it.
    """

    name: str
    nodes: tuple[str, ...]
    edges: tuple[int, ...]


def units_of(graph: Switched) -> tuple[dict[str, Unit], list[Unit]]:
    """The units of a graph.

    Returns:
        The family of each value, by the value's name; and one unit per node that has constants.
    """
    root = _families(graph)
    nodes: dict[str, set[str]] = defaultdict(set)
    edges: dict[str, list[int]] = defaultdict(list)
    constants: dict[str, list[int]] = defaultdict(list)
    for name, made in graph.values.items():
        nodes[root[name]].add(made.node)
    for index, edge in enumerate(graph.edges):
        if edge.value in root:
            edges[root[edge.value]].append(index)
            nodes[root[edge.value]] |= {edge.consumer} if edge.consumer else set()
        elif edge.consumer is not None:
            constants[edge.consumer].append(index)
    order = {name: i for i, name in enumerate(graph.nodes)}
    units = {}
    for first in dict.fromkeys(root.values()):
        chosen = sorted((n for n in nodes[first] if n in order), key=lambda n: order[n])
        units[first] = Unit(first, tuple(chosen), tuple(edges[first]))
    fed = [
        Unit(f"the constants of {name}", (name,), tuple(found))
        for name, found in constants.items()
        if name in order
    ]
    return {name: units[first] for name, first in root.items()}, fed


def _families(graph: Switched) -> dict[str, str]:
    """The first value of each value's family, by its name."""
    parent = {name: name for name in graph.values}

    def find(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    order = {name: i for i, name in enumerate(graph.values)}
    for name, made in graph.values.items():
        for source in made.sources if made.operator in _MOVES else ():
            if source in parent:
                first, second = sorted((find(name), find(source)), key=lambda item: order[item])
                parent[second] = first
    return {name: find(name) for name in graph.values}
