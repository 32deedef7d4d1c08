"""Power and state of a board in a benchmark and in a run: real measuring, the board's own files."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.tiny_bundle import tiny_bundle
from helpers.words_bundle import words_bundle

from jetlift.benchmarks import measure
from jetlift.benchmarks.more import More
from jetlift.benchmarks.results import noise
from jetlift.benchmarks.stop import StopRules
from jetlift.jetson import board as machines
from jetlift.runtime.record import read_record

BOARDS = Path(__file__).parents[1] / "runtime" / "boards"
LIMIT_S = 300.0
JETLIFT = (sys.executable, "-m", "jetlift")
SAFE = {"PYTHONSAFEPATH": "1"}
BRIEF = StopRules(min_runs=20, max_runs=40, warmup_max_runs=5, time_limit_s=2.0)


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = Path(shutil.copytree(BOARDS / "orin-nano-super", tmp_path / "board"))
    monkeypatch.setenv("JETLIFT_BOARD_ROOT", str(root))
    return root


def job(bundle: Path) -> measure.VariantJob:
    return measure.VariantJob(
        job="variant", bundle=str(bundle), part="mlp", variant="fp32", target="cpu", threads=1,
        rules=BRIEF, seed=0, samples=None,
    )  # fmt: skip


def test_a_variant_is_measured_with_the_board_s_power_and_state(
    board: Path, tmp_path: Path
) -> None:
    assert board.is_dir()
    bundle = tiny_bundle(tmp_path / "bundle")
    answer = measure.run_child(job(bundle.folder), measure.VariantAnswer, limit_s=LIMIT_S)
    assert answer.power is not None
    assert answer.power_w.value == answer.power.mean_w.value == answer.power.idle_w.value == 9.2503
    rate_per_s = answer.inputs[0].shape[0] * 1e3 / answer.latency.mean_ms
    assert answer.power.energy_j_per_item.value == pytest.approx(9.2503 / rate_per_s, rel=1e-3)
    assert answer.conditions is not None
    assert answer.conditions.power_mode == "MAXN_SUPER"
    assert answer.conditions.unsteady == ()


def test_a_board_that_throttles_makes_the_result_noisy(board: Path, tmp_path: Path) -> None:
    (board / "sys/class/thermal/cooling_device1/cur_state").write_text("1\n")
    bundle = tiny_bundle(tmp_path / "bundle")
    answer = measure.run_child(job(bundle.folder), measure.VariantAnswer, limit_s=LIMIT_S)
    quiet = replace(machines.describe_machine(watch_s=0.0), busy_before=answer.power_w)
    quiet = replace(quiet, busy_before=replace(quiet.busy_before, value=0))
    assert "cpu-throttle-alert held it back" in noise(answer, None, quiet)


def test_a_run_s_budget_has_its_power_and_energy_measured(board: Path, tmp_path: Path) -> None:
    bundle = words_bundle(tmp_path / "bundle")
    budget = tmp_path / "budget.toml"
    budget.write_text("[budget]\nname = 'b'\n[limits]\npower_w = 10\nenergy_j_per_item = 1000\n")
    command = [
        *JETLIFT, "run", str(bundle.folder), "synthetic://160x120@30",
        "--prompt", "a", "--prompt", "b", "--limit", "20",
        "--record", str(tmp_path / "kept"), "--budget", str(budget), "-o", str(tmp_path / "out"),
        "--fix-clocks",
    ]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=LIMIT_S,
        env=SAFE | dict(os.environ),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    record = read_record(tmp_path / "kept" / "record.json")
    assert record.run is not None
    assert record.run.budget is not None
    assert {line.name: line.state for line in record.run.budget.lines} == {
        "power_w": "ok", "energy_j_per_item": "ok"
    }  # fmt: skip
    result = record.results[0]
    assert result.power is not None
    assert result.power.scope == "the module's input (VDD_IN)"
    assert result.conditions is not None
    assert result.conditions.clocks_fixed is True
    assert json.loads((board / "sys/class/devfreq/17000000.gpu/min_freq").read_text()) == 306000000


def test_a_benchmark_that_is_killed_leaves_clocks_that_the_next_command_puts_back(
    board: Path, tmp_path: Path
) -> None:
    gpu = board / "sys/class/devfreq/17000000.gpu/min_freq"
    bundle = tiny_bundle(tmp_path / "bundle", random=False)
    started = subprocess.Popen(
        [*JETLIFT, "bench", str(bundle.folder), "--fix-clocks", "-o", str(tmp_path / "report")],
        stderr=subprocess.DEVNULL, start_new_session=True, env=SAFE | dict(os.environ),
    )  # fmt: skip
    try:
        assert until(lambda: gpu.read_text().strip() == "1020000000")
    finally:
        os.killpg(started.pid, signal.SIGKILL)
        started.wait(LIMIT_S)
    next_one = subprocess.run(
        [*JETLIFT, "targets"], capture_output=True, text=True, check=True, timeout=LIMIT_S,
        env=SAFE | dict(os.environ),
    )  # fmt: skip
    assert f"Process {started.pid} had fixed the clocks and was killed" in next_one.stderr
    assert gpu.read_text().strip() == "306000000"


def test_the_command_that_repeats_a_benchmark_fixes_clocks_too() -> None:
    assert More(fix_clocks=True).words() == ["--fix-clocks"]


def until(reached: Callable[[], bool]) -> bool:
    """Poll, up to a limit that no working machine comes near."""
    end_s = time.monotonic() + LIMIT_S
    while time.monotonic() < end_s:
        if reached():
            return True
        time.sleep(0.02)
    return False


def test_no_watch_is_left_running() -> None:
    assert "watch" not in [thread.name for thread in threading.enumerate()]
