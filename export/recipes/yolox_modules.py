"""YOLOX as a module that exports, with the names of the published checkpoints.

Ge et al., YOLOX: Exceeding YOLO Series in 2021, arXiv 2107.08430. Widths, depths and names are read
from Megvii-BaseDetection/YOLOX@main: yolox/models/network_blocks.py, darknet.py (CSPDarknet),
yolo_pafpn.py and yolo_head.py; the size of a batch normalisation's epsilon from
yolox/exp/yolox_base.py.

Rules:
    Y1  Every attribute bears the published name, so that a state dict fits as it is.
    Y2  The output is what runtime/boxes.py decodes (its rule X2): nothing is decoded here.
    Y3  Convolutions run in the order in which the repository's own module runs them: a graph that
        was exported from it lists its convolutions in the same order (yolox_folded.py).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

EPSILON = 1e-3
LEVELS = ("dark3", "dark4", "dark5")
_BASE_WIDTH, _HEAD_WIDTH = 64, 256


class ConvNorm(nn.Module):
    """Convolution with the same size at stride 1, batch normalisation, SiLU."""

    def __init__(self, wide_in: int, wide_out: int, size: int, stride: int, groups: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            wide_in, wide_out, size, stride, (size - 1) // 2, groups=groups, bias=False
        )
        self.bn = nn.BatchNorm2d(wide_out, eps=EPSILON)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, wide_in, H, W] -> [batch, wide_out, H / stride, W / stride]."""
        return functional.silu(self.bn(self.conv(x)))


