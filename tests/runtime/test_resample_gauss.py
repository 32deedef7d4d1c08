from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jetlift.runtime.resample_gauss import resize_padded

TABLE = (np.arange(256) / 255).astype(np.float32)


def by_scipy(image: np.ndarray, side: int, grey: np.float32) -> np.ndarray:
    """Pad, filter and zoom with scipy itself, as floats [3, side, side]."""
    ndimage = pytest.importorskip("scipy.ndimage")
    size = max(image.shape[:2])
    square = np.full((size, size, 3), grey, np.float32)
    square[: image.shape[0], : image.shape[1]] = TABLE[image]
    sigma = max(0.0, (size / side - 1) / 2)
    filtered = ndimage.gaussian_filter(square, (sigma, sigma, 0), mode="mirror")
    factor = 1 / (size / side)
    zoomed = ndimage.zoom(filtered, (factor, factor, 1), order=1, mode="mirror", grid_mode=True)
    return np.clip(zoomed, square.min(), square.max()).transpose(2, 0, 1)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 24), st.integers(0, 255), st.data())
def test_it_is_scipys_bit_for_bit(
    height: int, width: int, side: int, level: int, data: st.DataObject
) -> None:
    seed = data.draw(st.integers(0, 1000))
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    got = resize_padded(image, TABLE, side, level)
    np.testing.assert_array_equal(got, by_scipy(image, side, TABLE[level]))


def test_an_even_picture_stays_even_and_padding_bleeds_at_its_edge_alone() -> None:
    got = resize_padded(np.full((100, 200, 3), 255, np.uint8), TABLE, 20)
    np.testing.assert_allclose(got[:, :8], 1.0, atol=1e-6)
    assert not got[:, 13:].any()
    np.testing.assert_array_equal(resize_padded(np.zeros((1, 1, 3), np.uint8), TABLE, 4), 0)
