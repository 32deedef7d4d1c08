"""How near a detector is to fp32: boxes found again, boxes of its own, scores and places.

Figures, all against fp32's own boxes on the same samples:
    matched             share of fp32's boxes that the variant finds too
    precision_to_fp32   share of the variant's boxes that fp32 has too; 1 where it has none
    ap50_to_fp32        average precision with fp32's boxes as the truth, mean over the classes that
                        fp32 found; a proxy of mAP, since the truth is fp32 and not a person
    score_error         root mean square difference of the logits of the score that fp32's class
                        has, over cells where it is above SEEN; logits are cut at LOGIT_LIMIT
    place_error         mean of 1 - IoU between the boxes of these cells, before suppression
    output.cosine_mean, output.cosine_min      of the raw output's rows

Rules:
    F1  A box is what a user sees: score at least the part's threshold, after suppression. Both
        sides are held to the same threshold, so a box whose score falls just below it is lost.
    F2  Two boxes match with the same class and IoU >= MATCH_IOU; each matches once, the best
        scores choose first.
    F3  Average precision takes the variant's boxes from LOWEST_SCORE on, best first, and is the
        area under the interpolated precision over recall (Everingham et al., The PASCAL Visual
        Object Classes Challenge 2010).
    F4  The loss that ranks is score_error + place_error: with a few dozen boxes `matched` moves
        in steps too coarse to rank by.
    F5  A cell with NaN or infinity has no box and the score 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.export.fidelity.vectors import compare
from jetlift.runtime.boxes import BOX_COLUMNS, Boxes, decode, iou, iou_matrix, suppress
from jetlift.runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from jetlift.export.fidelity.metric import Outputs
    from jetlift.runtime.manifest import Detection

    Array = npt.NDArray[Any]

BUDGET = "matched>=0.95, precision_to_fp32>=0.9"
MATCH_IOU = 0.5
SEEN = 0.1
LOWEST_SCORE = 0.05
LOGIT_LIMIT = 12.0  # a probability of 6e-6


class BoxMetric:
    """Judges a detector's raw outputs by their boxes.

    Args:
        output: Name of the raw output.
        size_wh: Size of the input in pixels.
        head: The part's head and thresholds.
    """

    names = (
        "matched", "precision_to_fp32", "ap50_to_fp32", "score_error", "place_error",
        "cosine_mean", "cosine_min",
    )  # fmt: skip

    def __init__(self, output: str, size_wh: tuple[int, int], head: Detection) -> None:
        self._output, self._size_wh, self._head = output, size_wh, head
        self._known: tuple[Outputs, list[_Cells], list[Boxes]] | None = None

    def figures(self, reference: Outputs, got: Outputs) -> dict[str, float]:
        """See the module; `reference` is decoded once as long as it is the same object.

        Raises:
            InputError: fp32 finds no box on any sample.
        """
        cells_fp32, boxes_fp32 = self._reference(reference)
        cells = [self._cells(raw) for raw in got[self._output]]
        shown = [self._kept(item, self._head.score_threshold) for item in cells]
        wide = [self._kept(item, LOWEST_SCORE) for item in cells]
        score_error, place_error = _cell_errors(cells_fp32, cells)
        raw_only = {self._output: reference[self._output]}
        return {
            "matched": _share_found(boxes_fp32, shown),
            "precision_to_fp32": _share_found(shown, boxes_fp32),
            "ap50_to_fp32": average_precision(boxes_fp32, wide),
            "score_error": score_error,
            "place_error": place_error,
            **compare(raw_only, got),
        }

    def loss(self, figures: Mapping[str, float]) -> float:
        """Rule F4."""
        return figures["score_error"] + figures["place_error"]

    def _reference(self, reference: Outputs) -> tuple[list[_Cells], list[Boxes]]:
        if self._known is None or self._known[0] is not reference:
            cells = [self._cells(raw) for raw in reference[self._output]]
            shown = [self._kept(item, self._head.score_threshold) for item in cells]
            if not any(len(item) for item in shown):
                raise InputError(
                    f"fp32 finds no box of score {self._head.score_threshold:g} or more on "
                    f"{len(cells)} samples",
                    expected="Samples that show what the detector knows",
                )
            self._known = (reference, cells, shown)
        return self._known[1], self._known[2]

    def _cells(self, raw: Array) -> _Cells:
        """A raw output [1, cells, 5 + classes], decoded (rule F5)."""
        rows = raw.reshape(raw.shape[-2:]).astype(np.float32)
        rows = np.where(np.isfinite(rows).all(axis=1, keepdims=True), rows, np.float32(0))
        found = decode(rows, self._size_wh, self._head.strides)
        return _Cells(found, rows[:, BOX_COLUMNS - 1 : BOX_COLUMNS] * rows[:, BOX_COLUMNS:])

    def _kept(self, cells: _Cells, score_threshold: float) -> Boxes:
        above = cells.best.of(cells.best.scores >= score_threshold)
        return above.of(suppress(above, self._head.iou_threshold))


@dataclass(frozen=True, eq=False)
class _Cells:
    """Every cell of one picture.

    Attributes:
        best: The box of its best class.
        scores: float32 [cells, classes].
    """

    best: Boxes
    scores: npt.NDArray[np.float32]


def match(wanted: Boxes, found: Boxes) -> npt.NDArray[np.bool_]:
    """Which of the wanted boxes have a partner among the found ones (rule F2).

    Args:
        wanted: Boxes of one picture, best score first: they choose in this order.
        found: Boxes to choose from.

    Returns:
        bool [wanted].
    """
    fits = iou_matrix(wanted.boxes_xyxy, found.boxes_xyxy)
    fits = np.where(wanted.labels[:, None] == found.labels[None, :], fits, 0.0)
    matched = np.zeros(len(wanted), bool)
    for row in range(len(wanted) if len(found) else 0):
        column = int(fits[row].argmax())
        if fits[row, column] >= MATCH_IOU:
            matched[row] = True
            fits[:, column] = 0.0
    return matched


def _share_found(wanted: Sequence[Boxes], found: Sequence[Boxes]) -> float:
    matched = [match(a, b) for a, b in zip(wanted, found, strict=True)]
    return float(np.concatenate(matched).mean()) if any(map(len, wanted)) else 1.0


def average_precision(truth: Sequence[Boxes], found: Sequence[Boxes]) -> float:
    """Mean over the true classes of the average precision at IoU 0.5, 0 to 1 (rule F3).

    Args:
        truth: True boxes per picture, at least one in all.
        found: Found boxes per picture, best score first.
    """
    labels = np.unique(np.concatenate([item.labels for item in truth]))
    return float(np.mean([_class_precision(truth, found, label) for label in labels]))


def _class_precision(truth: Sequence[Boxes], found: Sequence[Boxes], label: int) -> float:
    scores, right, count = [], [], 0
    for true_boxes, found_boxes in zip(truth, found, strict=True):
        true_ones = true_boxes.of(true_boxes.labels == label)
        found_ones = found_boxes.of(found_boxes.labels == label)
        count += len(true_ones)
        scores.append(found_ones.scores)
        right.append(match(found_ones, true_ones))
    order = np.argsort(-np.concatenate(scores), kind="stable")
    hits = np.cumsum(np.concatenate(right)[order])
    precision = hits / np.arange(1, len(hits) + 1)
    best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
    gained = np.diff(hits, prepend=0) / count
    return float((best_from_here * gained).sum())


def _cell_errors(reference: Sequence[_Cells], got: Sequence[_Cells]) -> tuple[float, float]:
    """score_error and place_error over cells that fp32 gives a score above SEEN."""
    scores, places = [], []
    for wanted, item in zip(reference, got, strict=True):
        seen = np.flatnonzero(wanted.best.scores > SEEN)
        same_class = item.scores[seen, wanted.best.labels[seen]]
        scores.append(_logits(same_class) - _logits(wanted.best.scores[seen]))
        places.append(1 - iou(wanted.best.boxes_xyxy[seen], item.best.boxes_xyxy[seen]))
    square = np.square(np.concatenate(scores)).mean()
    return float(np.sqrt(square)), float(np.concatenate(places).mean())


def _logits(scores: Array) -> npt.NDArray[np.float64]:
    wide = scores.astype(np.float64)
    with np.errstate(divide="ignore"):
        logits = np.log(wide) - np.log1p(-wide)
    return np.asarray(np.clip(logits, -LOGIT_LIMIT, LOGIT_LIMIT), np.float64)
