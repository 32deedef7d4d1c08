"""The report's charts as inline SVG that takes its colours and font from the page.

Rules:
    G1  matplotlib draws with marker colours, and each becomes a CSS variable of the page afterwards:
        one drawing serves light, dark and print.
    G2  Every chart is drawn twice, for a wide and a narrow column, so that text keeps its size.
    G3  Ids are prefixed per drawing, since one page holds them all; nothing refers outside of it.
    G4  A variant is told by line style and label too, never by its colour alone.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jetlift.benchmarks import fidelity_view
from jetlift.runtime.errors import MissingPackageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jetlift.runtime.record import Peak, Result

_COLOURS = {
    "#010101": "--ink", "#020202": "--muted", "#030303": "--line", "#040404": "--card",
    "#050505": "--fp32", "#060606": "--fp16", "#070707": "--bf16", "#080808": "--int8",
    "#090909": "--int4w", "#0a0a0a": "--step1", "#0b0b0b": "--step2", "#0c0c0c": "--step3",
    "#0d0d0d": "--bad",
}  # fmt: skip
_BY_NAME = {variable.removeprefix("--"): colour for colour, variable in _COLOURS.items()}
_STYLES = {"fp32": "-", "fp16": "--", "bf16": "-.", "int8": "-", "int4w": ":"}
_MARKS = {"fp32": "o", "fp16": "s", "bf16": "D", "int8": "^", "int4w": "v"}
_WIDE, _NARROW = 560, 350
_FONT_PX = 12


@dataclass(frozen=True)
class Chart:
    """One chart in both widths.

    Attributes:
        name: Short name, unique in the page.
        title: What it shows.
        caption: How to read it.
        spoken: What a reader who cannot see it must know.
        wide: SVG for columns from 480 px on.
        narrow: SVG below that.
    """

    name: str
    title: str
    caption: str
    spoken: str
    wide: str
    narrow: str


def check_packages() -> None:
    """Refuse early where matplotlib is missing.

    Raises:
        MissingPackageError: It is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingPackageError("matplotlib", extra="report", purpose="to draw charts") from error


def draw_latency(name: str, results: Sequence[Result]) -> Chart:
    """Cumulative distribution of every timed run, one line per variant."""

    def paint(axes: Any) -> None:  # noqa: ANN401 - the library ships no types
        for result in results:
            samples = sorted(result.latency.samples_ms)
            shares = [(index + 1) / len(samples) * 100 for index in range(len(samples))]
            axes.step(
                [samples[0], *samples],
                [0, *shares],
                where="post",
                color=_colour(result.variant),
                linestyle=_STYLES[result.variant],
                linewidth=2.2,
                label=f"{result.variant}  {result.latency.p50_ms:.3g} ms",
            )
        _log_ms(axes, [value for result in results for value in result.latency.samples_ms])
        axes.axhline(50, color=_BY_NAME["line"], linewidth=1, zorder=0)
        axes.set(ylim=(0, 102), yticks=[0, 25, 50, 75, 100])
        axes.set_yticklabels(["0", "25", "50 %", "75", "100"])
        axes.set_xlabel("latency in ms, log scale")
        _legend(axes)

    spoken = "; ".join(
        f"{result.variant}: median {result.latency.p50_ms:.3g} ms, fastest "
        f"{result.latency.min_ms:.3g} ms, slowest {max(result.latency.samples_ms):.3g} ms"
        for result in results
    )
    return _chart(
        name,
        "Latency of every run",
        "Share of runs that took at most this long. Further left is faster, steeper is steadier.",
        spoken,
        paint,
    )


