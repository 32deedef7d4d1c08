"""Views against pictures and against fp32's views."""

from __future__ import annotations

import numpy as np
import pytest

from jetlift.export.fidelity.pictures import psnr
from jetlift.export.fidelity.views import ViewMetric
from jetlift.runtime.errors import UsageError

RANDOM = np.random.default_rng(2)
PICTURES = [RANDOM.random((20, 24, 3)) for _ in range(3)]


def metric() -> ViewMetric:
    return ViewMetric(lambda outputs: outputs["rgb"], PICTURES)


def noisy(by: float) -> list[np.ndarray]:
    draw = np.random.default_rng(5)
    return [np.clip(p + by * draw.standard_normal(p.shape), 0, 1) for p in PICTURES]


def test_equal_views_are_as_near_as_can_be():
    views = noisy(0.05)
    figures = metric().figures({"rgb": views}, {"rgb": views})
    assert set(figures) == set(ViewMetric.names)
    assert figures["psnr_to_fp32_min"] > 140
    assert figures["psnr"] == figures["psnr_fp32"]
    pairs = zip(PICTURES, views, strict=True)
    each = [psnr(a.transpose(2, 0, 1), b.transpose(2, 0, 1)) for a, b in pairs]
    assert figures["psnr"] == pytest.approx(np.mean(each))


def test_a_worse_view_is_farther_from_picture_and_fp32():
    near, far = ({"rgb": noisy(by)} for by in (0.01, 0.1))
    figures = metric().figures(near, far)
    assert figures["psnr"] < figures["psnr_fp32"] - 10
    assert figures["ssim"] < figures["ssim_fp32"]
    assert figures["psnr_to_fp32_mean"] < 25
    assert metric().loss(figures) > metric().loss(metric().figures(near, near))


def test_colours_are_cut_as_a_screen_cuts_them_and_nan_is_black():
    bright = [PICTURES[0] * 0 + 1.5, PICTURES[1], PICTURES[2] * np.nan]
    white = [PICTURES[0] * 0 + 1.0, PICTURES[1], PICTURES[2] * 0]
    one, other = (metric().figures({"rgb": PICTURES}, {"rgb": v}) for v in (bright, white))
    assert one == other


def test_views_that_are_no_pictures_of_theirs_are_refused():
    with pytest.raises(UsageError, match="2 views for 3"):
        metric().figures({"rgb": PICTURES}, {"rgb": PICTURES[:2]})
    with pytest.raises(UsageError):
        metric().figures({"rgb": PICTURES}, {"rgb": [p[:-1] for p in PICTURES]})
