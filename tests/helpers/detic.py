"""Weights, pictures and words, the same wherever they are drawn, and Detic's steps in torch."""

from __future__ import annotations

import dataclasses
import zlib

import numpy as np
import torch

from jetlift.export.recipes import detic
from jetlift.export.recipes.detic_modules import Detic, Masks, Proposals, Regions
from jetlift.runtime import boxes
from jetlift.runtime.preprocess import place, prepare_image
from jetlift.runtime.tasks import detic_boxes, open_detic
from jetlift.runtime.tasks.open_detect import on_picture


def seeded(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Weights by name, the same wherever drawn; the golden file of tests/data was made of them."""
    state = {}
    for name, shape in shapes.items():
        if name.endswith("relative_position_index"):
            continue
        values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
        values = values.astype(np.float32)
        if name.endswith("running_var"):
            values = 0.5 + np.abs(values)
        elif len(shape) > 1:
            values = values / np.sqrt(np.prod(shape[1:])) * 1.3
        elif name.endswith("weight") or "scale" in name:
            values = 1 + 0.1 * values
        else:
            values = 0.1 * values
        if name.endswith("centernet_head.bbox_pred.bias"):
            values = values + 2
        if name.endswith("bbox_pred.2.weight"):
            values = values * 2
        state[name] = values.astype(np.float32)
    return state


def picture(width: int, height: int, seed: int) -> np.ndarray:
    """Coloured squares of 16 pixels, uint8 [H, W, 3]."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (height // 16 + 1, width // 16 + 1, 3)).astype(np.uint8)
    return np.kron(small, np.ones((16, 16, 1), np.uint8))[:height, :width]


def words_of(count: int, width: int, seed: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def shapes_of(model: Detic) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def found_by_torch(
    model: Detic, size, image_bgr, words, threshold=detic.SCORE_THRESHOLD
) -> tuple[boxes.Boxes, list[np.ndarray]]:
    """The task's steps with torch modules in place of sessions."""
    facts = dataclasses.replace(detic.facts(size), score_threshold=threshold)
    spec = detic.preprocess(size)
    image_wh = (image_bgr.shape[1], image_bgr.shape[0])
    placement = place(image_wh, spec)
    picture_wh = np.array([placement.crop_xywh[2:]], np.float32)
    with torch.no_grad():
        outputs = Proposals(model)(torch.from_numpy(prepare_image(image_bgr, spec)))
        names = (*open_detic.LEVELS, open_detic.HEAT, open_detic.DISTANCES)
        seen = {name: value.numpy() for name, value in zip(names, outputs, strict=True)}
        proposed = open_detic.propose(seen, size.size_wh, facts.detic)
        given = (proposed.boxes_xyxy, words, picture_wh)
        scores, moved = Regions(model)(*outputs[:3], *map(torch.from_numpy, given))
        kept = detic_boxes.detections(
            scores.numpy(), moved.numpy(), proposed.scores, picture_wh[0], facts
        )
        shares = Masks(model)(*outputs[:3], torch.from_numpy(kept.boxes_xyxy)).numpy()
    on_image, real = on_picture(boxes.to_picture(kept.boxes_xyxy, placement), image_wh)
    kept = boxes.Boxes(on_image[real], kept.scores[real], kept.labels[real])
    pairs = zip(shares[real], kept.boxes_xyxy, strict=True)
    return kept, [detic_boxes.paste(mask, box, image_wh) for mask, box in pairs]
