from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetlift.benchmarks import charts, fidelity_view, report, report_table, report_view
from jetlift.runtime.errors import InputError, MissingPackageError
from jetlift.runtime.record import Failed, Figure, Record, Result, read_record

GOLDEN = Path(__file__).parents[1] / "runtime" / "golden" / "record.json"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
VOID = {"meta", "link", "br", "img"}


@pytest.fixture(scope="module")
def record() -> Record:
    return read_record(GOLDEN)


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "sheet.png"
    cv2.imwrite(str(path), np.full((40, 60, 3), 90, np.uint8))
    return path


@pytest.fixture(scope="module")
def html(record: Record, picture: Path) -> str:
    return report.render_html(_two_parts(record), gallery=[(picture, "A contact sheet")])


def _two_parts(record: Record) -> Record:
    other = tuple(replace(result, part="text") for result in record.results[:2])
    return replace(
        record,
        results=(*record.results, *other),
        failed=(Failed("text", "int8", "It was killed."),),
        noisy=True,
        weights=replace(record.weights, random=True),
    )


def _quiet(record: Record, p50_ms: dict[str, float]) -> list[Result]:
    """The golden results as a quiet machine might have given them, with these medians."""
    return [
        replace(
            result,
            noisy=False,
            noisy_reasons=(),
            latency=replace(result.latency, p50_ms=p50_ms[result.variant]),
        )
        for result in record.results
    ]


def _judged(results: list[Result], variant: str, *, met: bool) -> list[Result]:
    return [
        replace(result, fidelity=replace(result.fidelity, met=met))
        if result.variant == variant and result.fidelity
        else result
        for result in results
    ]


