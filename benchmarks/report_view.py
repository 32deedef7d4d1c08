"""What the report says, in words and formatted figures; the templates only lay it out.

Rules:
    V1  The first thing told is the finding, with the machine it holds for.
    V2  A difference under ten percent, or one between noisy results, is not called faster.
    V3  A variant that missed its fidelity budget is never the recommended one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jetlift.benchmarks import fidelity_view
from jetlift.benchmarks.report_table import DASH, TIMES, digits, mib, tabulate, tone_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jetlift.benchmarks.report_table import Group, Tone
    from jetlift.runtime.record import Record, Result

_CLEARLY_FASTER = 1.10


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


def view_part(results: Sequence[Result]) -> PartView:
    """Say what the results of one part say."""
    best, fastest = recommended(results), min(results, key=_p50)
    reference = next((result for result in results if result.variant == "fp32"), None)
    groups, notes = tabulate(results, lambda result: speedup(result, reference))
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
        notes=notes,
    )


def recommended(results: Sequence[Result]) -> Result:
    """The fastest variant that did not miss its budget (rule V3); failing all, the fastest."""
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
        return f"{best.variant} came out {ratio:.1f}{TIMES} as fast as fp32, on a noisy machine"
    return f"{best.variant} is {ratio:.1f}{TIMES} as fast as fp32"


def _speed_sentence(best: Result) -> str:
    items = "" if best.batch == 1 else f" of {best.batch} items"
    return (
        f"{best.variant}: {ms(_p50(best))} per run{items} (median of "
        f"{len(best.latency.samples_ms)}), {digits(best.throughput_per_s, 3)} items per second."
    )


def _stats(best: Result, reference: Result | None) -> Iterator[Stat]:
    yield Stat(ms(_p50(best)), f"{best.variant}, median of one run")
    ratio = speedup(best, reference)
    if ratio is not None and best is not reference:
        yield Stat(f"{ratio:.2f}{TIMES}", "the speed of fp32")
    state, row = fidelity_view.state_of(best), fidelity_view.deciding(best)
    if row is not None:
        yield Stat(f"{row.value:.4f}", f"{row.plain}; asked {row.limit}: {state}", tone_of(state))
    else:
        yield Stat(DASH, f"fidelity {best.fidelity_note}")
    peak = best.memory.rss_peak_bytes
    if peak.value is not None:
        yield Stat(f"{mib(peak.value)} MiB", "memory of the process at its peak")


def _bar(result: Result, results: Sequence[Result], reference: Result | None, best: Result) -> Bar:
    state, ratio = fidelity_view.state_of(result), speedup(result, reference)
    return Bar(
        variant=result.variant,
        text=ms(_p50(result)),
        share=_p50(result) / max(map(_p50, results)),
        speed="" if ratio is None or result is reference else f"{ratio:.2f}{TIMES}",
        state=fidelity_view.WORDS[state],
        tone=tone_of(state),
        best=result is best,
    )


def ms(value_ms: float) -> str:
    """A latency with its unit, three digits: `22.1 ms`, `410 µs`, `1.24 s`."""
    if value_ms >= 1000:
        return f"{digits(value_ms / 1000, 3)} s"
    return f"{digits(value_ms, 3)} ms" if value_ms >= 1 else f"{digits(value_ms * 1000, 3)} µs"


def _p50(result: Result) -> float:
    return result.latency.p50_ms
