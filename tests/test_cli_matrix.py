"""`build-engines` as a user runs it: a manifest, a folder, a table, an exit code."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from helpers.tiny_bundle import mlp

from jetlift.__main__ import build_engines, run

pytest.importorskip("openvino")


@pytest.fixture
def manifest(tmp_path):
    onnx.save(mlp(), tmp_path / "mlp.onnx")
    samples = tmp_path / "samples"
    samples.mkdir()
    random = np.random.default_rng(0)
    for index in range(8):
        array = random.standard_normal((1, 16)).astype(np.float32)
        np.savez(samples / f"{index}.npz", x=array)
    path = tmp_path / "engines.toml"
    path.write_text(
        """
[defaults]
targets = ["cpu", "orin-nano-8gb"]

[[models]]
onnx = "mlp.onnx"
samples = "samples"
precisions = ["fp32", "int8"]
search_minutes = 0.05
keep = true
""",
        encoding="utf-8",
    )
    return path


def test_a_manifest_becomes_engines_and_a_table(manifest, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["build-engines", str(manifest), "-o", str(out), "--race-limit-s", "0.2"]
    code = run([*arguments, "--json"])
    shown = json.loads(capsys.readouterr().out)
    assert shown == json.loads((out / "engines.json").read_text())
    rows = shown["rows"]
    assert [(row["target"], row["precision"]) for row in rows] == [
        ("cpu", "fp32"), ("cpu", "int8"), ("orin-nano-8gb", "fp32"), ("orin-nano-8gb", "int8"),
    ]  # fmt: skip
    assert code == (1 if any(row["gate"] == "failed" for row in rows) else 0)
    assert run(arguments) == code
    table = capsys.readouterr().out
    assert "kept" in table
    assert "handed over" in table


def test_the_short_name_is_the_same_command(manifest, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["build-engines", str(manifest.with_name("none.toml"))])
    with pytest.raises(SystemExit) as left:
        build_engines()
    assert left.value.code == 2
    assert "none.toml cannot be read" in capsys.readouterr().err
