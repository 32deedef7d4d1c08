from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jetlift.runtime import boxes
from jetlift.runtime.boxes import Boxes
from jetlift.runtime.errors import EngineLibraryError, UsageError
from jetlift.runtime.manifest import Detection, ImagePreprocess
from jetlift.runtime.preprocess import place

STRIDES = (8, 16, 32)
HEAD = Detection("yolox", STRIDES, "assets/labels.txt", 0.3, 0.45)


@st.composite
def some_boxes(draw: st.DrawFn, most: int = 12) -> Boxes:
    count = draw(st.integers(0, most))
    corner = draw(hnp.arrays(np.float32, (count, 2), elements=st.floats(-50, 50, width=32)))
    size = draw(hnp.arrays(np.float32, (count, 2), elements=st.floats(0, 40, width=32)))
    scores = draw(hnp.arrays(np.float32, count, elements=st.floats(0, 1, width=32)))
    labels = draw(hnp.arrays(np.int64, count, elements=st.integers(0, 2)))
    return Boxes(np.concatenate([corner, corner + size], axis=1), scores, labels)


@given(some_boxes(), some_boxes())
def test_overlap_is_symmetric_and_a_share(first: Boxes, second: Boxes) -> None:
    overlap = boxes.iou_matrix(first.boxes_xyxy, second.boxes_xyxy)
    assert overlap.shape == (len(first), len(second))
    assert (overlap >= 0).all()
    assert (overlap <= 1 + 1e-12).all()
    np.testing.assert_array_equal(overlap, boxes.iou_matrix(second.boxes_xyxy, first.boxes_xyxy).T)


@given(some_boxes())
def test_a_box_overlaps_itself_wholly_unless_it_has_no_area(found: Boxes) -> None:
    size = (found.boxes_xyxy[:, 2:] - found.boxes_xyxy[:, :2]).astype(np.float64)
    own = np.diag(boxes.iou_matrix(found.boxes_xyxy, found.boxes_xyxy))
    np.testing.assert_array_equal(own, (size.prod(axis=1) > 0).astype(float))


def test_overlap_of_known_boxes() -> None:
    first = np.array([[0, 0, 10, 10]], np.float32)
    others = np.array([[5, 0, 15, 10], [10, 0, 20, 10], [2, 2, 4, 7], [3, 3, 3, 9]], np.float32)
    np.testing.assert_allclose(boxes.iou_matrix(first, others), [[1 / 3, 0, 0.1, 0]])


@given(some_boxes(), st.floats(0, 1))
def test_suppression_keeps_the_best_drops_only_what_it_hides_and_is_idempotent(
    found: Boxes, threshold: float
) -> None:
    stays = boxes.suppress(found, threshold)
    kept = found.of(stays)
    assert len(set(stays.tolist())) == len(stays)
    assert (np.diff(kept.scores) <= 0).all()
    np.testing.assert_array_equal(boxes.suppress(kept, threshold), np.arange(len(kept)))
    for label in np.unique(found.labels):
        assert found.scores[found.labels == label].max() in kept.scores[kept.labels == label]
    overlap = boxes.iou_matrix(found.boxes_xyxy, kept.boxes_xyxy)
    same = found.labels[:, None] == kept.labels[None, :]
    better = found.scores[:, None] <= kept.scores[None, :]
    for index in set(range(len(found))) - set(stays.tolist()):
        assert ((overlap > threshold) & same & better)[index].any()


def test_boxes_of_other_classes_do_not_hide_each_other() -> None:
    square = np.array([[0, 0, 10, 10]] * 3, np.float32)
    found = Boxes(square, np.array([0.5, 0.9, 0.7], np.float32), np.array([0, 1, 0]))
    assert boxes.suppress(found, 0.45).tolist() == [1, 2]


def encoded(boxes_xyxy: np.ndarray, at: np.ndarray, size_wh: tuple[int, int]) -> np.ndarray:
    """Raw rows that say these boxes at these cells, class 1 of 3, score 0.9 x 0.8."""
    corners, strides = boxes.cells(size_wh, STRIDES)
    raw = np.zeros((len(corners), 8), np.float32)
    centre = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
    raw[at, :2] = centre / strides[at] - corners[at]
    raw[at, 2:4] = np.log((boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]) / strides[at])
    raw[at, 4], raw[at, 6] = 0.9, 0.8
    return raw


