from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from helpers.finished_run import finished_run, snapshot

from jetlift.benchmarks import report, run_view
from jetlift.runtime.budget_form import BudgetFile, Head, Limit, Limits
from jetlift.runtime.record import Record, read_record
from jetlift.runtime.run_facts import FinishedRun
from jetlift.runtime.run_record import record_of

GOLDEN = Path(__file__).parents[1] / "runtime" / "golden" / "record.json"
BUDGET = BudgetFile(
    Head("door-camera", "orin-nano-8gb"),
    Limits(
        latency_p99_ms=33.0,
        age_p99_ms=50.0,
        throughput_per_s=29.0,
        power_w=Limit(15, optional=True),
    ),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    return finished_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def record(run: FinishedRun) -> Record:
    return record_of(run, BUDGET)


def test_a_benchmark_s_record_has_no_run() -> None:
    assert run_view.view_run(read_record(GOLDEN)) is None
    assert 'id="run"' not in report.render_html(read_record(GOLDEN))


def test_the_finding_is_rate_and_age(record: Record, run: FinishedRun) -> None:
    view = run_view.view_run(record)
    assert view is not None
    assert view.headline == "30 results per second, 99 of 100 at most 68\u00a0ms old"
    texts = run_view.view_run(record_of(replace(run, snapshot=snapshot(live=False))))
    assert texts is not None
    assert texts.headline == "30 results per second"


def test_a_stage_that_did_nothing_has_dashes(run: FinishedRun) -> None:
    idle = replace(run.snapshot.stages[0], service=None, age=None)
    view = run_view.view_run(
        record_of(replace(run, snapshot=replace(run.snapshot, stages=(idle,))))
    )
    assert view is not None
    assert view.stages[0].texts[:5] == ("\u2013",) * 5


def test_the_budget_s_lines_are_told(record: Record) -> None:
    view = run_view.view_run(record)
    assert view is not None
    assert (view.verdict, view.met) == ("Budget door-camera: not met", False)
    lines = {row.name: (row.texts[-1], row.tone) for row in view.budget}
    assert lines["device"] == ("not measured", "bad")
    assert lines["latency_p99_ms"] == ("ok", "good")
    assert lines["age_p99_ms"] == ("missed", "bad")
    assert lines["power_w"] == ("not measured", "plain")
    assert view.reasons == ("power_w was not measured: no probe was given. It is optional.",)


def test_the_page_shows_the_run(record: Record) -> None:
    page = report.render_html(record)
    for told in (
        "jetlift <b>run</b>", "Budget door-camera: not met", "15 dropped for a newer one",
        "From rtsp://...", "To mqtt", "age p99, ms", "none was left out",
    ):  # fmt: skip
        assert told in page, told
    assert "secret" not in page


def test_markdown_tells_the_same(record: Record) -> None:
    text = report.render_markdown(record)
    assert "**Budget door-camera: not met.**" in text
    assert "| infer | 28.5 |" in text.replace("\\", "")
    assert "\n\n\n\n" not in text


def test_a_run_without_a_result_is_a_page_too(run: FinishedRun, tmp_path: Path) -> None:
    nothing = replace(run.snapshot, done=0, stages=(), sources=(), sinks=())
    report.write_report(record_of(replace(run, snapshot=nothing, engines=(), item_ms=())), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "record.json",
        "report.html",
        "report.md",
        "results.csv",
    }
