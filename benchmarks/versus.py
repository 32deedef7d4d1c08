"""Several records held against the first: what is faster, by how much, and whether that is shown.

Rules:
    X1  The figure is the ratio of medians, the first record's over the other's: above 1 the other
        is faster. Its interval is of a circular block bootstrap of both samples, since runs that
        follow each other are not independent (Politis and Romano, "A Circular Block-Resampling
        Procedure for Stationary Data", in Exploring the Limits of Bootstrap, Wiley, 1992,
        263-270). The seed is fixed, so the same records give the same page.
    X2  `faster` or `slower` is said only where the interval leaves 1 out and the difference is more
        than either median moved when it was measured again, and at least two percent.
    X3  Where either is noisy, neither is said.
    X4  Only what asks for the same work is judged: the same model, part, inputs and kind of record.
        Else both stand side by side with the reason, and no verdict.
    X5  Machines, targets, versions and threads may differ, which is what one compares; every such
        difference is told.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from jetlift.benchmarks import report_view
from jetlift.runtime.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jetlift.runtime.record import Record, Result

Word = Literal["faster", "slower", "no difference shown", "noisy", "not comparable"]

_RESAMPLES = 2000
_CONFIDENCE = 0.95
_MIN_RUNS = 10
_LEAST_PERCENT = 2.0
_SEED = 0


@dataclass(frozen=True)
class Named:
    """A record and what it is called on the page, as in `A: before`."""

    name: str
    record: Record


@dataclass(frozen=True)
class Pair:
    """One result held against the first record's.

    Attributes:
        part: The part.
        variants: The first record's variant, then the other's.
        names: Their records.
        p50_ms: Their medians.
        ratio: The first's median over the other's (rule X1).
        low: Lower end of its interval.
        high: Upper end.
        word: The verdict (rules X2 to X4).
        why: What speaks against a verdict; empty where nothing does.
    """

    part: str
    variants: tuple[str, str]
    names: tuple[str, str]
    p50_ms: tuple[float, float]
    ratio: Figure
    low: Figure
    high: Figure
    word: Word
    why: str


@dataclass(frozen=True)
class Difference:
    """Something that is not the same in all records (rule X5)."""

    what: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Versus:
    """A comparison.

    Attributes:
        names: Of the records; the first is what the others are held against.
        warnings: Why what stands side by side is not to be judged (rule X4).
        differences: What is not the same (rule X5).
        pairs: Every result that two records share, judged.
    """

    names: tuple[str, ...]
    warnings: tuple[str, ...]
    differences: tuple[Difference, ...]
    pairs: tuple[Pair, ...]


def compare(records: Sequence[Named]) -> Versus:
    """Hold every record against the first (rules X1 to X5)."""
    base = records[0]
    pairs, warnings = [], []
    for other in records[1:]:
        reason = _unlike(base.record, other.record)
        if reason:
            warnings.append(f"{other.name} is not to be judged against {base.name}: {reason}.")
        pairs += [
            _judged(left, right, (base.name, other.name), reason)
            for left, right in _partners(base.record, other.record)
        ]
    return Versus(
        names=tuple(item.name for item in records),
        warnings=tuple(warnings),
        differences=tuple(_differences([item.record for item in records])),
        pairs=tuple(pairs),
    )


def ratio_interval(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """Interval of the ratio of medians, first over second, at 95 % (rule X1)."""
    rng = np.random.default_rng(_SEED)
    ratios = _medians(first, rng) / _medians(second, rng)
    tail = (1 - _CONFIDENCE) / 2
    low, high = np.quantile(ratios, (tail, 1 - tail))
    return float(low), float(high)


def _medians(samples: Sequence[float], rng: np.random.Generator) -> np.ndarray:
    """Medians of resamples made of blocks, whose length grows as the cube root of the runs'."""
    values = np.asarray(samples, dtype=np.float64)
    count = len(values)
    length = max(1, round(count ** (1 / 3)))
    starts = rng.integers(0, count, (_RESAMPLES, -(-count // length)))
    places = (starts[:, :, None] + np.arange(length)) % count
    drawn: np.ndarray = np.median(values[places.reshape(_RESAMPLES, -1)[:, :count]], axis=1)
    return drawn


def _partners(base: Record, other: Record) -> Iterator[tuple[Result, Result]]:
    """The same variants of the same parts; of a part without any, what each record recommends."""
    theirs = report_view.by_part(other)
    for part, own in report_view.by_part(base).items():
        if part not in theirs:
            continue
        by_variant = {result.variant: result for result in theirs[part]}
        shared = [(left, by_variant[left.variant]) for left in own if left.variant in by_variant]
        yield from shared or [(report_view.recommended(own), report_view.recommended(theirs[part]))]


def _judged(left: Result, right: Result, names: tuple[str, str], reason: str) -> Pair:
    medians = (left.latency.p50_ms, right.latency.p50_ms)
    why = reason or _other_work(left, right)
    ratio, low, high = _figures(left, right, why)
    word: Word
    if why:
        word = "not comparable"
    elif left.noisy or right.noisy:  # X3
        noisy = names if left.noisy and right.noisy else (names[0 if left.noisy else 1],)
        word, why = "noisy", f"something disturbed {' and '.join(noisy)}"
    else:
        word, why = _word(left, right, ratio, low, high)
    variants = (left.variant, right.variant)
    return Pair(left.part, variants, names, medians, ratio, low, high, word, why)


def _figures(left: Result, right: Result, why: str) -> tuple[Figure, Figure, Figure]:
    if why:
        none = Figure.missing(why)
        return none, none, none
    ratio = Figure(round(left.latency.p50_ms / right.latency.p50_ms, 4))
    samples = left.latency.samples_ms, right.latency.samples_ms
    if min(map(len, samples)) < _MIN_RUNS:
        none = Figure.missing(f"an interval asks for {_MIN_RUNS} runs of each")
        return ratio, none, none
    low, high = ratio_interval(*samples)
    return ratio, Figure(round(low, 4)), Figure(round(high, 4))


def _word(
    left: Result, right: Result, ratio: Figure, low: Figure, high: Figure
) -> tuple[Word, str]:
    """Rule X2."""
    if ratio.value is None or low.value is None or high.value is None:
        return "no difference shown", low.reason
    if low.value <= 1 <= high.value:
        return "no difference shown", "the interval has 1 in it"
    moved = [abs(item.recheck.moved_percent) for item in (left, right) if item.recheck]
    needed = max(_LEAST_PERCENT, *moved) if moved else _LEAST_PERCENT
    if max(ratio.value, 1 / ratio.value) < 1 + needed / 100:
        return "no difference shown", f"a median alone moves by {needed:.1f} %"
    return ("faster" if ratio.value > 1 else "slower"), ""


def _unlike(base: Record, other: Record) -> str:
    """Why two records do not tell of the same work; empty where they do (rule X4)."""
    if base.model != other.model:
        return f"it is of another model, {other.model} and not {base.model}"
    if (base.run is None) != (other.run is None):
        return "one is a benchmark and the other a run, where all else took its share of the cores"
    return ""


def _other_work(left: Result, right: Result) -> str:
    shapes = [{item.name: item.shape for item in result.inputs} for result in (left, right)]
    if shapes[0] != shapes[1]:
        told = [", ".join("x".join(map(str, shape)) for shape in own.values()) for own in shapes]
        return f"the inputs are {told[0]} in one and {told[1]} in the other"
    return ""


def _differences(records: Sequence[Record]) -> Iterator[Difference]:
    for what, values in (
        ("model", [item.model for item in records]),
        ("bundle", [item.bundle_sha256[:12] for item in records]),
        ("weights", [item.weights.source for item in records]),
        ("target", [item.target for item in records]),
        ("machine", [item.machine.cpu for item in records]),
        ("cores", [str(item.machine.cores) for item in records]),
        ("kernel", [item.machine.kernel for item in records]),
        ("power mode", [_modes(item) for item in records]),
        ("threads", [_of_results(item, "threads") for item in records]),
        ("engine", [_engines(item) for item in records]),
        ("jetlift", [item.jetlift for item in records]),
        ("measured", [item.measured_utc for item in records]),
    ):
        if len(set(values)) > 1:
            yield Difference(what, tuple(values))


def _modes(record: Record) -> str:
    found = [item.conditions.power_mode or "not told" for item in record.results if item.conditions]
    return ", ".join(dict.fromkeys(found)) or "not told"


def _engines(record: Record) -> str:
    found = [f"{item.engine.library} {item.engine.version}" for item in record.results]
    return ", ".join(dict.fromkeys(found))


def _of_results(record: Record, name: str) -> str:
    found = [str(getattr(item.engine, name) or "the library's choice") for item in record.results]
    return ", ".join(dict.fromkeys(found))
