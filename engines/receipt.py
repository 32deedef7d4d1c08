"""The receipt of a build: what of the operations really runs in which precision.

Rules:
    E1  An engine library tells which ONNX nodes each of its layers holds and what the layer
        computes in. Weighed with what each node costs, that is the share per precision.
    E2  A node whose layer cannot be found stays unobserved; nothing is assumed of it. Where the
        builder tells of no layer at all, the receipt says so, and that is no pass.
    E3  A narrow node that is seen in something wider is named, the most operations first.
    E4  What a graph asks is what its bundle says of the variant. A graph that is not that (fp32
        under the name of fp16, say) is found out by its own nodes, which are named.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from jetlift.runtime.receipt import UNOBSERVED, Receipt, Shares, WideNode

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from jetlift.engines.ops import GraphCost, NodeCost
    from jetlift.runtime.manifest import Variant
    from jetlift.runtime.passport import BuildSettings
    from jetlift.runtime.receipt import Outcome

# Shares that differ by less do so from fusion and folding at the edges of a graph.
TOLERANCE = 0.01
_BITS = {
    "int4": 4, "fp4": 4, "int8": 8, "fp8": 8, "fp16": 16, "bf16": 16, "fp32": 32, "fp64": 64,
}  # fmt: skip
NARROW = tuple(name for name, bits in _BITS.items() if bits < 32)
_NAMED = 5


@dataclass(frozen=True)
class Layer:
    """One layer of an engine.

    Attributes:
        nodes: Names of the ONNX nodes in it.
        precision: What it computes in, in the words of a bundle: `int8`, `fp16`, `fp32`, …
        rank: How surely it computes the GEMM or convolution among its nodes; 0 is surest, and such
            a layer is a GEMM or convolution. Libraries name a node in every layer that holds some
            of it, its dequantization for one.
    """

    nodes: tuple[str, ...]
    precision: str
    rank: int = 0


@dataclass(frozen=True)
class Built:
    """What a builder says of the engine it wrote.

    Attributes:
        arithmetic: What its wide parts compute in, or `as typed`.
        receipt: What runs in which precision.
        settings: What it was built with; None for a CPU.
        layers: The library's own list of the layers, as JSON; None where it gives none.
        notices: Sentences the user should read.
        peak_bytes: The most memory the builder was seen to hold; 0 where nobody looked.
    """

    arithmetic: str
    receipt: Receipt
    settings: BuildSettings | None = None
    layers: str | None = None
    notices: tuple[str, ...] = ()
    peak_bytes: int = 0


def receipt(
    cost: GraphCost | None,
    layers: Iterable[Layer] | None,
    *,
    observed_by: str,
    proves: str = "",
    memory_bytes: Mapping[str, int] | None = None,
) -> Receipt:
    """Weigh an engine's layers with what their nodes cost (rules E1 to E3).

    Args:
        cost: What each node costs, or None where it could not be counted.
        layers: The engine's layers that may hold products; None where the builder tells of none.
        observed_by: What was looked at.
        proves: What that shows, and what it does not.
        memory_bytes: What the builder says the engine needs, by use.
    """
    told = sorted(layers or (), key=lambda item: item.rank)
    seen_in: dict[str, str] = {}
    for layer in told:
        for name in layer.nodes:
            seen_in.setdefault(name, layer.precision)
    heavy = [row for row in cost.nodes if row.precision is not None] if cost else []
    wider = _wider(heavy, seen_in)
    shares = _shares((seen_in.get(row.name), row.operations) for row in heavy)
    observed = layers is not None
    if not observed:
        observed_by, proves = UNOBSERVED, ""
    elif cost is None:
        observed_by += "; not weighed, since the package onnx is not installed"
    return Receipt(
        observed_by=observed_by,
        proves=proves,
        outcome=_outcome(heavy, seen_in, wider, observed=observed and cost is not None),
        operations_share=shares,
        unobserved_share=round(max(0.0, 1.0 - sum(shares.values())), 6),
        asked=asked(cost) if cost else None,
        seen=_seen(heavy, seen_in) if observed and cost else None,
        int8_layers=sum(layer.rank == 0 and layer.precision == "int8" for layer in told),
        wider=wider,
        memory_bytes=dict(memory_bytes or {}),
    )


def asked(cost: GraphCost) -> Shares:
    """The receipt that the graph alone gives: what it types, node by node."""
    heavy = [row for row in cost.nodes if row.precision is not None]
    return Shares(
        _shares((row.precision, row.operations) for row in heavy if row.weighted),
        _shares((row.precision, row.operations) for row in heavy if not row.weighted),
        _shares((row.weight_precision, row.weight_elements) for row in heavy),
    )


def _seen(heavy: Sequence[NodeCost], seen_in: Mapping[str, str]) -> Shares:
    def of(row: NodeCost) -> str | None:
        return seen_in.get(row.name)

    return Shares(
        _shares((of(row), row.operations) for row in heavy if row.weighted),
        _shares((of(row), row.operations) for row in heavy if not row.weighted),
        _shares((of(row), row.weight_elements) for row in heavy),
    )


def _shares(amounts: Iterable[tuple[str | None, float]]) -> dict[str, float]:
    """Share of the whole per precision; what has none counts towards the whole alone."""
    total, sums = 0.0, dict[str, float]()
    for precision, amount in amounts:
        total += amount
        if precision is not None and amount:
            sums[precision] = sums.get(precision, 0.0) + amount
    return {name: round(amount / total, 6) for name, amount in sorted(sums.items())}


def _wider(heavy: Sequence[NodeCost], seen_in: Mapping[str, str]) -> tuple[WideNode, ...]:
    """Nodes that run wider than typed (rule E3)."""
    total = sum(row.operations for row in heavy)
    found = [
        WideNode(row.name, str(row.precision), seen, round(row.operations / total, 6))
        for row in heavy
        if (seen := seen_in.get(row.name)) is not None
        and total
        and _BITS.get(seen, 0) > _BITS.get(str(row.precision), 64)
    ]
    return tuple(sorted(found, key=lambda node: -node.operations_share))


def _outcome(
    heavy: Sequence[NodeCost],
    seen_in: Mapping[str, str],
    wider: Sequence[WideNode],
    *,
    observed: bool,
) -> Outcome:
    total = sum(row.operations for row in heavy)
    if sum(node.operations_share for node in wider) > TOLERANCE:
        return "wider than asked"
    unseen = sum(
        row.operations
        for row in heavy
        if seen_in.get(row.name) not in _BITS and _BITS.get(str(row.precision), 64) < 32
    )
    if not observed or unseen > TOLERANCE * total:
        return "not observed"
    return "as asked"


def held_to(got: Receipt, cost: GraphCost | None, variant: Variant) -> Receipt:
    """Hold a receipt to what the bundle says of the variant (rule E4).

    Args:
        got: What the engine shows.
        cost: What the nodes of the graph that was built cost; None where that is not known.
        variant: What the bundle says.

    Returns:
        The receipt as it is, or with the nodes that are wider than the bundle says.
    """
    claimed = _claimed(variant)
    if cost is None or claimed <= 0:
        return got
    bits = _BITS[variant.precision]
    seen = sum(share for name, share in got.operations_share.items() if _BITS.get(name, 64) <= bits)
    if claimed - seen - got.unobserved_share <= TOLERANCE:
        return got
    heavy = [row for row in cost.nodes if row.precision is not None]
    total, known = sum(row.operations for row in heavy), {node.name for node in got.wider}
    wide = [
        WideNode(row.name, variant.precision, str(row.precision), row.operations / total)
        for row in heavy
        if row.name not in known and row.operations and _BITS.get(str(row.precision), 0) > bits
    ]
    wider = sorted((*got.wider, *wide), key=lambda node: -node.operations_share)
    return replace(got, outcome="wider than asked", wider=tuple(wider))


def _claimed(variant: Variant) -> float:
    """Share of GEMM and convolution that a bundle says runs in the variant's own precision."""
    if variant.precision not in NARROW:
        return 0.0
    told = variant.cost.operations_by_precision
    total = sum(told.values())
    share = told.get(variant.precision, 0.0) / total if total else 0.0
    # A variant that has nothing of its own precision and says of no node why is mistyped.
    return 1.0 if share == 0 and not variant.kept_wide else share


def shortfall(got: Receipt, asked_for: Sequence[str]) -> str:
    """What was asked to run narrow and runs wider, in words with the nodes' names; else empty.

    Args:
        got: The engine's receipt; its unobserved share is not held against it.
        asked_for: Precisions to look at, as in `int8`.
    """
    return "; ".join(filter(None, (_short_of(got, name) for name in asked_for)))


def _short_of(got: Receipt, precision: str) -> str:
    nodes = [node for node in got.wider if node.asked == precision]
    share = sum(node.operations_share for node in nodes)
    if share <= TOLERANCE:
        return ""
    names = ", ".join(f"{node.name} ({node.operations_share:.1%})" for node in nodes[:_NAMED])
    more = f" and {len(nodes) - _NAMED} more" if len(nodes) > _NAMED else ""
    seen = " and ".join(sorted({node.seen for node in nodes}))
    return (
        f"{precision} was asked and {seen} runs for {share:.1%} of the GEMM and convolution "
        f"operations: {names}{more}"
    )
