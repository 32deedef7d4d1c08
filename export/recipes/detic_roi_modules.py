"""Features of a region, and what Detic's heads make of them; names as in the checkpoint.

Rules:
    A1  RoIAlign in its aligned form with as many samples per bin as the region has pixels there
        (`sampling_ratio` 0): torchvision's csrc/ops/cpu/roi_align_kernel.cpp, which detectron2
        calls (facebookresearch/detectron2@02b5c4e:detectron2/layers/roi_align.py).
    A2  A bilinear sample is a product of one weight per axis, and bins are rectangles, so the whole
        pooling is two matrix products: rows [bins, H] times map [H, W] times columns [W, bins].
        The sum over samples of an axis is a sum of an arithmetic series between two grid lines,
        and needs no loop, however long a region is. ONNX's RoiAlign is a plugin in TensorRT that
        asks for a driver while it parses; products build everywhere.
    A3  A region is read from one level, by its size:
        floor(4 + log2(sqrt(area) / 224 + 1e-8)), held to 3..5
        (detectron2@02b5c4e:detectron2/modeling/poolers.py, assign_boxes_to_levels).
    A4  Deltas are those of R-CNN with weights per stage, log sizes held to log(1000 / 16)
        (detectron2@02b5c4e:detectron2/modeling/box_regression.py).
    A5  Classes are cosines times 50 with a row per word, then sigmoid
        (facebookresearch/Detic@436cda2:detic/modeling/roi_heads/zero_shot_classifier.py).
"""

from __future__ import annotations

import math
from functools import reduce
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

STRIDES = (8, 16, 32)
CANONICAL_PX = 224
TEMPERATURE = 50.0
LARGEST_LOG = math.log(1000 / 16)
_SHORTEST_STEP = 1e-6


def axis_weights(
    start: torch.Tensor, length: torch.Tensor, bins: int, sizes: Sequence[int]
) -> torch.Tensor:
    """How much each place of an axis counts in each bin of each region (rules A1 and A2).

    Samples x of a bin count as they would be read: none beyond -1 and the size, those beyond the
    first and the last place as these. With ramp(p) = sum of min(max(x - p, 0), 1), place p gets
    ramp(p - 1) - ramp(p). All axes are computed at once, as long as the longest.

    Args:
        start: float32 [A, K], where regions begin, in places; a place's own is its whole number.
        length: float32 [A, K], how long they are.
        bins: Number of bins.
        sizes: Number of places of each of the A axes.

    Returns:
        float32 [A, K, bins, longest]; 0 behind an axis' last place.
    """
    longest, limit = max(sizes), torch.tensor(sizes, dtype=torch.float32)[:, None, None, None]
    samples = torch.ceil(length / bins).clamp(min=0)[..., None, None]
    least_one = samples.clamp(min=1)
    width = (length / bins)[..., None, None]
    step = (width / least_one).clamp(min=_SHORTEST_STEP)
    first = start[..., None, None] + width * torch.arange(bins)[:, None] + step / 2
    places = torch.arange(longest + 1, dtype=torch.float32)
    lines = torch.where(places < limit, places, limit)
    before = torch.minimum((torch.floor((lines - first) / step) + 1).clamp(min=0), samples)
    outside = torch.minimum(torch.ceil((-1 - first) / step).clamp(min=0), samples)
    lower, upper, all_seen = before[..., :-1], before[..., 1:], before[..., -1:]
    middle = first + step * (lower + upper - 1) / 2 - places[:-1]
    inside = (places[:-1] < limit - 1).float()
    ramp = ((upper - lower) * middle + (all_seen - upper)) * inside
    ramps = torch.cat([all_seen - outside, ramp], dim=-1)
    return (ramps[..., :-1] - ramps[..., 1:]) / least_one


def level_shares(boxes_xyxy: torch.Tensor) -> list[torch.Tensor]:
    """1 on the level that a region is read from, 0 on the others: three of float32 [K] (A3)."""
    sides = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).clamp(min=0)
    # Root by root: an area in pixels is beyond 16 bits.
    size = sides[:, 0].sqrt() * sides[:, 1].sqrt() / CANONICAL_PX + 1e-8
    fine, coarse = (size < 1).float(), (size >= 2).float()
    return [fine, 1 - fine - coarse, coarse]


