"""The table of all figures of one part: metrics down, variants across, reasons as numbered notes.

Rules:
    T1  A figure that is missing shows as a dash with the number of a note that gives its reason.
    T2  Units stand in the label or the group's title, once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from jetlift.benchmarks import fidelity_view
from jetlift.runtime.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jetlift.benchmarks.fidelity_view import FidelityRow, State
    from jetlift.runtime.record import Result

    Told = str | Figure
    Line = tuple[str, Callable[[Result], Told], Callable[[float], str]]

Tone = Literal["good", "bad", "plain"]

TIMES, DASH = "\u00d7", "\u2013"


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: What stands there.
        note: Number of the note that explains it, or None.
        tone: Good, bad or plain.
    """

    text: str
    note: int | None = None
    tone: Tone = "plain"


@dataclass(frozen=True)
class Row:
    """One line: a label, and a cell per variant."""

    label: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Group:
    """Rows that belong together."""

    title: str
    rows: tuple[Row, ...]


class _Notes:
    """Numbers reasons, each once."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def number(self, reason: str) -> int:
        if reason not in self.texts:
            self.texts.append(reason)
        return self.texts.index(reason) + 1


def digits(value: float, count: int = 4) -> str:
    """A number with so many significant digits, never in exponent form."""
    return f"{value:.{count}g}" if round(value) < 10**count else f"{value:.0f}"


def mib(size_bytes: float) -> str:
    """A size in MiB, without its unit."""
    return digits(size_bytes / 2**20, 3)


def operations(count: float) -> str:
    """Operations with their prefix, as in `12.2 GOP`."""
    for limit, name in ((1e12, "TOP"), (1e9, "GOP"), (1e6, "MOP")):
        if count >= limit:
            return f"{digits(count / limit, 3)} {name}"
    return f"{count:.0f} OP"


def tone_of(state: State) -> Tone:
    """Whether a fidelity verdict is good, bad or neither."""
    tones: dict[State, Tone] = {"met": "good", "missed": "bad"}
    return tones.get(state, "plain")


def tabulate(
    results: Sequence[Result], speed: Callable[[Result], float | None]
) -> tuple[tuple[Group, ...], tuple[str, ...]]:
    """The groups of the table, and its notes (rule T1).

    Args:
        results: One part's results.
        speed: A result's speed against fp32, or None without fp32.
    """

    def ratio(result: Result) -> str:
        value = speed(result)
        return DASH if value is None else f"{value:.2f}{TIMES}"

    notes = _Notes()
    latency: tuple[Line, ...] = (*_LATENCY, ("speed against fp32", ratio, str))
    groups = (
        _group("Latency of one run, ms", latency, results, notes),
        _fidelity_group(results, notes),
        _group("Work and roof", _WORK, results, notes),
        _group("Memory and size, MiB", _MEMORY, results, notes),
        _group("How it was measured", _MEASURING, results, notes),
    )
    return groups, tuple(notes.texts)


def _group(title: str, lines: Sequence[Line], results: Sequence[Result], notes: _Notes) -> Group:
    return Group(
        title,
        tuple(
            Row(label, tuple(_cell(tell(result), form, notes) for result in results))
            for label, tell, form in lines
        ),
    )


def _cell(told: Told, form: Callable[[float], str], notes: _Notes) -> Cell:
    if isinstance(told, str):
        return Cell(told)
    if told.value is None:
        return Cell(DASH, notes.number(told.reason))
    return Cell(form(told.value))


def _spread(result: Result) -> Told:
    low, high = result.latency.p50_low_ms, result.latency.p50_high_ms
    if low.value is None or high.value is None:
        return low
    return f"{digits(low.value)} {DASH} {digits(high.value)}"


def _again(result: Result) -> str:
    return DASH if result.recheck is None else f"{result.recheck.moved_percent:+.1f}%"


def _runs(result: Result) -> str:
    return f"{len(result.latency.warmup_ms)} + {len(result.latency.samples_ms)}"


def tops_by_precision(result: Result) -> dict[str, float]:
    """Achieved TOPS of GEMM and convolution per precision; `rest` is every other operator."""
    work, p50_ms = result.work, result.latency.p50_ms
    if work.operations.value is None:
        return {}
    rest = work.operations.value - sum(work.operations_by_precision.values())
    counts = {**work.operations_by_precision, "rest": max(rest, 0.0)}
    return {name: count / p50_ms / 1e9 for name, count in counts.items() if count > 0}


def _tops_by_precision(result: Result) -> Told:
    told = tops_by_precision(result)
    return ", ".join(f"{name}\u00a0{digits(value, 2)}" for name, value in told.items()) or DASH


def _share_of_bound(result: Result) -> Told:
    bound = result.work.bound_ms
    return bound if bound.value is None else Figure(bound.value / result.latency.p50_ms)


_LATENCY: tuple[Line, ...] = (
    ("median (p50)", lambda x: digits(x.latency.p50_ms), str),
    ("its confidence interval", _spread, str),
    ("p90", lambda x: x.latency.p90_ms, digits),
    ("p99", lambda x: x.latency.p99_ms, digits),
    ("mean", lambda x: digits(x.latency.mean_ms), str),
    ("fastest", lambda x: digits(x.latency.min_ms), str),
    ("items per second", lambda x: digits(x.throughput_per_s), str),
)
_WORK: tuple[Line, ...] = (
    ("operations per run", lambda x: x.work.operations, operations),
    ("achieved TOPS", lambda x: x.work.achieved_tops, lambda value: digits(value, 3)),
    ("achieved TOPS by precision", _tops_by_precision, str),
    ("of the peak", lambda x: x.work.share_of_peak, "{:.0%}".format),
    ("bound by the roofline, ms", lambda x: x.work.bound_ms, lambda value: digits(value, 3)),
    ("of that bound", _share_of_bound, "{:.0%}".format),
    ("which side binds", lambda x: x.work.binds or DASH, str),
)
_MEMORY: tuple[Line, ...] = (
    ("process at its peak", lambda x: x.memory.rss_peak_bytes, mib),
    ("process once loaded", lambda x: x.memory.rss_after_load_bytes, mib),
    ("process before loading", lambda x: x.memory.rss_before_load_bytes, mib),
    ("weights in the graph", lambda x: x.work.weight_bytes, mib),
    ("activations, each once", lambda x: x.work.activation_bytes, mib),
    ("engine file", lambda x: x.engine.size_bytes, mib),
)
_MEASURING: tuple[Line, ...] = (
    ("computed in", lambda x: x.engine.arithmetic, str),
    ("threads", lambda x: DASH if x.engine.threads is None else str(x.engine.threads), str),
    ("load time, ms", lambda x: digits(x.engine.load_ms), str),
    ("warm-up + timed runs", _runs, str),
    ("stopped by", lambda x: x.latency.stopped_by, str),
    ("median when measured again", _again, str),
    ("cores taken by others", lambda x: x.others_busy, "{:.0%}".format),
    ("power, W", lambda x: x.power_w, "{:.1f}".format),
)


def _fidelity_group(results: Sequence[Result], notes: _Notes) -> Group:
    own = [{row.plain: row for row in fidelity_view.rows_of(result)} for result in results]
    lines = [Row("verdict", tuple(_verdict(result, notes) for result in results))]
    for name in dict.fromkeys(name for rows in own for name in rows):
        found = [rows.get(name) for rows in own]
        limits = {row.limit for row in found if row}
        shared = limits.pop() if len(limits) == 1 else None  # else each cell tells its own
        label = f"{name} ({shared})" if shared else name
        lines.append(Row(label, tuple(_fidelity_cell(row, shared) for row in found)))
    return Group("Fidelity against fp32 (budget)", tuple(lines))


def _fidelity_cell(row: FidelityRow | None, shared: str | None) -> Cell:
    if row is None:
        return Cell(DASH)
    limit = f" ({row.limit})" if shared is None and row.limit else ""
    return Cell(f"{row.value:.4f}{limit}", tone="bad" if row.met is False else "plain")


def _verdict(result: Result, notes: _Notes) -> Cell:
    state = fidelity_view.state_of(result)
    if state in ("not measured", "structure"):
        return Cell(state, notes.number(f"fidelity {result.fidelity_note}"))
    return Cell(state, tone=tone_of(state))
