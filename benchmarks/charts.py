"""The report's four charts: latency, roofline, memory, fidelity.

Each takes results of one part and gives a Chart, or None where there is nothing to draw.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from jetlift.benchmarks import fidelity_view
from jetlift.benchmarks.canvas import FONT_PX, Chart, Key, colour, draw

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jetlift.benchmarks.fidelity_view import FidelityRow
    from jetlift.runtime.record import Peak, Result

_STYLES = {
    "fp32": "-", "fp16": "--", "bf16": "-.", "int8": "-", "int8-fp16": "--", "int4w": ":",
    "int8w": "-.", "int8w-fp16": ":", "int4w-fp16": "--",
}  # fmt: skip
_MARKS = {
    "fp32": "o", "fp16": "s", "bf16": "D", "int8": "^", "int8-fp16": "P", "int4w": "v",
    "int8w": "s", "int8w-fp16": "D", "int4w-fp16": "v",
}  # fmt: skip
_SHAPES = {"o": "circle", "s": "square", "D": "diamond", "^": "up", "P": "plus", "v": "down"}
_ROOFS = {
    "measured": "what this machine was measured to reach",
    "facts": "the board's dense peak in its power mode and at its clocks",
}
_LOG_FROM = 8  # a wider range of latencies than this is drawn on a log axis
_STEPS = ("Python and numpy", "engine library and model", "more while running")


def latency(name: str, results: Sequence[Result]) -> Chart:
    """Cumulative distribution of every timed run, one line per variant."""
    spoken = "; ".join(
        f"{result.variant}: median {result.latency.p50_ms:.3g} ms, fastest "
        f"{result.latency.min_ms:.3g} ms, slowest {max(result.latency.samples_ms):.3g} ms"
        for result in results
    )
    return draw(
        name,
        title="Latency of every run",
        caption="Share of runs that took at most this long. Further left is faster, steeper is "
        "steadier.",
        spoken=spoken,
        legend=tuple(
            Key(
                f"{result.variant}, median {result.latency.p50_ms:.3g} ms",
                "line" if _STYLES[result.variant] == "-" else "dash",
                result.variant,
            )
            for result in results
        ),
        paint=partial(_paint_latency, results=results),
    )


def _paint_latency(axes: Any, *, results: Sequence[Result]) -> None:  # noqa: ANN401 - matplotlib's types stay out of signatures
    for result in results:
        samples = sorted(result.latency.samples_ms)
        shares = [(index + 1) / len(samples) * 100 for index in range(len(samples))]
        axes.step(
            [samples[0], *samples], [0, *shares], where="post", linewidth=2.2,
            color=colour(result.variant), linestyle=_STYLES[result.variant],
        )  # fmt: skip
    values = [value for result in results for value in result.latency.samples_ms]
    low, high = min(values), max(values)
    log = high > low * _LOG_FROM
    room = 0.0 if log else (high - low) * 0.04 or low * 0.04
    axes.set_xscale("log" if log else "linear")
    axes.set_xlim(low / 1.1 if log else low - room, high * 1.1 if log else high + room)
    if log:
        _plain_log_ticks(axes.xaxis)
    axes.set(ylim=(0, 102), yticks=[0, 25, 50, 75, 100], xlabel=f"ms{', log scale' if log else ''}")
    axes.set_yticklabels(["0", "25", "50", "75", "100%"])


def roofline(name: str, results: Sequence[Result], peak: Peak) -> Chart | None:
    """The machine's measured roofs and each variant under them."""
    placed = [result for result in results if result.work.bound_ms.value]
    rate = peak.memory_gb_per_s.value
    roofs = {name: item.tops.value for name, item in peak.compute.items() if item.tops.value}
    if not placed or not rate or not roofs:
        return None
    spoken = "; ".join(
        f"{result.variant}: {result.work.achieved_tops.value:.3g} TOPS at "
        f"{result.work.intensity.value:.3g} operations per byte, "
        f"{result.work.share_of_peak.value:.0%} of the peak, {result.work.binds} binds"
        for result in placed
    )
    return draw(
        name,
        title="Roofline",
        caption=f"Lines are {_ROOFS[peak.basis]}. The stem over a point ends at "
        "what its own mix of operations could reach: the shorter, the less is left to gain.",
        spoken=spoken,
        legend=tuple(_mark_key(result) for result in placed),
        paint=partial(_paint_roofline, placed=placed, roofs=roofs, slope=rate / 1e3),
    )


