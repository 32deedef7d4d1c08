"""Several records as one page: report.html, report.md, results.csv and comparison.json."""

from __future__ import annotations

from functools import partial
from importlib import resources
from typing import TYPE_CHECKING, Any

from jetlift.benchmarks import canvas, fidelity_view, report
from jetlift.benchmarks.canvas import Chart, Key, colour, draw
from jetlift.benchmarks.report_sections import Section
from jetlift.benchmarks.report_table import DASH, TIMES, digits, mib
from jetlift.benchmarks.results_csv import CSV_NAME, results_csv
from jetlift.benchmarks.versus import compare
from jetlift.runtime import atomic, jsonform
from jetlift.runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from jetlift.benchmarks.versus import Named, Pair, Versus
    from jetlift.runtime.figure import Figure
    from jetlift.runtime.record import Result

JSON_NAME = "comparison.json"
_ARROW = " \u2192 "
_COLOURS = ("step2", "int4w", "int8", "bf16", "int8-fp16", "fp32")


def write_comparison(records: Sequence[Named], out: Path) -> None:
    """Write the comparison into a folder, replacing older files.

    Raises:
        MissingPackageError: Jinja2 or matplotlib is not installed.
        InputError: `out` is a file.
        StorageError: The disk is full or not writable.
    """
    canvas.check_packages()
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file", expected="A folder for the report, new or old")
    found = compare(records)
    atomic.write_bytes(out / JSON_NAME, jsonform.dumps(found).encode())
    table = results_csv([item.record for item in records])
    atomic.write_bytes(out / CSV_NAME, table.encode())
    atomic.write_bytes(out / report.MARKDOWN_NAME, markdown(records, found).encode())
    atomic.write_bytes(out / report.HTML_NAME, html(records, found).encode())


def markdown(records: Sequence[Named], found: Versus) -> str:
    """The comparison as Markdown.

    Raises:
        MissingPackageError: Jinja2 is not installed.
    """
    page = report.environment(escape=False).get_template("versus.md.j2")
    text: str = page.render(**_context(records, found))
    return text


def html(records: Sequence[Named], found: Versus) -> str:
    """The comparison as one self-contained page.

    Raises:
        MissingPackageError: Jinja2 or matplotlib is not installed.
    """
    styles = (resources.files("jetlift.benchmarks") / "templates/report.css").read_text("utf-8")
    page = report.environment(escape=True).get_template("versus.html.j2")
    text: str = page.render(
        **_context(records, found), charts=list(_charts(records)), styles=styles
    )
    return text


def _context(records: Sequence[Named], found: Versus) -> dict[str, Any]:
    made = [_pairs(found), _figures(records), _differences(found)]
    return {
        "found": found,
        "headline": headline(found),
        "sections": [section for section in made if section.rows],
        "jetlift": records[0].record.jetlift,
        "noisy": any(item.record.noisy for item in records),
        "on_jetson": not any(
            item.record.target.startswith(("cpu", "rtx", "gpu")) for item in records
        ),
    }


def headline(found: Versus) -> str:
    """The finding: the largest difference that is shown, or that none is."""
    if found.warnings and all(pair.word == "not comparable" for pair in found.pairs):
        return "Side by side, not to be judged"
    shown = [pair for pair in found.pairs if pair.word in ("faster", "slower")]
    if not shown:
        noisy = any(pair.word == "noisy" for pair in found.pairs)
        return "No difference is shown" + (", on a noisy machine" if noisy else "")
    most = max(shown, key=lambda pair: max(_ratio(pair), 1 / _ratio(pair)))
    what = " ".join(dict.fromkeys((most.part, *most.variants)))
    times = f"{max(_ratio(most), 1 / _ratio(most)):.2f}{TIMES}"
    first, other = (name.split(":")[0] for name in most.names)
    word = "as fast as" if most.word == "faster" else "as long as"
    verb = "is" if most.word == "faster" else "takes"
    return f"{other} {verb} {times} {word} {first}: {what}"


def _ratio(pair: Pair) -> float:
    return pair.ratio.value or 1.0


def _pairs(found: Versus) -> Section:
    rows = tuple(
        (
            f"{pair.part} {_ARROW.join(dict.fromkeys(pair.variants))}",
            pair.word,
            _ARROW.join(name.split(":")[0] for name in pair.names),*map(digits, pair.p50_ms),
            _times(pair.ratio), _interval(pair),
        )
        for pair in found.pairs
    )  # fmt: skip
    notes = dict.fromkeys(
        f"{pair.part} {pair.variants[1]}, {pair.names[1]}: {pair.word}, since {pair.why}."
        for pair in found.pairs
        if pair.why
    )
    return Section(
        "What differs in speed",
        "Medians of one run. Speed above 1 is faster; its interval is at 95 %, by block bootstrap",
        ("verdict", "records", "first, ms", "other, ms", "speed", "interval"),
        rows,
        tuple(notes),
        words=("verdict",),
    )