class _Page(HTMLParser):
    """Reads what the tests ask about and checks that tags are balanced."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        self.tags.append((tag, told))
        self.ids += [told["id"]] if told.get("id") else []  # type: ignore[list-item]
        self.addresses += [str(v) for k, v in attrs if k in ("href", "src", "xlink:href", "srcset")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag


def test_the_page_is_whole_and_its_ids_are_its_own(html: str) -> None:
    page = _Page(html)
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))


def test_the_page_loads_nothing(html: str) -> None:
    page = _Page(html)
    ids = set(page.ids)
    for address in page.addresses:
        assert address.startswith("data:") or address.removeprefix("#") in ids
    for inside in re.findall(r"url\(([^)]*)\)", html):
        assert inside.removeprefix("#") in ids
    tags = {tag for tag, _ in page.tags}
    assert tags.isdisjoint({"script", "iframe", "object", "embed"})
    assert "@import" not in html


def test_the_page_can_be_read_without_seeing_it(html: str) -> None:
    page = _Page(html)
    drawn = [told for tag, told in page.tags if tag == "svg"]
    assert len(drawn) == 2 * (4 + 4)
    assert all(told.get("role") == "img" and told.get("aria-label") for told in drawn)
    assert all(told.get("alt") for tag, told in page.tags if tag == "img")
    tables = sum(tag == "table" for tag, _ in page.tags)
    assert tables == sum(tag == "caption" for tag, _ in page.tags) == 4
    assert all(told.get("scope") for tag, told in page.tags if tag == "th")
    assert sum(tag == "h1" for tag, _ in page.tags) == 1
    assert ("html", {"lang": "en"}) in page.tags


def test_the_first_screen_says_what_whose_where_and_that_it_was_no_jetson(html: str) -> None:
    first = html[html.index("<main>") : html.index('id="part-1"')]
    for told in (
        "Not run on a Jetson", "Random weights", "Noisy measurement", "1 not measured",
        "dino_s.onnx", "graph of the user", "Xeon", "budget met", "openvino",
    ):  # fmt: skip
        assert told in first


def test_the_page_tells_how_to_repeat_it(html: str, record: Record) -> None:
    last = html[html.index('id="repeat"') :]
    for told in ("jetlift bench dino --target cpu -o report", record.bundle_sha256, "openvino 20"):
        assert told in last


def test_a_picture_is_embedded_with_its_caption(html: str) -> None:
    assert 'src="data:image/png;base64,' in html
    assert 'alt="A contact sheet"' in html


def test_pictures_that_are_none_are_refused(record: Record, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        report.render_html(record, gallery=[(tmp_path / "no.png", "")])
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(InputError, match="is not a picture"):
        report.render_html(record, gallery=[(tmp_path / "text.png", "")])


def test_hostile_names_stay_text(record: Record) -> None:
    evil = "</style><script>alert(1)</script>|`*_[x](y)\n# h"
    weights = replace(record.weights, note=evil, source=evil)
    results = tuple(replace(result, noisy=True, noisy_reasons=(evil,)) for result in record.results)
    hostile = replace(record, weights=weights, results=results, command=evil)
    html = report.render_html(hostile)
    assert "<script" not in html
    assert _Page(html).open == []
    markdown = report.render_markdown(hostile)
    assert "\n# h" not in markdown
    prose = [line for line in markdown.splitlines() if not line.startswith("    ")]  # code is text
    assert "<script" not in "\n".join(prose).replace("\\<script", "")


def test_everything_is_written_and_written_again(record: Record, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "report"
    for _ in range(2):
        report.write_report(record, out)
        assert {path.name for path in out.iterdir()} == {
            "record.json",
            "report.html",
            "report.md",
            "results.csv",
        }
    assert read_record(out / "record.json") == record


def test_a_measurement_is_kept_where_drawing_fails(
    record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingPackageError, match=r"jetlift\[report\]"):
        report.write_report(record, tmp_path)
    assert read_record(tmp_path / "record.json") == record
    with pytest.raises(MissingPackageError):
        report.check(tmp_path)


def test_missing_matplotlib_is_told_before_measuring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingPackageError, match="matplotlib"):
        report.check(tmp_path)


def test_the_same_record_gives_the_same_page(record: Record) -> None:
    assert report.render_html(record) == report.render_html(record)


def test_charts_take_their_colours_and_font_from_the_page(record: Record) -> None:
    chart = charts.latency("c", record.results)
    assert "var(--int8)" in chart.wide
    assert "var(--sans)" in chart.wide
    assert set(re.findall(r"#[0-9a-f]{6}\b", chart.wide)) <= set()
    assert "DejaVu" not in chart.wide
    assert not re.search(r'<svg[^>]* width="', chart.narrow)


def test_charts_without_figures_are_left_out(record: Record) -> None:
    none = Figure.missing("not told")
    bare = [
        replace(
            result,
            fidelity=None,
            memory=replace(result.memory, rss_peak_bytes=none),
            work=replace(result.work, bound_ms=none, binds=None),
        )
        for result in record.results
    ]
    assert charts.memory("m", bare) is None
    assert charts.fidelity("f", bare) is None
    assert record.peak is not None
    assert charts.roofline("r", bare, record.peak) is None
    page = report.render_html(
        replace(record, results=tuple(bare), peak=None, peak_note="no library")
    )
    assert "no library" in page


def test_one_variant_of_one_run_is_drawn_too(record: Record) -> None:
    first = record.results[0]
    lone = replace(first, latency=replace(first.latency, samples_ms=(5.0,)))
    assert "<svg" in charts.latency("c", [lone]).narrow
    assert _Page(report.render_html(replace(record, results=(lone,)))).open == []


def test_the_finding_names_the_fastest_that_kept_its_fidelity(record: Record) -> None:
    results = _quiet(record, {"fp32": 60.0, "fp16": 59.0, "int8": 20.0})
    view = report_view.view_part(results)
    assert view.headline == "int8 is 3.0\u00d7 as fast as fp32"
    assert [bar.variant for bar in view.bars if bar.best] == ["int8"]
    view = report_view.view_part(_judged(results, "int8", met=False))
    assert view.headline == "No variant that kept its fidelity is clearly faster than fp32"
    assert "int8 is faster (20 ms) but missed its fidelity budget." in view.sentences
    assert [bar.state for bar in view.bars if bar.variant == "int8"] == ["budget missed"]


def test_a_small_difference_is_not_called_faster(record: Record) -> None:
    results = _quiet(record, {"fp32": 60.0, "fp16": 59.0, "int8": 55.0})
    assert report_view.view_part(results).headline.startswith("No variant")


def test_a_noisy_difference_says_so(record: Record) -> None:
    results = _quiet(record, {"fp32": 60.0, "fp16": 59.0, "int8": 20.0})
    noisy = [replace(result, noisy=True) for result in results]
    assert "on a noisy machine" in report_view.view_part(noisy).headline


def test_without_fp32_there_is_no_comparison(record: Record) -> None:
    results = _quiet(record, {"fp32": 60.0, "fp16": 59.0, "int8": 20.0})[2:]
    view = report_view.view_part(results)
    assert view.headline == "int8 takes 20 ms per run"
    assert view.bars[0].speed == ""


def test_missing_figures_are_dashes_with_numbered_reasons(record: Record) -> None:
    view = report_view.view_part(record.results)
    cells = {row.label: row.cells for group in view.groups for row in group.rows}
    assert [cell.text for cell in cells["power, W"]] == ["\u2013"] * 3
    number = cells["power, W"][0].note
    assert number is not None
    assert view.notes[number - 1] == record.results[0].power_w.reason
    assert len(view.notes) == len(set(view.notes))


def test_fidelity_rows_carry_their_limits(record: Record) -> None:
    int8 = next(result for result in record.results if result.variant == "int8")
    rows = {row.name: row for row in fidelity_view.rows_of(int8)}
    assert rows["embedding.cosine_min"].threshold == 0.95
    assert rows["embedding.cosine_min"].met
    assert rows["embedding.spearman"].met is None
    assert fidelity_view.state_of(int8) == "met"
    assert fidelity_view.deciding(int8) is not None
    assert "budget met" in fidelity_view.sentence_of(int8)


def test_fidelity_that_was_not_measured_is_said_to_be_so(record: Record) -> None:
    int8 = next(result for result in record.results if result.variant == "int8")
    bare = replace(int8, fidelity=None, fidelity_note="not measured: no samples")
    assert fidelity_view.state_of(bare) == "not measured"
    assert fidelity_view.sentence_of(bare) == "Fidelity: not measured: no samples."
    markdown = report.render_markdown(replace(record, results=(bare,)))
    assert "not measured: no samples" in markdown


def test_limits_that_differ_stand_with_their_figures(record: Record) -> None:
    def held(result: Result, budget: str) -> Result:
        assert result.fidelity is not None
        return replace(result, fidelity=replace(result.fidelity, budget=budget))

    fp16, int8 = (item for item in record.results if item.variant != "fp32")
    results = [held(fp16, "embedding.cosine_min>=0.999"), held(int8, "embedding.cosine_min>=0.95")]
    groups, _ = report_table.tabulate(results, lambda _: None)
    cells = {row.label: row.cells for group in groups for row in group.rows}
    texts = [cell.text for cell in cells["embedding: lowest cosine"]]
    assert texts[0].endswith("(\u2265\u00a00.999)")
    assert texts[1].endswith("(\u2265\u00a00.95)")


@pytest.mark.parametrize(
    ("value_ms", "text"),
    [(0.41, "410 µs"), (22.14, "22.1 ms"), (1240, "1.24 s"), (999.6, "1000 ms"), (1.5e6, "1500 s")],
)
def test_latencies_are_told_with_a_fitting_unit(value_ms: float, text: str) -> None:
    assert report_view.ms(value_ms) == text


@given(st.floats(1e-9, 1e15))
def test_numbers_never_come_in_exponent_form_where_they_are_large(value: float) -> None:
    text = report_table.digits(value)
    assert "e+" not in text
    assert float(text) == pytest.approx(value, rel=1e-3)


def test_markdown_has_every_figure_in_its_table(record: Record) -> None:
    text = report.render_markdown(record)
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in table}) == 1
    assert "**Not run on a Jetson.**" in text
    assert f"    {record.command}\n" in text


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine to lay the page out")
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_sticks_out_of_the_page(html: str, tmp_path: Path, width: int) -> None:
    told = _laid_out(html, tmp_path, width)
    assert told["width"] == width, "the frame did not take the width it was given"
    assert told["scroll"] <= width
    assert told["wide_shown"] == (width == 1280)


def _laid_out(html: str, folder: Path, width: int) -> dict[str, Any]:
    """Lay the page out in Chromium and have it tell its own measures."""
    # A frame has the very width it is given, where a headless window has one of 500 at the least.
    script = (
        "const f=document.querySelector('iframe');f.onload=()=>{const d=f.contentDocument,"
        "r=d.documentElement,w=d.querySelector('.charts .wide');"
        "document.documentElement.setAttribute('data-told',JSON.stringify({"
        "width:f.contentWindow.innerWidth,scroll:r.scrollWidth,"
        "wide_shown:f.contentWindow.getComputedStyle(w).display!=='none'}))}"
    )
    frame = f'<iframe style="border:0;width:{width}px;height:900px"></iframe>'
    content = json.dumps(html).replace("</", "<\\/")
    page = folder / "page.html"
    page.write_text(
        f"<!doctype html><meta charset=utf-8><body>{frame}"
        f"<script>{script};f.srcdoc={content}</script>",
        encoding="utf-8",
    )
    done = subprocess.run(
        [
            str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
            "--no-first-run", "--disable-background-networking", "--disable-component-update",
            "--disable-sync", f"--user-data-dir={folder / 'profile'}",
            "--window-size=1400,1000", "--hide-scrollbars", "--virtual-time-budget=20000",
            "--dump-dom", page.as_uri(),
        ],
        capture_output=True, check=True, timeout=120, text=True,
    )  # fmt: skip
    match = re.search(r'data-told="([^"]*)"', done.stdout)
    assert match, done.stderr
    told: dict[str, Any] = json.loads(match[1].replace("&quot;", '"'))
    return told
