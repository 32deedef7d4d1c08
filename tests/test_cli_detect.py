"""The door for detection by words: run --prompt, prompts, and what is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from helpers.open_bundle import open_bundle

from jetlift.__main__ import run

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("openvino")
pytest.importorskip("tokenizers")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return open_bundle(tmp_path_factory.mktemp("open") / "bundle").folder


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "p.png"
    cv2.imwrite(str(path), np.full((40, 80, 3), (20, 90, 200), np.uint8))
    return path


def answered(capsys: pytest.CaptureFixture[str], code: int, *arguments: object) -> str:
    """Run a command; what it printed on stdout, or its one paragraph where it must fail."""
    assert run([str(argument) for argument in arguments]) == code
    captured = capsys.readouterr()
    return captured.out if code == 0 else captured.err.strip().splitlines()[-1]


def test_boxes_of_what_words_name(
    capsys: pytest.CaptureFixture[str], bundle: Path, picture: Path, tmp_path: Path
) -> None:
    words = ("--prompt", "dog", "--prompt", "ear tag")
    line = json.loads(answered(capsys, 0, "run", bundle, picture, *words))
    # Shares of the padded square: 80 pixels a side, cut at 40. The third box is outside.
    assert sorted(line["boxes_xyxy"]) == [[8.0, 8.0, 24.0, 24.0], [20.0, 20.0, 60.0, 40.0]]
    assert set(line["labels"]) <= {"dog", "ear tag"}
    assert line["scores"] == sorted(line["scores"], reverse=True)
    kept = tmp_path / "site.prompts"
    answered(capsys, 0, "prompts", bundle, *words, "-o", kept)
    assert json.loads(answered(capsys, 0, "run", bundle, picture, "--prompts", kept)) == line
    out = tmp_path / "out"
    answered(capsys, 0, "run", bundle, picture, "--prompt", "dog", "-o", out)
    assert [path.name for path in (out / "pictures").iterdir()] == ["p.detect.png"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "Got no prompt"),
        (("--prompt", " "), "blank prompt"),
        (("--prompt", "x" * 99), "longer than the 24 tokens"),
        (("--prompt", "dog", "--prompts", "site.prompts"), "Either --prompts FILE"),
        (("--prompts", "missing.prompts"), "missing.prompts is no file"),
    ],
)
def test_words_that_cannot_be_used_are_one_paragraph(
    capsys: pytest.CaptureFixture[str],
    bundle: Path,
    picture: Path,
    arguments: tuple[str, ...],
    told: str,
) -> None:
    assert told in answered(capsys, 2, "run", bundle, picture, *arguments)
