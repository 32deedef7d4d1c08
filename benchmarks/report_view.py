"""What the report says, in words and formatted figures; the templates only lay it out.

Rules:
    V1  The first thing told is the finding, with the machine it holds for.
    V2  A difference under ten percent, or one between noisy results, is not called faster.
    V3  A variant that missed its fidelity budget is never the recommended one.
    V4  A figure that is missing shows as a dash with a note that gives its reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from jetlift.benchmarks import fidelity_view

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from jetlift.benchmarks.fidelity_view import FidelityRow
    from jetlift.runtime.record import Figure, Record, Result

Tone = Literal["good", "bad", "plain"]

_CLEARLY_FASTER = 1.10
_TIMES, _DASH = "\u00d7", "\u2013"


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

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
    """One line of a table: a label, and a cell per variant."""

    label: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Group:
    """Rows that belong together."""

    title: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Stat:
    """One figure of the first screen: the figure, what it is, good or bad."""

    value: str
    label: str
    tone: Tone = "plain"


@dataclass(frozen=True)
class Bar:
    """One variant's median beside the others'.

    Attributes:
        variant: The variant.
        text: Its median with unit.
        share: Of the slowest, 0..1.
        speed: Against fp32, as in `2.90` times; empty where there is no fp32.
        state: Fidelity in a word.
        tone: Good, bad or plain.
        best: Whether this is the one to take.
    """

    variant: str
    text: str
    share: float
    speed: str
    state: str
    tone: Tone
    best: bool


@dataclass(frozen=True)
class PartView:
    """Everything about one part.

    Attributes:
        name: The part's name.
        headline: The finding.
        stats: The figures that go with it.
        sentences: The same in words, and what speaks against it.
        bars: Medians.
        groups: The table.
        notes: Reasons of missing figures, numbered from 1.
    """

    name: str
    headline: str
    stats: tuple[Stat, ...]
    sentences: tuple[str, ...]
    bars: tuple[Bar, ...]
    variants: tuple[str, ...]
    groups: tuple[Group, ...]
    notes: tuple[str, ...]


class _Notes:
    """Numbers reasons, each once."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def number(self, reason: str) -> int:
        if reason not in self.texts:
            self.texts.append(reason)
        return self.texts.index(reason) + 1


def view_part(results: Sequence[Result]) -> PartView:
    """Say what the results of one part say."""
    best, fastest = recommended(results), min(results, key=_p50)
    reference = next((result for result in results if result.variant == "fp32"), None)
    notes = _Notes()
    groups = tuple(_groups(results, reference, notes))
    sentences = [_speed_sentence(best), fidelity_view.sentence_of(best)]
    if fastest is not best:
        sentences.append(
            f"{fastest.variant} is faster ({ms(_p50(fastest))}) but missed its fidelity budget."
        )
    return PartView(
        name=results[0].part,
        headline=_headline(best, reference),
        stats=tuple(_stats(best, reference)),
        sentences=tuple(sentences),
        bars=tuple(_bar(result, results, reference, best) for result in results),
        variants=tuple(result.variant for result in results),
        groups=groups,
        notes=tuple(notes.texts),
    )


def recommended(results: Sequence[Result]) -> Result:
    """The fastest variant that did not miss its fidelity budget (rule V3); failing all, the fastest."""
    kept = [result for result in results if fidelity_view.state_of(result) != "missed"]
    return min(kept or results, key=_p50)


def speedup(result: Result, reference: Result | None) -> float | None:
    """How many times faster than fp32, by medians; None where there is no fp32."""
    return None if reference is None else _p50(reference) / _p50(result)


def by_part(record: Record) -> dict[str, list[Result]]:
    """Results per part, in the order measured."""
    parts: dict[str, list[Result]] = {}
    for result in record.results:
        parts.setdefault(result.part, []).append(result)
    return parts


def _headline(best: Result, reference: Result | None) -> str:
    ratio = speedup(best, reference)
    if reference is None or ratio is None:
        return f"{best.variant} takes {ms(_p50(best))} per run"
    if best is reference or ratio < _CLEARLY_FASTER:
        return "No variant that kept its fidelity is clearly faster than fp32"
    if best.noisy or reference.noisy:  # V2
        return f"{best.variant} came out {ratio:.1f}{_TIMES} as fast as fp32, on a noisy machine"
    return f"{best.variant} is {ratio:.1f}{_TIMES} as fast as fp32"


def _speed_sentence(best: Result) -> str:
    items = "" if best.batch == 1 else f" of {best.batch} items"
    return (
        f"{best.variant}: {ms(_p50(best))} per run{items} (median of "
        f"{len(best.latency.samples_ms)}), {best.throughput_per_s:.3g} items per second."
    )


def _stats(best: Result, reference: Result | None) -> Iterator[Stat]:
    yield Stat(ms(_p50(best)), f"{best.variant}, median of one run")
    ratio = speedup(best, reference)
    if ratio is not None and best is not reference:
        yield Stat(f"{ratio:.2f}{_TIMES}", "the speed of fp32")
    state, row = fidelity_view.state_of(best), fidelity_view.deciding(best)
    tones: dict[str, Tone] = {"met": "good", "missed": "bad"}
    if row is not None:
        yield Stat(f"{row.value:.4f}", f"{row.plain}; asked {row.limit}: {state}", tones[state])
    else:
        yield Stat(_DASH, f"fidelity {best.fidelity_note}")
    peak = best.memory.rss_peak_bytes
    if peak.value is not None:
        yield Stat(f"{mib(peak.value)} MiB", "memory of the process at its peak")


