from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from helpers.finished_run import finished_run, snapshot
from helpers.tiny_bundle import tiny_bundle

from jetlift.runtime import run_facts
from jetlift.runtime.budget import judge
from jetlift.runtime.budget_form import BudgetFile, Head, Limits
from jetlift.runtime.clock import FakeClock
from jetlift.runtime.errors import EngineLibraryError, StorageError
from jetlift.runtime.figure import Figure
from jetlift.runtime.manifest import TensorSpec
from jetlift.runtime.record import read_record
from jetlift.runtime.run_facts import FinishedRun, RunEngine, figures_of, since_process_start_s
from jetlift.runtime.run_record import record_of, write_run
from jetlift.runtime.session.fake import FakeSession
from jetlift.runtime.session.timed import KEPT, TimedSession

SCHEMA = Path(__file__).parents[2] / "docs" / "schemas" / "record.schema.json"
X = TensorSpec("x", "float32", ("n", 2))
Y = TensorSpec("y", "float32", ("n", 2))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    return finished_run(tmp_path_factory.mktemp("run"))


def fake(clock: FakeClock, *, takes_s: float = 0.25) -> FakeSession:
    def compute(feeds):
        clock.advance(takes_s)
        return {"y": feeds["x"] * 2}

    return FakeSession([X], [Y], compute)


def feeds(rows: int = 1) -> dict[str, np.ndarray]:
    return {"x": np.ones((rows, 2), np.float32)}


def test_a_session_tells_how_long_its_runs_took() -> None:
    clock = FakeClock()
    inner = fake(clock)
    with TimedSession(inner, clock) as session:
        assert session.shapes is None
        assert session.run(feeds())["y"].tolist() == [[2, 2]]
        assert session.run(feeds())["y"].tolist() == [[2, 2]]
        assert (session.runs, list(session.samples_ms)) == (2, [250.0, 250.0])
        assert session.shapes == {"x": ("float32", (1, 2))}
        assert (session.io_bytes, session.same_shapes) == (16, True)
        session.run(feeds(3))
        assert not session.same_shapes
        assert (session.info, list(session.inputs), list(session.outputs)) == (
            inner.info, [X], [Y],
        )  # fmt: skip
    assert inner.closed


def test_a_run_that_fails_is_not_counted() -> None:
    def fail(_feeds):
        raise EngineLibraryError("it broke")

    session = TimedSession(FakeSession([X], [Y], fail))
    with pytest.raises(EngineLibraryError):
        session.run(feeds())
    assert (session.runs, len(session.samples_ms)) == (0, 0)


def test_a_run_without_end_keeps_its_latest_latencies() -> None:
    clock = FakeClock()
    session = TimedSession(fake(clock), clock)
    for _ in range(KEPT + 5):
        session.run(feeds())
    assert (session.runs, len(session.samples_ms)) == (KEPT + 5, KEPT)


def test_a_run_is_a_record_that_is_read_again(run: FinishedRun, tmp_path: Path) -> None:
    record = record_of(run)
    path = write_run(record, tmp_path / "deep" / "kept")
    assert [item.name for item in path.parent.iterdir()] == ["record.json"]
    assert read_record(path) == record
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(json.loads(path.read_text(encoding="utf-8")))
    assert record.measured_utc == "2026-03-01T10:00:05Z"
    (result,) = record.results
    assert result.latency.samples_ms == tuple(run.engines[0].session.samples_ms)
    assert result.latency.stopped_by == "end of the run"
    assert result.work.achieved_tops.value
    assert result.memory.rss_peak_bytes.value
    assert result.engine.notices == ("a notice",)
    assert (record.settings, record.peak, record.run and record.run.budget) == (None, None, None)


def test_no_folder_host_or_password_enters_a_record(run: FinishedRun) -> None:
    text = json.dumps(record_of(run), default=lambda item: item.__dict__)
    for private in ("ann", "secret", "camera.example", "broker.example", str(run.bundle.folder)):
        assert private not in text.replace("channel", "")
    facts = record_of(replace(run, snapshot=snapshot(live=False))).run
    assert facts is not None
    assert facts.sources[0].name == "texts.txt"


