"""What YOLOX's repository does before and after its network, in plain loops of one's own words.

Megvii-BaseDetection/YOLOX@main: yolox/data/data_augment.py (preproc), yolox/models/yolo_head.py
(decode_outputs), yolox/utils/boxes.py (postprocess: one class per cell, then torchvision's
batched_nms, which suppresses within a class alone).
"""

from __future__ import annotations

import cv2
import numpy as np


def letterboxed(image_bgr: np.ndarray, side_px: int) -> tuple[np.ndarray, float]:
    """float32 [3, side, side] and the factor on the picture's pixels, by OpenCV's own filter."""
    height, width = image_bgr.shape[:2]
    factor = min(side_px / height, side_px / width)
    small_wh = (int(width * factor), int(height * factor))
    canvas = np.full((side_px, side_px, 3), 114, np.uint8)
    small = cv2.resize(image_bgr, small_wh, interpolation=cv2.INTER_LINEAR)
    canvas[: small_wh[1], : small_wh[0]] = small
    return canvas.transpose(2, 0, 1).astype(np.float32), factor


def found(
    raw: np.ndarray, side_px: int, *, score_threshold: float, iou_threshold: float
) -> list[tuple[float, int, tuple[float, ...]]]:
    """Score, class and box in the input's pixels, best score first; raw is [cells, 5 + classes]."""
    candidates = []
    row = 0
    for stride in (8, 16, 32):
        for down in range(side_px // stride):
            for across in range(side_px // stride):
                values = raw[row]
                row += 1
                label = int(np.argmax(values[5:]))
                score = np.float32(values[4]) * np.float32(values[5 + label])
                if score < np.float32(score_threshold):
                    continue
                centre = ((values[0] + across) * stride, (values[1] + down) * stride)
                half = (np.exp(values[2]) * stride / 2, np.exp(values[3]) * stride / 2)
                box = (
                    centre[0] - half[0], centre[1] - half[1],
                    centre[0] + half[0], centre[1] + half[1],
                )  # fmt: skip
                candidates.append((float(score), label, tuple(float(edge) for edge in box)))
    candidates.sort(key=lambda item: -item[0])  # stable: of equal scores the earlier cell
    kept: list[tuple[float, int, tuple[float, ...]]] = []
    for item in candidates:
        rivals = [other for other in kept if other[1] == item[1]]
        if all(overlap(item[2], other[2]) <= iou_threshold for other in rivals):
            kept.append(item)
    return kept


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Intersection over union of two boxes."""
    across = min(a[2], b[2]) - max(a[0], b[0])
    down = min(a[3], b[3]) - max(a[1], b[1])
    if across <= 0 or down <= 0:
        return 0.0
    shared = across * down
    area_a, area_b = (a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1])
    return shared / (area_a + area_b - shared)
