"""Drawn surfaces, good and spoilt, for tests of what looks for defects."""

from __future__ import annotations

import cv2
import numpy as np


def texture(seed: int, size_wh: tuple[int, int] = (72, 60)) -> np.ndarray:
    """Stripes that differ a little in place, light and noise, as good parts before a camera do."""
    random = np.random.default_rng(seed)
    across = np.arange(size_wh[0]) + random.uniform(0, 1)
    stripes = 120 + 40 * np.sin(across / 3)[None, :, None] + random.uniform(-5, 5)
    noise = random.normal(0, 2, (size_wh[1], size_wh[0], 3))
    return np.clip(stripes + noise, 0, 255).astype(np.uint8)


def spoilt(image_bgr: np.ndarray, at_xy: tuple[int, int], radius: int = 5) -> np.ndarray:
    """The same with a red spot."""
    image = image_bgr.copy()
    cv2.circle(image, at_xy, radius, (20, 20, 250), -1)
    return image
