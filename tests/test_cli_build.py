"""`jetlift build`: what it tells, what it refuses, and what runs afterwards."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.raced import bundle_of, deep, early
from helpers.tiny_bundle import tiny_bundle

from jetlift.__main__ import run

pytest.importorskip("openvino")


def told(capsys: pytest.CaptureFixture[str], code: int, *arguments: object) -> tuple[str, str]:
    """What a command that ends with `code` prints on stdout and on stderr."""
    assert run([str(argument) for argument in arguments]) == code
    captured = capsys.readouterr()
    return captured.out, captured.err


def test_int8_that_loses_is_told_and_fp32_runs(capsys, tmp_path: Path) -> None:
    bundle_of(tmp_path / "lost", {name: early(name) for name in ("fp32", "int8")})
    _, errors = told(capsys, 0, "build", tmp_path / "lost", "--race-limit-s", "30")
    assert "main int8 is slower than fp32 here, so fp32 keeps its place: " in errors
    assert "Without --precision, main runs fp32 on cpu." in errors


def test_int8_that_wins_runs_and_json_has_the_figures(capsys, tmp_path: Path) -> None:
    bundle_of(tmp_path / "won", {name: deep(name) for name in ("fp32", "int8")})
    out, _ = told(capsys, 0, "build", tmp_path / "won", "--race-limit-s", "30", "--json")
    fp32, int8 = json.loads(out)
    assert fp32["speed"] == {"verdict": "not measured", "note": "the others are timed against it"}
    assert int8["speed"]["verdict"] == "faster"
    assert int8["speed"]["latency_ms_p50"] < int8["speed"]["fp32_latency_ms_p50"]
    assert int8["receipt"]["outcome"] == "as asked"
    _, errors = told(capsys, 0, "build", tmp_path / "won")
    assert "Without --precision, main runs int8 on cpu." in errors


def test_fp16_on_a_target_that_widens_it_is_told(capsys, tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "tiny", precisions=["fp32", "fp16"]).folder
    _, errors = told(capsys, 0, "build", bundle)
    assert "Target cpu, mlp fp16: fp16 was asked and fp32 runs for" in errors
    assert "fc1 (80.0%)" in errors


def test_fp16_that_was_asked_for_by_name_and_is_fp32_is_a_failure(capsys, tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "tiny", precisions=["fp32", "fp16"]).folder
    _, errors = told(capsys, 1, "build", bundle, "--precision", "fp16")
    assert "An engine runs wider than its graph asks: mlp fp16: fp16 was asked and" in errors
    assert "fc1 (80.0%)" in errors
    assert "conv1 (" in errors


def test_a_builder_that_shows_nothing_is_no_pass(
    capsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jetlift.engines import openvino

    monkeypatch.setattr(openvino, "executed_layers", lambda _compiled: [])
    bundle = tiny_bundle(tmp_path / "tiny", precisions=["fp32", "int8"]).folder
    out, errors = told(capsys, 0, "build", bundle, "--race-limit-s", "0")
    assert "graph only, builder not observed" in " ".join(out.split())
    assert "mlp int8: the receipt is no pass" in errors
    assert "mlp int8 was not timed against fp32: it was given no time." in errors


def test_a_board_elsewhere_gets_a_recipe_and_its_command(capsys, tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "tiny", precisions=["fp32"]).folder
    board = ("build", bundle, "--target", "orin-nano-8gb", "--optimization-level", "4")
    _, errors = told(capsys, 0, *board)
    command = "jetlift build tiny --target orin-nano-8gb --optimization-level 4"
    assert command in errors
    out, _ = told(capsys, 0, *board, "--json")
    assert json.loads(out)["command"] == command
    assert not list(bundle.rglob("*.engine"))


def test_options_that_no_cpu_has_are_a_usage_error(capsys, tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "tiny", precisions=["fp32"]).folder
    _, errors = told(capsys, 2, "build", bundle, "--workspace", "512", "--strip")
    assert "OpenVINO, which has none of --workspace, --strip" in errors


def test_a_file_made_at_one_precision_brings_it_along(capsys, tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "tiny", random=False).folder
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    random = np.random.default_rng(0)
    for index in range(6):
        picture = cv2.GaussianBlur(random.integers(0, 256, (90, 120, 3), np.uint8), (0, 0), 3)
        cv2.imwrite(str(pictures / f"{index}.jpg"), picture)
    made = tmp_path / "good.fit"
    told(capsys, 0, "fit", bundle, pictures, "-o", made, "--precision", "int8")
    anomaly = ("run", bundle, pictures, "--task", "anomaly", "--fit", made)
    _, errors = told(capsys, 0, *anomaly)
    assert "the int8 graph is compiled now" in errors
    _, errors = told(capsys, 3, *anomaly, "--precision", "fp32")
    assert "Use --precision int8" in errors