class DepthwiseConv(nn.Module):
    """A convolution of each channel by itself, then one across channels."""

    def __init__(self, wide_in: int, wide_out: int, size: int, stride: int) -> None:
        super().__init__()
        self.dconv = ConvNorm(wide_in, wide_in, size, stride, groups=wide_in)
        self.pconv = ConvNorm(wide_in, wide_out, 1, 1, groups=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As ConvNorm."""
        answer: torch.Tensor = self.pconv(self.dconv(x))
        return answer


def pointwise(wide_in: int, wide_out: int) -> ConvNorm:
    """A convolution of single pixels."""
    return ConvNorm(wide_in, wide_out, 1, 1, groups=1)


def spatial(wide_in: int, wide_out: int, stride: int, *, depthwise: bool) -> nn.Module:
    """A convolution of 3x3 pixels, in the two forms that the sizes have."""
    if depthwise:
        return DepthwiseConv(wide_in, wide_out, 3, stride)
    return ConvNorm(wide_in, wide_out, 3, stride, groups=1)


class Bottleneck(nn.Module):
    """Two convolutions, with the input added where asked."""

    def __init__(self, width: int, *, added: bool, depthwise: bool) -> None:
        super().__init__()
        self.conv1 = pointwise(width, width)
        self.conv2 = spatial(width, width, 1, depthwise=depthwise)
        self._added = added

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, width, H, W] -> the same."""
        changed: torch.Tensor = self.conv2(self.conv1(x))
        return changed + x if self._added else changed


class CrossStage(nn.Module):
    """Two halves, of which one goes through bottlenecks, joined again."""

    def __init__(
        self, wide_in: int, wide_out: int, count: int, *, added: bool, depthwise: bool
    ) -> None:
        super().__init__()
        half = wide_out // 2
        self.conv1, self.conv2 = pointwise(wide_in, half), pointwise(wide_in, half)
        self.conv3 = pointwise(2 * half, wide_out)
        steps = (Bottleneck(half, added=added, depthwise=depthwise) for _ in range(count))
        self.m = nn.Sequential(*steps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, wide_in, H, W] -> [batch, wide_out, H, W]."""
        first, second = self.conv1(x), self.conv2(x)  # Y3
        answer: torch.Tensor = self.conv3(torch.cat((self.m(first), second), dim=1))
        return answer


class Pyramid(nn.Module):
    """Largest values around each pixel over 5, 9 and 13 pixels, beside the pixel itself."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.conv1, self.conv2 = pointwise(width, half), pointwise(4 * half, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, width, H, W] -> the same."""
        x = self.conv1(x)
        around = [functional.max_pool2d(x, size, 1, size // 2) for size in (5, 9, 13)]
        answer: torch.Tensor = self.conv2(torch.cat((x, *around), dim=1))
        return answer


class Focus(nn.Module):
    """Every second pixel of every second row becomes channels, four pictures of half the size."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = ConvNorm(12, width, 3, 1, groups=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, 3, H, W] -> [batch, width, H / 2, W / 2]."""
        quarters = [x[..., row::2, column::2] for column in (0, 1) for row in (0, 1)]
        answer: torch.Tensor = self.conv(torch.cat(quarters, dim=1))
        return answer


class Backbone(nn.Module):
    """CSPDarknet: a picture to features at strides 8, 16 and 32."""

    def __init__(self, depth: float, width: float, *, depthwise: bool) -> None:
        super().__init__()
        base, count = int(width * _BASE_WIDTH), max(round(depth * 3), 1)
        self.stem = Focus(base)
        for stage, repeats in enumerate((count, 3 * count, 3 * count, count), start=1):
            wide_in, wide_out = base * 2 ** (stage - 1), base * 2**stage
            last = stage == 4
            steps = [spatial(wide_in, wide_out, 2, depthwise=depthwise)]
            if last:
                steps.append(Pyramid(wide_out))
            steps.append(
                CrossStage(wide_out, wide_out, repeats, added=not last, depthwise=depthwise)
            )
            setattr(self, f"dark{stage + 1}", nn.Sequential(*steps))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """[batch, 3, H, W] -> features of LEVELS, the finest first."""
        x, found = self.stem(x), []
        for name in ("dark2", *LEVELS):
            x = getattr(self, name)(x)
            found.append(x)
        return found[1:]


class Neck(nn.Module):
    """PAFPN: coarse features go down to the fine ones, and what these learn goes up again."""

    def __init__(self, depth: float, width: float, *, depthwise: bool) -> None:
        super().__init__()
        fine, middle, coarse = (int(wide * width) for wide in (256, 512, 1024))
        self.backbone = Backbone(depth, width, depthwise=depthwise)

        def joined(wide_in: int, wide_out: int) -> CrossStage:
            return CrossStage(wide_in, wide_out, round(3 * depth), added=False, depthwise=depthwise)

        self.lateral_conv0 = pointwise(coarse, middle)
        self.C3_p4 = joined(2 * middle, middle)
        self.reduce_conv1 = pointwise(middle, fine)
        self.C3_p3 = joined(2 * fine, fine)
        self.bu_conv2 = spatial(fine, fine, 2, depthwise=depthwise)
        self.C3_n3 = joined(2 * fine, middle)
        self.bu_conv1 = spatial(middle, middle, 2, depthwise=depthwise)
        self.C3_n4 = joined(2 * middle, coarse)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """[batch, 3, H, W] -> features at strides 8, 16 and 32."""
        fine, middle, coarse = self.backbone(x)
        top = self.lateral_conv0(coarse)
        down = self.C3_p4(torch.cat((_doubled(top), middle), dim=1))
        centre = self.reduce_conv1(down)
        first = self.C3_p3(torch.cat((_doubled(centre), fine), dim=1))
        second = self.C3_n3(torch.cat((self.bu_conv2(first), centre), dim=1))
        third = self.C3_n4(torch.cat((self.bu_conv1(second), top), dim=1))
        return first, second, third


def _doubled(x: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")


class Head(nn.Module):
    """The decoupled head: per level one branch for classes, one for place and objectness."""

    def __init__(self, classes: int, width: float, *, depthwise: bool) -> None:
        super().__init__()
        wide = int(_HEAD_WIDTH * width)
        levels = [int(level * width) for level in (256, 512, 1024)]

        def branch() -> nn.Sequential:
            return nn.Sequential(*(spatial(wide, wide, 1, depthwise=depthwise) for _ in range(2)))

        self.cls_convs = nn.ModuleList(branch() for _ in levels)
        self.reg_convs = nn.ModuleList(branch() for _ in levels)
        self.cls_preds = nn.ModuleList(nn.Conv2d(wide, classes, 1) for _ in levels)
        self.reg_preds = nn.ModuleList(nn.Conv2d(wide, 4, 1) for _ in levels)
        self.obj_preds = nn.ModuleList(nn.Conv2d(wide, 1, 1) for _ in levels)
        self.stems = nn.ModuleList(pointwise(level, wide) for level in levels)

    def forward(self, features: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Features of the levels -> [batch, cells, 5 + classes] (rule Y2)."""
        rows = [self._level(level, x) for level, x in enumerate(features)]
        return torch.cat(rows, dim=2).permute(0, 2, 1)

    def _level(self, level: int, x: torch.Tensor) -> torch.Tensor:
        """One level, [batch, 5 + classes, cells] (rule Y3)."""
        x = self.stems[level](x)
        classes = self.cls_preds[level](self.cls_convs[level](x))
        seen = self.reg_convs[level](x)
        place, something = self.reg_preds[level](seen), self.obj_preds[level](seen)
        return torch.cat((place, something.sigmoid(), classes.sigmoid()), dim=1).flatten(2)


class Yolox(nn.Module):
    """BGR 0 to 255, [batch, 3, side, side] -> raw output [batch, cells, 5 + classes].

    Args:
        depth: Factor on the numbers of bottlenecks.
        width: Factor on the numbers of channels.
        depthwise: Whether convolutions of 3x3 are split in two, as in nano.
        classes: Number of classes.
    """

    def __init__(self, depth: float, width: float, *, depthwise: bool, classes: int) -> None:
        super().__init__()
        self.backbone = Neck(depth, width, depthwise=depthwise)
        self.head = Head(classes, width, depthwise=depthwise)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """See the class."""
        answer: torch.Tensor = self.head(self.backbone(images))
        return answer
