from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jetlift.runtime.resample import resample

PIL = pytest.importorskip("PIL", reason="Pillow is what the resampling is held against")
from PIL import Image  # noqa: E402 - behind the check for it

VERSION = int(PIL.__version__.partition(".")[0])
FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
SIDES = st.integers(1, 160)


def by_pillow(image: np.ndarray, size_wh: tuple[int, int], kind: str) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize(size_wh, FILTERS[kind])).transpose(2, 0, 1)


def noise(width: int, height: int, seed: int, *, hard: bool = False) -> np.ndarray:
    random = np.random.default_rng(seed)
    image = random.integers(0, 256, (height, width, 3), np.uint8)
    return np.where(image > 127, np.uint8(255), np.uint8(0)) if hard else image


def as_this_pillow_does() -> bool | None:
    """Before version 13 Pillow always began along the width."""
    return None if VERSION >= 13 else True


@settings(max_examples=150, deadline=None)
@given(
    image_wh=st.tuples(SIDES, SIDES),
    size_wh=st.tuples(SIDES, SIDES),
    kind=st.sampled_from(sorted(FILTERS)),
    hard=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_byte_is_pillows(
    *, image_wh: tuple[int, int], size_wh: tuple[int, int], kind: str, hard: bool, seed: int
) -> None:
    image = noise(*image_wh, seed, hard=hard)
    ours = resample(image, size_wh, kind, width_first=as_this_pillow_does())
    np.testing.assert_array_equal(ours, by_pillow(image, size_wh, kind))


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_a_region_is_a_cut_of_the_whole(data: st.DataObject) -> None:
    image = noise(data.draw(SIDES), data.draw(SIDES), 1)
    width, height = data.draw(SIDES), data.draw(SIDES)
    left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    wide, high = data.draw(st.integers(1, width - left)), data.draw(st.integers(1, height - top))
    whole = resample(image, (width, height), "bicubic")
    part = resample(image, (width, height), "bicubic", region_xywh=(left, top, wide, high))
    np.testing.assert_array_equal(part, whole[:, top : top + high, left : left + wide])


@pytest.mark.parametrize("size_wh", [(1, 1), (40, 3), (700, 900)])
def test_a_single_pixel_fills_any_size(size_wh: tuple[int, int]) -> None:
    pixel = np.array([[[3, 140, 255]]], np.uint8)
    result = resample(pixel, size_wh, "bicubic")
    assert result.shape == (3, size_wh[1], size_wh[0])
    assert [np.unique(plane).tolist() for plane in result] == [[3], [140], [255]]


@pytest.mark.parametrize("image_wh", [(1600, 900), (900, 1600), (700, 3000), (3000, 40)])
def test_large_pictures_equal_pillow(image_wh: tuple[int, int]) -> None:
    image = noise(*image_wh, seed=2)
    size_wh = (max(1, image_wh[0] // 5), max(1, image_wh[1] // 7))
    ours = resample(image, size_wh, "bicubic", width_first=as_this_pillow_does())
    np.testing.assert_array_equal(ours, by_pillow(image, size_wh, "bicubic"))


def test_a_very_long_picture_costs_its_region_alone() -> None:
    # The whole result would have 600 million pixels; this test would not end if it were computed.
    image = noise(1, 10_000, seed=3)
    result = resample(image, (245, 2_450_000), "bicubic", region_xywh=(0, 1_225_000, 224, 224))
    assert result.shape == (3, 224, 224)


def test_the_picture_is_left_as_it_was() -> None:
    image = noise(50, 40, seed=4)
    before = image.copy()
    resample(image[:, ::-1], (20, 20), "bilinear")  # a view with a negative stride
    np.testing.assert_array_equal(image, before)
