"""A comparison as one drawing: per model, each graph by its distance from fp32.

Rules:
    D1  A panel shows the figures that the budget wants high: shares, of which 1 is perfect. The
        axis counts nines (0.9, 0.99, 0.999), so that a good graph and a very good one lie apart.
    D2  A figure that the budget wants low, a rate of errors, has a panel of its own, with fp32's as
        a line and the interval of the difference where the metric gives them.
    D3  A graph without figures keeps its row, which says so. On the right stand its INT8 share and
        whether TensorRT-RTX built it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from jetlift.benchmarks.canvas import FONT_PX, colour, draw_alone
from jetlift.benchmarks.compare_table import base_of, budget_figures, figure_names, interval_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jetlift.benchmarks.compare_form import Comparison, MethodResult, Table

_MARKS = "osD^v"
_MOST_NINES = 4
_WIDTH_PX, _ROW_PX, _PANEL_PX, _LEGEND_PX = 760, 24, 92, 18


@dataclass(frozen=True)
class _Panel:
    """Figures of one comparison that share an axis."""

    comparison: Comparison
    names: tuple[str, ...]
    nines: bool

    @property
    def legend_px(self) -> int:
        """Height of the legend, two figures to a line."""
        return _LEGEND_PX * math.ceil(len(self.names) / 2)

    @property
    def height_px(self) -> int:
        return _PANEL_PX + self.legend_px + _ROW_PX * len(self.comparison.results)


def to_svg(table: Table) -> str | None:
    """Draw the comparisons as one file that follows the reader's light or dark scheme.

    Returns:
        The file's text; None where no graph has a figure.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    panels = [panel for comparison in table.comparisons for panel in _panels(comparison)]
    if not panels:
        return None
    return draw_alone(
        "compare",
        spoken="INT8 graphs and how near they are to fp32. "
        + "; ".join(_spoken(panel) for panel in panels),
        paint=partial(_paint, panels=panels),
        width=_WIDTH_PX,
        height=sum(panel.height_px for panel in panels),
    )


def _panels(comparison: Comparison) -> list[_Panel]:
    """Panels of the budget's figures (rules D1 and D2)."""
    signs = budget_figures(comparison, figure_names(comparison))
    shares = tuple(name for name, sign in signs.items() if sign == ">=")
    panels = [_Panel(comparison, shares, nines=True)] if shares else []
    return panels + [
        _Panel(comparison, (name,), nines=False) for name, sign in signs.items() if sign == "<="
    ]


def _spoken(panel: _Panel) -> str:
    told = []
    for result in panel.comparison.results:
        figures = result.figures or {}
        values = [f"{name} {figures[name]:.4g}" for name in panel.names if name in figures]
        told.append(f"{result.title}: {', '.join(values) or 'no figure'}")
    return f"{panel.comparison.model} {panel.comparison.part}: {'; '.join(told)}"


def _paint(axes: Any, *, panels: Sequence[_Panel]) -> None:  # noqa: ANN401 - matplotlib's types stay out of signatures
    figure = axes.figure
    axes.remove()
    heights = [panel.height_px for panel in panels]
    grid = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)
    for own, panel in zip(grid[:, 0], panels, strict=True):
        _paint_panel(own, panel)


def _paint_panel(axes: Any, panel: _Panel) -> None:  # noqa: ANN401
    results = panel.comparison.results
    for mark, name in zip(_MARKS, panel.names, strict=False):
        for row, result in enumerate(results):
            _paint_figure(axes, panel, result, name, (row, mark))
        axes.plot([], [], mark, color=colour("muted"), label=name, markersize=7)
    for row, result in enumerate(results):
        _paint_ends(axes, row, result)
    axes.set_yticks(range(len(results)), [result.title for result in results])
    for label, result in zip(axes.get_yticklabels(), results, strict=True):
        label.set_color(colour(_colour_of(result)))
    axes.set_ylim(len(results) - 0.4, -0.6)
    title = f"{panel.comparison.model}, {panel.comparison.part}"
    axes.set_title(title, loc="left", pad=8 + panel.legend_px, size=FONT_PX + 1, weight="bold")
    legend = axes.legend(
        loc="lower left", bbox_to_anchor=(-0.02, 0.99), ncols=2, frameon=False, borderpad=0,
        handletextpad=0.1, columnspacing=1.2, fontsize=FONT_PX - 1,
    )  # fmt: skip
    legend.set_in_layout(False)  # the title keeps its room; its width must not narrow the rows
    _scale(axes, panel)


def _paint_figure(
    axes: Any,  # noqa: ANN401
    panel: _Panel,
    result: MethodResult,
    name: str,
    place: tuple[int, str],
) -> None:
    figures = result.figures or {}
    if name not in figures:
        return
    row, mark = place
    value = _nines(figures[name]) if panel.nines else figures[name]
    base, interval = base_of(figures, name), interval_of(figures, name)
    if base is not None and interval is not None:
        ends = [base + interval[0], base + interval[1]]
        axes.plot(ends, [row, row], color=colour(_colour_of(result)), linewidth=2)
    axes.plot(
        [value], [row], mark, color=colour(_colour_of(result)), markersize=8, clip_on=False,
        markeredgecolor=colour("card"), zorder=3,
    )  # fmt: skip


def _paint_ends(axes: Any, row: int, result: MethodResult) -> None:  # noqa: ANN401
    across = axes.get_yaxis_transform()
    if result.figures is None:
        axes.text(0.02, row, "no figure", transform=across, va="center", color=colour("bad"))
    told = [] if result.int8_share is None else [f"{result.int8_share:.0%} INT8"]
    if result.rtx is not None:
        told.append("builds" if result.rtx.built else "refused")
    axes.text(1.03, row, ", ".join(told), transform=across, va="center", color=colour("muted"))


def _scale(axes: Any, panel: _Panel) -> None:  # noqa: ANN401
    axes.grid(visible=False, axis="y")
    if panel.nines:
        axes.set_xlim(-0.08, _MOST_NINES)
        ticks = range(_MOST_NINES)
        labels = [f"{1 - 10.0**-nines:.{nines}f}" for nines in ticks]
        axes.set_xticks([*ticks, _MOST_NINES], [*labels, "1"])
        axes.set_xlabel("1 is equal to fp32")
        return
    (name,) = panel.names
    bases = [base_of(result.figures or {}, name) for result in panel.comparison.results]
    base = next((value for value in bases if value is not None), None)
    if base is not None:
        axes.axvline(base, color=colour("ink"), linewidth=1.2, linestyle="--")
        axes.annotate(
            f"fp32 {base:.3g}", (base, 0), xycoords=("data", "axes fraction"), xytext=(4, 1),
            textcoords="offset points", va="bottom", size=FONT_PX - 2, color=colour("ink"),
        )  # fmt: skip
    axes.set_xlim(left=0)
    axes.set_xlabel("less is better")


def _nines(value: float) -> float:
    """Number of nines of a share: 0.99 has two. At most _MOST_NINES, at least none."""
    lost = min(1.0, max(10.0**-_MOST_NINES, 1 - value))
    return -math.log10(lost)


def _colour_of(result: MethodResult) -> str:
    return "int8" if result.method.startswith("jetlift") else "muted"
