"""What a result of a record says besides its times: the work of a run, and its fidelity."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jetlift.runtime.figure import Figure
from jetlift.runtime.record import Work

if TYPE_CHECKING:
    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.manifest import Cost

# What a result of a bundle with random weights says in place of a verdict.
STRUCTURE_NOTE = "not judged: random weights are structure"
OTHERS_BUSY = 0.10  # share of the cores beyond which other processes are said to disturb


def counted(cost: Cost, p50_ms: float, *, io_bytes: int, at_opt_shape: bool, no_peak: str) -> Work:
    """The work of one run, without its place under a roof.

    Args:
        cost: The manifest's, of one run at opt_shape.
        p50_ms: Median latency.
        io_bytes: Bytes of all inputs and outputs.
        at_opt_shape: Whether the run had the shapes that `cost` is for.
        no_peak: Why the machine's peak is not known.
    """
    if cost.operations <= 0:
        return _unplaced("the bundle counts no operations")
    if not at_opt_shape:
        return _unplaced("operations are counted at opt_shape, and other shapes were fed")
    moved, none = cost.weight_bytes + io_bytes, Figure.missing(no_peak)
    return Work(
        operations=Figure(cost.operations),
        operations_by_precision=cost.operations_by_precision,
        weight_bytes=Figure(cost.weight_bytes),
        activation_bytes=Figure(cost.activation_bytes),
        moved_bytes=Figure(moved),
        intensity=Figure(round(cost.operations / moved, 4)),
        achieved_tops=Figure(round(cost.operations / p50_ms / 1e9, 6)),
        share_of_peak=none,
        bound_ms=none,
        binds=None,
    )


def _unplaced(reason: str) -> Work:
    """No figure at all, each with the reason."""
    none = Figure.missing(reason)
    return Work(none, {}, none, none, none, none, none, none, none, None)


def fidelity_note(bundle: Bundle, variant: str, *, measured: bool) -> str:
    """Why a result has no fidelity figures, or what they are held against."""
    if measured:
        return "against this bundle's fp32"
    if bundle.manifest.weights.random:
        return STRUCTURE_NOTE
    if variant == "fp32":
        return "the reference of the others"
    return "not measured: the bundle was exported without samples"