def draw_roofline(name: str, results: Sequence[Result], peak: Peak) -> Chart | None:
    """The machine's measured roofs and each variant under them; None where nothing can be placed."""
    placed = [result for result in results if result.work.bound_ms.value is not None]
    rate = peak.memory_gb_per_s.value
    roofs = {name: item.tops.value for name, item in peak.compute.items() if item.tops.value}
    if not placed or not rate or not roofs:
        return None
    slope = rate / 1e3  # tera-operations per second and operation per byte

    def paint(axes: Any) -> None:  # noqa: ANN401
        at = [result.work.intensity.value or 1.0 for result in placed]
        got = [result.work.achieved_tops.value or 1.0 for result in placed]
        ridges = [tops / slope for tops in roofs.values()]
        left, right = min(*at, *ridges) / 4, max(*at, *ridges) * 5
        top = max(roofs.values())
        axes.plot([left, top / slope], [left * slope, top], color=_BY_NAME["muted"], linewidth=1.6)
        for precision, tops in roofs.items():
            axes.plot([tops / slope, right], [tops] * 2, color=_colour(precision), linewidth=1.6)
            axes.annotate(
                f"{precision} {tops:.2g} TOPS", (right, tops), xytext=(0, 4),
                textcoords="offset points", ha="right", color=_BY_NAME["ink"], size=_FONT_PX - 1,
            )  # fmt: skip
        for result, x, y in zip(placed, at, got, strict=True):
            roof = (result.work.operations.value or 0) / (result.work.bound_ms.value or 1) / 1e9
            axes.plot([x, x], [y, roof], color=_colour(result.variant), linewidth=1, zorder=2)
            axes.plot(
                [x], [y], _MARKS[result.variant], color=_colour(result.variant), markersize=9,
                markeredgecolor=_BY_NAME["card"], label=result.variant, zorder=3,
            )  # fmt: skip
        low = min(*got, left * slope)
        axes.set(xscale="log", yscale="log", xlim=(left, right), ylim=(low / 1.5, top * 1.9))
        axes.annotate(
            f"memory {rate:.3g} GB/s", (left * 1.15, left * slope * 1.15), xytext=(6, -2),
            textcoords="offset points", va="top", color=_BY_NAME["muted"], size=_FONT_PX - 1,
        )  # fmt: skip
        axes.set_xlabel("operations per byte of weights and activations")
        axes.set_ylabel("TOPS")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, _: f"{value:g}")
        _legend(axes)

    spoken = "; ".join(
        f"{result.variant}: {result.work.achieved_tops.value:.3g} TOPS at "
        f"{result.work.intensity.value:.3g} operations per byte, "
        f"{result.work.share_of_peak.value:.0%} of the measured peak, {result.work.binds} binds"
        for result in placed
    )
    return _chart(
        name,
        "Roofline",
        "Lines are what this machine was measured to reach; the stem over a point ends at what its "
        "own mix of operations could reach. The nearer, the less is left to gain.",
        spoken,
        paint,
    )


def draw_memory(name: str, results: Sequence[Result]) -> Chart | None:
    """Resident memory of the measuring process in three steps; None where it was not told."""
    steps = [(result, steps) for result in results if (steps := _memory_steps(result))]
    if not steps:
        return None
    labels = ("Python and numpy", "engine library and model", "at the peak on top")

    def paint(axes: Any) -> None:  # noqa: ANN401
        for row, (result, sizes) in enumerate(steps):
            start = 0.0
            for step, size in enumerate(sizes):
                axes.barh(
                    row, size, left=start, height=0.52, color=_BY_NAME[f"step{step + 1}"],
                    edgecolor=_BY_NAME["card"], linewidth=1, label=None if row else labels[step],
                )  # fmt: skip
                start += size
            axes.annotate(
                f"{start:.0f}", (start, row), xytext=(5, 0), textcoords="offset points",
                va="center", color=_BY_NAME["ink"],
            )  # fmt: skip
            weights = (result.work.weight_bytes.value or 0) / 2**20
            if weights:
                mark = {"color": _BY_NAME["ink"], "linewidth": 2}
                axes.plot(
                    [weights] * 2, [row - 0.36, row + 0.36], **mark,
                    label=None if row else "weights in the graph",
                )  # fmt: skip
        axes.set_yticks(range(len(steps)), [result.variant for result, _ in steps])
        axes.set_ylim(len(steps) - 0.45, -0.55)
        axes.set_xlim(0, max(sum(sizes) for _, sizes in steps) * 1.14)
        axes.set_xlabel("resident memory in MiB")
        axes.grid(visible=False, axis="y")
        _legend(axes, columns=2)

    spoken = "; ".join(f"{result.variant}: {sum(sizes):.0f} MiB at most" for result, sizes in steps)
    return _chart(
        name,
        "Memory of the process",
        "From an idle interpreter to the most that was ever resident. The mark is what the weights "
        "alone take in the graph.",
        spoken,
        paint,
    )


def draw_fidelity(name: str, results: Sequence[Result]) -> Chart | None:
    """Each fidelity figure against its limit; None where there is none."""
    rows = [(result, row) for result in results for row in fidelity_view.rows_of(result)]
    if not rows:
        return None

    def paint(axes: Any) -> None:  # noqa: ANN401
        names = list(dict.fromkeys(row.plain for _, row in rows))
        for result in results:
            own = [row for other, row in rows if other is result]
            shift = (0.16 * (-1) ** results.index(result)) if len(results) > 1 else 0
            places = [names.index(row.plain) + shift for row in own]
            values = [row.value for row in own]
            if own:
                axes.plot(
                    values, places, _MARKS[result.variant], color=_colour(result.variant),
                    markersize=8, markeredgecolor=_BY_NAME["card"], label=result.variant, zorder=3,
                )  # fmt: skip
        limits = {(names.index(row.plain), row.threshold) for _, row in rows if row.threshold}
        for index, (place, limit) in enumerate(sorted(limits)):
            axes.plot(
                [limit] * 2, [place - 0.38, place + 0.38], color=_BY_NAME["bad"], linewidth=2,
                label=None if index else "budget", zorder=2,
            )  # fmt: skip
        low = min(*[row.value for _, row in rows], *[limit for _, limit in limits], 0.999)
        axes.set_xlim(max(low - (1 - low) * 0.12, -1), 1 + (1 - low) * 0.04)
        axes.set_yticks(range(len(names)), [text.replace(": ", "\n") for text in names])
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_xlabel("1 is equal to fp32")
        _legend(axes)

    spoken = "; ".join(
        f"{result.variant} {row.plain} {row.value:.4f}"
        + (f", asked {row.limit}" if row.limit else "")
        for result, row in rows
    )
    return _chart(
        name,
        "Fidelity against fp32",
        "On samples that calibration never saw. A point left of its budget mark has missed it.",
        spoken,
        paint,
        height=max(230, 60 + 46 * len({row.plain for _, row in rows})),
    )