def pool(features: Sequence[torch.Tensor], boxes_xyxy: torch.Tensor, bins: int) -> torch.Tensor:
    """Features of regions (rules A1 to A3).

    Args:
        features: Levels of stride 8, 16 and 32, float32 [1, C, H, W].
        boxes_xyxy: float32 [K, 4] in the input's pixels.
        bins: Bins per axis.

    Returns:
        float32 [K, C, bins, bins].
    """
    down_across = [int(size) for feature in features for size in feature.shape[2:]]
    scaled = torch.stack([boxes_xyxy / stride for stride in STRIDES])  # [levels, K, 4]
    start = scaled[..., [1, 0]].transpose(1, 2).reshape(len(down_across), -1) - 0.5
    end = scaled[..., [3, 2]].transpose(1, 2).reshape(len(down_across), -1) - 0.5
    weights = axis_weights(start, end - start, bins, down_across)
    pooled = []
    for level, (feature, share) in enumerate(zip(features, level_shares(boxes_xyxy), strict=True)):
        channels, height, width = (int(size) for size in feature.shape[1:])
        down = weights[2 * level, ..., :height] * share[:, None, None]
        across = weights[2 * level + 1, ..., :width]
        columns = feature[0].permute(2, 1, 0).reshape(width, height * channels)
        mixed = (across.reshape(-1, width) @ columns).reshape(-1, bins, height, channels)
        pooled.append(down[:, None] @ mixed)  # [K, across, down, C]
    return reduce(torch.add, pooled).permute(0, 3, 2, 1)


def moved(
    boxes_xyxy: torch.Tensor, deltas: torch.Tensor, weights: tuple[float, float]
) -> torch.Tensor:
    """Boxes [K, 4] moved and resized by deltas [K, 4] (rule A4); weights of centre and size."""
    sides = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    centres = boxes_xyxy[:, :2] + sides * 0.5 + deltas[:, :2] / weights[0] * sides
    halves = torch.exp((deltas[:, 2:] / weights[1]).clamp(max=LARGEST_LOG)) * sides * 0.5
    return torch.cat([centres - halves, centres + halves], dim=1)


class BoxHead(nn.Module):
    """Two linears with ReLU on a region's features."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(inputs, width), nn.Linear(width, width)

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """[K, C, bins, bins] -> [K, width]."""
        hidden = functional.relu(self.fc1(pooled.flatten(1)))
        return functional.relu(self.fc2(hidden))


class Classifier(nn.Module):
    """Logit per word (rule A5)."""

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, embedding)

    def forward(self, hidden: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        """[K, width] and words [prompts, embedding] of length 1 -> [K, prompts]."""
        unit = functional.normalize(self.linear(hidden), dim=1)
        return TEMPERATURE * unit @ words.transpose(0, 1)


class Predictor(nn.Module):
    """Scores and deltas of one stage."""

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        self.cls_score = Classifier(width, embedding)
        self.bbox_pred = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 4))

    def forward(
        self, hidden: torch.Tensor, words: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """[K, width] -> logits [K, prompts], deltas [K, 4]."""
        return self.cls_score(hidden, words), self.bbox_pred(hidden)


class MaskHead(nn.Module):
    """Four convolutions, twice the size, one logit per place.

    detectron2@02b5c4e:detectron2/modeling/roi_heads/mask_head.py, MaskRCNNConvUpsampleHead.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        for index in range(4):
            convolution = nn.Conv2d(width if index else inputs, width, 3, padding=1)
            self.add_module(f"mask_fcn{index + 1}", convolution)
        self.deconv = nn.ConvTranspose2d(width, width, 2, 2)
        self.predictor = nn.Conv2d(width, 1, 1)

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """[K, C, bins, bins] -> [K, 1, 2 * bins, 2 * bins]."""
        for index in range(4):
            pooled = functional.relu(self.get_submodule(f"mask_fcn{index + 1}")(pooled))
        result: torch.Tensor = self.predictor(functional.relu(self.deconv(pooled)))
        return result
