"""Folders as MVTec AD lays them out, and figures of them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.textures import spoilt, texture
from helpers.tiny_bundle import tiny_bundle

from jetlift.export.fidelity import anomaly_folder as folder
from jetlift.export.fidelity.anomaly_folder import Judged
from jetlift.runtime.errors import InputError
from jetlift.runtime.session import open_session
from jetlift.runtime.sources import Frame
from jetlift.runtime.tasks import anomaly_fit, open_task


def write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)


def mask_of(image: np.ndarray, clean: np.ndarray) -> np.ndarray:
    return np.where((image != clean).any(axis=2), 255, 0).astype(np.uint8)


@pytest.fixture
def category(tmp_path: Path) -> Path:
    """Three good pictures, and two each with a spot and a big spot."""
    for number in range(3):
        write(tmp_path / f"test/good/{number:03}.png", texture(100 + number))
    for name, radius in (("spot", 6), ("big", 11)):
        for number in range(2):
            clean = texture(200 + number)
            image = spoilt(clean, (30 + 6 * number, 28), radius)
            write(tmp_path / f"test/{name}/{number:03}.png", image)
            write(tmp_path / f"ground_truth/{name}/{number:03}_mask.png", mask_of(image, clean))
    return tmp_path


def test_pictures_defects_and_masks_are_found(category: Path) -> None:
    shots = folder.read_folder(category)
    assert [shot.defect for shot in shots] == ["big", "big", None, None, None, "spot", "spot"]
    assert [shot.mask.name for shot in shots if shot.mask] == ["000_mask.png", "001_mask.png"] * 2
    assert folder.read_folder(category / "test") == shots


def test_masks_may_lie_inside_and_bear_the_pictures_own_name(category: Path) -> None:
    truth = category / "test" / "ground_truth"
    (category / "ground_truth").rename(truth)
    for mask in truth.rglob("*_mask.png"):
        mask.rename(mask.with_name(mask.name.replace("_mask", "")))
    shots = folder.read_folder(category / "test")
    assert [shot.defect is None for shot in shots] == [shot.mask is None for shot in shots]


@pytest.mark.parametrize("missing", ["test/good", "test/spot test/big", "test"])
def test_a_folder_without_good_or_defective_pictures_is_refused(
    category: Path, missing: str
) -> None:
    for name in missing.split():
        (category / name).rename(category / f"away-{name.replace('/', '-')}")
    if missing == "test":
        category = category / "nowhere"
    with pytest.raises(InputError, match=r"good and \d defective"):
        folder.read_folder(category)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory):
    pytest.importorskip("onnxruntime")
    bundle = tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny", precisions=("fp32",))
    with open_session(bundle, "image", "fp32", target="cpu-onnxruntime", threads=1) as session:
        good = [Frame(str(n), 0, 0.0, texture(n)) for n in range(12)]
        model = anomaly_fit.fit(bundle, session, good, precision="fp32", target="cpu-onnxruntime")
        yield open_task("anomaly", bundle, session, precision="fp32", fit=model)


def test_plain_defects_are_told_from_good_pictures(task, category: Path) -> None:
    done: list[int] = []
    judged = folder.judge_shots(task, folder.read_folder(category), lambda: done.append(1))
    figures = folder.figures_of(judged)
    assert (figures.pictures, figures.defective, len(done)) == (7, 4, 7)
    assert figures.image_auroc == 1.0
    assert figures.pixel_auroc is not None
    assert figures.pixel_auroc > 0.9
    assert (figures.false_alarms, figures.missed) == (0, 0)
    kinds = folder.by_defect(judged)
    assert {name: each.pictures for name, each in kinds.items()} == {"big": 5, "spot": 5}


def test_without_every_mask_pixels_are_not_judged(task, category: Path) -> None:
    (category / "ground_truth" / "spot" / "001_mask.png").unlink()
    judged = folder.judge_shots(task, folder.read_folder(category))
    assert folder.figures_of(judged).pixel_auroc is None
    assert folder.by_defect(judged)["big"].pixel_auroc is not None


def test_a_mask_of_another_size_or_a_broken_picture_ends_it(task, category: Path) -> None:
    mask = category / "ground_truth" / "spot" / "001_mask.png"
    write(mask, np.zeros((4, 4), np.uint8))
    with pytest.raises(InputError, match="4 x 4"):
        folder.judge_shots(task, folder.read_folder(category))
    mask.write_bytes(b"no picture")
    with pytest.raises(InputError, match="cannot be read"):
        folder.judge_shots(task, folder.read_folder(category))


def test_a_mask_is_read_under_the_centres_of_the_maps_pixels() -> None:
    mask = np.zeros((10, 20), bool)
    mask[4:6, 10:] = True
    seen = folder.on_the_map(mask, (5.0, 0.0, 15.0, 10.0), (5, 5))  # centres at 6, 8, 10 … across
    assert seen[2].tolist() == [False, False, True, True, True]
    assert seen.sum() == 3
    np.testing.assert_array_equal(folder.on_the_map(mask, (0, 0, 20, 10), (10, 20)), mask)


def judged(score: float, defect: str | None, *, alarm: bool) -> Judged:
    heat = np.full((2, 2), score, np.float32)
    mask = np.array([[defect is not None, False], [False, False]])
    return Judged(defect, score, alarm, heat, mask)


def test_counts_and_areas_by_hand() -> None:
    shots = [judged(1, None, alarm=False), judged(3, None, alarm=True)]
    figures = folder.figures_of([*shots, judged(2, "a", alarm=False), judged(4, "b", alarm=True)])
    assert (figures.image_auroc, figures.false_alarms, figures.missed) == (0.75, 1, 1)
    # defect pixels score 2 and 4; the others are four 1s, four 3s, three 2s and three 4s
    wins = (4 + 3 / 2) + (4 + 4 + 3 + 3 / 2)
    assert figures.pixel_auroc == pytest.approx(wins / (2 * 14))