def _paint_roofline(
    axes: Any,  # noqa: ANN401
    *,
    placed: Sequence[Result],
    roofs: dict[str, float],
    slope: float,
) -> None:
    """Draw roofs (TOPS), the memory slope (tera-bytes per second) and the variants' points."""
    at = [result.work.intensity.value or 1.0 for result in placed]
    got = [result.work.achieved_tops.value or 1.0 for result in placed]
    ridges = [tops / slope for tops in roofs.values()]
    left, right = min(*at, *ridges) / 4, max(*at, *ridges) * 30  # room for the roofs' names
    top, small = max(roofs.values()), FONT_PX - 1
    axes.plot([left, top / slope], [left * slope, top], color=colour("muted"), linewidth=1.6)
    for precision, tops in roofs.items():
        axes.plot([tops / slope, right], [tops] * 2, color=colour(precision), linewidth=1.6)
        axes.annotate(
            f"{precision} {tops:.3g} TOPS", (right, tops), xytext=(0, 4), ha="right", size=small,
            textcoords="offset points",
        )  # fmt: skip
    for result, x, y in zip(placed, at, got, strict=True):
        reachable = (result.work.operations.value or 0) / (result.work.bound_ms.value or 1) / 1e9
        axes.plot([x, x], [y, reachable], color=colour(result.variant), linewidth=1.2)
        _mark(axes, result, [x], [y])
    axes.set(xscale="log", yscale="log", xlim=(left, right), xlabel="operations per byte")
    axes.set(ylim=(min(*got, left * slope) / 1.5, top * 1.9), ylabel="TOPS")
    axes.annotate(
        f"memory {slope * 1e3:.3g} GB/s", (left, left * slope), xytext=(16, 4), size=small,
        textcoords="offset points", va="center", color=colour("muted"),
    )  # fmt: skip
    for axis in (axes.xaxis, axes.yaxis):
        _plain_log_ticks(axis)


def _plain_log_ticks(axis: Any) -> None:  # noqa: ANN401
    from matplotlib.ticker import LogLocator, NullFormatter

    low, high = sorted(axis.get_view_interval())
    axis.set_major_locator(LogLocator(subs=(1.0,) if high / low > 1e3 else (1.0, 2.0, 5.0)))
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_formatter(NullFormatter())


def memory(name: str, results: Sequence[Result]) -> Chart | None:
    """Resident memory of the measuring process in three steps."""
    told = [(result, steps) for result in results if (steps := _memory_steps(result))]
    if not told:
        return None
    keys = tuple(Key(label, "box", f"step{i + 1}") for i, label in enumerate(_STEPS))
    return draw(
        name,
        title="Memory of the process",
        caption="From an idle interpreter to the most that was ever resident, in MiB.",
        spoken="; ".join(
            f"{result.variant}: {sum(sizes):.0f} MiB at most" for result, sizes in told
        ),
        legend=(*keys, Key("weights in the graph", "tick", "ink")),
        paint=partial(_paint_memory, told=told),
        height=86 + 62 * len(told),
    )


def _paint_memory(
    axes: Any,  # noqa: ANN401
    *,
    told: Sequence[tuple[Result, tuple[float, float, float]]],
) -> None:
    for row, (result, sizes) in enumerate(told):
        start = 0.0
        for step, size in enumerate(sizes):
            axes.barh(
                row, size, left=start, height=0.5, color=colour(f"step{step + 1}"),
                edgecolor=colour("card"), linewidth=1,
            )  # fmt: skip
            start += size
        axes.annotate(
            f"{start:.0f}", (start, row), xytext=(6, 0), textcoords="offset points", va="center"
        )
        weights = (result.work.weight_bytes.value or 0) / 2**20
        if weights:
            axes.plot([weights] * 2, [row - 0.36, row + 0.36], color=colour("ink"), linewidth=2)
    axes.set_yticks(range(len(told)), [result.variant for result, _ in told])
    axes.set_ylim(len(told) - 0.5, -0.5)
    axes.set_xlim(0, max(sum(sizes) for _, sizes in told) * 1.16)
    axes.set_xlabel("MiB")
    axes.grid(visible=False, axis="y")


