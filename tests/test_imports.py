"""The import contracts of pyproject.toml hold, and would notice if they did not."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from helpers.house import ROOT, clean_environment, copy_sources

if TYPE_CHECKING:
    from pathlib import Path

_LINT = "from importlinter.cli import lint_imports_command as lint; lint(['--no-cache'])"


def _lint(root: Path) -> subprocess.CompletedProcess[str]:
    environment = {**clean_environment(), "PYTHONPATH": os.fspath(root / "src"), "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-c", _LINT],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_contract_is_kept() -> None:
    done = _lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 kept, 0 broken" in done.stdout


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("runtime/bundle.py", "import torch", "a device never knows the tools of export"),
        ("jetson/board.py", "import onnx", "a device never knows the tools of export"),
        ("runtime/bundle.py", "from jetlift.export import graph", "who may know whom"),
        ("engines/targets.py", "import jetlift.benchmarks.bench", "who may know whom"),
        ("export/graph.py", "import rich", "only the command line knows typer and rich"),
        ("runtime/record.py", "from jetlift.jetson import board", "who may know whom"),
    ],
)
def test_a_forbidden_import_is_noticed_even_inside_a_function(
    tmp_path: Path, module: str, line: str, contract: str
) -> None:
    root = copy_sources(tmp_path / "sources")
    with (root / module).open("a") as handle:
        handle.write(f"\n\ndef _late():\n    {line}\n")
    done = _lint(root)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"{contract} BROKEN" in done.stdout


def test_a_module_that_no_layer_names_is_noticed(tmp_path: Path) -> None:
    root = copy_sources(tmp_path / "sources")
    (root / "src" / "jetlift" / "novelty.py").write_text("")
    done = _lint(root)
    assert "who may know whom BROKEN" in done.stdout
    assert "novelty" in done.stdout
