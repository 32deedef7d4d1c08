"""A comparison as Markdown: one table per model and part, then how each row was made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jetlift.benchmarks.report_table import DASH
from jetlift.export.fidelity import breaches, parse_budget

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jetlift.benchmarks.compare_form import Comparison, MethodResult, RtxCheck, Table

CHART_NAME = "compare.svg"
# Companions of a figure: fp32's own, and the 95 % interval of the difference to it.
_BASE, _LOW, _HIGH = "_fp32", "_change_low", "_change_high"
_SHARES = (
    "INT8 share: operations of weighted GEMM and convolution typed INT8 in the graph, of those of "
    "the fp32 graph; attention's products of two activations stand apart. Under TensorRT-RTX: the "
    "share of weighted operations that its build log shows in INT8; it picks kernels at run time."
)


def to_markdown(table: Table, *, chart: bool) -> str:
    """The whole document.

    Args:
        table: The comparisons.
        chart: Whether the chart lies beside it.
    """
    lines = ["# INT8 side by side", ""]
    if chart:
        lines += [f"![INT8 graphs of each model by their distance from fp32]({CHART_NAME})", ""]
    for comparison in table.comparisons:
        lines += _section(comparison)
    lines += ["## How each graph was made", "", *_methods(table)]
    return "\n".join(lines) + "\n"


def figure_names(comparison: Comparison) -> list[str]:
    """Figures to show, those of the budget first, without their companions."""
    found = [name for result in comparison.results for name in result.figures or {}]
    shown = [name for name in dict.fromkeys(found) if not name.endswith((_BASE, _LOW, _HIGH))]
    first = budget_figures(comparison, shown)
    return [*first, *(name for name in shown if name not in first)]


def budget_figures(comparison: Comparison, names: Sequence[str]) -> dict[str, str]:
    """Those of the named figures that the budget limits, in its order, with `>=` or `<=`."""
    return {
        name: line.sign
        for line in parse_budget(comparison.budget)
        for name in names
        if line.metric == name.rpartition(".")[2] and line.output in (None, name.rpartition(".")[0])
    }


def base_of(figures: Mapping[str, float], name: str) -> float | None:
    """fp32's own figure, where the metric has one."""
    return figures.get(f"{name}{_BASE}")


def interval_of(figures: Mapping[str, float], name: str) -> tuple[float, float] | None:
    """95 % interval of the difference to fp32's figure, where the metric has one."""
    low, high = figures.get(f"{name}{_LOW}"), figures.get(f"{name}{_HIGH}")
    return None if low is None or high is None else (low, high)


def _section(comparison: Comparison) -> list[str]:
    names = figure_names(comparison)
    head = ["graph", "INT8 share", "of two activations", *names, "budget", "TensorRT-RTX, SM 8.6"]
    rows = [_row(result, names, comparison.budget) for result in comparison.results]
    return [
        f"## {comparison.model}, part {comparison.part}",
        "",
        *_grid(head, rows),
        "",
        *_remarks(comparison.results),
        *_told(comparison),
        "",
    ]


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    ruler = ["---", *["--:"] * (len(head) - 1)]
    return [f"| {' | '.join(row)} |" for row in (head, ruler, *rows)]


def _row(result: MethodResult, names: Sequence[str], budget: str) -> list[str]:
    figures = result.figures or {}
    return [
        result.title,
        _share(result.int8_share),
        _share(result.attention_int8_share),
        *(_figure(figures, name) for name in names),
        DASH if result.figures is None else _verdict(figures, budget),
        _rtx(result.rtx),
    ]


def _share(value: float | None) -> str:
    return DASH if value is None else f"{value:.1%}"


def _figure(figures: Mapping[str, float], name: str) -> str:
    if name not in figures:
        return DASH
    text = _number(figures[name])
    base, interval = base_of(figures, name), interval_of(figures, name)
    if base is not None:
        text += f" (fp32 {_number(base)}"
        text += f"; {interval[0]:+.2f} to {interval[1]:+.2f})" if interval else ")"
    return text


def _number(value: float) -> str:
    return f"{value:.4f}" if abs(value) <= 1 else f"{value:.2f}"


def _verdict(figures: Mapping[str, float], budget: str) -> str:
    return "missed" if breaches(figures, parse_budget(budget)) else "met"


def _rtx(check: RtxCheck | None) -> str:
    if check is None:
        return "not tried"
    return f"builds, {_share(check.int8_share)} INT8" if check.built else "refused"


def _remarks(results: Sequence[MethodResult]) -> list[str]:
    told = [(result.title, remark) for result in results for remark in result.remarks]
    told += [(r.title, r.rtx.told) for r in results if r.rtx is not None and r.rtx.told]
    lines = [f"- {title}: {remark.rstrip('.')}." for title, remark in told]
    return [*lines, ""] if lines else []


def _told(comparison: Comparison) -> list[str]:
    judged, calibration = comparison.judged, comparison.calibration
    any_interval = any(
        interval_of(result.figures or {}, name)
        for result in comparison.results
        for name in result.figures or {}
    )
    seen = f"Peers were calibrated on {calibration.count} ({calibration.note})"
    if comparison.searched:
        seen += f"; jetlift chose by {comparison.searched} more that they did not see."
    else:
        seen += ", all that jetlift saw."
    made = f"Every graph was made from the fp32 graph of SHA-256 {comparison.graph_sha256[:12]}"
    lines = [
        f"Weights: {comparison.weights.source}. {comparison.weights.note}.",
        f"Judged on {judged.count} samples ({judged.note}), the {comparison.judged_on} set.",
        seen,
        f"{made} and computed by {comparison.computed_by}. Budget: `{comparison.budget}`.",
    ]
    if any_interval:
        lines.append("Behind fp32's figure: 95 % interval of the difference, paired bootstrap.")
    if comparison.judged_on == "search":
        lines.append("jetlift chose on these very samples: the figures flatter it.")
    lines += [f"Not in the table: {reason}" for reason in comparison.not_installed]
    return [" ".join(lines)]


def _methods(table: Table) -> list[str]:
    results = {
        (result.title, result.words, result.options, tuple(result.versions.items())): result
        for comparison in table.comparisons
        for result in comparison.results
    }
    lines = []
    for result in results.values():
        versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
        options = f" `{result.options}`" if result.options != "{}" else ""
        lines.append(
            f"- **{result.title}** (`{result.method}`): {result.words}.{options} {versions}"
        )
    return [*lines, "", _SHARES]
