"""An anomaly model judged on a folder of test pictures, laid out as MVTec AD's are.

    DIR/test/good/*.png  DIR/test/scratch/*.png  …  DIR/ground_truth/scratch/*_mask.png

Bergmann, Fauser, Sattlegger, Steger: MVTec AD, CVPR 2019. DIR may also be the `test` folder itself.

Rules:
    F1  Folder `good` holds good pictures, every other one pictures with a defect of that name.
    F2  A mask has its picture's name, with or without `_mask`, and its size; any value over 0 is
        defect. Pixels are judged where every defective picture has one; else only pictures are.
    F3  Pixels are those of the anomaly map: what the model saw, at its input's resolution.
    F4  A picture or mask that cannot be read ends it: figures of part of a test set are none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.export.fidelity.anomaly import auroc
from jetlift.runtime.errors import InputError
from jetlift.runtime.pictures import SUFFIXES, UnreadablePictureError, read_picture
from jetlift.runtime.sources import Frame

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from jetlift.runtime.tasks.base import Task

    Mask = npt.NDArray[np.bool_]

GOOD, TRUTH, TEST = "good", "ground_truth", "test"


@dataclass(frozen=True)
class Shot:
    """One test picture.

    Attributes:
        path: Where it lies.
        defect: Name of its defect, None for a good one.
        mask: Where its mask lies, None where there is none.
    """

    path: Path
    defect: str | None
    mask: Path | None


@dataclass(frozen=True, eq=False)
class Judged:
    """What was found in one picture.

    Attributes:
        defect: Name of its defect, None for a good one.
        score: The picture's.
        anomalous: Whether that is over the threshold.
        heat: float32 [h, w], the anomaly map.
        mask: bool [h, w], where the defect is on the map; None where that is not known.
    """

    defect: str | None
    score: float
    anomalous: bool
    heat: npt.NDArray[np.float32]
    mask: Mask | None


@dataclass(frozen=True)
class AnomalyFigures:
    """How well good and defective were told apart.

    Attributes:
        pictures: How many were judged.
        defective: How many of them have a defect.
        image_auroc: Area under the ROC curve of the pictures' scores.
        pixel_auroc: The same over all pixels, None without masks (rule F2).
        false_alarms: Good pictures called anomalous.
        missed: Defective ones that were not.
    """

    pictures: int
    defective: int
    image_auroc: float
    pixel_auroc: float | None
    false_alarms: int
    missed: int


def read_folder(folder: Path) -> tuple[Shot, ...]:
    """Find the test pictures and their masks (rules F1 and F2).

    Raises:
        InputError: There is no such folder, or it lacks good or defective pictures.
    """
    test = folder / TEST if (folder / TEST).is_dir() else folder
    truth = next((t for t in (folder / TRUTH, test.parent / TRUTH) if t.is_dir()), None)
    shots: list[Shot] = []
    names = sorted(item for item in test.iterdir() if item.is_dir()) if test.is_dir() else []
    for each in names:
        if each.name == TRUTH:
            continue
        for path in sorted(p for p in each.iterdir() if p.suffix.lower() in SUFFIXES):
            good = each.name == GOOD
            mask = None if good or truth is None else _mask_of(path, truth / each.name)
            shots.append(Shot(path, None if good else each.name, mask))
    defective = sum(shot.defect is not None for shot in shots)
    if not 0 < defective < len(shots):
        raise InputError(
            f"{folder} has {len(shots) - defective} good and {defective} defective pictures",
            expected="Folders test/good and test/DEFECT with pictures, as MVTec AD has them",
        )
    return tuple(shots)


def _mask_of(picture: Path, folder: Path) -> Path | None:
    for stem in (f"{picture.stem}_mask", picture.stem):
        for suffix in sorted(SUFFIXES):
            if (folder / f"{stem}{suffix}").is_file():
                return folder / f"{stem}{suffix}"
    return None


def judge_shots(
    task: Task, shots: Sequence[Shot], progress: Callable[[], None] | None = None
) -> list[Judged]:
    """Run every picture through an anomaly task.

    Raises:
        InputError: A picture or mask cannot be read, or they differ in size (rules F2 and F4).
        JetliftError: As `Task.process`.
    """
    judged = []
    for shot in shots:
        image, mask = _read(shot.path), None
        if shot.mask is not None:
            mask = _read(shot.mask).max(axis=2) > 0
            if mask.shape != image.shape[:2]:
                raise InputError(
                    f"{shot.mask} is {mask.shape[1]} x {mask.shape[0]}",
                    expected=f"Its picture's {image.shape[1]} x {image.shape[0]}",
                )
        judged.append(judge_shot(task, str(shot.path), image, shot.defect, mask))
        if progress is not None:
            progress()
    return judged


def judge_shot(
    task: Task,
    source: str,
    image_bgr: npt.NDArray[np.uint8],
    defect: str | None,
    mask: Mask | None,
) -> Judged:
    """Run one picture through an anomaly task.

    Args:
        task: The task, on its session.
        source: Name of the picture.
        image_bgr: uint8 [H, W, 3].
        defect: Name of its defect, None for a good one.
        mask: bool [H, W], True where the defect is; None where that is not known.
    """
    outcome = task.process(Frame(source, 0, 0.0, image_bgr))
    heat, fields = outcome.arrays["anomaly_map"], outcome.fields
    if defect is None:
        mask = np.zeros(heat.shape, bool)
    elif mask is not None:
        mask = on_the_map(mask, fields["seen_xyxy"], heat.shape)
    return Judged(defect, float(fields["score"]), bool(fields["anomalous"]), heat, mask)


def on_the_map(mask: Mask, seen_xyxy: Sequence[float], size_hw: Sequence[int]) -> Mask:
    """A picture's mask as the map sees it: the value under each of its pixels' centres."""
    left, top, right, bottom = seen_xyxy
    across = left + (np.arange(size_hw[1]) + 0.5) * (right - left) / size_hw[1]
    down = top + (np.arange(size_hw[0]) + 0.5) * (bottom - top) / size_hw[0]
    columns = np.clip(across.astype(int), 0, mask.shape[1] - 1)
    rows = np.clip(down.astype(int), 0, mask.shape[0] - 1)
    return mask[np.ix_(rows, columns)]


def figures_of(judged: Sequence[Judged]) -> AnomalyFigures:
    """Areas and counts of judged pictures, some good and some not."""
    defective = np.array([item.defect is not None for item in judged])
    alarms = np.array([item.anomalous for item in judged])
    masks = [item.mask for item in judged if item.mask is not None]
    pixel = None
    if len(masks) == len(judged) and any(mask.any() for mask in masks):
        heat = np.concatenate([item.heat for item in judged], axis=None)
        pixel = auroc(heat, np.concatenate(masks, axis=None))
    return AnomalyFigures(
        pictures=len(judged),
        defective=int(defective.sum()),
        image_auroc=auroc(np.array([item.score for item in judged]), defective),
        pixel_auroc=pixel,
        false_alarms=int((alarms & ~defective).sum()),
        missed=int((~alarms & defective).sum()),
    )


def by_defect(judged: Sequence[Judged]) -> dict[str, AnomalyFigures]:
    """Figures of each kind of defect beside all good pictures, by its name."""
    names = sorted({item.defect for item in judged if item.defect is not None})
    return {
        name: figures_of([item for item in judged if item.defect in (None, name)]) for name in names
    }


def _read(path: Path) -> npt.NDArray[Any]:
    try:
        return read_picture(path)
    except UnreadablePictureError as error:
        raise InputError(f"{path} cannot be read: {error}") from error
