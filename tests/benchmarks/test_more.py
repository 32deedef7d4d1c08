"""Sweeps, scenarios and cold starts in real children, on a bundle of a few kilobytes."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny_bundle import tiny_bundle

from jetlift.benchmarks import cold_start, measure, more_said
from jetlift.benchmarks import more as module
from jetlift.benchmarks.cold_start import resident_share
from jetlift.benchmarks.more import Found, More, Subject, measure_more
from jetlift.benchmarks.more_jobs import COLD_WORKER, ColdStartAnswer, SweepAnswer
from jetlift.engines.build import build
from jetlift.runtime.bundle import Bundle
from jetlift.runtime.errors import BundleError, MachineError, UnknownNameError, UsageError
from jetlift.runtime.figure import Figure
from jetlift.runtime.record import read_record

GOLDEN = Path(__file__).parents[1] / "runtime" / "golden" / "record.json"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny", precisions=("fp32",))


def _subject(bundle: Bundle) -> Subject:
    return Subject(bundle, "mlp", "fp32", "cpu", 2, 0)


def _found(bundle: Bundle, more: More) -> tuple[Found, list[str]]:
    found, told = Found(), []
    measure_more(more, _subject(bundle), found, told.append)
    return found, told


def test_batches_and_callers_are_swept_and_what_does_not_fit_is_told(bundle: Bundle) -> None:
    found, told = _found(bundle, More(batches=(1, 3, 8), callers=(2,), sweep_seconds=0.2))
    assert [(point.batch, point.callers) for point in found.sweep] == [(1, 1), (3, 1), (1, 2)]
    assert told == [
        "mlp fp32, batch 1", "mlp fp32, batch 3", "mlp fp32, batch 8", "mlp fp32, callers 2",
    ]  # fmt: skip
    for point in found.sweep:
        assert point.runs >= point.callers
        assert point.throughput_per_s > 0
        assert (point.rss_peak_bytes.value or 0) > 2**20
    assert found.sweep[0].how == "one session"
    assert "an infer request per caller" in found.sweep[2].how
    (left,) = found.not_done
    assert left.what == "batch 8"
    assert "takes batches of 1 to 4, not 8" in left.reason


def test_a_cold_start_is_split_and_says_what_was_warm(bundle: Bundle) -> None:
    found, told = _found(bundle, More(cold_starts=2))
    (start,) = found.cold_starts
    assert told == ["mlp fp32, 2 cold starts"]
    assert len(start.starts_s) == 2
    parts = (start.import_s.value, start.open_s.value, start.first_s.value)
    assert all(part is not None and part > 0 for part in parts)
    assert min(start.starts_s) <= start.p50_s <= max(start.starts_s)
    assert "no engine was built: the graph was compiled at each start" in start.cache
    assert "lay in memory before the first start" in start.cache


def test_a_cold_start_of_a_built_engine_says_so(tmp_path: Path) -> None:
    own = tiny_bundle(tmp_path / "tiny", precisions=("fp32",))
    build(own, "cpu", ["fp32"])
    start = cold_start.cold_start(_subject(own), 1)
    assert start.cache.startswith("a built engine was loaded from disk; ")


def test_a_cold_child_imports_nothing_of_the_benchmark_before_its_result(bundle: Bundle) -> None:
    code = (
        "import json, sys; from jetlift.benchmarks import cold_start_child as child\n"
        "from jetlift.runtime import session\n"
        "real = session.open_session\n"
        "def watched(*a, **k):\n"
        "    heavy = {'torch', 'onnx', 'jetlift.jetson.board', 'jetlift.benchmarks.measure'}\n"
        "    sys.stderr.write(' '.join(sorted(heavy & set(sys.modules)))); sys.exit(3)\n"
        "session.open_session = watched; child.main()"
    )
    job = cold_start.ColdStartJob("cold start", str(bundle.folder), "mlp", "fp32", "cpu", 1, 0, 0.0)
    with pytest.raises(MachineError, match=r"ended with code 3 and no answer\. It said nothing"):
        measure.run_child(job, ColdStartAnswer, limit_s=120, worker=[sys.executable, "-c", code])


def test_a_cold_start_that_fails_is_raised_as_the_same_class(tmp_path: Path) -> None:
    altered = tiny_bundle(tmp_path / "tiny", precisions=("fp32",))
    (altered.folder / "mlp.fp32.onnx").write_bytes(b"not a graph")
    with pytest.raises(BundleError, match=r"mlp\.fp32\.onnx"):
        cold_start.cold_start(_subject(altered), 1)
    with pytest.raises(UsageError, match="0 cold starts"):
        cold_start.cold_start(_subject(altered), 0)


def test_a_scenario_is_played_and_leaves_no_log(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlperf_loadgen", reason="LoadGen is not installed")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    more = More(
        scenarios=("SingleStream", "MultiStream", "Offline", "Server"), scenario_seconds=0.5,
        server_per_s=20.0, server_limit_ms=500.0,
    )  # fmt: skip
    found, _ = _found(bundle, more)
    assert found.not_done == []
    single, multi, offline, server = found.scenarios
    assert [item.batch for item in found.scenarios] == [1, 4, 4, 1]
    assert (single.samples_per_query, multi.samples_per_query) == (1, 8)
    assert (single.asked_per_s, single.limit_ms, single.asked_how) == (None, None, "")
    assert (server.asked_per_s, server.limit_ms) == (20.0, 500.0)
    assert server.asked_how == "rate given, limit given"
    assert offline.queries == 1
    for item in found.scenarios:
        assert item.by.startswith("mlcommons-loadgen ")
        assert item.throughput_per_s.value
        assert item.valid == (not item.reasons)
    assert list(tmp_path.iterdir()) == []


def test_a_server_s_rate_is_searched_where_none_is_given(bundle: Bundle) -> None:
    pytest.importorskip("mlperf_loadgen", reason="LoadGen is not installed")
    found, _ = _found(bundle, More(scenarios=("Server",), scenario_seconds=0.5))
    (server,) = found.scenarios
    assert (server.asked_per_s or 0) > 0
    assert "found by 4 trials of 0.5 s" in server.asked_how
    assert "limit 3 times the median" in server.asked_how


def test_a_killed_child_leaves_a_reason_and_no_log(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dies = (sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    monkeypatch.setattr(module, "MORE_WORKER", dies)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found, _ = _found(bundle, More(batches=(1,), scenarios=("Offline",)))
    assert [item.what for item in found.not_done] == ["batch 1", "Offline"]
    assert all("was killed" in item.reason for item in found.not_done)
    assert list(tmp_path.iterdir()) == []


def test_a_refused_bundle_stops_all(tmp_path: Path) -> None:
    altered = tiny_bundle(tmp_path / "tiny", precisions=("fp32",))
    (altered.folder / "mlp.fp32.onnx").write_bytes(b"not a graph")
    with pytest.raises(BundleError):
        _found(altered, More(batches=(1,)))


def test_a_job_of_no_kind_is_refused() -> None:
    job = json.dumps({"job": "dance"})
    done = subprocess.run(
        [sys.executable, "-m", "jetlift.benchmarks.more_worker"],
        input=job.encode(), capture_output=True, check=True, env={"PYTHONSAFEPATH": "1"},
    )  # fmt: skip
    with pytest.raises(UsageError, match="dance"):
        measure._answer(SweepAnswer, done.stdout, "x")


@pytest.mark.parametrize(
    "wrong",
    [{"batches": (0,)}, {"callers": (-1,)}, {"scenario_seconds": 0.0}, {"cold_starts": -1},
     {"server_per_s": 0.0}, {"sweep_seconds": 4000.0}],
)  # fmt: skip
def test_wrong_numbers_are_refused(wrong: Any) -> None:
    with pytest.raises(UsageError, match="Positive numbers"):
        More(**wrong)


def test_an_unknown_scenario_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="SingleStream, MultiStream"):
        More(scenarios=("MultiSteam",))


def test_the_words_of_what_was_asked_are_its_options() -> None:
    more = More(
        (1, 2), (4,), scenarios=("Server",), server_per_s=3.5, server_limit_ms=20, cold_starts=5
    )
    assert " ".join(more.words()) == (
        "--batch 1,2 --callers 4 --scenario Server --scenario-seconds 10 --server-qps 3.5 "
        "--server-limit-ms 20 --cold-starts 5"
    )
    assert more.steps() == 5
    assert More().words() == []
    assert More().steps() == 0


def test_a_file_s_share_in_memory_is_seen(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 100_000)
    (tmp_path / "file").read_bytes()
    share = resident_share(tmp_path / "file")
    assert share.reason or 0 <= (share.value or 0) <= 1
    (tmp_path / "none").touch()
    assert resident_share(tmp_path / "none").reason == "the file is empty"


def test_what_a_reader_must_not_conclude_is_told() -> None:
    record = read_record(GOLDEN)
    first = record.results[0]
    latency = replace(first.latency, outlier_share=Figure(0.031), outlier_above_ms=Figure(12.5))
    quiet = replace(latency, outlier_share=Figure(0.005))
    told = more_said.more_not_shown(Found(), [replace(first, latency=latency)])
    assert "3.1% of the runs took longer than 12.5 ms, which is p75 + 3 IQR" in told[0]
    assert "Several callers" in told[1]
    assert len(more_said.more_not_shown(Found(), [replace(first, latency=quiet)])) == 1
    found = Found(sweep=[], scenarios=[object()], cold_starts=[object()])  # type: ignore[list-item]
    text = " ".join(more_said.more_not_shown(found, []))
    assert "They are no MLPerf results" in text
    assert "After a reboot" in text


def test_the_cold_worker_is_the_module_that_exists() -> None:
    assert COLD_WORKER[-1] == "jetlift.benchmarks.cold_start_child"
