"""The repository, its wheel, and environments made of it; each made once per test run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("export", "engines", "runtime", "benchmarks", "jetson")
_BUILD_INPUTS = ("pyproject.toml", "README.md", "LICENSE", "src", *STAGES)
_RUBBISH = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.pyc", "build")


def clean_environment() -> dict[str, str]:
    """The environment without what would make a new interpreter see this checkout."""
    dropped = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if name not in dropped}


def copy_sources(folder: Path) -> Path:
    """Copy what a build reads, links as links, so that building leaves nothing in the checkout."""
    folder.mkdir()
    for name in _BUILD_INPUTS:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, symlinks=True, ignore=_RUBBISH)
        elif source.is_file():
            shutil.copy2(source, folder / name)
    return folder


def build(folder: Path, kind: str) -> Path:
    """Build a `wheel` or `sdist` of a copy of the sources and return it.

    The build backend is taken from this environment, so no network is needed.
    """
    out = folder.parent / f"{kind}-of-{folder.name}"
    command = [sys.executable, "-m", "build", "--no-isolation", f"--{kind}", "-o", str(out), "."]
    done = subprocess.run(
        command, cwd=folder, env=clean_environment(), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.fail(f"building a {kind} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    (built,) = out.iterdir()
    return built


def names_in_wheel(wheel: Path) -> set[str]:
    """Files of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if not name.endswith("/")}


class Environment:
    """A virtual environment of its own, that sees nothing of this one."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=True, symlinks=True)
        self.folder = folder
        self.python = folder / "bin" / "python"

    def run(
        self, *arguments: str | Path, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment's bin folder."""
        command = [str(self.folder / "bin" / str(arguments[0])), *map(str, arguments[1:])]
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            env=clean_environment(),
            cwd=cwd or self.folder,
        )

    def pip(self, *arguments: str | Path) -> None:
        """Run pip; without a network the test is skipped, except on continuous integration."""
        done = self.run("python", "-m", "pip", *arguments, "--disable-pip-version-check", "-q")
        if done.returncode == 0:
            return
        words = "\n".join(done.stderr.strip().splitlines()[-5:])
        offline = "Could not find a version" in words or "No matching distribution" in words
        if offline and not os.environ.get("CI"):
            pytest.skip(f"this test installs from the package index, which did not answer: {words}")
        pytest.fail(f"pip {' '.join(map(str, arguments))} failed:\n{words}")