@given(st.data(), st.sampled_from([(416, 416), (640, 384), (32, 64)]))
def test_decoding_undoes_what_the_head_encodes(
    data: st.DataObject, size_wh: tuple[int, int]
) -> None:
    count = boxes.cell_count(size_wh, STRIDES)
    at = np.array(data.draw(st.lists(st.integers(0, count - 1), unique=True, max_size=5)), int)
    corner = data.draw(hnp.arrays(np.float32, (len(at), 2), elements=st.floats(0, 400, width=32)))
    size = data.draw(hnp.arrays(np.float32, (len(at), 2), elements=st.floats(1, 300, width=32)))
    wanted = np.concatenate([corner, corner + size], axis=1)
    found = boxes.decode(encoded(wanted, at, size_wh), size_wh, STRIDES)
    assert len(found) == count
    np.testing.assert_allclose(found.boxes_xyxy[at], wanted, rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(found.scores[at], 0.72, rtol=1e-6)
    assert (found.labels[at] == 1).all()
    assert not np.delete(found.scores, at).any()


def test_cells_run_from_the_finest_level_and_row_by_row() -> None:
    corners, strides = boxes.cells((64, 32), STRIDES)
    assert len(corners) == 8 * 4 + 4 * 2 + 2 * 1 == boxes.cell_count((64, 32), STRIDES)
    assert corners[:9].tolist() == [[x, 0] for x in range(8)] + [[0, 1]]
    assert np.unique(strides[:32]).tolist() == [8]
    assert corners[-2:].tolist() == [[0, 0], [1, 0]]
    assert boxes.cell_count((416, 416), STRIDES) == 3549


def test_what_no_grid_fits_is_refused() -> None:
    with pytest.raises(UsageError, match="420x416 pixels has no whole cells of 8"):
        boxes.cell_count((420, 416), STRIDES)
    with pytest.raises(UsageError, match=r"\[3549, 5 \+ classes\]"):
        boxes.decode(np.zeros((3548, 85), np.float32), (416, 416), STRIDES)
    with pytest.raises(UsageError, match=r"raw output is \[3549, 5\]"):
        boxes.decode(np.zeros((3549, 5), np.float32), (416, 416), STRIDES)


def test_a_huge_width_stays_a_number() -> None:
    raw = np.zeros((1, 21, 6), np.float32)
    raw[..., 2:4], raw[..., 4:] = 1e30, 1.0
    found = boxes.find(raw, (32, 32), HEAD)
    assert np.isfinite(found.boxes_xyxy).all()


def test_only_what_is_sure_enough_is_found_and_nan_is_an_error() -> None:
    wanted = np.array([[0, 0, 40, 40], [2, 2, 42, 42], [200, 100, 300, 200]], np.float32)
    raw = encoded(wanted, np.array([0, 1, 9]), (416, 416))[None]
    raw[0, 1, 4] = 0.5
    found = boxes.find(raw, (416, 416), HEAD)
    np.testing.assert_allclose(found.boxes_xyxy, wanted[[0, 2]], atol=1e-2)
    assert len(boxes.find(raw * np.float32(0.4), (416, 416), HEAD)) == 0
    raw[0, 5, 3] = np.nan
    with pytest.raises(EngineLibraryError, match="NaN"):
        boxes.find(raw, (416, 416), HEAD)


def spec(fit: str) -> ImagePreprocess:
    return ImagePreprocess(
        kind="image", input="x", size_wh=(96, 64), fit=fit,  # type: ignore[arg-type]
        resize_short=120 if fit == "crop" else None, resample="linear_exact", colour="bgr",
        scale=1.0, mean=(0.0,) * 3, std=(1.0,) * 3,
    )  # fmt: skip


@given(
    st.sampled_from(["letterbox", "stretch", "crop"]),
    st.tuples(st.integers(20, 900), st.integers(20, 900)),
    st.lists(st.tuples(*[st.floats(0, 1)] * 4), max_size=4),
)
def test_from_the_picture_to_the_input_and_back(
    fit: str, image_wh: tuple[int, int], shares: list[tuple[float, ...]]
) -> None:
    placement = place(image_wh, spec(fit))
    corners = np.sort(np.array(shares, np.float32).reshape(-1, 2, 2), axis=1)
    on_picture = (corners * np.array(image_wh, np.float32)).reshape(-1, 4)
    back = boxes.to_picture(boxes.to_input(on_picture, placement), placement)
    np.testing.assert_allclose(back, on_picture, atol=1e-2)


def test_letterboxed_boxes_are_cut_at_the_pictures_edges() -> None:
    placement = place((300, 100), spec("letterbox"))
    assert placement.resized_wh == (96, 32)
    found = boxes.to_picture(np.array([[-5, 16, 48, 60]], np.float32), placement)
    np.testing.assert_allclose(found, [[0, 50, 150, 100]])
