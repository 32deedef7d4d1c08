"""Two charts of how INT8 was made: sensitivity and precision per block, and share against fidelity.

Each takes a result and gives a Chart, or None where there is nothing to draw.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from jetlift.benchmarks import precision_view
from jetlift.benchmarks.canvas import Chart, Key, colour, draw

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jetlift.benchmarks.precision_view import CurveLine
    from jetlift.runtime.manifest import Block
    from jetlift.runtime.record import Result

_STRIP, _GAP = 0.09, 0.05  # of the axis: height of the strip of precisions, room above it
_PANEL_PX, _AXIS_PX, _SMALLEST_PX = 118, 54, 270


def blocks(name: str, result: Result) -> Chart | None:
    """How much each block costs in fidelity, and which were kept wide."""
    made = result.quantisation
    if made is None:
        return None
    wide = [block for block in made.blocks if block.precision != "int8"]
    if not wide and all(block.sensitivity is None for block in made.blocks):
        return None  # one colour from end to end says no more than its sentence
    worst = precision_view.most_sensitive(made.blocks)
    spoken = f"{len(wide)} of {len(made.blocks)} blocks kept wide"
    if wide:
        spoken += f": {precision_view.named(wide)}"
    if worst:
        spoken += f"; sensitivity, the highest first: {precision_view.named(worst)}"
    return draw(
        name,
        title="Sensitivity, and where precision was kept",
        caption="Each block in the graph's order: how much of the whole loss goes when it alone "
        "stays wide. Below zero the outputs came out further away: errors of blocks may cancel, "
        "and samples are few. The strip shows what the block runs in; a wide one is taller.",
        spoken=spoken,
        legend=(
            Key("INT8", "half", "int8"),
            *(Key(kind.upper(), "box", kind) for kind in dict.fromkeys(b.precision for b in wide)),
        ),
        paint=partial(_paint_blocks, told=made.blocks),
    )


def _paint_blocks(axes: Any, *, told: Sequence[Block]) -> None:  # noqa: ANN401 - matplotlib's types stay out of signatures
    values = [100 * (block.sensitivity or 0.0) for block in told]
    high, low = max(*values, 0.0), min(*values, 0.0)
    room = (high - low) or 1.0
    bottom, top = low - room * _GAP, high + room * 0.06
    strip = room * _STRIP
    for place, (block, value) in enumerate(zip(told, values, strict=True)):
        shade = colour(block.precision)
        axes.bar(place, value, width=0.8, color=shade)
        # A wide block's cell is twice as tall, so that colour is not the only sign.
        share = 0.5 if block.precision == "int8" else 1.0
        axes.bar(place, -strip * share, bottom=bottom, width=0.94, color=shade)
    axes.axhline(0, color=colour("muted"), linewidth=0.8)
    axes.set_xlim(-0.8, len(told) - 0.2)
    axes.set_ylim(bottom - strip, top)
    axes.grid(visible=False, axis="x")
    axes.set_xticks([0, len(told) - 1], ["first block", "last block"])
    for label, side in zip(axes.get_xticklabels(), ("left", "right"), strict=True):
        label.set_horizontalalignment(side)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="x", length=0)
    axes.set_yticks([tick for tick in axes.get_yticks() if bottom <= tick <= top])
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}%")


def curve(name: str, result: Result) -> Chart | None:
    """The budget's figures against the INT8 share, as the search saw them."""
    made = result.quantisation
    lines = tuple(precision_view.curve_lines(result))
    if made is None or not lines:
        return None
    spoken = "; ".join(
        f"{line.plain}, asked {line.limit}: {line.values[0]:.4f} at {line.shares[0]:.1%} in INT8, "
        f"{line.values[-1]:.4f} at {line.shares[-1]:.1%}"
        for line in lines
    )
    return draw(
        name,
        title="INT8 share against fidelity",
        caption="Every assignment that the search measured while it widened blocks, on the search "
        "samples. The figures in the table come from other samples.",
        spoken=spoken,
        legend=(
            Key("measured", "circle", "int8"),
            Key("chosen", "ring", "ink"),
            Key("budget", "dash", "bad"),
        ),
        paint=partial(_paint_curve, lines=lines, chosen=made.int8_share),
        height=max(_SMALLEST_PX, _AXIS_PX + _PANEL_PX * len(lines)),
    )


def _paint_curve(axes: Any, *, lines: Sequence[CurveLine], chosen: float) -> None:  # noqa: ANN401
    """One panel per figure, since each has a scale of its own."""
    figure = axes.figure
    axes.remove()
    panels = figure.subplots(len(lines), 1, sharex=True, squeeze=False)[:, 0]
    for panel, line in zip(panels, lines, strict=True):
        shares = [100 * share for share in line.shares]
        panel.axhline(line.threshold, color=colour("bad"), linewidth=1.6, linestyle="--")
        panel.plot(shares, line.values, color=colour("muted"), linewidth=0.7)
        panel.plot(
            shares, line.values, "o", color=colour("int8"), markersize=5.5,
            markeredgecolor=colour("card"), markeredgewidth=0.8,
        )  # fmt: skip
        at = _nearest(line.shares, chosen)
        panel.plot(
            [shares[at]], [line.values[at]], "o", markersize=11, markerfacecolor="none",
            markeredgecolor=colour("ink"), markeredgewidth=1.6,
        )  # fmt: skip
        low, high = min(*line.values, line.threshold), max(*line.values, line.threshold)
        room = (high - low) or 0.01
        panel.set_ylim(low - room * 0.16, high + room * 0.16)
        panel.set_title(f"{line.plain}, asked {line.limit}", loc="left", fontsize="medium")
        panel.yaxis.set_major_locator(_few_ticks())
        panel.yaxis.set_major_formatter(lambda value, _: f"{value:.5g}")
    panels[-1].set_xlabel("share of weighted operations in INT8")
    panels[-1].xaxis.set_major_formatter(lambda value, _: f"{value:g}%")


def _nearest(shares: Sequence[float], chosen: float) -> int:
    return min(range(len(shares)), key=lambda index: abs(shares[index] - chosen))


def _few_ticks() -> Any:  # noqa: ANN401
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=3, min_n_ticks=2)
