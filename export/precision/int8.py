"""INT8 that keeps its promise: calibrated, treated, searched, and told in the manifest's words.

Rules:
    I1  Weighted MatMul, Gemm and Conv are quantised where the search says; products of two
        activations stay wide, and so does a convolution of the graph's input.
    I2  Calibration samples give ranges; search samples choose treatments and what stays wide.
    I3  An operator that cannot be quantised stays wide and is named.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jetlift.export.precision.calibrate import observe
from jetlift.export.precision.fp16 import Typed
from jetlift.export.precision.search import TIME_LIMIT_S, Search
from jetlift.export.precision.sites import by_activation, find_sites
from jetlift.runtime.errors import UsageError
from jetlift.runtime.manifest import Block, CurvePoint, Quantisation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt
    import onnx_ir as ir

    from jetlift.export.precision.calibrate import Activation
    from jetlift.export.precision.evaluate import Evaluator
    from jetlift.export.precision.search import Found
    from jetlift.export.precision.sites import Site
    from jetlift.runtime.manifest import SampleSet

    Feeds = Mapping[str, npt.NDArray[Any]]

MINIMUM_OPSET = 13  # per-channel DequantizeLinear


@dataclass(frozen=True)
class SearchOptions:
    """How much a search may do.

    Attributes:
        time_limit_s: Bound in seconds; the answer always meets the budget, with more time it has
            more in INT8.
        explore: Measure sensitivity and the curve even where everything fits in INT8.
        keep: Where nothing meets the budget, answer with everything in INT8.
    """

    time_limit_s: float = TIME_LIMIT_S
    explore: bool = False
    keep: bool = False


@dataclass(frozen=True)
class Quantised:
    """An INT8 graph and how it was made.

    Attributes:
        typed: The graph.
        treated: The float graph it was typed from, whose tensors it has under the same names.
        quantisation: How it was made.
    """

    typed: Typed
    treated: ir.Model
    quantisation: Quantisation


def to_int8(
    model: ir.Model,
    calibration: Sequence[Feeds],
    evaluator: Evaluator,
    operations: Mapping[str, float],
    *,
    saved_s: Mapping[str, float] | None = None,
    options: SearchOptions | None = None,
    samples: SampleSet | None = None,
    tell: Callable[[str, float], None] = lambda _doing, _share: None,
) -> Quantised:
    """Quantise a float32 graph (rules I1 to I3). The model given is not changed.

    Args:
        model: A float32 graph, opset 13 or newer.
        calibration: Graph inputs of the calibration samples.
        evaluator: Measures assignments on the search samples, and knows the budget.
        operations: Operations of each weighted GEMM and convolution, MAC x 2, by node.
        saved_s: Estimated seconds that INT8 saves of each, by node; None prefers none.
        options: How much the search may do.
        samples: The search samples, for the manifest.
        tell: Called with what is done and the share done, 0 to 1.

    Raises:
        UsageError: The opset is too old, or nothing in the graph can be quantised.
        InputError: The samples are empty or give NaN.
        FidelityError: Nothing is within the budget.
    """
    chosen = options or SearchOptions()
    sites, kept_wide = _sites_of(model)
    seen = observe_sites(model, sites, calibration, lambda share: tell("calibrate", share))
    groups = by_activation(sites)
    per_block, saved = (
        {name: sum(amounts.get(site.name, 0.0) for site in group) for name, group in groups.items()}
        for amounts in (operations, saved_s or {})
    )
    found = Search(
        model,
        seen,
        per_block,
        evaluator,
        saved_s=saved,
        time_limit_s=chosen.time_limit_s,
        explore=chosen.explore,
        keep=chosen.keep,
        tell=tell,
    ).run()
    wide_nodes = {node for b in found.assignment.wide for node in found.prepared.blocks[b]}
    kept_wide += [f"{site.name}: kept by the search" for site in sites if site.name in wide_nodes]
    typed = Typed(found.prepared.typed(found.assignment.wide), tuple(kept_wide))
    told = _told(found, sites, per_block, operations, evaluator.evaluations, samples)
    return Quantised(typed, found.prepared.model, told)


def _sites_of(model: ir.Model) -> tuple[list[Site], list[str]]:
    opset = model.opset_imports.get("", 0)
    if opset < MINIMUM_OPSET:
        raise UsageError(
            f"The graph is of opset {opset}",
            expected=f"Opset {MINIMUM_OPSET} or newer, which has per-channel scales",
        )
    sites, kept_wide = find_sites(model.graph)
    if not sites:
        raise UsageError(
            "The graph has no weighted MatMul, Gemm or Conv to quantise",
            do="Export it without int8",
        )
    return sites, kept_wide


def observe_sites(
    model: ir.Model,
    sites: Sequence[Site],
    samples: Sequence[Feeds],
    progress: Callable[[float], None] | None = None,
) -> dict[str, Activation]:
    """What the samples show of every tensor that a site reads.

    Raises:
        InputError: No samples, or NaN on one.
    """
    axes = {}
    for site in sites:
        rank = len(site.activation.shape) if site.activation.shape is not None else 2
        axes[str(site.activation.name)] = 1 if site.is_conv else rank - 1
    return observe(model, axes, samples, progress=progress)


def _told(
    found: Found,
    sites: Sequence[Site],
    per_block: Mapping[str, float],
    operations: Mapping[str, float],
    evaluations: int,
    samples: SampleSet | None,
) -> Quantisation:
    """The manifest's word on how it was made."""
    wide, total = found.assignment.wide, sum(operations.values())
    blocks = tuple(
        Block(
            name=name,
            nodes=nodes,
            operations=per_block[name],
            precision="fp32" if name in wide else "int8",
            sensitivity=found.sensitivity.get(name),
        )
        for name, nodes in found.prepared.blocks.items()
    )
    used = Counter(str(found.assignment.treatments[block]) for block in found.prepared.blocks)
    common = used.most_common(1)[0][0]
    other = {
        block: str(treatment)
        for block, treatment in found.assignment.treatments.items()
        if str(treatment) != common
    }

    def share_without(names: frozenset[str]) -> float:
        narrow = sum(ops for block, ops in per_block.items() if block not in names)
        return round(narrow / total, 6) if total else 0.0

    curve = sorted(
        (CurvePoint(share_without(names), measured.figures) for names, measured in found.seen),
        key=lambda point: -point.int8_share,
    )
    return Quantisation(
        treatment={"every block": common, **other},
        calibrators=dict(
            Counter(c for b, c in found.prepared.calibrators.items() if b not in wide)
        ),
        int8_share=share_without(wide),
        weights_share=_weights_share(sites, wide),
        blocks=blocks,
        curve=tuple(curve),
        search=samples,
        evaluations=evaluations,
        finished=found.finished,
    )


def _weights_share(sites: Sequence[Site], wide: frozenset[str]) -> dict[str, float]:
    """Share of the sites' weights per precision, by elements."""
    sizes: Counter[str] = Counter()
    for site in sites:
        kind = "fp32" if str(site.activation.name) in wide else "int8"
        sizes[kind] += site.array().size
    total = sum(sizes.values())
    return {kind: round(size / total, 6) for kind, size in sorted(sizes.items())}
