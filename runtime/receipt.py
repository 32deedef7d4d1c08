"""What is known of a finished engine: what runs in which precision, and whether that pays.

Rules:
    R1  What the graph asks and what the builder shows stand side by side; nothing is assumed of a
        layer that nobody saw.
    R2  `not observed` is no pass: it says that nobody could look.
    R3  INT8 earns its place: it is `faster` only where the ratio's whole interval lies below 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jetlift.runtime.jsonform import field

Outcome = Literal["as asked", "wider than asked", "not observed"]
SpeedVerdict = Literal["faster", "slower", "undecided", "not measured"]

UNOBSERVED = "graph only, builder not observed"


@dataclass(frozen=True)
class Shares:
    """What part of the GEMM and convolution of a graph is in which precision."""

    weighted_operations: dict[str, float] = field(
        doc="Of the operations of those with a weight; int8 here is the INT8 share"
    )
    products: dict[str, float] = field(
        doc="Of the operations of products of two activations, as in attention"
    )
    weights: dict[str, float] = field(doc="Of the elements of the weights")


@dataclass(frozen=True)
class WideNode:
    """A node that runs wider than its graph asks."""

    name: str = field(doc="Name of the ONNX node")
    asked: str = field(doc="Precision that the graph types")
    seen: str = field(doc="Precision that its layer is seen to compute in")
    operations_share: float = field(doc="Its share of all GEMM and convolution operations")


@dataclass(frozen=True)
class Receipt:
    """What of the operations really runs in which precision, and who saw it."""

    observed_by: str = field(doc="What was looked at, or that nothing could be")
    proves: str = field(doc="What that shows, and what it does not")
    outcome: Outcome = field(
        doc="Whether everything narrow is seen to run as narrow; `not observed` is no pass"
    )
    operations_share: dict[str, float] = field(
        doc="Share of all GEMM and convolution operations per precision they are seen to run in"
    )
    unobserved_share: float = field(
        doc="Share of GEMM and convolution operations whose layer could not be found in the engine"
    )
    asked: Shares | None = field(
        doc="Shares as the graph types them, weights as they are stored; null where the graph "
        "could not be counted"
    )
    seen: Shares | None = field(
        doc="Shares as the builder shows them, weights by the layer that reads them; what is "
        "missing to 1 was not seen; null where nothing was"
    )
    int8_layers: int = field(doc="Number of INT8 GEMM and convolution layers in the engine")
    wider: tuple[WideNode, ...] = field(
        doc="Nodes that run wider than asked, the most operations first"
    )
    memory_bytes: dict[str, int] = field(
        doc="What the builder says the engine needs, by use; empty where it does not say"
    )


@dataclass(frozen=True)
class Speed:
    """Whether a variant runs faster than fp32 on the target (rule R3)."""

    verdict: SpeedVerdict = field(
        doc="Where the interval of the ratio lies: below 1, above it, or around it"
    )
    note: str = field(doc="How it was measured, or why it was not")
    latency_ms_p50: float | None = field(doc="Median of one run", default=None)
    fp32_latency_ms_p50: float | None = field(
        doc="Median of one run of fp32, timed in the same rounds", default=None
    )
    ratio: float | None = field(
        doc="Median over the rounds of its latency over that of fp32 in the same round",
        default=None,
    )
    ratio_low: float | None = field(doc="Lower end of the ratio's interval", default=None)
    ratio_high: float | None = field(doc="Upper end of the ratio's interval", default=None)
    confidence: float | None = field(doc="Confidence of the interval, 0..1", default=None)
    rounds: int = field(doc="Rounds in which both were timed", default=0)
    processor: str | None = field(doc="Processor it was measured on", default=None)

    @classmethod
    def not_measured(cls, why: str) -> Speed:
        """No speed, and the reason."""
        return cls("not measured", why)
