"""Budgets on the command line: exit codes, and what is written for a build."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from helpers.tiny_bundle import tiny_bundle

from jetlift.__main__ import run
from jetlift.benchmarks import bench as bench_module
from jetlift.runtime.record import read_record

QUICK = ("--threads", "1", "--time-limit-s", "0.2", "--precision", "fp32")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("budget") / "bundle").folder


@pytest.fixture(autouse=True)
def _quick_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_module, "_PEAK_S", 0.1)
    monkeypatch.setattr(bench_module, "SIZES", (64,))
    monkeypatch.setattr(bench_module, "_COPY_BYTES", 2**20)


def budget(folder: Path, latency_ms: float) -> str:
    path = folder / "budget.toml"
    path.write_text(f'[budget]\nname = "b"\n[limits]\nlatency_p50_ms = {latency_ms}\n')
    return str(path)


@pytest.mark.parametrize(("latency_ms", "code"), [(60000.0, 0), (0.000001, 1)])
def test_the_exit_code_is_the_verdict_and_everything_is_written_first(
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    latency_ms: float,
    code: int,
) -> None:
    summary, junit, out = tmp_path / "summary.md", tmp_path / "junit.xml", tmp_path / "out"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    asked = ("--budget", budget(tmp_path, latency_ms), "--junit", str(junit), "--github-summary")
    assert run(["bench", str(bundle), *QUICK, *asked, "-o", str(out)]) == code
    verdict = read_record(out / "record.json").budget
    assert verdict is not None
    assert verdict.met is (code == 0)
    assert verdict.judged
    suite = ET.fromstring(junit.read_text(encoding="utf-8"))[0]  # noqa: S314 - our own file
    assert suite.get("failures") == str(code)
    assert ("not met" in summary.read_text(encoding="utf-8")) is (code == 1)
    assert "Budget b" in (out / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", ["bench", "run"])
def test_a_verdict_without_a_budget_is_a_wrong_call(
    bundle: Path, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = ["x.npz"] if command == "run" else []
    junit = str(tmp_path / "junit.xml")
    assert run([command, str(bundle), *inputs, "--junit", junit]) == 2
    assert "without --budget" in capsys.readouterr().err


def test_a_summary_outside_of_a_job_is_refused_before_anything_is_measured(
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    asked = ("--budget", budget(tmp_path, 1.0), "--github-summary")
    assert run(["bench", str(bundle), *asked]) == 2
    assert "GITHUB_STEP_SUMMARY is not set" in capsys.readouterr().err


def test_a_limit_on_cold_starts_has_them_measured(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "budget.toml"
    path.write_text('[budget]\nname = "b"\n[limits]\ncold_start_s = 600\n')
    out = tmp_path / "out"
    assert run(["bench", str(bundle), *QUICK, "--budget", str(path), "-o", str(out)]) == 0
    record = read_record(out / "record.json")
    assert [len(item.starts_s) for item in record.cold_starts] == [5, 5]
    assert record.budget is not None
    assert [line.state for line in record.budget.lines] == ["ok"]
    assert "5 cold starts, which budget b limits" in " ".join(capsys.readouterr().err.split())


def test_an_unknown_unit_is_refused_with_the_nearest(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "budget.toml"
    path.write_text('[budget]\nname = "b"\n[limits]\nlatency_p50_s = 1\n')
    assert run(["bench", str(bundle), "--budget", str(path)]) == 2
    assert "the unit is ms, not s" in capsys.readouterr().err
