from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import structural_similarity

from jetlift.export.fidelity.pictures import PictureMetric, gradient_distance, psnr, ssim
from jetlift.runtime.errors import UsageError


def texture(seed: int, *, side: int = 48, channels: int = 3) -> np.ndarray:
    """A smooth picture [channels, side, side] in 0..1."""
    noise = np.random.default_rng(seed).random((channels, side, side))
    return np.stack([cv2.GaussianBlur(plane, (0, 0), 2) for plane in noise])


def figures(wanted, got, data_range=1.0):
    outputs = ({"image": [picture[None].astype("f4") for picture in p]} for p in (wanted, got))
    return PictureMetric("image", data_range).figures(*outputs)


seeds = st.integers(0, 2**32 - 1)


@given(seeds)
@settings(max_examples=20)
def test_equal_pictures_are_as_near_as_float32_can_tell(seed):
    told = figures([texture(seed)], [texture(seed)])
    assert told["psnr_mean"] == told["psnr_min"] == pytest.approx(144.49, abs=0.01)
    assert told["ssim_mean"] == pytest.approx(1.0)
    assert told["gradient_distance_max"] == pytest.approx(0.0)
    assert set(told) == set(PictureMetric.names)


@given(seeds, st.floats(0.001, 0.1))
@settings(max_examples=20)
def test_figures_stay_in_bounds_and_are_symmetric(seed, noise):
    first = texture(seed)
    second = first + np.random.default_rng(seed + 1).normal(0, noise, first.shape)
    assert psnr(first, second) == pytest.approx(-20 * np.log10(noise), abs=1.0)
    assert -1 <= ssim(first, second) < 1
    assert 0 < gradient_distance(first, second) <= 1
    for figure in (psnr, ssim, gradient_distance):
        assert figure(first, second) == pytest.approx(figure(second, first))


@given(seeds)
@settings(max_examples=10)
def test_more_noise_is_farther_in_every_figure(seed):
    first = texture(seed)
    noise = np.random.default_rng(seed + 1).normal(0, 1, first.shape)
    near, far = (figures([first], [first + share * noise]) for share in (0.01, 0.05))
    assert near["psnr_mean"] > far["psnr_mean"]
    assert near["ssim_mean"] > far["ssim_mean"]
    assert near["gradient_distance_mean"] < far["gradient_distance_mean"]
    metric = PictureMetric("image", 1.0)
    assert metric.loss(near) < metric.loss(far)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("seed", [0, 1])
def test_structural_similarity_is_scikit_images(seed, channels):
    first = texture(seed, channels=channels)
    second = np.clip(first + np.random.default_rng(9).normal(0, 0.03, first.shape), 0, 1)
    wanted = structural_similarity(
        first, second, data_range=1.0, channel_axis=0, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False,
    )  # fmt: skip
    assert ssim(first, second) == pytest.approx(wanted, abs=1e-9)


def test_edges_that_blur_are_farther_than_a_brighter_picture():
    first = np.zeros((1, 64, 64))
    first[:, 16:48, 16:48] = 0.8
    blurred = cv2.GaussianBlur(first[0], (0, 0), 3)[None]
    assert gradient_distance(first, first + 0.1) == pytest.approx(0.0)
    assert gradient_distance(first, blurred) > 0.05


def test_values_are_measured_against_their_range():
    first = texture(0)
    second = first + 0.02
    one = figures([first], [second])
    wide = figures([255 * first], [255 * second], 255.0)
    for name, value in one.items():
        assert wide[name] == pytest.approx(value, abs=1e-4)


def test_the_worst_picture_is_told_apart_and_a_broken_one_is_farthest():
    pictures = [texture(seed) for seed in range(3)]
    broken = [pictures[0], pictures[1] + 0.01, pictures[2].copy()]
    broken[2][0, 5, 5] = np.nan
    told = figures(pictures, broken)
    assert (told["psnr_min"], told["ssim_min"], told["gradient_distance_max"]) == (0.0, 0.0, 1.0)
    assert told["psnr_mean"] == pytest.approx((144.49 + 40 + 0) / 3, abs=0.05)


@pytest.mark.parametrize(
    ("shape", "other"), [((1, 3, 48, 48), (1, 3, 48, 40)), ((1, 3, 8, 48),) * 2, ((3, 48, 48),) * 2]
)
def test_what_is_no_pair_of_pictures_is_refused(shape, other):
    metric = PictureMetric("image", 1.0)
    with pytest.raises(UsageError, match="picture"):
        metric.figures({"image": [np.zeros(shape)]}, {"image": [np.zeros(other)]})


@pytest.mark.parametrize("data_range", [0.0, -1.0, float("nan")])
def test_a_range_is_above_nothing(data_range):
    with pytest.raises(UsageError, match="data range"):
        PictureMetric("image", data_range)
