"""The table at the end of `build-engines`: one row per engine, asked for and got.

Rules:
    W1  A cell without an engine has a row too, with the reason.
    W2  `gate` is `passed` only where fidelity was met and the receipt saw what was asked; what
        nobody could look at is `open`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from jetlift.engines.handover import Handover
from jetlift.runtime.jsonform import field

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jetlift.engines.build import BuildResult
    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.errors import JetliftError

SCHEMA_VERSION = 1
Outcome = Literal["built", "kept", "handed over", "refused", "failed"]
Gate = Literal["passed", "failed", "open"]


@dataclass(frozen=True)
class Row:
    """One engine that was asked for."""

    model: str = field(doc="Name of the model in the manifest")
    target: str = field(doc="What it was to be built for")
    part: str | None = field(doc="Part of the model; null where it did not come to parts")
    precision: str | None = field(doc="Variant; null where it did not come to variants")
    outcome: Outcome = field(
        doc="`handed over`: only the target itself can build it, and its recipe is written"
    )
    reason: str = field(doc="Why, in words")
    engine: str | None = field(doc="The engine's path within the bundle; null without one")
    size_bytes: int | None = field(doc="The engine's size; null without one")
    seconds: float | None = field(doc="Wall time of the build; null where nothing was built")
    gate: Gate = field(doc="Fidelity and receipt together; `open` where one could not be seen")
    gate_reason: str = field(doc="Why the gate is not `passed`; else empty")
    int8_share: float | None = field(
        doc="Share of weighted operations that the builder shows in INT8; null where not seen"
    )
    speed: str | None = field(doc="Whether INT8 is faster than fp32; null where nothing was earned")
    speed_ratio: float | None = field(doc="Its latency over that of fp32; null where not measured")
    exit_code: int = field(doc="What the failure means on the command line; 0 without one")

    @classmethod
    def failed(cls, model: str, target: str, error: JetliftError) -> Row:
        """The row of a cell that came to nothing (rule W1)."""
        return cls(
            model=model, target=target, part=None, precision=None, outcome="failed",
            reason=str(error), engine=None, size_bytes=None, seconds=None, gate="open",
            gate_reason="nothing was built", int8_share=None, speed=None, speed_ratio=None,
            exit_code=error.exit_code,
        )  # fmt: skip


@dataclass(frozen=True)
class Table:
    """The whole of engines.json."""

    schema_version: int = field(doc="Version of this schema")
    jetlift: str = field(doc="Version of jetlift")
    rows: tuple[Row, ...] = field(doc="One per engine, in the manifest's order")

    @property
    def exit_code(self) -> int:
        """The worst that happened: a refused artefact or a lacking machine before a gate."""
        codes = [row.exit_code for row in self.rows]
        codes += [1 for row in self.rows if row.gate == "failed" or row.outcome == "refused"]
        return max(codes, default=0)


def rows_of(
    model: str, bundle: Bundle, target: str, built: Sequence[BuildResult] | Handover
) -> tuple[Row, ...]:
    """The rows of one model and target."""
    if isinstance(built, Handover):
        return _handed_over(model, target, built)
    return tuple(_engine_row(model, bundle, target, result) for result in built)


def _engine_row(model: str, bundle: Bundle, target: str, result: BuildResult) -> Row:
    passport = result.passport
    gate, why = _gate(bundle, result)
    speed, seen = passport.speed, passport.receipt.seen
    return Row(
        model=model,
        target=target,
        part=result.part,
        precision=result.precision,
        outcome=result.action,
        reason=result.reason,
        engine=str(result.engine_path.relative_to(bundle.folder)),
        size_bytes=passport.engine_size_bytes,
        seconds=round(result.seconds, 3) if result.action == "built" else None,
        gate=gate,
        gate_reason=why,
        int8_share=seen.weighted_operations.get("int8", 0.0) if seen is not None else None,
        speed=speed.verdict if result.precision.startswith("int") else None,
        speed_ratio=speed.ratio,
        exit_code=0,
    )


def _gate(bundle: Bundle, result: BuildResult) -> tuple[Gate, str]:
    """Fidelity and receipt together (rule W2)."""
    variant = bundle.variant(result.part, result.precision)
    if variant.fidelity is not None and not variant.fidelity.met:
        return "failed", "it misses its fidelity budget"
    if result.shortfall:
        return "failed", result.shortfall
    if variant.fidelity is None and result.precision != "fp32":
        return "open", "its fidelity was not measured"
    receipt = result.passport.receipt
    if receipt.outcome == "not observed":
        unseen = f"{receipt.unobserved_share:.1%} of the operations were not seen"
        return "open", f"{unseen} ({receipt.observed_by})"
    if result.widened:
        return "open", result.widened
    return "passed", ""


def _handed_over(model: str, target: str, handover: Handover) -> tuple[Row, ...]:
    return tuple(
        Row(
            model=model, target=target, part=item.part, precision=item.variant,
            outcome="refused" if item.verdict == "refused" else "handed over",
            reason=item.reason
            if item.verdict == "refused"
            else f"on the board: {handover.recipe.command}", engine=None, size_bytes=None,
            seconds=None, gate="open", gate_reason="only the board can build it", int8_share=None,
            speed=None, speed_ratio=None, exit_code=0,
        )
        for item in handover.recipe.engines
    )  # fmt: skip
