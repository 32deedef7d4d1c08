"""`jetlift targets`: the list, one board, one that is none."""

from __future__ import annotations

import json

import pytest
from helpers.house import ROOT

from jetlift.__main__ import run
from jetlift.engines.targets import TARGETS


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    code = run(["targets", *arguments])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return captured.out


def test_the_list_has_every_target(capsys) -> None:
    told = shown(capsys)
    assert all(name in told for name in TARGETS)


def test_the_list_for_programs(capsys) -> None:
    rows = json.loads(shown(capsys, "--json"))
    assert [row["name"] for row in rows] == list(TARGETS)
    assert {row["name"] for row in rows if row["here"]} >= {"cpu", "cpu-onnxruntime"}
    assert next(row for row in rows if row["name"] == "thor-t5000")["board"].startswith("Jetson")


def test_one_board_with_facts_modes_releases_and_abilities(capsys) -> None:
    told = shown(capsys, "orin-nano-8gb")
    for words in ("68.3 GB/s", "624.75", "36.4.3", "under JetPack 7.2.1", "SM 8.9 or newer"):
        assert words in told
    under = shown(capsys, "agx-orin-64gb", "--jetpack", "6.2")
    assert "under JetPack 6.2" in under


def test_one_board_for_programs(capsys) -> None:
    told = json.loads(shown(capsys, "agx-orin-64gb", "--json"))
    assert told["device"]["sm_count"] == 16
    assert told["abilities"]["7.2.2"]["dla"]["able"] is True
    assert told["abilities"]["7.2.1"]["dla"]["able"] is False
    assert next(item["version"] for item in told["releases"]) == "7.2.2"


def test_an_old_board_has_facts_and_a_reason(capsys) -> None:
    assert run(["targets", "nano-4gb"]) == 0
    captured = capsys.readouterr()
    assert "921.6" in captured.out
    assert "older than 10.3" in captured.err
    told = json.loads(shown(capsys, "nano-4gb", "--json"))
    assert (told["releases"], told["abilities"]) == ([], {})


def test_a_target_that_is_no_board(capsys) -> None:
    assert "TensorRT-RTX" in shown(capsys, "rtx-sm86")
    assert json.loads(shown(capsys, "rtx-sm86", "--json"))["compute_capability"] == "8.6"


def test_the_page(capsys) -> None:
    assert shown(capsys, "--markdown") == (ROOT / "docs" / "targets.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["orin-nano"], "Perhaps orin-nano-4gb"),
        (["orin-nano-8gb", "--jetpack", "9"], "JetPack '9' is unknown"),
        (["orin-nano-8gb", "--jetpack", "7.1"], "no kernels"),
    ],
)
def test_what_is_refused(capsys, arguments: list[str], words: str) -> None:
    code = run(["targets", *arguments])
    captured = capsys.readouterr()
    if "7.1" in arguments:  # it can be asked for, and the answer is no
        assert code == 0
        assert words in captured.out
    else:
        assert code == 2
        assert words in captured.err
