"""The code in a picture: what is drawn is read again after whatever a camera does to it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetlift.runtime.errors import UsageError
from jetlift.runtime.streams.stamp import LEAST_SIZE_WH, Stamp, draw_stamp, read_stamp

STAMPS = st.builds(Stamp, st.integers(0, 2**32 - 1), st.integers(0, 2**56 - 1))


def stamped(stamp: Stamp, size_wh: tuple[int, int] = (640, 480), level: int = 90) -> np.ndarray:
    image = np.full((size_wh[1], size_wh[0], 3), level, np.uint8)
    draw_stamp(image, stamp)
    return image


@given(STAMPS, st.integers(LEAST_SIZE_WH[0], 900), st.integers(LEAST_SIZE_WH[1], 600))
def test_what_is_drawn_is_read_at_any_size(stamp, width, height):
    assert read_stamp(stamped(stamp, (width, height))) == stamp


@given(STAMPS, st.integers(200, 1500), st.integers(200, 1000), st.integers(0, 12))
def test_it_survives_scaling_and_noise(stamp, width, height, noise):
    scaled = cv2.resize(stamped(stamp), (width, height), interpolation=cv2.INTER_AREA)
    random = np.random.default_rng(0)
    noisy = scaled + random.normal(0, noise, scaled.shape)
    assert read_stamp(np.clip(noisy, 0, 255).astype(np.uint8)) == stamp


@given(STAMPS, st.integers(20, 95))
def test_it_survives_compression_and_a_change_of_brightness(stamp, quality):
    dark = (stamped(stamp).astype(np.float32) * 0.5 + 30).astype(np.uint8)
    content = cv2.imencode(".jpg", dark, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    assert read_stamp(cv2.imdecode(content, cv2.IMREAD_COLOR)) == stamp


@given(st.integers(0, 2**32 - 1))
def test_other_pictures_have_no_stamp(seed):
    noise = np.random.default_rng(seed).integers(0, 256, (120, 160, 3), np.uint8)
    assert read_stamp(noise) is None
    assert read_stamp(np.full((120, 160, 3), seed % 256, np.uint8)) is None


def test_a_stamp_with_one_wrong_cell_is_none():
    image = stamped(Stamp(7, 123_456))
    image[: 480 // 25, : 640 // 24] = 255 - image[: 480 // 25, : 640 // 24]
    assert read_stamp(image) is None


@pytest.mark.parametrize("size_wh", [(1, 1), (23, 200), (200, 20)])
def test_a_picture_too_small_to_hold_one_is_refused_or_has_none(size_wh):
    with pytest.raises(UsageError, match="At least 96x100"):
        stamped(Stamp(0, 0), size_wh)
    assert read_stamp(np.zeros((size_wh[1], size_wh[0], 3), np.uint8)) is None


@pytest.mark.parametrize("stamp", [Stamp(-1, 0), Stamp(2**32, 0), Stamp(0, 2**56), Stamp(0, -1)])
def test_numbers_out_of_range_are_refused(stamp):
    with pytest.raises(UsageError, match="32 bits"):
        stamped(stamp)


def test_the_moment_in_seconds():
    assert Stamp(0, 1_500_000).time_s == 1.5
