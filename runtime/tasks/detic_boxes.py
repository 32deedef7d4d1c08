"""Numbers between Detic's parts, in numpy alone: proposals, kept boxes, masks on the picture.

Rules:
    D1  Cell (column, row) of a level has its centre at stride * cell + stride // 2; a box reaches
        from there by its four distances (left, top, right, bottom) times the stride and is at
        least 0.01 pixels wide and high. A proposal's score is the root of its heat
        (xingyizhou/CenterNet2@bfc8b72:centernet/modeling/dense_heads/centernet.py,
        predict_single_level). Boxes are not cut at the picture here.
    D2  Suppression is greedy from the best score down, in float32: of two boxes whose intersection
        over union is above the threshold, the better stays. Ties go to the earlier one.
    D3  A detection's score is root(mean of the stages' scores * proposal's score). Boxes are cut at
        the picture; those above the threshold are suppressed per prompt
        (facebookresearch/Detic@436cda2:detic/modeling/roi_heads/detic_roi_heads.py,
        facebookresearch/detectron2@02b5c4e:detectron2/modeling/roi_heads/fast_rcnn.py).
    D4  A mask is read at each pixel's centre by bilinear interpolation, 0 around it, and a pixel is
        in it from 0.5 on (detectron2@02b5c4e:detectron2/layers/mask_ops.py, _do_paste_mask).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.runtime.boxes import Boxes
from jetlift.runtime.errors import EngineLibraryError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from jetlift.runtime.task_forms import DeticFacts, OpenVocabulary

    Floats = npt.NDArray[np.float32]
    Ints = npt.NDArray[np.int64]

_THINNEST_PX = np.float32(0.01)
_MASK_THRESHOLD = 0.5


def grids(size_wh: Sequence[int], strides: Sequence[int]) -> list[tuple[int, int]]:
    """Columns and rows of each level: a coarser one halves the one before, rounded up."""
    columns, rows = (int(side) // strides[0] for side in size_wh)
    found = []
    for _ in strides:
        found.append((columns, rows))
        columns, rows = -(-columns // 2), -(-rows // 2)
    return found


def proposals(heat: Floats, distances: Floats, size_wh: Sequence[int], facts: DeticFacts) -> Boxes:
    """What may be an object (rules D1 and D2).

    Args:
        heat: float32 [cells], 0 to 1, the levels one after the other, row by row.
        distances: float32 [cells, 4] in cells.
        size_wh: Size of the model's input in pixels.
        facts: Thresholds and counts.

    Returns:
        At most `facts.proposals` boxes in the input's pixels, best score first; labels are 0.

    Raises:
        UsageError: The outputs do not fit the input's size.
        EngineLibraryError: They hold NaN or infinity.
    """
    check_finite(heat, distances)
    levels = grids(size_wh, facts.strides)
    cells = sum(columns * rows for columns, rows in levels)
    if heat.shape != (cells,) or distances.shape != (cells, 4):
        raise UsageError(
            f"Got heat {list(heat.shape)} and distances {list(distances.shape)}",
            expected=f"[{cells}] and [{cells}, 4] for an input of {size_wh[0]}x{size_wh[1]}",
        )
    found, scores, first = [], [], 0
    for (columns, rows), stride in zip(levels, facts.strides, strict=True):
        part = slice(first, first + columns * rows)
        chosen = _hottest(heat[part], facts)
        row, column = np.divmod(chosen, columns)
        centres = (np.stack([column, row], axis=1) * stride + stride // 2).astype(np.float32)
        found.append(_around(centres, distances[part][chosen] * np.float32(stride)))
        scores.append(np.sqrt(heat[part][chosen]))
        first += columns * rows
    boxes_xyxy, all_scores = np.concatenate(found), np.concatenate(scores)
    kept = suppress(boxes_xyxy, all_scores, facts.proposal_iou, most=facts.proposals)
    return Boxes(boxes_xyxy[kept], all_scores[kept], np.zeros(len(kept), np.int64))


def _hottest(heat: Floats, facts: DeticFacts) -> Ints:
    above = np.flatnonzero(heat > facts.heat_threshold)
    order = np.argsort(-heat[above], kind="stable")[: facts.level_candidates]
    return above[order]


def _around(centres: Floats, distances: Floats) -> Floats:
    left_top = centres - distances[:, :2]
    right_bottom = np.maximum(centres + distances[:, 2:], left_top + _THINNEST_PX)
    return np.concatenate([left_top, right_bottom], axis=1)


def suppress(boxes_xyxy: Floats, scores: Floats, threshold: float, *, most: int) -> Ints:
    """Indices of the boxes that stay, best score first, at most `most` (rule D2).

    Which box comes next depends on better ones alone, so it ends as soon as there are enough.
    """
    order = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while len(order) and len(kept) < most:
        best, rest = order[0], order[1:]
        kept.append(int(best))
        order = rest[overlaps(boxes_xyxy[best], boxes_xyxy[rest]) <= np.float32(threshold)]
    return np.array(kept, np.int64)


def overlaps(box: Floats, others: Floats) -> Floats:
    """Intersection over union of one box [4] with others [N, 4], float32 [N]; 0 of no areas."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = np.maximum(sides, 0).prod(axis=1)
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1)
    whole = (box[2:] - box[:2]).prod() + areas - shared
    share = np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)
    return np.asarray(share, np.float32)


