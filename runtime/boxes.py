"""From a detector's raw output to boxes on the picture, in numpy alone.

Rules:
    X1  Boxes are `xyxy` in pixels, left and top first; edges are coordinates, so the width is
        right - left and the whole picture is (0, 0, width, height).
    X2  The raw output of a YOLOX head is float [cells, 5 + classes]: per cell of each level, the
        finest level first and row by row, the centre's offset from the cell's corner in cells, the
        logarithm of width and height in cells, and after their sigmoid the objectness and the
        classes' scores. Centre = (offset + cell) * stride, size = exp(logarithm) * stride
        (Megvii-BaseDetection/YOLOX@main:yolox/models/yolo_head.py, decode_outputs).
    X3  A cell gives one box at most: of its best class, with objectness times that class's score
        (the same repository, yolox/utils/boxes.py, postprocess).
    X4  Suppression is per class and greedy from the best score down; ties go to the earlier cell.
        Of two boxes of one class that overlap by more than the threshold, the better stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.runtime.errors import EngineLibraryError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from jetlift.runtime.manifest import Detection
    from jetlift.runtime.preprocess import Placement

    Floats = npt.NDArray[np.float32]
    Doubles = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]

BOX_COLUMNS = 5  # centre, size, objectness


@dataclass(frozen=True, eq=False)
class Boxes:
    """What a detector found in one picture, best score first.

    Attributes:
        boxes_xyxy: float32 [N, 4] in pixels.
        scores: float32 [N], 0 to 1.
        labels: int64 [N], class numbers.
    """

    boxes_xyxy: Floats
    scores: Floats
    labels: Ints

    def __len__(self) -> int:
        return len(self.scores)

    def of(self, chosen: npt.NDArray[Any]) -> Boxes:
        """Some of them, by index or mask."""
        return Boxes(self.boxes_xyxy[chosen], self.scores[chosen], self.labels[chosen])


def cell_count(size_wh: Sequence[int], strides: Sequence[int]) -> int:
    """Number of cells of all levels for an input of this size in pixels.

    Raises:
        UsageError: The size is no multiple of a stride.
    """
    return sum(columns * rows for columns, rows in _grids(size_wh, strides))


def _grids(size_wh: Sequence[int], strides: Sequence[int]) -> list[tuple[int, int]]:
    width, height = size_wh
    for stride in strides:
        if stride < 1 or width % stride or height % stride:
            raise UsageError(
                f"An input of {width}x{height} pixels has no whole cells of {stride} pixels",
                expected="Width and height that are multiples of every stride",
            )
    return [(width // stride, height // stride) for stride in strides]


def cells(size_wh: Sequence[int], strides: Sequence[int]) -> tuple[Floats, Floats]:
    """The cells in the order of the raw output (rule X2).

    Returns:
        Column and row of each cell, float32 [cells, 2], and its stride, float32 [cells, 1].

    Raises:
        UsageError: The size is no multiple of a stride.
    """
    corners, sizes = [], []
    for stride, (columns, rows) in zip(strides, _grids(size_wh, strides), strict=True):
        row, column = np.divmod(np.arange(columns * rows), columns)
        corners.append(np.stack([column, row], axis=1))
        sizes.append(np.full((columns * rows, 1), stride))
    return np.concatenate(corners).astype(np.float32), np.concatenate(sizes).astype(np.float32)


@lru_cache(maxsize=16)
def _known_cells(size_wh: tuple[int, ...], strides: tuple[int, ...]) -> tuple[Floats, Floats]:
    """The cells of an input, made once; nobody may write into them."""
    made = cells(size_wh, strides)
    for array in made:
        array.setflags(write=False)
    return made


def decode(raw: Floats, size_wh: Sequence[int], strides: Sequence[int]) -> Boxes:
    """One box per cell, unfiltered and in the cells' order (rules X2 and X3).

    Args:
        raw: float32 [cells, 5 + classes].
        size_wh: Size of the model's input in pixels.
        strides: Pixels per cell, one per level, finest first.

    Returns:
        Boxes in the input's pixels. A width beyond float32's range is its largest number.

    Raises:
        UsageError: The output is not of the form that the input's size asks for.
    """
    corners, sizes = _cells_of(raw, size_wh, strides)
    scores, labels = _scored(raw)
    return Boxes(_placed(raw, corners, sizes), scores, labels)


def _cells_of(raw: Floats, size_wh: Sequence[int], strides: Sequence[int]) -> tuple[Floats, Floats]:
    """The cells that a raw output is of; see `decode`."""
    corners, sizes = _known_cells(tuple(size_wh), tuple(strides))
    if raw.ndim != 2 or len(raw) != len(corners) or raw.shape[1] <= BOX_COLUMNS:
        raise UsageError(
            f"The raw output is {list(raw.shape)}",
            expected=f"[{len(corners)}, 5 + classes] for an input of {size_wh[0]}x{size_wh[1]}",
        )
    return corners, sizes


def _scored(raw: Floats) -> tuple[Floats, Ints]:
    """Score and class of each cell (rule X3)."""
    classes = raw[:, BOX_COLUMNS:]
    labels = classes.argmax(axis=1)
    scores = raw[:, 4] * classes[np.arange(len(raw)), labels]
    return scores.astype(np.float32, copy=False), labels


def _placed(raw: Floats, corners: Floats, sizes: Floats) -> Floats:
    """Box of each cell in the input's pixels (rule X2)."""
    centres = (raw[:, 0:2] + corners) * sizes
    most = np.log(np.finfo(np.float32).max / sizes) - 1
    halves = np.exp(np.minimum(raw[:, 2:4], most)) * sizes / 2
    return np.concatenate([centres - halves, centres + halves], axis=1).astype(np.float32)


