"""Detic as modules that export: pyramid and proposals, cascade of box heads, masks.

Zhou et al., arXiv 2201.02605. The tree of modules has the names of the published checkpoint, as
read in these repositories, none of whose code is here:
    facebookresearch/Detic@436cda2: detic/modeling (backbones, roi_heads, configs/)
    xingyizhou/CenterNet2@bfc8b72: centernet/modeling/dense_heads (heat map, distances)
    facebookresearch/detectron2@02b5c4e: detectron2/modeling (FPN, poolers, heads)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from jetlift.export.recipes.detic_resnet_modules import Base
from jetlift.export.recipes.detic_roi_modules import BoxHead, MaskHead, Predictor, moved, pool
from jetlift.export.recipes.detic_sizes import ResNetSize
from jetlift.export.recipes.detic_swin_modules import Swin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jetlift.export.recipes.detic_sizes import Size, SwinSize

BOX_BINS, MASK_BINS = 7, 14
# MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS of detectron2's defaults: of centre and of size.
DELTA_WEIGHTS = ((10.0, 5.0), (20.0, 10.0), (30.0, 15.0))
_LEVELS = (3, 4, 5)
_GROUPS = 32
_HEAD_LEVELS = 5
_TOWER = 4


class TopBlock(nn.Module):
    """The two coarsest levels, made of the one before."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.p6 = nn.Conv2d(channels, channels, 3, 2, 1)
        self.p7 = nn.Conv2d(channels, channels, 3, 2, 1)

    def forward(self, coarsest: torch.Tensor) -> list[torch.Tensor]:
        """p5 -> p6, p7."""
        p6 = self.p6(coarsest)
        return [p6, self.p7(functional.relu(p6))]


class Pyramid(nn.Module):
    """Five levels of features of stride 8 to 128 (Lin et al., arXiv 1612.03144, with sums).

    Args:
        size: Which backbone, and how many channels the levels have.
    """

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.bottom_up = _backbone(size.backbone)
        for level, inputs in zip(_LEVELS, self.bottom_up.channels, strict=True):
            self.add_module(f"fpn_lateral{level}", nn.Conv2d(inputs, size.channels, 1))
            output = nn.Conv2d(size.channels, size.channels, 3, padding=1)
            self.add_module(f"fpn_output{level}", output)
        self.top_block = TopBlock(size.channels)

    def forward(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        """[1, 3, H, W] -> p3 to p7, float32 [1, C, H / stride, W / stride]."""
        levels: list[torch.Tensor] = []
        above: torch.Tensor | None = None
        for level, feature in reversed(list(zip(_LEVELS, self.bottom_up(pixels), strict=True))):
            lateral = self.get_submodule(f"fpn_lateral{level}")(feature)
            if above is not None:
                lateral = lateral + functional.interpolate(above, scale_factor=2.0, mode="nearest")
            above = lateral
            levels.insert(0, self.get_submodule(f"fpn_output{level}")(lateral))
        return [*levels, *self.top_block(levels[-1])]


def _backbone(size: ResNetSize | SwinSize) -> Base | Swin:
    if isinstance(size, ResNetSize):
        return Base(size.width, size.blocks)
    return Swin(size.width, size.depths, size.heads, size.window)


class Scale(nn.Module):
    """A learned factor."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Any shape."""
        return values * self.scale


class CentreHead(nn.Module):
    """Where objects' centres are, and how far their edges are from there."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(_TOWER):
            layers.append(nn.Conv2d(channels, channels, 3, padding=1))
            layers += [nn.GroupNorm(_GROUPS, channels), nn.ReLU()]
        self.bbox_tower = nn.Sequential(*layers)
        self.bbox_pred = nn.Conv2d(channels, 4, 3, padding=1)
        self.agn_hm = nn.Conv2d(channels, 1, 3, padding=1)
        self.scales = nn.ModuleList(Scale() for _ in range(_HEAD_LEVELS))

    def forward(self, levels: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """p3 to p7 -> heat [1, cells], 0 to 1, and distances [1, cells, 4] in cells."""
        heat, distances = [], []
        for feature, scale in zip(levels, self.scales, strict=True):
            tower = self.bbox_tower(feature)
            heat.append(torch.sigmoid(self.agn_hm(tower)).flatten(1))
            apart = functional.relu(scale(self.bbox_pred(tower)))
            distances.append(apart.flatten(2).transpose(1, 2))
        return torch.cat(heat, dim=1), torch.cat(distances, dim=1)


class _Generator(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.centernet_head = CentreHead(channels)


class _Heads(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        stages = range(len(DELTA_WEIGHTS))
        inputs = size.channels * BOX_BINS * BOX_BINS
        self.box_head = nn.ModuleList(BoxHead(inputs, size.hidden) for _ in stages)
        embedding = size.words.embedding
        self.box_predictor = nn.ModuleList(Predictor(size.hidden, embedding) for _ in stages)
        self.mask_head = MaskHead(size.channels, size.channels)


class Detic(nn.Module):
    """All that the published checkpoint holds, under its names."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.backbone = Pyramid(size)
        self.proposal_generator = _Generator(size.channels)
        self.roi_heads = _Heads(size)


class Proposals(nn.Module):
    """Picture [1, 3, H, W] -> p3, p4, p5, heat [1, cells], distances [1, cells, 4]."""

    def __init__(self, model: Detic) -> None:
        super().__init__()
        self.pyramid, self.head = model.backbone, model.proposal_generator.centernet_head

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """See the class."""
        levels = self.pyramid(pixel_values)
        heat, distances = self.head(levels)
        return (*levels[:3], heat, distances)


class Regions(nn.Module):
    """Three stages, each on the boxes of the one before, held to the picture between them.

    Detic@436cda2:detic/modeling/roi_heads/detic_roi_heads.py, _forward_box.
    """

    def __init__(self, model: Detic) -> None:
        super().__init__()
        self.heads = model.roi_heads.box_head
        self.predictors = model.roi_heads.box_predictor

    def forward(
        self,
        p3: torch.Tensor,
        p4: torch.Tensor,
        p5: torch.Tensor,
        boxes_xyxy: torch.Tensor,
        words: torch.Tensor,
        picture_wh: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Boxes [K, 4], words [prompts, D], picture [1, 2] -> scores [K, prompts], boxes [K, 4].

        Scores are the mean of the stages', 0 to 1; boxes are the last stage's, not cut.
        """
        limits = torch.cat([picture_wh, picture_wh], dim=1)
        boxes, total = boxes_xyxy, torch.zeros(())
        for stage, weights in enumerate(DELTA_WEIGHTS):
            if stage:
                boxes = torch.minimum(boxes.clamp(min=0), limits)
            hidden = self.heads[stage](pool((p3, p4, p5), boxes, BOX_BINS))
            logits, deltas = self.predictors[stage](hidden, words)
            total = total + torch.sigmoid(logits)
            boxes = moved(boxes, deltas, weights)
        return total / len(DELTA_WEIGHTS), boxes


class Masks(nn.Module):
    """Boxes [K, 4] -> share of each of 28x28 places that is object, [K, 28, 28]."""

    def __init__(self, model: Detic) -> None:
        super().__init__()
        self.head = model.roi_heads.mask_head

    def forward(
        self,
        p3: torch.Tensor,
        p4: torch.Tensor,
        p5: torch.Tensor,
        boxes_xyxy: torch.Tensor,
    ) -> torch.Tensor:
        """See the class."""
        return torch.sigmoid(self.head(pool((p3, p4, p5), boxes_xyxy, MASK_BINS)))[:, 0]
