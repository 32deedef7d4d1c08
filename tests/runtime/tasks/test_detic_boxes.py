"""Numbers between Detic's parts, against plain loops."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jetlift.runtime.boxes import iou_matrix
from jetlift.runtime.errors import EngineLibraryError, UsageError
from jetlift.runtime.task_forms import DeticFacts, OpenVocabulary
from jetlift.runtime.tasks import detic_boxes

FACTS = DeticFacts(
    regions="regions", masks="masks", strides=(8, 16), heat_threshold=0.1, level_candidates=3,
    proposal_iou=0.9, proposals=4, detections=5, one_label=True,
)  # fmt: skip
WORDS = OpenVocabulary(
    family="detic", image="proposals", text="text", template="a {}", score_threshold=0.5,
    iou_threshold=0.5, detic=FACTS,
)  # fmt: skip
WH = np.array([100, 80], np.float32)


def some_boxes(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    corner, side = rng.uniform(0, 60, (count, 2)), rng.uniform(5, 40, (count, 2))
    return np.concatenate([corner, corner + side], axis=1).astype(np.float32)


def test_levels_halve_and_round_up():
    found = detic_boxes.grids((1344, 768), (8, 16, 32, 64, 128))
    assert found == [(168, 96), (84, 48), (42, 24), (21, 12), (11, 6)]


def test_proposals_reach_from_their_cells():
    heat = np.zeros(6 + 2, np.float32)  # levels of 3x2 and 2x1 cells
    distances = np.ones((8, 4), np.float32)
    heat[4], heat[7], heat[0] = 0.25, 0.81, 0.1  # column 1 of row 1; column 1; at the threshold
    distances[4], distances[7] = (1, 0.5, 2, 3), (0, 0, 0, 0)
    found = detic_boxes.proposals(heat, distances, (24, 16), FACTS)
    np.testing.assert_allclose(found.scores, [0.9, 0.5])
    np.testing.assert_allclose(
        found.boxes_xyxy, [[24, 8, 24.01, 8.01], [12 - 8, 12 - 4, 12 + 16, 12 + 24]], rtol=1e-6
    )


def test_no_more_proposals_than_are_wanted():
    heat = np.linspace(0.2, 0.9, 8, dtype=np.float32)
    found = detic_boxes.proposals(heat, np.ones((8, 4), np.float32), (24, 16), FACTS)
    np.testing.assert_allclose(found.scores**2, np.sort(heat)[::-1][:4], rtol=1e-5)
    one = dataclasses.replace(FACTS, level_candidates=1)
    assert len(detic_boxes.proposals(heat, np.ones((8, 4), np.float32), (24, 16), one)) == 2
    assert not len(detic_boxes.proposals(heat * 0, np.ones((8, 4), np.float32), (24, 16), FACTS))


def test_outputs_that_do_not_fit_are_refused():
    with pytest.raises(UsageError, match="Got heat"):
        detic_boxes.proposals(
            np.zeros(7, np.float32), np.zeros((7, 4), np.float32), (24, 16), FACTS
        )
    heat = np.full(8, np.nan, np.float32)
    with pytest.raises(EngineLibraryError, match="NaN"):
        detic_boxes.proposals(heat, np.zeros((8, 4), np.float32), (24, 16), FACTS)


def plain_suppression(boxes_xyxy, scores, threshold) -> list[int]:
    overlap, kept = iou_matrix(boxes_xyxy, boxes_xyxy), []
    for index in sorted(range(len(scores)), key=lambda i: (-scores[i], i)):
        if all(overlap[index, other] <= threshold for other in kept):
            kept.append(index)
    return kept


@settings(deadline=None)
@given(st.integers(0, 30), st.integers(0, 10_000), st.sampled_from([0.1, 0.5, 0.9]))
def test_suppression_is_greedy(count, seed, threshold):
    boxes, scores = some_boxes(count, seed), np.random.default_rng(seed).integers(0, 5, count)
    wanted = plain_suppression(boxes, scores, threshold)
    got = detic_boxes.suppress(boxes, scores.astype(np.float32), threshold, most=100)
    assert got.tolist() == wanted
    assert (
        detic_boxes.suppress(boxes, scores.astype(np.float32), threshold, most=3).tolist()
        == (wanted[:3])
    )


def test_boxes_without_area_overlap_nothing():
    flat = np.zeros((2, 4), np.float32)
    assert detic_boxes.suppress(flat, np.ones(2, np.float32), 0.5, most=9).tolist() == [0, 1]


def test_detections_are_the_root_of_both_scores_and_keep_their_best_word():
    scores = np.array([[0.81, 0.64], [0.2, 0.3], [0.5, 0.49]], np.float32)
    boxes = np.array([[-5, -5, 20, 20], [0, 0, 9, 9], [50, 50, 300, 300]], np.float32)
    found = detic_boxes.detections(scores, boxes, np.float32([1, 1, 0.72]), WH, WORDS)
    np.testing.assert_allclose(found.scores, [0.9, 0.6, np.sqrt(0.3)], rtol=1e-5)
    assert found.labels.tolist() == [0, 0, 1]
    np.testing.assert_array_equal(found.boxes_xyxy[:2], [[0, 0, 20, 20], [50, 50, 100, 80]])
    every = dataclasses.replace(WORDS, detic=dataclasses.replace(FACTS, one_label=False))
    both = detic_boxes.detections(scores, boxes, np.float32([1, 1, 0.72]), WH, every)
    assert both.labels.tolist() == [0, 1, 0, 1, 1]


def test_detections_are_suppressed_per_word_and_counted():
    boxes = np.tile(np.float32([[0, 0, 10, 10]]), (4, 1))
    scores = np.float32([[0.9, 0], [0.8, 0], [0, 0.7], [0, 0.6]])
    found = detic_boxes.detections(scores, boxes, np.ones(4, np.float32), WH, WORDS)
    assert found.labels.tolist() == [0, 1]
    apart = some_boxes(9, 3) + np.arange(9, dtype=np.float32)[:, None] * 200
    wide = np.float32([2000, 2000])
    many = detic_boxes.detections(
        np.full((9, 1), 0.9, np.float32), apart, np.ones(9, np.float32), wide, WORDS
    )
    assert len(many) == 5
    none = detic_boxes.detections(scores * 0, boxes, np.ones(4, np.float32), WH, WORDS)
    assert len(none) == 0


def plain_paste(mask, box, image_wh) -> np.ndarray:
    """Bilinear, pixel by pixel, 0 outside of the mask."""
    side, found = len(mask), np.zeros((image_wh[1], image_wh[0]))
    for y in range(image_wh[1]):
        for x in range(image_wh[0]):
            u = (x + 0.5 - box[0]) / (box[2] - box[0]) * side - 0.5
            v = (y + 0.5 - box[1]) / (box[3] - box[1]) * side - 0.5
            for row in (int(np.floor(v)), int(np.floor(v)) + 1):
                for column in (int(np.floor(u)), int(np.floor(u)) + 1):
                    if 0 <= row < side and 0 <= column < side:
                        share = (1 - abs(v - row)) * (1 - abs(u - column))
                        found[y, x] += share * mask[row, column]
    return found


@pytest.mark.parametrize("box", [[3.2, 2.5, 14.7, 9.1], [0, 0, 20, 12], [17.5, 3, 20, 4.4]])
def test_masks_are_pasted_as_pixel_by_pixel(box):
    mask = np.random.default_rng(2).random((28, 28)).astype(np.float32)
    mask = (mask + np.roll(mask, 1, 0) + np.roll(mask, 1, 1)) / 3 + 0.05
    shares = plain_paste(mask, box, (20, 12))
    got = detic_boxes.paste(mask, np.float32(box), (20, 12))
    clear = np.abs(shares - 0.5) > 1e-4
    assert got.shape == (12, 20)
    np.testing.assert_array_equal(got[clear], (shares >= 0.5)[clear])
    assert got.any() == (shares >= 0.5).any()
