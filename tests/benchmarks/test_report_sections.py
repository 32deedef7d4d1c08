from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.full_record import full_record

from jetlift.benchmarks import report
from jetlift.benchmarks.report_sections import sections
from jetlift.benchmarks.results_csv import results_csv
from jetlift.runtime.record import Record, read_record

GOLDEN = Path(__file__).parents[1] / "runtime" / "golden" / "record.json"


@pytest.fixture(scope="module")
def bare() -> Record:
    return read_record(GOLDEN)


@pytest.fixture(scope="module")
def full(bare: Record) -> Record:
    return full_record(bare)


def test_a_record_with_results_alone_has_no_section(bare: Record) -> None:
    assert sections(bare) == ()


def test_everything_has_its_section(full: Record) -> None:
    found = {section.title: section for section in sections(full)}
    assert list(found) == [
        "Power", "The board while measuring", "Batches and callers", "Scenarios", "Cold starts",
        "Time per layer: main fp32", "What could not be done",
    ]  # fmt: skip
    assert all(len(row) == len(x.columns) + 1 for x in found.values() for row in x.rows)
    assert "main fp32: soft throttling" in found["The board while measuring"].notes
    assert "power mode 15W, clocks not fixed" in found["The board while measuring"].caption
    assert found["Power"].notes == ("nobody looked",)
    assert any("Latency constraint" in note for note in found["Scenarios"].notes)


def test_the_pages_show_them(full: Record) -> None:
    for text in (report.render_html(full), report.render_markdown(full)):
        for word in ("VDD", "gpu-thermal", "Server", "memory ran out", "Cold starts"):
            assert word in text


def test_csv_has_a_row_per_result_and_empty_cells_for_what_is_missing(full: Record) -> None:
    rows = list(csv.DictReader(io.StringIO(results_csv([full, full]))))
    assert len(rows) == 2 * len(full.results)
    assert rows[0]["energy_j_per_item"] == "0.25"
    assert rows[0]["power_mode"] == "15W"
    assert rows[1]["energy_j_per_item"] == ""
    assert float(rows[0]["latency_p50_ms"]) == full.results[0].latency.p50_ms


def test_csv_holds_no_formula(bare: Record) -> None:
    evil = replace(bare, machine=replace(bare.machine, cpu="=HYPERLINK(1)"))
    row = next(csv.DictReader(io.StringIO(results_csv([evil]))))
    assert row["machine"] == "'=HYPERLINK(1)"
