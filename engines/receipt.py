"""The receipt of a build: what of the operations really runs in which precision.

An engine library tells which ONNX nodes each of its layers holds and what the layer computes in.
Weighed with what each node costs, that is the share of operations per precision. A node whose
layer cannot be found stays unobserved; nothing is assumed of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jetlift.runtime.passport import Receipt

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jetlift.engines.ops import GraphCost

# Shares that differ by less do so from fusion and folding at the edges of a graph.
TOLERANCE = 0.01
_NARROW = ("int4", "fp4", "int8", "fp8", "fp16", "bf16")


@dataclass(frozen=True)
class Layer:
    """One layer of an engine.

    Attributes:
        nodes: Names of the ONNX nodes in it.
        precision: What it computes in, in the words of a bundle: `int8`, `fp16`, `fp32`, …
        rank: How surely it computes the GEMM or convolution among its nodes; 0 is surest. Libraries
            name a node in every layer that holds some of it, its dequantization for one.
    """

    nodes: tuple[str, ...]
    precision: str
    rank: int = 0


@dataclass(frozen=True)
class Built:
    """What a builder says of the engine it wrote."""

    arithmetic: str
    receipt: Receipt


def receipt(
    cost: GraphCost | None,
    layers: Iterable[Layer],
    *,
    observed_by: str,
    memory_bytes: Mapping[str, int] | None = None,
) -> Receipt:
    """Weigh an engine's layers with what their nodes cost.

    Args:
        cost: What each node costs, or None where it could not be counted.
        layers: The engine's layers.
        observed_by: What was looked at.
        memory_bytes: What the builder says the engine needs, by use.
    """
    memory = dict(memory_bytes or {})
    if cost is None:
        why = f"{observed_by}; not weighed, since the package onnx is not installed"
        return Receipt(why, {}, 1.0, memory)
    precision_of: dict[str, str] = {}
    for layer in sorted(layers, key=lambda item: item.rank):
        for name in layer.nodes:
            precision_of.setdefault(name, layer.precision)
    shares: dict[str, float] = {}
    heavy = [row for row in cost.nodes if row.precision is not None]
    total = sum(row.operations for row in heavy)
    for row in heavy:
        found = precision_of.get(row.name)
        if found is not None and total:
            shares[found] = shares.get(found, 0.0) + row.operations / total
    rounded = {name: round(share, 6) for name, share in sorted(shares.items())}
    return Receipt(observed_by, rounded, round(max(0.0, 1.0 - sum(rounded.values())), 6), memory)


def shortfall(asked: Mapping[str, float], got: Receipt) -> str:
    """What of the narrow operations that a graph asks for runs wider, in words; empty where none.

    Args:
        asked: Operations per precision as the graph types them.
        got: The engine's receipt; its unobserved share is not held against it.
    """
    total = sum(asked.values())
    for name in _NARROW:
        wanted = asked.get(name, 0.0) / total if total else 0.0
        seen = got.operations_share.get(name, 0.0)
        if wanted - seen - got.unobserved_share > TOLERANCE:
            return (
                f"{name} was asked for {wanted:.1%} of the GEMM and convolution operations, "
                f"and {seen:.1%} are seen to run in it"
            )
    return ""