def find(raw: npt.NDArray[Any], size_wh: Sequence[int], spec: Detection) -> Boxes:
    """What a raw output says: boxes above the score threshold, suppressed per class.

    Args:
        raw: Floats [1, cells, 5 + classes] or without the batch axis.
        size_wh: Size of the model's input in pixels.
        spec: The part's head and thresholds.

    Returns:
        Boxes in the input's pixels, best score first.

    Raises:
        UsageError: The output is not of the form that the input's size asks for.
        EngineLibraryError: It holds NaN or infinity.
    """
    if not _all_finite(raw):
        raise EngineLibraryError(
            "The detector's output holds NaN or infinity",
            expected="Finite numbers",
            do="Try --precision fp32: where that is finite, this variant overflows",
        )
    rows = raw[0] if raw.ndim == 3 and len(raw) == 1 else raw
    rows = rows.astype(np.float32, copy=False)
    corners, sizes = _cells_of(rows, size_wh, spec.strides)
    scores, labels = _scored(rows)
    chosen = np.flatnonzero(scores >= spec.score_threshold)  # the few that are worth placing
    boxes_xyxy = _placed(rows[chosen], corners[chosen], sizes[chosen])
    above = Boxes(boxes_xyxy, scores[chosen], labels[chosen])
    return above.of(suppress(above, spec.iou_threshold))


def _all_finite(raw: npt.NDArray[Any]) -> bool:
    """Whether there is no NaN and no infinity, in one pass and without memory as a rule."""
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(raw.sum()):  # one that is not makes the sum neither
            return True
    # Large numbers alone may sum up to infinity; an extreme of numbers is finite where all are.
    return bool(np.isfinite([raw.min(), raw.max()]).all())


def suppress(found: Boxes, iou_threshold: float) -> Ints:
    """Indices of the boxes that stay, best score first (rule X4)."""
    order = np.argsort(-found.scores, kind="stable")
    if len(order) < 2:
        return order
    sorted_boxes = found.of(order)
    overlaps = iou_matrix(sorted_boxes.boxes_xyxy, sorted_boxes.boxes_xyxy) > iou_threshold
    overlaps &= sorted_boxes.labels[:, None] == sorted_boxes.labels[None, :]
    stays = np.ones(len(order), bool)
    for index in range(len(order)):
        if stays[index]:
            stays[index + 1 :] &= ~overlaps[index, index + 1 :]
    return order[stays]


def iou_matrix(first_xyxy: npt.NDArray[Any], second_xyxy: npt.NDArray[Any]) -> Doubles:
    """Intersection over union of every pair.

    Args:
        first_xyxy: Floats [N, 4].
        second_xyxy: Floats [M, 4].

    Returns:
        float64 [N, M], 0 to 1; 0 where a box has no area.
    """
    return iou(first_xyxy[:, None], second_xyxy[None, :])


def iou(first_xyxy: npt.NDArray[Any], second_xyxy: npt.NDArray[Any]) -> Doubles:
    """Intersection over union of boxes [..., 4] that broadcast; see `iou_matrix`."""
    first, second = first_xyxy.astype(np.float64), second_xyxy.astype(np.float64)
    corner = np.maximum(first[..., :2], second[..., :2])
    opposite = np.minimum(first[..., 2:], second[..., 2:])
    shared = _product(np.maximum(opposite - corner, 0))
    whole = _areas(first) + _areas(second) - shared
    ratio = np.divide(shared, whole, out=np.zeros_like(shared), where=shared > 0)
    return np.asarray(ratio, np.float64)


def _areas(boxes_xyxy: Doubles) -> Doubles:
    return _product(np.maximum(boxes_xyxy[..., 2:] - boxes_xyxy[..., :2], 0))


def _product(sides: Doubles) -> Doubles:
    """Width times height; a reduction along so short an axis takes longer."""
    return np.asarray(sides[..., 0] * sides[..., 1])


def to_picture(boxes_xyxy: Floats, placement: Placement) -> Floats:
    """From the input's pixels to the picture's, cut at the picture's edges.

    Args:
        boxes_xyxy: float32 [N, 4] in the input's pixels.
        placement: Where the picture lies in the input.

    Returns:
        float32 [N, 4] in the picture's pixels.
    """
    image_wh = np.asarray(placement.image_wh, np.float64)
    factors = image_wh / np.asarray(placement.resized_wh, np.float64)
    left_top = np.asarray(placement.crop_xywh[:2], np.float64)
    corners = (boxes_xyxy.reshape(-1, 2, 2) + left_top) * factors
    return np.clip(corners, 0, image_wh).reshape(-1, 4).astype(np.float32)


def to_input(boxes_xyxy: Floats, placement: Placement) -> Floats:
    """From the picture's pixels to the input's, the inverse of `to_picture`.

    Args:
        boxes_xyxy: float32 [N, 4] in the picture's pixels.
        placement: Where the picture lies in the input.

    Returns:
        float32 [N, 4] in the input's pixels.
    """
    factors = np.divide(placement.resized_wh, placement.image_wh)
    left_top = np.asarray(placement.crop_xywh[:2], np.float64)
    corners = boxes_xyxy.reshape(-1, 2, 2) * factors - left_top
    return corners.reshape(-1, 4).astype(np.float32)
