"""`jetlift fit` and what it prints of a test folder."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.textures import spoilt, texture
from helpers.tiny_bundle import tiny_bundle

from jetlift.__main__ import run as jetlift
from jetlift.runtime.tasks.anomaly_model import AnomalyModel

pytest.importorskip("openvino")


def run(capsys, *args: object) -> tuple[int, str, str]:
    code = jetlift([str(arg) for arg in args])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    tiny_bundle(folder, precisions=("fp32",), random=False)
    return folder


@pytest.fixture(scope="module")
def category(tmp_path_factory) -> Path:
    """12 good pictures to fit to; 4 good ones and 3 with a spot to test with."""
    root = tmp_path_factory.mktemp("tile")
    folders = ("train/good", "test/good", "test/spot", "ground_truth/spot")
    for name in folders:
        (root / name).mkdir(parents=True)
    for number in range(12):
        cv2.imwrite(str(root / f"train/good/{number}.png"), texture(number))
    for number in range(4):
        cv2.imwrite(str(root / f"test/good/{number}.png"), texture(100 + number))
    for number in range(3):
        clean = texture(200 + number)
        image = spoilt(clean, (30 + 4 * number, 30), 7)
        mask = np.where((image != clean).any(axis=2), 255, 0).astype(np.uint8)
        cv2.imwrite(str(root / f"test/spot/{number}.png"), image)
        cv2.imwrite(str(root / f"ground_truth/spot/{number}_mask.png"), mask)
    return root


@pytest.mark.parametrize("method", ["padim", "patchcore"])
def test_figures_of_a_test_folder_as_json(capsys, bundle, category, tmp_path, method):
    out = tmp_path / "tile.fit"
    code, text, _ = run(
        capsys, "fit", bundle, category / "train/good", "-o", out, "--method", method,
        "--test", category, "--json",
    )  # fmt: skip
    told = json.loads(text)
    assert (code, told["method"], told["pictures"]) == (0, method, 12)
    assert told["threshold"] == AnomalyModel.load(out).head.threshold.value
    assert (told["test"]["pictures"], told["test"]["defective"]) == (7, 3)
    assert told["test"]["image_auroc"] == 1.0
    assert told["test"]["pixel_auroc"] > 0.9
    assert set(told["test"]["by_defect"]) == {"spot"}


def test_figures_of_a_test_folder_as_text(capsys, bundle, category, tmp_path):
    out = tmp_path / "tile.fit"
    code, text, errors = run(
        capsys, "fit", bundle, category / "train/good", "-o", out, "--test", category / "test"
    )
    first, second = text.splitlines()
    assert code == 0
    assert first.startswith("all: image AUROC 1.0000, pixel AUROC 0.9")
    assert first.endswith("(4 good, 3 defective, 0 missed); 0 false alarms")
    assert second.startswith("spot: image AUROC")
    assert f"Written: {out}" in errors


def test_without_masks_the_missing_figure_is_told(capsys, bundle, category, tmp_path):
    import shutil

    shutil.copytree(category / "test", tmp_path / "test")
    code, text, errors = run(
        capsys, "fit", bundle, category / "train/good", "-o", tmp_path / "f", "--test", tmp_path
    )
    assert code == 0
    assert "pixel AUROC" not in text
    assert "no pixel AUROC" in errors


def test_what_cannot_be_judged_is_refused_before_fitting(capsys, bundle, category, tmp_path):
    out = tmp_path / "f"
    code, _, errors = run(
        capsys, "fit", bundle, category / "train/good", "-o", out, "--test", category / "train"
    )
    assert (code, out.exists()) == (2, False)
    assert "12 good and 0 defective" in errors
    code, _, errors = run(
        capsys, "fit", bundle, category / "train/good", "-o", out, "--method", "padam"
    )
    assert (code, out.exists()) == (2, False)
    assert "One of padim, patchcore" in errors
