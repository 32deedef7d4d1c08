from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest

from jetlift.benchmarks import report
from jetlift.benchmarks.report_sections import sections
from jetlift.benchmarks.results_csv import results_csv
from jetlift.runtime.figure import Figure
from jetlift.runtime.layer_form import LayerTime
from jetlift.runtime.power_form import Clock, Conditions, Power, Rail, Temperature
from jetlift.runtime.record import Record, read_record
from jetlift.runtime.scenario_form import ColdStart, NotDone, Scenario, SweepPoint

GOLDEN = Path(__file__).parents[1] / "runtime" / "golden" / "record.json"
NONE = Figure.missing("nobody looked")


@pytest.fixture(scope="module")
def bare() -> Record:
    return read_record(GOLDEN)


@pytest.fixture(scope="module")
def full(bare: Record) -> Record:
    """The golden record with everything that a record may have beside its results."""
    rail = Rail("VDD_IN", Figure(7.5), Figure(9.0))
    power = Power("INA3221", "the module's input", 42, Figure(7.5), Figure(9.0), NONE,
                  Figure(0.25), (rail,))  # fmt: skip
    state = Conditions(
        source="sysfs",
        power_mode="15W",
        clocks_fixed=False,
        clocks=(Clock("gpu", Figure(306.0), Figure(612.0), Figure(624.0)),),
        temperatures=(Temperature("gpu-thermal", Figure(40.0), Figure(55.0)),),
        fan_percent=Figure(30.0),
        throttled=("soft throttling",),
        unsteady=("the gpu clock moved",),
    )
    layer = LayerTime("Gemm_7", "FullyConnected", ("Gemm_7",), 1.5, Figure(3e6))
    first = replace(bare.results[0], power=power, conditions=state,
                    layers=(layer, replace(layer, name="Reorder_1", operations=NONE)))  # fmt: skip
    return replace(
        bare,
        results=(first, *bare.results[1:]),
        sweep=(SweepPoint("main", "int8", 4, 2, 90, 8.5, NONE, 940.0, Figure(2.0**28)),),
        scenarios=(
            Scenario(
                part="main", variant="int8", name="Server", by="LoadGen 5", seconds=10.0,
                samples_per_query=1, asked_per_s=20.0, asked_how="the user", limit_ms=50.0, batch=1,
                queries=200, samples=200, p50_ms=Figure(8.0), p90_ms=Figure(9.0),
                p99_ms=Figure(60.0), throughput_per_s=Figure(20.0), valid=False,
                reasons=("Latency constraint not met",),
            ),
        ),
        cold_starts=(
            ColdStart("main", "int8", (1.5, 1.25), 1.375, Figure(0.5), Figure(0.5), Figure(0.25),
                      "the files' pages"),
        ),
        not_done=(NotDone("main", "int8", "batch 64", "memory ran out"),),
    )  # fmt: skip


def test_a_record_with_results_alone_has_no_section(bare: Record) -> None:
    assert sections(bare) == ()


def test_everything_has_its_section(full: Record) -> None:
    found = {section.title: section for section in sections(full)}
    assert list(found) == [
        "Time per layer: main fp32", "Power", "The board while measuring", "Batches and callers",
        "Scenarios", "Cold starts", "What could not be done",
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
