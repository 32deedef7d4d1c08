"""YOLOX: pixels and boxes beside those of the repository's own code."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers import yolox_reference
from hypothesis import given, settings
from hypothesis import strategies as st

from jetlift.export.recipes import yolox
from jetlift.runtime import boxes
from jetlift.runtime.preprocess import place, prepare_image
from jetlift.runtime.session import open_onnx

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
SPEC, HEAD = yolox.preprocess(yolox.NANO), yolox.detection()
LEVELS_APART = 2  # of 255: the largest difference between OpenCV's two linear filters


def pairs(raw: np.ndarray, side: int, head=HEAD) -> tuple[boxes.Boxes, list]:
    ours = boxes.find(raw, (side, side), head)
    theirs = yolox_reference.found(
        raw, side, score_threshold=head.score_threshold, iou_threshold=head.iou_threshold
    )
    return ours, theirs


def assert_same(ours: boxes.Boxes, theirs: list) -> None:
    assert ours.labels.tolist() == [label for _, label, _ in theirs]
    np.testing.assert_allclose(ours.scores, [score for score, _, _ in theirs], rtol=1e-6)
    wanted = np.array([box for _, _, box in theirs]).reshape(-1, 4)
    np.testing.assert_allclose(ours.boxes_xyxy, wanted, rtol=1e-5, atol=1e-3)


def near_a_decision(theirs_all: list, threshold: float) -> bool:
    """Whether two boxes overlap by so nearly the threshold that float32 may decide."""
    return any(
        abs(yolox_reference.overlap(a[2], b[2]) - threshold) < 1e-4
        for place_a, a in enumerate(theirs_all)
        for b in theirs_all[:place_a]
        if a[1] == b[1]
    )


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.floats(-2.0, 2.5), st.integers(1, 6), st.floats(0.2, 0.9))
def test_boxes_of_any_output_are_the_references(seed, spread, classes, threshold):
    random = np.random.default_rng(seed)
    side = 64
    cells = boxes.cell_count((side, side), HEAD.strides)
    raw = random.random((cells, 5 + classes), np.float32)
    raw[:, :2] = random.normal(0.5, 1.0, (cells, 2))
    raw[:, 2:4] = random.normal(spread, 0.5, (cells, 2))
    head = HEAD.__class__(**(vars(HEAD) | {"iou_threshold": threshold}))
    everything = yolox_reference.found(
        raw, side, score_threshold=head.score_threshold, iou_threshold=1.0
    )
    if near_a_decision(everything, threshold):
        return
    assert_same(*pairs(raw, side, head))


def test_boxes_of_one_place_and_two_classes_both_stay():
    raw = np.zeros((84, 7), np.float32)
    raw[:2, 4:] = ((0.9, 1.0, 0.0), (0.8, 0.0, 1.0))
    raw[1, 0] = -1.0
    ours, theirs = pairs(raw, 64)
    assert_same(ours, theirs)
    assert ours.labels.tolist() == [0, 1]


@pytest.fixture(scope="module")
def photographs() -> list[np.ndarray]:
    folder = SHARED / "coco_samples"
    if not folder.is_dir():
        pytest.skip("the photographs of shared/data are not beside this checkout")
    return [cv2.imread(str(path)) for path in sorted(folder.glob("*.jpg"))]


@pytest.fixture(scope="module")
def outputs(photographs) -> list[np.ndarray]:
    """YOLOX-nano's raw output for each photograph, by the published file itself."""
    path = SHARED / "weights" / "yolox_nano.onnx"
    if not path.is_file():
        pytest.skip("YOLOX-nano's weights of shared/data are not beside this checkout")
    with open_onnx(path, library="onnxruntime") as session:
        return [
            session.run({"images": prepare_image(picture, SPEC)})["output"][0]
            for picture in photographs
        ]


def test_boxes_of_photographs_are_the_references(photographs, outputs):
    total = 0
    for picture, raw in zip(photographs, outputs, strict=True):
        ours, theirs = pairs(raw, 416)
        assert_same(ours, theirs)
        on_picture = boxes.to_picture(
            ours.boxes_xyxy, place((picture.shape[1], picture.shape[0]), SPEC)
        )
        factor = yolox_reference.letterboxed(picture, 416)[1]
        height, width = picture.shape[:2]
        wanted = np.array([box for _, _, box in theirs]).reshape(-1, 4) / factor
        wanted = np.clip(wanted, 0, (width, height, width, height))
        # A side is floored to whole pixels before it is looked at, which the factor leaves out.
        np.testing.assert_allclose(on_picture, wanted, atol=max(height, width) / 416)
        total += len(theirs)
    assert total > 100


def assert_near(picture: np.ndarray, side: int) -> float:
    """Largest difference in levels between our pixels and the reference's."""
    spec = yolox.preprocess(yolox.Size(1.0, 1.0, side))
    ours = prepare_image(picture, spec)[0]
    theirs, _ = yolox_reference.letterboxed(picture, side)
    return float(np.abs(ours - theirs).max())


def test_pixels_of_photographs_are_near_the_references(photographs):
    worst = max(assert_near(picture, side) for picture in photographs for side in (416, 640))
    assert worst <= LEVELS_APART


@given(st.integers(2, 900), st.integers(2, 900), st.sampled_from([416, 640]))
def test_a_picture_lies_where_the_reference_puts_it(width, height, side):
    spec = yolox.preprocess(yolox.Size(1.0, 1.0, side))
    placed = place((width, height), spec).resized_wh
    factor = min(side / height, side / width)
    theirs = (int(width * factor), int(height * factor))
    # Their factor is rounded before it multiplies, so that now and then a pixel is lost.
    exact = (width * side // max(width, height), height * side // max(width, height))
    assert placed == tuple(max(1, length) for length in exact)
    assert all(0 <= ours - other <= 1 for ours, other in zip(placed, theirs, strict=True) if other)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(8, 300), st.integers(8, 300))
def test_pixels_of_noise_are_near_the_references(seed, width, height):
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    factor = min(416 / height, 416 / width)
    if place((width, height), SPEC).resized_wh != (int(width * factor), int(height * factor)):
        return
    assert assert_near(noise, 416) <= LEVELS_APART
