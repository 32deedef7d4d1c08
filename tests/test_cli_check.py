"""`jetlift check`: a bundle, one engine, another machine, and what it costs to be wrong."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer.main
from helpers.tiny_bundle import tiny_bundle
from helpers.verdict_cases import AGX, CASES, CONTENT, NANO, ON_AGX, on_board

from jetlift.__main__ import run
from jetlift.cli import app
from jetlift.runtime import jsonform
from jetlift.runtime.bundle import Bundle
from jetlift.runtime.host import Host, describe, read_host
from jetlift.runtime.passport import onnx_sha256, passport_path, write_passport


def told(capsys: pytest.CaptureFixture[str], code: int, *arguments: object) -> tuple[Any, str]:
    """What a command that ends with `code` prints on stdout, parsed, and on stderr."""
    assert run([str(argument) for argument in arguments]) == code
    captured = capsys.readouterr()
    return (json.loads(captured.out) if "--json" in arguments else captured.out), captured.err


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle with an engine of an AGX Orin, as far as its passport goes."""
    bundle = tiny_bundle(tmp_path_factory.mktemp("check") / "tiny", precisions=["fp32"])
    engine = bundle.engine_path("agx-orin-64gb", "mlp", "fp32")
    engine.parent.mkdir(parents=True)
    engine.write_bytes(CONTENT)
    graph = onnx_sha256(bundle, "mlp", "fp32")
    write_passport(replace(ON_AGX, part="mlp", variant="fp32", onnx_sha256=graph), engine)
    return bundle


@pytest.fixture
def engine(exported: Bundle) -> Path:
    return exported.engine_path("agx-orin-64gb", "mlp", "fp32")


def described(folder: Path, host: Host) -> Path:
    path = folder / "board.json"
    path.write_text(jsonform.dumps(describe(host)), encoding="utf-8")
    return path


def test_an_engine_of_another_machine_is_no_fault(capsys, exported: Bundle) -> None:
    found, _ = told(capsys, 0, "check", exported.folder, "--json")
    (row,) = found["engines"]
    assert found["bundle"] == exported.sha256
    assert (row["target"], row["part"], row["variant"]) == ("agx-orin-64gb", "mlp", "fp32")
    assert row["verdict"] == "rebuild"
    assert "aarch64" in row["reason"]
    assert f"jetlift build {exported.folder} --target " in row["do"]


def test_the_board_it_was_built_on_would_load_it(
    capsys, tmp_path: Path, exported: Bundle, engine: Path
) -> None:
    board = described(tmp_path, AGX)
    found, _ = told(capsys, 0, "check", exported.folder, "--as", board, "--json")
    (row,) = found["engines"]
    assert (row["verdict"], row["library"], row["notices"]) == ("load", "tensorrt", [])
    alone, _ = told(capsys, 0, "check", engine, "--as", board, "--json")
    assert alone == {**found, "engines": [{**row, "engine": str(engine)}]}


def test_another_board_builds_its_own(capsys, tmp_path: Path, exported: Bundle) -> None:
    board = described(tmp_path, NANO)
    found, _ = told(capsys, 0, "check", exported.folder, "--as", board, "--json")
    (row,) = found["engines"]
    assert row["verdict"] == "rebuild"
    command = f"jetlift build {exported.folder} --target orin-nano-8gb-super"
    assert row["do"] == f"Build one on this board with: {command}"


def test_notices_are_shown_to_people(capsys, tmp_path: Path, exported: Bundle) -> None:
    board = described(tmp_path, on_board(AGX, power_mode="50W", l4t="36.4.7"))
    out, errors = told(capsys, 0, "check", exported.folder, "--as", board)
    assert "load" in out
    assert "agx-orin-64gb mlp fp32: It was built in power mode MAXN and this" in errors
    assert "Jetson Linux 36.4.3 and this board runs 36.4.7" in errors


def test_an_engine_that_lies_nowhere_is_judged_by_its_passport(
    capsys, tmp_path: Path, engine: Path
) -> None:
    copy = tmp_path / "some.engine"
    copy.write_bytes(engine.read_bytes())
    passport_path(copy).write_bytes(passport_path(engine).read_bytes())
    board = described(tmp_path, AGX)
    found, _ = told(capsys, 0, "check", copy, "--as", board, "--json")
    assert found["bundle"] is None
    assert found["engines"][0]["target"] == "agx-orin-64gb"
    assert found["engines"][0]["verdict"] == "load"
    copy.write_bytes(CONTENT + b"!")
    _, errors = told(capsys, 3, "check", copy, "--as", board)
    assert "23 bytes where its passport says 22" in errors
    passport_path(copy).unlink()
    found, errors = told(capsys, 3, "check", copy, "--json")
    assert found["engines"][0]["verdict"] == "refuse"
    assert "no passport" in errors


def test_an_engine_of_no_part_of_the_bundle_is_refused(capsys, tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "tiny", precisions=["fp32"])
    stray = bundle.engine_path("cpu", "nothing", "fp32")
    stray.parent.mkdir(parents=True)
    stray.write_bytes(CONTENT)
    found, errors = told(capsys, 3, "check", bundle.folder, "--json")
    assert found["engines"][0]["do"] == f"Remove it with: rm {stray}"
    assert "nothing" in errors


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "There is no file"),
        ("[]", "refused at its start"),
        ('{"schema_version": 1, "jetlift": "0.1.0", "host": {}}', "host.machine"),
        ("now", "not JSON"),
    ],
)
def test_what_describes_no_machine_is_code_2(
    capsys, tmp_path: Path, exported: Bundle, content: str | None, said: str
) -> None:
    path = tmp_path / "board.json"
    if content is not None:
        path.write_text(content)
    _, errors = told(capsys, 2, "check", exported.folder, "--as", path)
    assert said in errors
    assert "jetlift doctor --host" in errors


def test_a_description_of_another_schema_is_code_2(
    capsys, tmp_path: Path, exported: Bundle
) -> None:
    path = described(tmp_path, AGX)
    path.write_text(path.read_text().replace('"schema_version": 1', '"schema_version": 2'))
    _, errors = told(capsys, 2, "check", exported.folder, "--as", path)
    assert "schema version 2" in errors


def test_a_machine_describes_itself_for_others(capsys, tmp_path: Path) -> None:
    out, _ = told(capsys, 0, "doctor", "--host")
    path = tmp_path / "here.json"
    path.write_text(out)
    assert read_host(path).machine


def test_every_command_that_is_named_takes_its_options(tmp_path: Path) -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for number, case in enumerate(CASES):
        (tmp_path / str(number)).mkdir()
        advice = case.judged(tmp_path / str(number)).do
        for name, rest in re.findall(r"jetlift (build|run|targets)\b([^:,]*)", advice):
            known = {option for item in commands[name].params for option in item.opts}
            assert set(re.findall(r"--[a-z-]+", rest)) <= known, advice