def test_a_run_tells_its_stages_and_what_was_lost(run: FinishedRun) -> None:
    facts = record_of(run).run
    assert facts is not None
    assert [stage.name for stage in facts.stages] == [
        "capture", "prepare", "infer", "finish", "sink",
    ]  # fmt: skip
    assert [stage.threads for stage in facts.stages] == [None, 2, 1, None, None]
    assert facts.stages[2].age is not None
    assert facts.stages[2].age.p99_ms == pytest.approx(63.75)
    assert (facts.dropped, facts.stale, facts.skipped) == (15, 3, 2)
    assert facts.throughput_per_s.value == 30
    assert facts.sources[0].clock == "when the packet arrived"
    assert facts.sources[0].trouble == "rtsp://... closed the connection"
    assert facts.sinks[1].trouble == "... refused"


def test_an_engine_that_never_ran_is_told(run: FinishedRun, tmp_path: Path) -> None:
    idle = TimedSession(FakeSession([X], [Y], dict))
    engines = (RunEngine("mlp", "fp32", idle, 1.0, Figure.missing("compiled in memory")),)
    record = record_of(replace(run, engines=engines, item_ms=()))
    assert record.results == ()
    assert record.failed[0].part == "mlp"
    assert record.run is not None
    assert record.run.item_p50_ms.reason == "0 timed items, and p50 asks for 2"
    write_run(record, tmp_path)


def test_what_was_not_shown_is_said(run: FinishedRun) -> None:
    told = " ".join(record_of(run).not_shown)
    for said in ("Not run on a Jetson", "beside everything else", "No warm-up", "Power was not"):
        assert said in told
    on_board = " ".join(record_of(replace(run, target="orin-nano-8gb")).not_shown)
    assert "Not run on a Jetson" not in on_board


def test_latencies_that_were_cut_are_told(run: FinishedRun) -> None:
    clock = FakeClock()
    session = TimedSession(fake(clock), clock)
    for _ in range(KEPT + 1):
        session.run(feeds())
    engine = replace(run.engines[0], session=session)
    record = record_of(replace(run, engines=(engine,)))
    assert f"mlp ran {KEPT + 1} times" in " ".join(record.not_shown)
    assert record.results[0].work.operations.reason.startswith("operations are counted at opt")


def test_noise_is_told(run: FinishedRun) -> None:
    machine = replace(run.machine, busy_before=Figure(0.5))
    noisy = record_of(replace(run, machine=machine, others_busy=Figure(0.25)))
    assert noisy.noisy
    assert len(noisy.results[0].noisy_reasons) == 2
    machine = replace(run.machine, busy_before=Figure(0.0))
    assert not record_of(replace(run, machine=machine, others_busy=Figure(0.01))).noisy


