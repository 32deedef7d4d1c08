"""Swin Transformer as Detic uses it: three levels of features, names as in the checkpoint.

Liu et al., arXiv 2103.14030. What differs from the classifier of the paper is read in
facebookresearch/Detic@436cda2:detic/modeling/backbone/swintransformer.py:
    B1  A feature map is padded with zeros, right and below, to whole windows, behind the first
        norm of each block. Padding is attended to: only the shift has a mask, of -100.
    B2  Stages 1 to 3 (of 0 to 3) leave it, each through a norm of its own.
    B3  Sizes are fixed when the graph is made, so masks and places are constants.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

_MASKED = -100.0
_PATCH = 4


def relative_places(window: int) -> torch.Tensor:
    """Row of the bias table for each pair of a window's tokens, int64 [window^2, window^2]."""
    rows, columns = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
    tokens = torch.stack([rows.reshape(-1), columns.reshape(-1)])
    apart = tokens[:, :, None] - tokens[:, None, :] + window - 1
    return apart[0] * (2 * window - 1) + apart[1]


def into_windows(values: torch.Tensor, window: int) -> torch.Tensor:
    """[N, H, W, C] of whole windows -> [N * windows, window^2, C]."""
    batch, height, width, channels = values.shape
    cut = values.reshape(batch, height // window, window, width // window, window, channels)
    return cut.transpose(2, 3).reshape(-1, window * window, channels)


def shift_mask(height: int, width: int, window: int) -> torch.Tensor:
    """What is added to attention once the map is rolled: float32 [windows, window^2, window^2].

    Tokens of one window that come from different sides of the map do not see each other.
    """
    shift = window // 2

    def sides(length: int) -> torch.Tensor:
        place = torch.arange(length)
        return (place >= length - window).long() + (place >= length - shift).long()

    area = sides(height)[:, None] * 3 + sides(width)[None, :]
    areas = into_windows(area[None, :, :, None].float(), window)[..., 0]
    return (areas[:, None, :] != areas[:, :, None]).float() * _MASKED


class WindowAttention(nn.Module):
    """Attention among the tokens of each window, with a learned bias per relative place.

    Args:
        channels: Width of a token.
        heads: Number of heads.
        window: Side of a window in tokens.
    """

    relative_position_index: torch.Tensor

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (channels // heads) ** -0.5
        table = torch.zeros((2 * window - 1) ** 2, heads)
        self.relative_position_bias_table = nn.Parameter(table)
        self.register_buffer("relative_position_index", relative_places(window))
        self.qkv = nn.Linear(channels, channels * 3)
        self.proj = nn.Linear(channels, channels)

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """[windows, window^2, C], mask [windows, window^2, window^2] -> [windows, window^2, C]."""
        windows, count, channels = tokens.shape
        cut = (windows, count, 3, self.heads, channels // self.heads)
        query, key, value = self.qkv(tokens).reshape(cut).permute(2, 0, 3, 1, 4).unbind(0)
        bias = self.relative_position_bias_table[self.relative_position_index]
        scores = (query * self.scale) @ key.transpose(-2, -1) + bias.permute(2, 0, 1)
        if mask is not None:
            scores = scores + mask[:, None]
        mixed = torch.softmax(scores, dim=-1) @ value
        result: torch.Tensor = self.proj(mixed.transpose(1, 2).reshape(windows, count, channels))
        return result


class Mlp(nn.Module):
    """Two linears around an exact GELU; the middle is four times as wide."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, channels * 4)
        self.fc2 = nn.Linear(channels * 4, channels)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """[..., C] -> [..., C]."""
        result: torch.Tensor = self.fc2(functional.gelu(self.fc1(tokens)))
        return result


class Block(nn.Module):
    """Attention in windows and an MLP, each behind a norm.

    Args:
        channels: Width of a token.
        heads: Number of heads.
        window: Side of a window in tokens.
        shifted: Whether windows are half a window right and below.
    """

    def __init__(self, channels: int, heads: int, window: int, *, shifted: bool) -> None:
        super().__init__()
        self.window, self.shift = window, window // 2 if shifted else 0
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attn = WindowAttention(channels, heads, window)
        self.mlp = Mlp(channels)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """[1, H, W, C] -> the same shape."""
        values = values + self._attended(self.norm1(values))
        result: torch.Tensor = values + self.mlp(self.norm2(values))
        return result

    def _attended(self, values: torch.Tensor) -> torch.Tensor:
        height, width, channels = (int(size) for size in values.shape[1:])
        window, shift = self.window, self.shift
        below, right = -height % window, -width % window
        padded = functional.pad(values, (0, 0, 0, right, 0, below))  # B1
        rows, columns = (height + below) // window, (width + right) // window
        mask = shift_mask(height + below, width + right, window) if shift else None  # B3
        if shift:
            padded = padded.roll((-shift, -shift), (1, 2))
        mixed = self.attn(into_windows(padded, window), mask)
        whole = mixed.reshape(1, rows, columns, window, window, channels).transpose(2, 3)
        whole = whole.reshape(1, height + below, width + right, channels)
        if shift:
            whole = whole.roll((shift, shift), (1, 2))
        cut: torch.Tensor = whole[:, :height, :width]
        return cut


class Merge(nn.Module):
    """Four neighbours become one token, twice as wide."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels)
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """[1, H, W, C] -> [1, ceil(H / 2), ceil(W / 2), 2C]."""
        height, width = (int(size) for size in values.shape[1:3])
        values = functional.pad(values, (0, 0, 0, width % 2, 0, height % 2))
        corners = [values[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        result: torch.Tensor = self.reduction(self.norm(torch.cat(corners, dim=-1)))
        return result


class Stage(nn.Module):
    """Blocks, every second of them shifted, and what leads to the next stage."""

    def __init__(self, channels: int, depth: int, heads: int, window: int, *, last: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(channels, heads, window, shifted=index % 2 == 1) for index in range(depth)
        )
        self.downsample = nn.Identity() if last else Merge(channels)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """[1, H, W, C] -> the same shape, before it is merged."""
        for block in self.blocks:
            values = block(values)
        return values


class Patches(nn.Module):
    """Patches of 4x4 pixels as tokens."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, channels, _PATCH, _PATCH)
        self.norm = nn.LayerNorm(channels)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """[1, 3, H, W] -> [1, H / 4, W / 4, C]."""
        tokens: torch.Tensor = self.norm(self.proj(pixels).permute(0, 2, 3, 1))
        return tokens


class Swin(nn.Module):
    """The whole network.

    Args:
        width: Channels of the first stage.
        depths: Blocks per stage.
        heads: Heads per stage.
        window: Side of a window in tokens.
    """

    def __init__(
        self, width: int, depths: Sequence[int], heads: Sequence[int], window: int
    ) -> None:
        super().__init__()
        self.patch_embed = Patches(width)
        last = len(depths) - 1
        self.layers = nn.ModuleList(
            Stage(width * 2**stage, depth, heads[stage], window, last=stage == last)
            for stage, depth in enumerate(depths)
        )
        self.channels = tuple(width * 2**stage for stage in (1, 2, 3))
        for stage, channels in zip((1, 2, 3), self.channels, strict=True):
            self.add_module(f"norm{stage}", nn.LayerNorm(channels))

    def forward(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        """[1, 3, H, W] -> features of stride 8, 16 and 32, [1, C, H, W] (rule B2)."""
        values, features = self.patch_embed(pixels), []
        for stage, layer in enumerate(self.layers):
            values = layer(values)
            if stage:
                normed = self.get_submodule(f"norm{stage}")(values)
                features.append(normed.permute(0, 3, 1, 2))
            values = layer.get_submodule("downsample")(values)
        return features