def _memory_steps(result: Result) -> tuple[float, float, float] | None:
    """MiB before loading, gained by loading, gained until the peak."""
    memory = result.memory
    figures = (memory.rss_before_load_bytes, memory.rss_after_load_bytes, memory.rss_peak_bytes)
    if any(figure.value is None for figure in figures):
        return None
    before, loaded, peak = ((figure.value or 0) / 2**20 for figure in figures)
    return before, max(loaded - before, 0.0), max(peak - max(loaded, before), 0.0)


def _colour(variant: str) -> str:
    return _BY_NAME.get(variant, _BY_NAME["ink"])


def _log_ms(axes: Any, values: Sequence[float]) -> None:  # noqa: ANN401
    from matplotlib.ticker import LogLocator, NullFormatter

    low, high = min(values), max(values)
    axes.set_xscale("log")
    axes.set_xlim(low / 1.08, high * 1.08)
    steps = (1, 2, 5) if high / low > 3 else (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)
    axes.xaxis.set_major_locator(LogLocator(base=10, subs=steps, numticks=20))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())


def _legend(axes: Any, *, columns: int = 3) -> None:  # noqa: ANN401
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1.0), ncols=columns, frameon=False, borderaxespad=0.2,
        handlelength=1.6, columnspacing=1.4, handletextpad=0.6, labelcolor=_BY_NAME["ink"],
    )  # fmt: skip


def _chart(
    name: str,
    title: str,
    caption: str,
    spoken: str,
    paint: Callable[[Any], None],
    *,
    height: int = 330,
) -> Chart:
    label = f"{title}. {spoken}."
    wide = _svg(paint, _WIDE, height, f"{name}-w", label)
    return Chart(
        name, title, caption, spoken, wide, _svg(paint, _NARROW, height, f"{name}-n", label)
    )


def _svg(paint: Callable[[Any], None], width: int, height: int, prefix: str, label: str) -> str:
    check_packages()
    import matplotlib as mpl
    from matplotlib.figure import Figure as Canvas

    with mpl.rc_context(_style(prefix)):
        figure = Canvas(figsize=(width / 72, height / 72), layout="constrained")
        axes = figure.add_subplot()
        paint(axes)
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    return _for_page(buffer.getvalue(), prefix, label)


def _style(prefix: str) -> dict[str, Any]:
    ink, muted, line = (_BY_NAME[name] for name in ("ink", "muted", "line"))
    return {
        "svg.fonttype": "none", "svg.hashsalt": prefix, "font.family": "DejaVu Sans",
        "font.size": _FONT_PX, "text.color": ink, "axes.labelcolor": muted,
        "axes.edgecolor": line, "xtick.color": line, "ytick.color": line,
        "xtick.labelcolor": muted, "ytick.labelcolor": muted, "axes.grid": True,
        "grid.color": line, "grid.linewidth": 0.7, "axes.axisbelow": True,
        "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False,
        "ytick.major.size": 0, "xtick.minor.size": 0, "ytick.minor.size": 0,
    }  # fmt: skip


def _for_page(svg: str, prefix: str, label: str) -> str:
    """Make a file of matplotlib's a part of the page (rules G1, G3)."""
    from html import escape

    svg = svg[svg.index("<svg") :]
    for colour, variable in _COLOURS.items():
        svg = svg.replace(colour, f"var({variable})")
    svg = re.sub(r"""(["'])?DejaVu Sans\1""", "var(--sans)", svg)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}-\1"', svg)
    opening = f'<svg role="img" aria-label="{escape(label)}" '
    svg = svg.replace("<svg ", opening, 1)
    return re.sub(
        r'(<svg [^>]*?) width="[^"]*"',
        r"\1",
        re.sub(r'(<svg [^>]*?) height="[^"]*"', r"\1", svg, count=1),
        count=1,
    )
