"""How INT8 was made, as a reader sees it: sentences, every block, the curve the search saw.

Rules:
    Q1  A sensitivity is told as the search measured it. Below zero it says that the outputs came
        out further from fp32, since errors of blocks may cancel; that is not hidden.
    Q2  The curve is of the search samples; what the report says of a variant comes from others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jetlift.benchmarks import fidelity_view
from jetlift.export.fidelity import parse_budget

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jetlift.export.fidelity import BudgetLine
    from jetlift.runtime.manifest import Block, CurvePoint, Quantisation
    from jetlift.runtime.record import Result

_NAMED = 3
_DASH = "\u2013"


@dataclass(frozen=True)
class BlockRow:
    """One block of the search, formatted."""

    name: str
    nodes: str
    operations: str
    sensitivity: str
    precision: str


@dataclass(frozen=True)
class CurveLine:
    """One figure along the curve.

    Attributes:
        plain: The figure in words.
        limit: The budget's line for it, sign and number.
        threshold: The number in that line.
        shares: INT8 share of each point, 0..1.
        values: The figure at each point.
    """

    plain: str
    limit: str
    threshold: float
    shares: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class PrecisionView:
    """How the INT8 of a part was made.

    Attributes:
        variants: Names of the variants that share it.
        sentences: What was kept where, and how it was found.
        blocks: Every block, in the graph's order.
        lines: The budget's figures along the curve; empty where there is no curve.
        points: Rows of the curve's table: INT8 share, then the figures of `lines`.
    """

    variants: str
    sentences: tuple[str, ...]
    blocks: tuple[BlockRow, ...]
    lines: tuple[CurveLine, ...]
    points: tuple[tuple[str, ...], ...]


def quantised(results: Sequence[Result]) -> list[tuple[str, Result]]:
    """One result per way INT8 was made, with the names of the variants that share it."""
    found: list[tuple[list[str], Result]] = []
    for result in results:
        if result.quantisation is None:
            continue
        same = next((item for item in found if item[1].quantisation == result.quantisation), None)
        if same is None:
            found.append(([result.variant], result))
        else:
            same[0].append(result.variant)
    return [(", ".join(names), result) for names, result in found]


def view(variants: str, result: Result) -> PrecisionView | None:
    """Say how a result's INT8 was made; None where it has none."""
    made = result.quantisation
    if made is None:
        return None
    lines = tuple(curve_lines(result))
    total = sum(block.operations for block in made.blocks) or 1.0
    return PrecisionView(
        variants=variants,
        sentences=tuple(_sentences(made)),
        blocks=tuple(
            BlockRow(
                name=block.name,
                nodes=", ".join(block.nodes),
                operations=f"{block.operations / total:.1%}",
                sensitivity=percent(block.sensitivity),
                precision=block.precision,
            )
            for block in made.blocks
        ),
        lines=lines,
        points=tuple(
            (f"{point.int8_share:.1%}", *(f"{line.values[index]:.4f}" for line in lines))
            for index, point in enumerate(made.curve)
        )
        if lines
        else (),
    )


def _sentences(made: Quantisation) -> Iterator[str]:
    weights = made.weights_share.get("int8", 0.0)
    yield (
        f"{made.int8_share:.1%} of the operations of weighted GEMM and convolution are in INT8, "
        f"and {weights:.1%} of the weights that can be. Products of two activations stay wide and "
        "count in neither."
    )
    wide = [block for block in made.blocks if block.precision != "int8"]
    if wide:
        names = named(sorted(wide, key=lambda block: -block.operations))
        yield f"{len(wide)} of {len(made.blocks)} blocks were kept wide: {names}."
    else:
        yield f"All {len(made.blocks)} blocks are in INT8."
    measured = most_sensitive(made.blocks)
    if measured:
        yield f"Sensitivity, the highest first: {named(measured)}."
    else:
        yield (
            "No block's sensitivity was measured, since everything fitted; "
            "jetlift export --explore measures it."
        )
    if made.search is not None:
        end = "to its end" if made.finished else "until its time was up"
        yield f"Searched {end} on {made.search.count} samples ({made.search.note})."


def most_sensitive(blocks: Sequence[Block]) -> list[Block]:
    """Blocks with a measured sensitivity, the most sensitive first."""
    measured = [block for block in blocks if block.sensitivity is not None]
    return sorted(measured, key=lambda block: -(block.sensitivity or 0.0))


def named(blocks: Sequence[Block]) -> str:
    """A few blocks by their nodes, with their sensitivity where it was measured."""
    told = [
        " + ".join(block.nodes or (block.name,))
        + (f" ({percent(block.sensitivity)})" if block.sensitivity is not None else "")
        for block in blocks[:_NAMED]
    ]
    left = len(blocks) - len(told)
    return ", ".join(told) + (f" and {left} more" if left else "")


def percent(share: float | None) -> str:
    """A sensitivity, as in `+4.7%`."""
    return _DASH if share is None else f"{share:+.1%}"


def curve_lines(result: Result) -> Iterator[CurveLine]:
    """The budget's figures along the curve (rule Q2); none where fidelity was not judged."""
    made, judged = result.quantisation, result.fidelity
    if made is None or judged is None or len(made.curve) < 2:
        return
    for line in parse_budget(judged.budget):
        for name in made.curve[0].figures:
            output, _, metric = name.rpartition(".")
            if metric == line.metric and line.output in (None, output):
                told = _line(line, name, made.curve)
                if told is not None:
                    yield told


def _line(line: BudgetLine, name: str, curve: Sequence[CurvePoint]) -> CurveLine | None:
    """One figure along the curve; None where a point lacks it or what it is measured against."""
    needed = {name, f"{name}_fp32"} if line.relative else {name}
    if not all(needed <= point.figures.keys() for point in curve):
        return None
    base = curve[0].figures[f"{name}_fp32"] if line.relative else 0.0
    return CurveLine(
        plain=fidelity_view.plain_name(name),
        limit=fidelity_view.limit_text(line),
        threshold=line.limit + base,
        shares=tuple(point.int8_share for point in curve),
        values=tuple(point.figures[name] for point in curve),
    )
