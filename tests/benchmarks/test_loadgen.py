"""LoadGen on real threads; its own short scenarios where it is installed."""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from jetlift.benchmarks import loadgen_log
from jetlift.benchmarks.loadgen import Bearer, Kept, bear, loadgen
from jetlift.benchmarks.more_jobs import ScenarioJob
from jetlift.benchmarks.scenario_child import Server, found_rate, settings
from jetlift.runtime.errors import EngineLibraryError, MachineError, MissingPackageError

PATIENCE_S = 60.0


def _job(folder: Path, name: str = "SingleStream", *, batch: int = 1) -> ScenarioJob:
    return ScenarioJob(
        "scenario", "bundle", "mlp", "fp32", "cpu", 1, 0, name, 0.5, batch, 8, None, None,
        str(folder),
    )  # fmt: skip


def _wait_for(seen: list[Any], count: int) -> None:
    for _ in range(1200):
        if len(seen) >= count:
            return
        time.sleep(0.05)
    pytest.fail(f"{count} answers never came")


def test_a_query_is_cut_into_runs_and_answered_in_order() -> None:
    runs: list[int] = []
    answered: list[int] = []
    with Bearer(lambda: runs.append(1), 4, answered.extend) as bearer:
        bearer.ask(range(10))
        bearer.ask([10])
        _wait_for(answered, 11)
    bearer.check()
    assert answered == list(range(11))
    assert len(runs) == 4  # 4 + 4 + 2 (filled up), and 1


def test_a_run_that_fails_is_kept_and_everything_is_still_answered() -> None:
    def fail() -> None:
        raise EngineLibraryError("the library fell over")

    answered: list[int] = []
    with Bearer(fail, 1, answered.extend) as bearer:
        bearer.ask(range(5))
        bearer.ask(range(5, 8))
        _wait_for(answered, 8)
    with pytest.raises(EngineLibraryError, match="fell over"):
        bearer.check()


def test_stopped_early_it_ends_after_the_run_it_is_in() -> None:
    entered, go_on, runs = threading.Event(), threading.Event(), []
    answered: list[int] = []

    def slow() -> None:
        runs.append(1)
        entered.set()
        assert go_on.wait(PATIENCE_S)

    bearer = Bearer(slow, 1, answered.extend)
    with bearer:
        bearer.ask(range(1000))
        assert entered.wait(PATIENCE_S)
        bearer._ended.set()
        go_on.set()
    assert len(runs) == 1
    assert len(answered) == 1000
    assert not bearer._thread.is_alive()


def test_an_interrupt_is_not_kept() -> None:
    kept = Kept()
    with pytest.raises(KeyboardInterrupt), kept:
        raise KeyboardInterrupt
    assert kept.error is None


def test_without_loadgen_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlperf_loadgen", None)
    with pytest.raises(MissingPackageError, match=r"jetlift\[loadgen\]"):
        loadgen()


@pytest.mark.parametrize("name", ["SingleStream", "MultiStream", "Offline", "Server"])
def test_loadgen_plays_each_scenario(name: str, tmp_path: Path) -> None:
    lg = pytest.importorskip("mlperf_loadgen", reason="LoadGen is not installed")
    job = _job(tmp_path, name)
    server = Server(20.0, 500.0, "given") if name == "Server" else None
    asked = settings(lg, job, 1.0, server)
    assert 1 <= asked.min_query_count <= 100
    told = bear(lambda: None, lambda _lg: asked, job.batch, tmp_path / "logs")
    assert told["result_validity"] in ("VALID", "INVALID")
    assert told["effective_scenario"] == name
    assert int(told["result_query_count"]) >= 1
    assert loadgen_log.rate_per_s(told).value
    if name == "Offline":
        assert "one query" in loadgen_log.latency_ms(told, 50).reason
    else:
        assert loadgen_log.latency_ms(told, 50).value
    assert bool(loadgen_log.reasons_of(told)) == (told["result_validity"] == "INVALID")


def test_a_run_that_fails_under_loadgen_is_raised(tmp_path: Path) -> None:
    lg = pytest.importorskip("mlperf_loadgen", reason="LoadGen is not installed")

    def fail() -> None:
        raise EngineLibraryError("the library fell over")

    asked = settings(lg, _job(tmp_path), 1.0, None)
    with pytest.raises(EngineLibraryError, match="fell over"):
        bear(fail, lambda _lg: asked, 1, tmp_path / "logs")


def _log(folder: Path, **told: Any) -> Path:
    lines = [f":::MLLOG {json.dumps({'key': key, 'value': value})}" for key, value in told.items()]
    (folder / loadgen_log.DETAIL).write_text("\n".join(["noise", *lines, ":::MLLOG {cut off"]))
    return folder


def test_a_log_is_read_and_its_reasons_told(tmp_path: Path) -> None:
    folder = _log(
        tmp_path, result_validity="INVALID", result_min_duration_met=False, early_stopping_met=True,
        result_invalid_reason="", early_stopping_result=" * Only processed\n 5 queries.",
        result_query_count=12, generated_samples_per_query=8, result_mean_query_latency_ns=4e6,
        **{"result_50.00_percentile_per_query_latency_ns": 2_500_000},
    )  # fmt: skip
    told = loadgen_log.read_log(folder)
    assert loadgen_log.reasons_of(told) == (
        "it did not last as long as was asked", "Only processed 5 queries.",
    )  # fmt: skip
    assert loadgen_log.latency_ms(told, 50).value == 2.5
    assert loadgen_log.latency_ms(told, 99).reason == "12 queries, and p99 asks for 100"
    assert loadgen_log.latency_ms(told, 90).reason == "LoadGen told no p90"
    assert loadgen_log.rate_per_s(told).value == 2000


def test_a_log_without_a_verdict_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="no verdict"):
        loadgen_log.read_log(tmp_path)
    with pytest.raises(MachineError, match="no verdict"):
        loadgen_log.read_log(_log(tmp_path, other=1))
    assert loadgen_log.reasons_of({"result_validity": "INVALID"}) == (
        "LoadGen says INVALID and not why",
    )
    assert loadgen_log.rate_per_s({}).reason == "LoadGen told no rate"


def test_a_rate_is_found_by_bisection() -> None:
    assert found_rate(lambda rate: rate <= 60, 100.0) == 56.25
    assert found_rate(lambda _rate: True, 100.0) == 93.75
    assert found_rate(lambda _rate: False, 100.0) == 6.25
