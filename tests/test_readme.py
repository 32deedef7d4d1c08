"""What the README shows of Python runs as it stands there, on tiny bundles of drawn weights."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.house import ROOT, clean_environment
from helpers.sounds import write_tone
from helpers.tiny_zoo import tiny

from jetlift.runtime.movies import VideoSink

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
MODELS = {"dinov2": "dinov2", "clip": "clip", "yolox": "yolox", "whisper": "whisper"}
LONGEST_LINES = 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a reader of the README stands: bundles, a photo, a video, a talk."""
    place = tmp_path_factory.mktemp("reader")
    for name, model in MODELS.items():
        _as_if_trained(tiny(model, place / name).folder)
    draws = np.random.default_rng(0)
    photo = draws.integers(0, 256, (48, 64, 3), np.uint8)
    assert cv2.imwrite(str(place / "photo.jpg"), photo)
    with VideoSink(place / "yard.mp4", fps=10.0) as video:
        for _ in range(3):
            video.write(photo)
    write_tone(place / "talk.wav")
    return place


def _as_if_trained(bundle: Path) -> None:
    """The bundle says that its weights are trained; what it answers is structure all the same."""
    path = bundle / "bundle.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["weights"]["random"] = False
    path.write_text(json.dumps(manifest), encoding="utf-8")


def test_there_are_examples_and_they_are_short() -> None:
    assert len(BLOCKS) >= 3
    assert max(len(block.splitlines()) for block in BLOCKS) <= LONGEST_LINES


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.split('"')[1])
def test_the_example_runs(block: str, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", block],
        cwd=folder, env=clean_environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