def test_a_folder_that_cannot_be_written_to(run: FinishedRun, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        write_run(record_of(run), tmp_path / "file")
    assert [item.name for item in tmp_path.iterdir()] == ["file"]


# What a budget is held against.


def values(run: FinishedRun) -> dict[str, float | str | None]:
    return {name: figure.reason or figure.value for name, figure in figures_of(run).values.items()}


def test_the_figures_of_a_camera_s_run(run: FinishedRun) -> None:
    found = values(replace(run, power_w=Figure(6.0)))
    assert found["latency_p50_ms"] == pytest.approx(1.595)
    assert found["latency_p99_ms"] == pytest.approx(2.178, abs=0.01)
    assert found["age_p99_ms"] == pytest.approx(68.0)  # at the end of 'finish', before the sinks
    assert found["throughput_per_s"] == 30
    assert found["energy_j_per_item"] == 0.2
    assert found["dropped_share"] == pytest.approx(18 / 320)
    assert found["size_mib"] == 1
    assert found["cold_start_s"] == 1.5
    assert isinstance(found["memory_mib"], float)


def test_the_figures_of_texts_have_no_age_but_all_else(run: FinishedRun) -> None:
    found = values(replace(run, snapshot=snapshot(live=False)))
    assert found["age_p99_ms"] == "no source was live, so nothing was captured"
    assert found["dropped_share"] == 0
    assert found["latency_p50_ms"] == pytest.approx(1.595)
    assert found["throughput_per_s"] == 30


def test_too_few_items_make_no_percentile(run: FinishedRun) -> None:
    assert values(replace(run, item_ms=[7.0]))["latency_p50_ms"] == 7.0
    found = values(replace(run, item_ms=[1.0, 2.0], snapshot=snapshot(count=40)))
    assert found["latency_p50_ms"] == 1.5
    assert found["latency_p99_ms"] == "2 timed items, and p99 asks for 100"
    assert found["age_p99_ms"] == "40 frames were aged, and p99 asks for 100"


def test_what_was_not_there_has_its_reason(run: FinishedRun) -> None:
    empty = replace(run.snapshot, running_s=0.0, done=0, sources=(), stages=())
    compiled = replace(run.engines[0], size_bytes=Figure.missing("compiled in memory"))
    found = values(replace(run, snapshot=empty, engines=(compiled,), power_w=Figure(3)))
    assert found["throughput_per_s"] == "the run took no time that could be measured"
    assert found["energy_j_per_item"] == found["throughput_per_s"]
    assert found["dropped_share"] == "no source delivered anything"
    assert found["age_p99_ms"] == "no source was live, so nothing was captured"
    begun = values(replace(run, snapshot=replace(run.snapshot, stages=())))
    assert begun["age_p99_ms"] == "no frame came so far"
    assert found["size_mib"] == "compiled in memory"
    still = replace(run.snapshot, done=0)
    assert values(replace(run, snapshot=still, power_w=Figure(3)))["energy_j_per_item"] == (
        "there was no result"
    )


def test_fidelity_is_the_bundle_s(tmp_path: Path) -> None:
    run = finished_run(tmp_path, "int8")
    found = figures_of(run)
    assert not found.fidelity
    assert found.unjudged == ("the bundle has no fidelity of mlp int8",)
    budget = BudgetFile(Head("b"), Limits(fidelity={"cosine_min": ">=0.9"}))
    assert not judge(budget, found).met
    assert judge(budget, figures_of(replace(run, engines=()))).met  # nothing narrower than fp32


def test_the_verdict_is_part_of_the_record(run: FinishedRun, tmp_path: Path) -> None:
    record = record_of(run, BudgetFile(Head("b"), Limits(throughput_per_s=40.0, latency_p50_ms=2)))
    assert record.run is not None
    assert record.run.budget is not None
    assert not record.run.budget.met
    assert [line.state for line in record.run.budget.lines] == ["ok", "missed"]
    assert read_record(write_run(record, tmp_path)) == record


def test_the_age_of_this_process(tmp_path: Path) -> None:
    first = since_process_start_s().value
    assert first is not None
    assert first > 0
    assert (since_process_start_s().value or 0) >= first
    assert since_process_start_s(tmp_path).reason
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "stat").write_text("1 (python) S 0")
    assert since_process_start_s(tmp_path).reason


def test_the_stage_before_the_sinks_is_the_result_s(run: FinishedRun) -> None:
    stage = run_facts.result_stage(run.snapshot)
    assert stage is not None
    assert stage.name == "finish"
    assert run_facts.result_stage(replace(run.snapshot, stages=())) is None


def test_a_run_s_own_bundle_is_named_by_its_hash(run: FinishedRun, tmp_path: Path) -> None:
    assert record_of(run).bundle_sha256 == run.bundle.sha256
    assert record_of(run).model == tiny_bundle(tmp_path / "b", random=False).manifest.model
