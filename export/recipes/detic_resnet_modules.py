"""ResNet-50 as Detic uses it: three levels of features, names as in the published checkpoint.

Architecture: He et al., arXiv 1512.03385, with the stride in the 3x3 convolution (timm's and
torchvision's `resnet50`). Which levels leave it, and that its norms are frozen, is read in
facebookresearch/Detic@436cda2:detic/modeling/backbone/timm.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

_GROWTH = 4  # a block's output is so many times as wide as its middle


class FrozenNorm(nn.Module):
    """Batch normalisation by stored statistics, eps 1e-5; exporters fold it into a convolution.

    Args:
        channels: Number of channels.
    """

    running_mean: torch.Tensor
    running_var: torch.Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = (nn.Parameter(torch.ones(channels)) for _ in range(2))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """[N, C, H, W] -> the same shape."""
        return functional.batch_norm(
            values, self.running_mean, self.running_var, self.weight, self.bias, eps=1e-5
        )


class Bottleneck(nn.Module):
    """Convolutions of 1x1, 3x3, 1x1 beside a shortcut.

    Args:
        inputs: Channels that come in.
        width: Channels of the middle.
        stride: Of the middle and of the shortcut.
        downsample: Whether the shortcut has a convolution.
    """

    def __init__(self, inputs: int, width: int, stride: int, *, downsample: bool) -> None:
        super().__init__()
        outputs = width * _GROWTH
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = FrozenNorm(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = FrozenNorm(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = FrozenNorm(outputs)
        self.downsample = (
            nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), FrozenNorm(outputs))
            if downsample
            else nn.Identity()
        )

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """[N, inputs, H, W] -> [N, 4 * width, H / stride, W / stride]."""
        inner = functional.relu(self.bn1(self.conv1(values)))
        inner = functional.relu(self.bn2(self.conv2(inner)))
        shortcut: torch.Tensor = self.downsample(values)
        return functional.relu(self.bn3(self.conv3(inner)) + shortcut)


class ResNet(nn.Module):
    """The whole network without its classifier.

    Args:
        width: Channels of the stem.
        blocks: Blocks per stage.
    """

    def __init__(self, width: int, blocks: Sequence[int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = FrozenNorm(width)
        inputs = width
        for stage, count in enumerate(blocks):
            middle = width * 2**stage
            layers = []
            for index in range(count):
                first = index == 0
                stride = 2 if first and stage else 1
                layers.append(Bottleneck(inputs, middle, stride, downsample=first))
                inputs = middle * _GROWTH
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layers))

    def forward(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        """[N, 3, H, W] -> features of stride 8, 16 and 32."""
        values = functional.relu(self.bn1(self.conv1(pixels)))
        values = functional.max_pool2d(values, 3, 2, 1)
        features = []
        for stage in range(1, 5):
            values = self.get_submodule(f"layer{stage}")(values)
            features.append(values)
        return features[1:]


class Base(nn.Module):
    """The network under the name that it has in the checkpoint, `base`.

    Args:
        width: Channels of the stem.
        blocks: Blocks per stage.
    """

    def __init__(self, width: int, blocks: Sequence[int]) -> None:
        super().__init__()
        self.base = ResNet(width, blocks)
        self.channels = tuple(width * _GROWTH * 2**stage for stage in (1, 2, 3))

    def forward(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        """[N, 3, H, W] -> features of stride 8, 16 and 32."""
        features: list[torch.Tensor] = self.base(pixels)
        return features
