"""A record as a page to read: report.html, report.md, results.csv and record.json side by side.

Rules:
    P1  report.html is one file: styles, charts and pictures are in it, and it loads nothing.
    P2  Every word that comes from outside (model names, notes, captions) is escaped.
    P3  record.json is written first, so that drawing can never lose a measurement.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

from jetlift.benchmarks import (
    canvas,
    charts,
    precision_charts,
    precision_view,
    report_sections,
    report_view,
    run_view,
    verdict_view,
)
from jetlift.benchmarks.results_csv import CSV_NAME, results_csv
from jetlift.runtime import atomic
from jetlift.runtime.errors import InputError, MissingPackageError
from jetlift.runtime.record import RECORD_NAME, write_record

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from jetlift.benchmarks.canvas import Chart
    from jetlift.benchmarks.precision_view import PrecisionView
    from jetlift.runtime.record import Figure, Record, Result

HTML_NAME, MARKDOWN_NAME = "report.html", "report.md"
_KINDS = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}


@dataclass(frozen=True)
class Picture:
    """One picture of the gallery: its data URI and its caption."""

    uri: str
    caption: str


def check(out: Path, gallery: Sequence[tuple[Path, str]] = ()) -> None:
    """Refuse before anything is measured, where the report could not be written afterwards.

    Raises:
        MissingPackageError: Jinja2 or matplotlib is not installed.
        InputError: `out` is a file, or a picture of the gallery cannot be used.
    """
    canvas.check_packages()
    environment(escape=False)
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file", expected="A folder for the report, new or old")
    for path, _ in gallery:
        _data_uri(path)


def write_report(record: Record, out: Path, *, gallery: Sequence[tuple[Path, str]] = ()) -> None:
    """Write record.json, report.md, results.csv and report.html, replacing older ones.

    Args:
        record: What was measured.
        out: The folder; it is made where it is not there.
        gallery: Pictures (PNG or JPEG path, caption) to embed in report.html.

    Raises:
        MissingPackageError: Jinja2 or matplotlib is not installed.
        InputError: A picture of the gallery cannot be used.
        StorageError: The disk is full or not writable.
    """
    write_record(record, out / RECORD_NAME)  # P3
    atomic.write_bytes(out / MARKDOWN_NAME, render_markdown(record).encode())
    atomic.write_bytes(out / CSV_NAME, results_csv([record]).encode())
    atomic.write_bytes(out / HTML_NAME, render_html(record, gallery=gallery).encode())


def render_html(record: Record, *, gallery: Sequence[tuple[Path, str]] = ()) -> str:
    """The page as text.

    Raises:
        MissingPackageError: Jinja2 or matplotlib is not installed.
        InputError: A picture of the gallery cannot be used.
    """
    pictures = [Picture(_data_uri(path), caption) for path, caption in gallery]
    parts = report_view.by_part(record)
    drawn = {name: _charts(name, own, record) for name, own in parts.items()}
    kept = {name: _precision_charts(name, own, record) for name, own in parts.items()}
    styles = (resources.files("jetlift.benchmarks") / "templates/report.css").read_text("utf-8")
    page = environment(escape=True).get_template("report.html.j2")
    text: str = page.render(
        **_context(record), charts=drawn, kept=kept, gallery=pictures, styles=styles
    )
    return text


def render_markdown(record: Record) -> str:
    """The same findings as Markdown, without charts.

    Raises:
        MissingPackageError: Jinja2 is not installed.
    """
    text: str = environment(escape=False).get_template("report.md.j2").render(**_context(record))
    return text


def _context(record: Record) -> dict[str, Any]:
    return {
        "record": record,
        "run": run_view.view_run(record),
        "parts": [report_view.view_part(own) for own in report_view.by_part(record).values()],
        "precision": {name: _precision(own) for name, own in report_view.by_part(record).items()},
        "machine": _machine_facts(record),
        "setup": _setup_facts(record),
        "peaks": _peak_facts(record),
        "noise": _noise_by_reason(record),
        "told": verdict_view.view_budget(record.budget),
        "sections": report_sections.sections(record),
        "on_jetson": not record.target.startswith(("cpu", "rtx")),
    }


def _charts(part: str, results: Sequence[Result], record: Record) -> list[Chart]:
    name = f"chart-{list(report_view.by_part(record)).index(part)}"
    drawn = [
        charts.latency(f"{name}-latency", results),
        charts.roofline(f"{name}-roofline", results, record.peak) if record.peak else None,
        charts.memory(f"{name}-memory", results),
        charts.fidelity(f"{name}-fidelity", results),
    ]
    return [chart for chart in drawn if chart is not None]


def _precision(results: Sequence[Result]) -> list[PrecisionView]:
    views = [precision_view.view(*item) for item in precision_view.quantised(results)]
    return [view for view in views if view is not None]


def _precision_charts(part: str, results: Sequence[Result], record: Record) -> list[list[Chart]]:
    """The charts of each way that INT8 was made, in the order of `_precision`."""
    number = list(report_view.by_part(record)).index(part)
    drawn = []
    for index, (_, result) in enumerate(precision_view.quantised(results)):
        name = f"chart-{number}-made-{index}"
        both = (
            precision_charts.blocks(f"{name}-blocks", result),
            precision_charts.curve(f"{name}-curve", result),
        )
        drawn.append([chart for chart in both if chart is not None])
    return drawn


def _machine_facts(record: Record) -> list[tuple[str, str]]:
    machine = record.machine
    memory = _told(machine.memory_bytes, lambda value: f"{value / 2**30:.1f} GiB")
    load = _told(machine.load_1min_before, "{:.2f}".format)
    busy = _told(machine.busy_before, "{:.0%}".format)
    return [
        ("Processor", machine.cpu + (" (virtual machine)" if machine.virtual else "")),
        ("Cores", f"{machine.cores} usable, {machine.architecture}"),
        ("Memory", memory),
        ("System", f"{machine.os}, {machine.kernel}"),
        ("Python", machine.python),
        ("Governor", machine.governor or "not told by this system"),
        ("Frequency", _told(machine.frequency_mhz, lambda value: f"{value:.0f} MHz")),
        ("Before the start", f"load average {load}, cores {busy} busy"),
    ]


def _setup_facts(record: Record) -> list[tuple[str, str]]:
    packages = ", ".join(f"{name} {version}" for name, version in record.packages.items())
    common = [("Bundle", f"SHA-256 {record.bundle_sha256}"), ("Packages", packages)]
    if record.settings is None:
        return [
            *common,
            ("Inputs", _shapes(record)),
            ("Warm-up", "none was left out"),
            ("Process", "the run itself, with everything that it did"),
        ]
    rules = record.settings
    warmup = (
        "until two windows of five runs agree within 3%, at most "
        f"{rules.warmup_max_runs} runs or {rules.warmup_limit_s:g} s"
    )
    stop = (
        f"when the {rules.confidence:.0%} interval of the median is within "
        f"\u00b1{rules.half_width_percent:g}%, after at least {rules.min_runs} runs; at "
        f"{rules.max_runs} runs or {rules.time_limit_s:g} s in any case"
    )
    return [
        *common,
        ("Inputs", f"{rules.inputs}; {_shapes(record)}"),
        ("Threads", "the engine library's choice" if rules.threads is None else str(rules.threads)),
        ("Warm-up", warmup),
        ("Stop", stop),
        ("Process", "a fresh one per part and variant, which loads nothing but the engine library"),
    ]


def _shapes(record: Record) -> str:
    by_part = {result.part: result.inputs for result in record.results}
    return "; ".join(
        f"{part}: "
        + ", ".join(f"{item.name} {item.dtype} {'x'.join(map(str, item.shape))}" for item in inputs)
        for part, inputs in by_part.items()
    )


def _peak_facts(record: Record) -> list[tuple[str, str]]:
    peak = record.peak
    if peak is None:
        return [("Not measured", record.peak_note)]
    facts = [
        (
            f"Compute, {name}",
            _told(item.tops, "{:.3g} TOPS".format) + (f": {item.how}" if item.how else ""),
        )
        for name, item in peak.compute.items()
    ]
    memory = _told(peak.memory_gb_per_s, "{:.3g} GB/s".format)
    facts.append(("Memory", f"{memory}: {peak.memory_how}"))
    if peak.basis == "facts":
        return [*facts, ("From", f"{peak.library}, {peak.version}; nothing was measured")]
    return [*facts, ("Measured by", f"{peak.library} {peak.version}, {peak.threads} threads")]


def _noise_by_reason(record: Record) -> list[tuple[str, str]]:
    """Each reason with the results it holds for, so that a common one is told once."""
    found: dict[str, list[str]] = {}
    single = len(report_view.by_part(record)) == 1
    for result in record.results:
        for reason in result.noisy_reasons:
            name = result.variant if single else f"{result.part} {result.variant}"
            found.setdefault(reason, []).append(name)
    return [(reason, ", ".join(names)) for reason, names in found.items()]


def _told(figure: Figure, form: Any) -> str:  # noqa: ANN401 - str.format and lambdas alike
    return f"not told: {figure.reason}" if figure.value is None else str(form(figure.value))


def _data_uri(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"The picture {path} cannot be read: {error.strerror}", expected="A PNG or JPEG file"
        ) from error
    for magic, kind in _KINDS.items():
        if content.startswith(magic):
            return f"data:{kind};base64,{base64.b64encode(content).decode()}"
    raise InputError(f"{path} is not a picture for the report", expected="A PNG or JPEG file")


def environment(*, escape: bool) -> Any:  # noqa: ANN401
    """Where templates are found; with Markdown's filter `md`.

    Args:
        escape: Whether text is escaped for HTML.

    Raises:
        MissingPackageError: Jinja2 is not installed.
    """
    try:
        import jinja2
    except ModuleNotFoundError as error:
        raise MissingPackageError("jinja2", extra="report", purpose="to write reports") from error
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template),
        autoescape=escape,  # noqa: S701 - off for Markdown alone, which has a filter of its own
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["md"] = _markdown_text
    return environment


def _template(name: str) -> str:
    return (resources.files("jetlift.benchmarks") / "templates" / name).read_text("utf-8")


def _markdown_text(text: object) -> str:
    """Text that stays text in Markdown and in a table's cell (rule P2)."""
    line = " ".join(str(text).split()).replace("\\", "\\\\")
    for sign in "|<>`*_[]":
        line = line.replace(sign, f"\\{sign}")
    return line