def _memory_steps(result: Result) -> tuple[float, float, float] | None:
    """MiB before loading, gained by loading, gained until the peak."""
    told = result.memory
    figures = (told.rss_before_load_bytes, told.rss_after_load_bytes, told.rss_peak_bytes)
    if any(figure.value is None for figure in figures):
        return None
    before, loaded, peak = ((figure.value or 0) / 2**20 for figure in figures)
    return before, max(loaded - before, 0.0), max(peak - max(loaded, before), 0.0)


def fidelity(name: str, results: Sequence[Result]) -> Chart | None:
    """Each fidelity figure against its limit."""
    rows = {result.variant: fidelity_view.rows_of(result) for result in results}
    judged = any(row.threshold is not None for own in rows.values() for row in own)
    rows = {
        variant: shown
        for variant, own in rows.items()
        if (shown := [row for row in own if row.threshold is not None or not judged])
    }
    if not rows:
        return None
    names = list(dict.fromkeys(row.plain for own in rows.values() for row in own))
    spoken = "; ".join(
        f"{variant} {row.plain} {row.value:.4f}{f', asked {row.limit}' if row.limit else ''}"
        for variant, own in rows.items()
        for row in own
    )
    return draw(
        name,
        title="Fidelity against fp32",
        caption="The figures that the budget limits, on samples that neither calibration nor "
        "search saw. A point on the wrong side of its budget mark has missed it.",
        spoken=spoken,
        legend=(
            *(_mark_key(result) for result in results if result.variant in rows),
            Key("budget", "tick", "bad"),
        ),
        paint=partial(_paint_fidelity, rows=rows, names=names),
        height=62 + 44 * len(names),
    )


def _paint_fidelity(
    axes: Any,  # noqa: ANN401
    *,
    rows: dict[str, list[FidelityRow]],
    names: Sequence[str],
) -> None:
    values = [row.value for own in rows.values() for row in own]
    limits = {
        (names.index(row.plain), row.threshold)
        for own in rows.values()
        for row in own
        if row.threshold is not None
    }
    for place, limit in limits:
        axes.plot([limit] * 2, [place - 0.24, place + 0.24], color=colour("bad"), linewidth=2.2)
    for variant, own in rows.items():
        places = [names.index(row.plain) for row in own]
        _mark(axes, variant, [row.value for row in own], places)
    every = [*values, *(limit for _, limit in limits)]
    low, high = min(every), max(every)
    if high <= 1:  # a share or a cosine: 1 is what fp32 has
        low, high = min(low, 0.999), 1.0
    room = (high - low) * 0.06 or 0.06
    axes.set_xlim(low - room, high + room)
    for place, text in enumerate(names):  # above its row, so that rows have the whole width
        axes.text(0, place - 0.3, text, transform=axes.get_yaxis_transform(), va="bottom")
    axes.set_yticks(range(len(names)), [""] * len(names))
    axes.set_ylim(len(names) - 0.6, -0.95)
    axes.grid(visible=False, axis="x")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.5g}")


def _mark(axes: Any, variant: Result | str, x: Sequence[float], y: Sequence[float]) -> None:  # noqa: ANN401
    name = variant if isinstance(variant, str) else variant.variant
    axes.plot(
        x, y, _MARKS[name], color=colour(name), markersize=9, markeredgecolor=colour("card"),
        clip_on=False, zorder=3,
    )  # fmt: skip


def _mark_key(result: Result) -> Key:
    return Key(result.variant, _SHAPES[_MARKS[result.variant]], result.variant)
