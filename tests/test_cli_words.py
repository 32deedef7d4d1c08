"""The door for words: run --prompt, prompts, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.words_bundle import classes_bundle, words_bundle

from jetlift.__main__ import run
from jetlift.cli.words import _lines_of

pytest.importorskip("openvino")
pytest.importorskip("tokenizers")

TWO = ("--prompt", "dog", "--prompt", "cat")


@pytest.fixture(scope="module")
def words(tmp_path_factory) -> Path:
    return words_bundle(tmp_path_factory.mktemp("words") / "bundle").folder


@pytest.fixture
def picture(tmp_path) -> Path:
    path = tmp_path / "p.png"
    cv2.imwrite(str(path), np.full((40, 50, 3), (20, 90, 200), np.uint8))
    return path


def shown(capsys, *arguments: object) -> str:
    """Run a command that must succeed; what it printed on stdout."""
    code = run([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return captured.out


def refused(capsys, code: int, *arguments: object) -> str:
    """Run a command that must fail; its one paragraph."""
    assert run([str(argument) for argument in arguments]) == code
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told.startswith("jetlift: "), told
    return told


def test_labels_in_any_words(capsys, words, picture, tmp_path):
    line = json.loads(shown(capsys, "run", words, picture, *TWO))
    assert sorted(line["labels"]) == ["cat", "dog"]
    assert sum(line["scores"]) == pytest.approx(1, abs=1e-5)
    out = tmp_path / "out"
    shown(capsys, "run", words, picture, *TWO, "--top-k", 1, "-o", out)
    best = json.loads((out / "results.jsonl").read_text())
    assert best["labels"] == line["labels"][:1]
    assert len(list((out / "pictures").iterdir())) == 1


def test_features_are_computed_once_and_used_again(capsys, words, picture, tmp_path):
    direct = json.loads(shown(capsys, "run", words, picture, *TWO, "--template", "one {}"))
    path = tmp_path / "pets.prompts"
    shown(capsys, "prompts", words, *TWO, "--template", "one {}", "-o", path)
    assert json.loads(shown(capsys, "run", words, picture, "--prompts", path)) == direct
    listed = tmp_path / "words.txt"
    listed.write_text("dog\n\ncat\n")
    shown(capsys, "prompts", words, "--from", listed, "--template", "one {}", "-o", path)
    assert json.loads(shown(capsys, "run", words, picture, "--prompts", path)) == direct


def test_each_part_can_be_asked_for_embeddings(capsys, words, picture, tmp_path):
    text = tmp_path / "t.txt"
    text.write_text("dog\n")
    line = json.loads(shown(capsys, "run", words, text, "--task", "embed", "--part", "text"))
    assert (line["tokens"], line["truncated"], len(line["embedding"])) == (5, False, 8)
    line = json.loads(shown(capsys, "run", words, picture, "--task", "embed"))
    assert len(line["embedding"]) == 8
    index = tmp_path / "i.index"
    shown(capsys, "index", words, picture, "-o", index)
    assert json.loads(shown(capsys, "search", index, picture))["hits"][0]["score"] > 0.999


def test_fixed_classes_need_no_words(capsys, picture, tmp_path):
    bundle = classes_bundle(tmp_path / "classes").folder
    line = json.loads(shown(capsys, "run", bundle, picture))
    assert len(line["labels"]) == 5
    assert "cannot compare pictures with words" in refused(capsys, 2, "run", bundle, picture, *TWO)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "Got no prompt"),
        (("--prompt", ""), "blank prompt"),
        (("--prompt", "dog"), "share a whole of 1"),
        (("--prompt", "dog", "--prompt", "Dog"), "the same to the model"),
        ((*TWO, "--prompt", "dog"), "comes twice"),
        ((*TWO, "--prompt", "x" * 99), "longer than the 24 tokens"),
        ((*TWO, "--template", "a photo"), "0 places"),
        (("--template", "a {}"), "Got no prompt"),
        ((*TWO, "--prompts", "pets.prompts"), "Either --prompts FILE"),
        (("--prompts", "missing.prompts"), "missing.prompts is no file"),
        ((*TWO, "--task", "embed"), "got prompts"),
    ],
)
def test_words_that_cannot_be_used_are_one_paragraph_with_code_2(
    capsys, words, picture, arguments, told
):
    assert told in refused(capsys, 2, "run", words, picture, *arguments)


def test_prompts_of_another_bundle_are_code_3(capsys, words, picture, tmp_path):
    from dataclasses import replace

    from helpers.words_bundle import FACTS

    path = tmp_path / "pets.prompts"
    shown(capsys, "prompts", words, *TWO, "-o", path)
    other = words_bundle(tmp_path / "other", facts=replace(FACTS, template="the {}.")).folder
    assert "another bundle" in refused(capsys, 3, "run", other, picture, "--prompts", path)
    path.write_bytes(path.read_bytes()[:-30])
    refused(capsys, 3, "run", words, picture, "--prompts", path)


def test_a_shipped_list_of_names_is_taken_by_its_name_unless_there_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(_lines_of(Path("lvis"))) == 1203
    Path("lvis").write_text("dog\ncat\n")
    assert _lines_of(Path("lvis")) == ["dog", "cat"]
