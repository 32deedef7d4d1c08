"""The five top-level folders are one package through links, and every wheel holds all of it."""

from __future__ import annotations

import configparser
import importlib
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from helpers.house import (
    ROOT,
    STAGES,
    Environment,
    build,
    clean_environment,
    copy_sources,
    names_in_wheel,
)

FRONT_DOOR = ROOT / "src" / "jetlift"
TOP_LEVEL = {
    *STAGES,
    "src",
    "tests",
    "docs",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "constraints.txt",
    "requirements-weights.txt",
}
# What a stage's folder may hold beside code; all of it belongs into the wheel but the last.
DATA = {".json", ".toml", ".j2", ".css", ".html", ".js", ".svg", ".csv", ".service", ".typed"}
DOCUMENTS = {".md"}


def _own_files(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    )


# The tree.


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_is_a_relative_link_to_its_folder(stage: str) -> None:
    link = FRONT_DOOR / stage
    assert link.is_symlink()
    assert os.readlink(link) == f"../../{stage}"  # noqa: PTH115 - the text of the link is what counts
    assert (link / "__init__.py").samefile(ROOT / stage / "__init__.py")


def test_there_are_no_other_links() -> None:
    links = {path.name for path in FRONT_DOOR.iterdir() if path.is_symlink()}
    assert links == set(STAGES)
    for stage in STAGES:
        assert [path for path in (ROOT / stage).rglob("*") if path.is_symlink()] == []


def test_the_top_level_holds_what_the_design_says() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("this is not a git checkout, so build products cannot be told from sources")
    top = {line.split("/")[0] for line in listed.stdout.splitlines()}
    assert {name for name in top if not name.startswith(".")} <= TOP_LEVEL


@pytest.mark.parametrize("stage", STAGES)
def test_every_folder_of_code_is_a_package(stage: str) -> None:
    for path in _own_files(ROOT / stage):
        if path.suffix == ".py":
            assert (path.parent / "__init__.py").is_file(), f"{path.parent} has no __init__.py"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_holds_code_data_and_documents_only(stage: str) -> None:
    kinds = {path.suffix for path in _own_files(ROOT / stage)}
    assert kinds <= DATA | DOCUMENTS | {".py"}, "teach pyproject's package-data and this test"


def test_the_stages_are_imported_under_one_name() -> None:
    for stage in STAGES:
        module = importlib.import_module(f"jetlift.{stage}")
        assert module.__file__ is not None
        assert Path(module.__file__).resolve() == ROOT / stage / "__init__.py"


def test_the_root_is_not_on_the_path() -> None:
    # There it would give other packages' `jetson`, `runtime` or `export` a wrong home.
    assert ROOT not in [Path(entry).resolve() for entry in sys.path if entry]


def test_tests_are_no_package() -> None:
    assert list((ROOT / "tests").rglob("__init__.py")) == []


# Wheels and source distributions.


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_sources(tmp_path_factory.mktemp("layout") / "sources")


@pytest.fixture(scope="module")
def wheel(sources: Path) -> Path:
    return build(sources, "wheel")


def _wanted() -> set[str]:
    front = {f"jetlift/{path.name}" for path in FRONT_DOOR.iterdir() if path.is_file()}
    folders = [
        path for path in FRONT_DOOR.iterdir() if path.is_dir() and path.name != "__pycache__"
    ]
    inner = {
        (Path("jetlift") / folder.name / path.relative_to(folder)).as_posix()
        for folder in folders
        for path in _own_files(folder)
        if path.suffix not in DOCUMENTS
    }
    return front | inner


def test_the_wheel_holds_every_module_and_every_piece_of_data(wheel: Path) -> None:
    names = {name for name in names_in_wheel(wheel) if ".dist-info/" not in name}
    assert names == _wanted()


def test_the_wheel_is_for_everybody_and_small(wheel: Path) -> None:
    assert wheel.name.endswith("-py3-none-any.whl")
    assert wheel.stat().st_size < 2 * 2**20


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        info = next(name for name in archive.namelist() if name.endswith("METADATA"))
        folder = info.rsplit("/", 1)[0]
        metadata = archive.read(info).decode()
        licence = archive.read(f"{folder}/licenses/LICENSE").decode()
        points = configparser.ConfigParser()
        points.read_string(archive.read(f"{folder}/entry_points.txt").decode())
    assert "License-Expression: Apache-2.0" in metadata
    assert "Requires-Python: >=3.10" in metadata
    assert "Apache License" in licence
    assert "Version 2.0, January 2004" in licence
    assert dict(points["console_scripts"]) == {
        "jetlift": "jetlift.__main__:main",
        "build-engines": "jetlift.__main__:build_engines",
    }


def test_the_core_asks_for_four_packages_and_a_toml_reader(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        info = next(name for name in archive.namelist() if name.endswith("METADATA"))
        lines = archive.read(info).decode().splitlines()
    needs = [line for line in lines if line.startswith("Requires-Dist:") and "extra ==" not in line]
    names = {line.split()[1].split(">")[0] for line in needs}
    assert names == {"numpy", "opencv-python", "typer", "rich", "tomli"}
    (tomli,) = [line for line in needs if line.split()[1].startswith("tomli")]
    assert 'python_version < "3.11"' in tomli


def test_a_source_distribution_builds_the_same_wheel(
    sources: Path, wheel: Path, tmp_path: Path
) -> None:
    archive = build(sources, "sdist")
    with tarfile.open(archive) as tar:
        assert [item.name for item in tar if item.issym() or item.islnk()] == []
        if sys.version_info >= (3, 12):
            tar.extractall(tmp_path, filter="data")
        else:
            tar.extractall(tmp_path)  # noqa: S202 - we made it a moment ago
    (unpacked,) = tmp_path.iterdir()
    assert not (unpacked / "tests").exists()
    assert names_in_wheel(build(unpacked, "wheel")) == names_in_wheel(wheel)


def test_an_editable_install_reaches_the_folders(sources: Path, tmp_path: Path) -> None:
    environment = Environment(tmp_path / "venv")
    backend = ["setuptools>=77"]
    environment.pip("install", *backend)
    environment.pip("install", "--no-deps", "--no-build-isolation", "-e", sources)
    code = "import jetlift.runtime.errors as e, jetlift; print(jetlift.__version__, e.__file__)"
    done = environment.run("python", "-c", code)
    assert done.returncode == 0, done.stderr
    version, file = done.stdout.split()
    assert Path(file).resolve() == sources / "runtime" / "errors.py"
    assert version == "0.1.0"


# Tools that must see the one package, started bare from the root.


def test_mypy_finds_the_stages_through_the_links() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--verbose", "-m", "jetlift.runtime.errors"],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "jetlift.runtime.errors" in done.stderr
    assert "jetlift/runtime/errors.py" in done.stderr
    assert "Cannot find" not in done.stdout, done.stdout