def detections(
    scores: Floats,
    boxes_xyxy: Floats,
    proposed: Floats,
    picture_wh: Floats,
    facts: OpenVocabulary,
) -> Boxes:
    """What is kept of scored regions (rules D2 and D3).

    Args:
        scores: float32 [K, prompts], mean of the stages.
        boxes_xyxy: float32 [K, 4] in the input's pixels.
        proposed: float32 [K], the proposals' scores.
        picture_wh: float32 [2], the picture's size in the input.
        facts: Thresholds and counts of the bundle.

    Returns:
        Boxes in the input's pixels, best score first; labels are places of prompts.

    Raises:
        UsageError: The bundle has no facts of Detic.
        EngineLibraryError: The outputs hold NaN or infinity.
    """
    if facts.detic is None or facts.iou_threshold is None:
        raise UsageError("The bundle states no facts of Detic", expected="A bundle of detic-*")
    check_finite(scores, boxes_xyxy)
    judged = np.sqrt(scores * proposed[:, None])
    if facts.detic.one_label:
        judged = np.where(judged == judged.max(axis=1, keepdims=True), judged, np.float32(0))
    limits = np.concatenate([picture_wh, picture_wh])
    cut = np.clip(boxes_xyxy, np.float32(0), limits)
    region, label = np.nonzero(judged > facts.score_threshold)
    found = Boxes(cut[region], judged[region, label], label.astype(np.int64))
    kept = [
        chosen[suppress(*_pair(found.of(chosen)), facts.iou_threshold, most=facts.detic.detections)]
        for chosen in (np.flatnonzero(label == number) for number in np.unique(label))
    ]
    if not kept:
        return found
    best = np.sort(np.concatenate(kept))
    best = best[np.argsort(-found.scores[best], kind="stable")]
    return found.of(best[: facts.detic.detections])


def _pair(found: Boxes) -> tuple[Floats, Floats]:
    return found.boxes_xyxy, found.scores


def check_finite(*outputs: npt.NDArray[Any]) -> None:
    """Refuse outputs that are no numbers.

    Raises:
        EngineLibraryError: They hold NaN or infinity.
    """
    if not all(np.isfinite(output).all() for output in outputs):
        raise EngineLibraryError(
            "The detector's output holds NaN or infinity",
            expected="Finite numbers",
            do="Try --precision fp32: where that is finite, this variant overflows",
        )


def paste(mask: Floats, box_xyxy: Floats, image_wh: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """A mask on its picture (rule D4).

    Args:
        mask: float32 [side, side], 0 to 1, over the box.
        box_xyxy: float32 [4] in the picture's pixels, with an area.
        image_wh: Size of the picture.

    Returns:
        bool [height, width].
    """
    whole = np.zeros((image_wh[1], image_wh[0]), np.bool_)
    x, across = _axis(float(box_xyxy[0]), float(box_xyxy[2]), image_wh[0], mask.shape[1])
    y, down = _axis(float(box_xyxy[1]), float(box_xyxy[3]), image_wh[1], mask.shape[0])
    whole[y, x] = down @ mask.astype(np.float64) @ across.T >= _MASK_THRESHOLD
    return whole


def _axis(low: float, high: float, size: int, places: int) -> tuple[slice, npt.NDArray[np.float64]]:
    """Pixels near a box on one axis, and how much each place of the mask counts for them."""
    first = max(0, int(np.floor(low)) - 1)
    last = min(size, int(np.ceil(high)) + 1)
    at = (np.arange(first, last) + 0.5 - low) / (high - low) * places - 0.5
    apart = np.abs(at[:, None] - np.arange(places))
    return slice(first, last), np.clip(1 - apart, 0, None)
