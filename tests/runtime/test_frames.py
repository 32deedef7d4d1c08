"""Pictures laid on frames of another size."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers.tiny_bundle import PREPROCESS
from hypothesis import given, settings
from hypothesis import strategies as st

from jetlift.runtime.boxes import to_input, to_picture
from jetlift.runtime.errors import UsageError
from jetlift.runtime.frames import PictureInput, lay, placement_of
from jetlift.runtime.manifest import FrameInput
from jetlift.runtime.preprocess import place, prepare_image

CROP = replace(PREPROCESS, input="frame_bgr", inside=FrameInput((64, 48), 4, 0.0))
LETTERBOX = replace(CROP, fit="letterbox", resize_short=None)
STRETCH = replace(LETTERBOX, fit="stretch")
SPECS = st.sampled_from([CROP, LETTERBOX, STRETCH])
SIDES = st.integers(1, 200)


def noise(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_a_frame_is_handed_over_as_it_is() -> None:
    frame = noise(64, 48)
    pictures = PictureInput(CROP)
    (fed,) = pictures.feeds(frame).values()
    assert fed.shape == (1, 48, 64, 3)
    assert np.shares_memory(fed, frame)
    assert pictures.notes == ()
    assert pictures.placement((64, 48)) == place((64, 48), CROP)


def test_without_frames_pictures_are_prepared() -> None:
    picture = noise(70, 50)
    pictures = PictureInput(PREPROCESS)
    fed = pictures.feeds(picture)
    np.testing.assert_array_equal(fed["pixel_values"], prepare_image(picture, PREPROCESS))
    assert pictures.placement((70, 50)) == place((70, 50), PREPROCESS)
    assert pictures.notes == ()


def test_another_size_is_told_once() -> None:
    pictures = PictureInput(CROP)
    for width in (70, 80):
        (fed,) = pictures.feeds(noise(width, 50)).values()
        assert fed.shape == (1, 48, 64, 3)
        assert fed.dtype == np.uint8
    (note,) = pictures.notes
    assert "64x48" in note
    assert "70x50" in note


@settings(max_examples=200, deadline=None)
@given(SPECS, SIDES, SIDES)
def test_every_picture_becomes_a_frame(spec: Any, width: int, height: int) -> None:
    frame = lay(noise(width, height), spec, (64, 48))
    assert (frame.shape, frame.dtype) == ((48, 64, 3), np.uint8)
    assert frame.flags["C_CONTIGUOUS"]


@given(SIDES, SIDES)
def test_what_the_model_sees_of_a_cropped_picture_stays(width: int, height: int) -> None:
    framed = placement_of((width, height), CROP)
    alone = place((width, height), PREPROCESS)
    # Whole pixels are rounded twice: on the frame, and in the input.
    slack = 2 * (min(width, height) / 36 + min(width, height) / 48)
    np.testing.assert_allclose(framed.seen_xyxy, alone.seen_xyxy, atol=slack)


@given(SPECS, SIDES, SIDES)
def test_places_go_to_the_input_and_back(spec: Any, width: int, height: int) -> None:
    placement = placement_of((width, height), spec)
    corners = np.float32([[0, 0, width, height], [width / 3, height / 4, width / 2, height / 2]])
    back = to_picture(to_input(corners, placement), placement)
    np.testing.assert_allclose(back, corners, atol=1e-2)


@pytest.mark.parametrize("image_wh", [(120, 90), (90, 120), (640, 480), (60, 130)])
@pytest.mark.parametrize("spec", [CROP, LETTERBOX, STRETCH], ids=lambda spec: spec.fit)
def test_a_mark_is_where_its_placement_says(spec: Any, image_wh: tuple[int, int]) -> None:
    """A bright square in the middle of a picture, found again in the input by its centre."""
    width, height = image_wh
    side = min(image_wh) // 3
    left, top = width // 2 - side // 2 + 2, height // 2 - side // 2 + 1
    picture = np.zeros((height, width, 3), np.uint8)
    picture[top : top + side, left : left + side] = 255
    black = replace(spec, pad_value=0, scale=1.0, mean=(0.0,) * 3, std=(1.0,) * 3)
    prepared = prepare_image(lay(picture, black, (64, 48)), black)[0, 0]
    rows, columns = np.nonzero(prepared > 127)
    square = np.float32([[left, top, left + side, top + side]])
    (box,) = to_input(square, placement_of(image_wh, spec))
    seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_allclose(seen, np.clip(box, 0, 32), atol=1.1)


def test_a_letterboxed_picture_leaves_grey_right_or_below() -> None:
    wide, tall = (
        lay(np.zeros((h, w, 3), np.uint8), LETTERBOX, (64, 48)) for w, h in ((64, 12), (12, 48))
    )
    assert not wide[:12].any()
    assert (wide[12:] == LETTERBOX.pad_value).all()
    assert not tall[:, :12].any()
    assert (tall[:, 12:] == LETTERBOX.pad_value).all()


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((48, 64), np.uint8),
        np.zeros((48, 64, 1), np.uint8),
        np.zeros((48, 64, 4), np.uint8),
        np.zeros((48, 64, 3), np.uint16),
        np.zeros((48, 64, 3), np.float32),
        np.zeros((3, 48, 64), np.uint8),
        np.zeros((0, 64, 3), np.uint8),
    ],
    ids=lambda array: f"{array.dtype}{list(array.shape)}",
)
def test_what_is_no_8_bit_bgr_frame_is_refused(wrong: np.ndarray) -> None:
    with pytest.raises(UsageError, match="picture"):
        PictureInput(CROP).feeds(wrong)