def _bar(result: Result, results: Sequence[Result], reference: Result | None, best: Result) -> Bar:
    state, ratio = fidelity_view.state_of(result), speedup(result, reference)
    tones: dict[str, Tone] = {"met": "good", "missed": "bad"}
    return Bar(
        variant=result.variant,
        text=ms(_p50(result)),
        share=_p50(result) / max(map(_p50, results)),
        speed="" if ratio is None or result is reference else f"{ratio:.2f}{_TIMES}",
        state=fidelity_view.WORDS[state],
        tone=tones.get(state, "plain"),
        best=result is best,
    )


def _groups(results: Sequence[Result], reference: Result | None, notes: _Notes) -> list[Group]:
    def row(
        label: str,
        tell: Callable[[Result], str | Figure | Cell],
        form: Callable[[float], str] = str,
    ) -> Row:
        return Row(label, tuple(_cell(tell(result), form, notes) for result in results))

    def ratio(result: Result) -> str:
        value = speedup(result, reference)
        return _DASH if value is None else f"{value:.2f}{_TIMES}"

    def spread(result: Result) -> Figure | str:
        low, high = result.latency.p50_low_ms, result.latency.p50_high_ms
        if low.value is None or high.value is None:
            return low
        return f"{low.value:.4g} {_DASH} {high.value:.4g}"

    latency = Group(
        "Latency of one run, ms",
        (
            row("median (p50)", lambda x: f"{_p50(x):.4g}"),
            row("its confidence interval", spread),
            row("p90", lambda x: x.latency.p90_ms, "{:.4g}".format),
            row("p99", lambda x: x.latency.p99_ms, "{:.4g}".format),
            row("mean", lambda x: f"{x.latency.mean_ms:.4g}"),
            row("fastest", lambda x: f"{x.latency.min_ms:.4g}"),
            row("speed against fp32", ratio),
            row("items per second", lambda x: f"{x.throughput_per_s:.4g}"),
        ),
    )
    work = Group(
        "Work and roof",
        (
            row("operations per run", lambda x: x.work.operations, operations),
            row("achieved TOPS", lambda x: x.work.achieved_tops, "{:.3g}".format),
            row("of the measured peak", lambda x: x.work.share_of_peak, "{:.0%}".format),
            row("bound by the roofline, ms", lambda x: x.work.bound_ms, "{:.3g}".format),
            row("which side binds", lambda x: x.work.binds or _DASH),
        ),
    )
    memory = Group(
        "Memory and size, MiB",
        (
            row("process at its peak", lambda x: x.memory.rss_peak_bytes, mib),
            row("process once loaded", lambda x: x.memory.rss_after_load_bytes, mib),
            row("process before loading", lambda x: x.memory.rss_before_load_bytes, mib),
            row("weights in the graph", lambda x: x.work.weight_bytes, mib),
            row("activations, each once", lambda x: x.work.activation_bytes, mib),
            row("engine file", lambda x: x.engine.size_bytes, mib),
        ),
    )
    measuring = Group(
        "How it was measured",
        (
            row("computed in", lambda x: x.engine.arithmetic),
            row("threads", lambda x: _DASH if x.engine.threads is None else str(x.engine.threads)),
            row("load time, ms", lambda x: f"{x.engine.load_ms:.0f}"),
            row(
                "warm-up + timed runs",
                lambda x: f"{len(x.latency.warmup_ms)} + {len(x.latency.samples_ms)}",
            ),
            row("stopped by", lambda x: x.latency.stopped_by),
            row("median when measured again", _again),
            row("cores taken by others", lambda x: x.others_busy, "{:.0%}".format),
            row("power, W", lambda x: x.power_w, "{:.1f}".format),
        ),
    )
    return [latency, _fidelity_group(results, notes), work, memory, measuring]


def _again(result: Result) -> str:
    return _DASH if result.recheck is None else f"{result.recheck.moved_percent:+.1f}%"


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
        return Cell(_DASH)
    limit = f" ({row.limit})" if shared is None and row.limit else ""
    return Cell(f"{row.value:.4f}{limit}", tone="bad" if row.met is False else "plain")


def _verdict(result: Result, notes: _Notes) -> Cell:
    state = fidelity_view.state_of(result)
    if state == "not measured":
        return Cell("not measured", notes.number(f"fidelity {result.fidelity_note}"))
    tones: dict[str, Tone] = {"met": "good", "missed": "bad"}
    return Cell(state, tone=tones.get(state, "plain"))


def _cell(told: str | Figure | Cell, form: Callable[[float], str], notes: _Notes) -> Cell:
    if isinstance(told, Cell):
        return told
    if isinstance(told, str):
        return Cell(told)
    if told.value is None:  # V4
        return Cell(_DASH, notes.number(told.reason))
    return Cell(form(told.value))


def ms(value_ms: float) -> str:
    """A latency with its unit, three digits: `22.1 ms`, `410 µs`, `1.24 s`."""
    if value_ms >= 1000:
        return f"{value_ms / 1000:.3g} s"
    return f"{value_ms:.3g} ms" if value_ms >= 1 else f"{value_ms * 1000:.3g} µs"


def mib(size_bytes: float) -> str:
    """A size in MiB, without its unit."""
    size = size_bytes / 2**20
    return f"{size:.0f}" if size >= 100 else f"{size:.3g}"


def operations(count: float) -> str:
    """Operations with their prefix, as in `12.2 GOP`."""
    for limit, name in ((1e12, "TOP"), (1e9, "GOP"), (1e6, "MOP")):
        if count >= limit:
            return f"{count / limit:.3g} {name}"
    return f"{count:.0f} OP"


def _p50(result: Result) -> float:
    return result.latency.p50_ms