def _times(figure: Figure) -> str:
    return DASH if figure.value is None else f"{figure.value:.2f}{TIMES}"


def _interval(pair: Pair) -> str:
    if pair.low.value is None or pair.high.value is None:
        return DASH
    return f"{pair.low.value:.2f} {DASH} {pair.high.value:.2f}"


def _figures(records: Sequence[Named]) -> Section:
    rows = [
        (f"{result.part} {result.variant}", item.name, *_texts(result))
        for item in records
        for result in item.record.results
    ]
    order = list(dict.fromkeys(row[0] for row in rows))
    columns = ("record", "p50, ms", "p99, ms", "items per s", "TOPS", "memory, MiB", "J per item",
               "fidelity", "disturbed")  # fmt: skip
    ordered = tuple(sorted(rows, key=lambda row: order.index(row[0])))  # stable: records in turn
    caption = "A dash is a figure that was not measured"
    return Section("All results", caption, columns, ordered, words=("record",))


def _texts(result: Result) -> tuple[str, ...]:
    def told(figure: Figure) -> str:
        return DASH if figure.value is None else digits(figure.value)

    peak = result.memory.rss_peak_bytes.value
    return (
        digits(result.latency.p50_ms),
        told(result.latency.p99_ms),
        digits(result.throughput_per_s),
        told(result.work.achieved_tops),
        DASH if peak is None else mib(peak),
        DASH if result.power is None else told(result.power.energy_j_per_item),
        fidelity_view.WORDS[fidelity_view.state_of(result)],
        "noisy" if result.noisy else "no",
    )


def _differences(found: Versus) -> Section:
    rows = tuple((item.what, *item.values) for item in found.differences)
    caption = "All else that is recorded is the same"
    return Section("What is not the same", caption, found.names, rows, words=found.names)


def _charts(records: Sequence[Named]) -> Iterator[Chart]:
    parts = dict.fromkeys(result.part for item in records for result in item.record.results)
    for index, part in enumerate(parts):
        rows = [
            (item.name, place, result)
            for place, item in enumerate(records)
            for result in item.record.results
            if result.part == part
        ]
        yield _bars(f"versus-{index}", part, rows)


def _bars(name: str, part: str, rows: list[tuple[str, int, Result]]) -> Chart:
    variants = list(dict.fromkeys(result.variant for _, _, result in rows))
    ordered = sorted(rows, key=lambda row: (variants.index(row[2].variant), row[1]))
    return draw(
        name,
        title=f"{part}: median of one run",
        caption="Shorter is faster. The line at a bar's end is the median's confidence interval; "
        "letters are the records.",
        spoken="; ".join(f"{x.variant} {who}: {x.latency.p50_ms:.3g} ms" for who, _, x in ordered),
        legend=tuple(
            Key(who, "box", _COLOURS[place % len(_COLOURS)])
            for who, place in dict.fromkeys((who, place) for who, place, _ in rows)
        ),
        paint=partial(_paint_bars, rows=ordered),
        height=70 + 30 * len(ordered) + 8 * len(variants),
    )


def _paint_bars(axes: Any, *, rows: list[tuple[str, int, Result]]) -> None:  # noqa: ANN401
    place_y, ticks, before = 0.0, [], ""
    for who, place, result in rows:
        place_y += 0.35 if before and before != result.variant else 0.0
        before = result.variant
        p50 = result.latency.p50_ms
        axes.barh(place_y, p50, height=0.78, color=colour(_COLOURS[place % len(_COLOURS)]))
        ends = [result.latency.p50_low_ms.value or p50, result.latency.p50_high_ms.value or p50]
        axes.plot(ends, [place_y] * 2, color=colour("ink"), linewidth=1.4, marker="|", markersize=9)
        axes.annotate(
            f"{p50:.3g}{' noisy' if result.noisy else ''}", (max(ends), place_y), xytext=(8, 0),
            textcoords="offset points", va="center",
        )  # fmt: skip
        ticks.append((place_y, f"{result.variant} {who.split(':')[0]}"))
        place_y += 1
    axes.set_yticks([y for y, _ in ticks], [text for _, text in ticks])
    axes.set_ylim(place_y - 0.4, -0.6)
    far = [max(x.latency.p50_ms, x.latency.p50_high_ms.value or 0.0) for _, _, x in rows]
    axes.set_xlim(0, max(far) * 1.3)  # room for the figures at the bars' ends
    axes.set_xlabel("ms")
    axes.grid(visible=False, axis="y")
