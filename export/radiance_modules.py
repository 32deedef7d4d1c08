"""A radiance field and its ray march as modules that export.

Rules:
    G1  The network sees points in the scene's box as -1 to 1 on each axis, so that 16 bits and
        8 bits are spent on the scene and not on where it lies.
    G2  Samples along a ray are at the middles of equal pieces of its way through the march box, so
        their number is fixed and the whole march is one graph without a loop or a branch.
    G3  What depends on the direction alone is computed once per ray, not once per sample.
    G4  In the graph channels come first, as planes are read, and layers are 1 x 1 convolutions:
        no transpose lies between reading and adding up, and every layer can be quantised. Training
        computes scattered points, so there the same layers are plain products.
    G5  Densities are exp of at most MOST, so that no product overflows 16 bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from jetlift.runtime.rays import FAINT

if TYPE_CHECKING:
    from jetlift.export.radiance import FieldConfig
    from jetlift.runtime.task_forms import Radiance

MOST = 7.0  # density 1097 per unit of length: a tenth of a percent passes 0.0063
_DEEPEST = 30.0  # optical depth of one sample; e^-30 of the light passes
_SMALLEST = 1e-6
_PRIMES = (1, 2_654_435_761, 805_459_861)  # Mueller et al., arXiv 2201.05989, section 3
_DIRECTIONS = 8
_THIN = -1.5  # log of the density before training: thin, so that what is empty soon counts so


class Planes(nn.Module):
    """Points [P, 3] in -1..1 to features [P, channels * resolutions] (K-Planes without time).

    Of each resolution the planes xy, xz and yz are read bilinearly and multiplied.
    """

    def __init__(self, resolutions: tuple[int, ...], channels: int) -> None:
        super().__init__()
        self.size = channels * len(resolutions)
        self.planes = nn.ParameterList(
            [nn.Parameter(torch.empty(3, channels, side, side)) for side in resolutions]
        )
        for plane in self.planes:
            nn.init.uniform_(plane, 0.1, 0.9)

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return self.across(points[:, None])[0, :, :, 0].transpose(0, 1)

    def across(self, places: torch.Tensor) -> torch.Tensor:
        """Points [N, S, 3] to features [1, F, N, S]."""
        pairs = torch.stack([places[..., 0:2], places[..., 0:3:2], places[..., 1:3]])
        found = []
        for plane in self.planes:
            read = functional.grid_sample(
                plane, pairs, mode="bilinear", padding_mode="border", align_corners=True
            )
            found.append(read[0] * read[1] * read[2])
        return torch.cat(found, dim=0)[None]


class HashGrid(nn.Module):
    """Points [P, 3] in -1..1 to features [P, channels * levels].

    A level with few enough corners has a row for each; in others, corners share rows by a hash.
    """

    corners: torch.Tensor

    def __init__(self, resolutions: tuple[int, ...], channels: int, table_log2: int) -> None:
        super().__init__()
        self.size, self._sides, self._rows = channels * len(resolutions), resolutions, 2**table_log2
        self.tables = nn.ParameterList(
            [
                nn.Parameter(torch.empty(min((side + 1) ** 3, self._rows), channels))
                for side in resolutions
            ]
        )
        for table in self.tables:
            nn.init.uniform_(table, -0.1, 0.1)
        offsets = [[i & 1, i >> 1 & 1, i >> 2 & 1] for i in range(8)]
        self.register_buffer("corners", torch.tensor(offsets), persistent=False)

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        """See the class."""
        shares_of_box = points.clamp(-1, 1) * 0.5 + 0.5
        found = []
        for side, table in zip(self._sides, self.tables, strict=True):
            place = shares_of_box * side
            low = place.detach().floor().clamp(max=side - 1)
            part = place - low
            corners = low.to(torch.int64)[:, None] + self.corners
            shares = torch.where(self.corners > 0, part[:, None], 1 - part[:, None]).prod(dim=2)
            rows = functional.embedding(self._index(corners, side), table)
            found.append((rows * shares[:, :, None]).sum(dim=1))
        return torch.cat(found, dim=1)

    def _index(self, corners: torch.Tensor, side: int) -> torch.Tensor:
        x, y, z = corners.unbind(dim=-1)
        if (side + 1) ** 3 <= self._rows:
            return (x * (side + 1) + y) * (side + 1) + z
        hashed: torch.Tensor = (x ^ (y * _PRIMES[1]) ^ (z * _PRIMES[2])) % self._rows
        return hashed


class Positional(nn.Module):
    """Points [P, 3] in -1..1 to the point and its sines and cosines [P, 3 + 6 * octaves]."""

    octaves: torch.Tensor

    def __init__(self, octaves: int) -> None:
        super().__init__()
        self.size = 3 + 6 * octaves
        values = torch.tensor([2.0**i * np.pi / 2 for i in range(octaves)])
        self.register_buffer("octaves", values, persistent=False)

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        """See the class."""
        angles = (points[:, :, None] * self.octaves).flatten(1)
        return torch.cat([points, torch.sin(angles), torch.cos(angles)], dim=1)


def encoder_of(config: FieldConfig) -> Planes | HashGrid | Positional:
    """The encoding that a config names."""
    if config.encoding == "planes":
        return Planes(config.resolutions, config.channels)
    if config.encoding == "hash":
        return HashGrid(config.resolutions, config.channels, config.table_log2)
    return Positional(config.frequencies)


class Network(nn.Module):
    """Points in -1..1 and directions to density and colour."""

    def __init__(self, config: FieldConfig) -> None:
        super().__init__()
        self.encoder = encoder_of(config)
        widths = [self.encoder.size] + [config.hidden] * config.layers
        self.trunk = nn.ModuleList([nn.Linear(inside, config.hidden) for inside in widths[:-1]])
        self.shape = nn.Linear(config.hidden, 1 + config.geometry)
        with torch.no_grad():
            self.shape.bias[0] += _THIN
        self.seen = nn.Linear(config.geometry, config.hidden)
        self.turned = nn.Linear(_DIRECTIONS, config.hidden, bias=False)
        self.paint = nn.Linear(config.hidden, 3)

    def solid(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Points [P, 3] to density [P] and geometry features [P, G] (rule G5)."""
        hidden = self.encoder(points)
        for layer in self.trunk:
            hidden = functional.relu(layer(hidden))
        told = self.shape(hidden)
        return torch.exp(told[:, 0].clamp(max=MOST)), told[:, 1:]

    def looked(self, directions: torch.Tensor) -> torch.Tensor:
        """Directions [R, 3] to what colour's hidden layer gets of them, [R, hidden] (rule G3)."""
        x, y, z = directions[:, 0], directions[:, 1], directions[:, 2]
        terms = [x, y, z, x * y, y * z, x * z, x * x - y * y, 3 * z * z - 1]
        turned: torch.Tensor = self.turned(torch.stack(terms, dim=1))
        return turned

    def colour(self, geometry: torch.Tensor, looked: torch.Tensor) -> torch.Tensor:
        """Geometry features [..., G] and `looked` [..., hidden] to RGB, 0 to 1."""
        return torch.sigmoid(self.paint(functional.relu(self.seen(geometry) + looked)))

    def across(
        self, places: torch.Tensor, directions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The same for samples along rays, channels first (rule G4).

        Args:
            places: [N, S, 3] in -1..1.
            directions: [N, 3].

        Returns:
            Density [N, S] and RGB [3, N, S].
        """
        hidden = self._features(places)
        for layer in self.trunk:
            hidden = functional.relu(mixed(layer, hidden))
        told = mixed(self.shape, hidden)
        looked = self.looked(directions).transpose(0, 1)[None, :, :, None]
        hidden = functional.relu(mixed(self.seen, told[:, 1:]) + looked)
        return torch.exp(told[0, 0].clamp(max=MOST)), torch.sigmoid(mixed(self.paint, hidden))[0]

    def _features(self, places: torch.Tensor) -> torch.Tensor:
        if isinstance(self.encoder, Planes):
            return self.encoder.across(places)
        features: torch.Tensor = self.encoder(places.reshape(-1, 3))
        return features.reshape(*places.shape[:2], -1).permute(2, 0, 1)[None]


def mixed(layer: nn.Module, planes: torch.Tensor) -> torch.Tensor:
    """A linear layer over the channels of [1, C, N, S]."""
    weight = layer.get_parameter("weight")
    return functional.conv2d(planes, weight[:, :, None, None], layer.get_parameter("bias"))


class Scene(nn.Module):
    """A network and where its box lies in the world."""

    centre: torch.Tensor
    half_xyz: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor
    background: torch.Tensor

    def __init__(self, network: Network, facts: Radiance) -> None:
        super().__init__()
        self.network, self.samples, self.near = network, facts.samples, facts.near
        for name, values in (
            ("centre", facts.centre_xyz), ("half_xyz", facts.half_xyz),
            ("low", facts.march_low_xyz), ("high", facts.march_high_xyz),
            ("background", facts.background_rgb),
        ):  # fmt: skip
            self.register_buffer(name, torch.tensor(values), persistent=False)

    def inside(self, points: torch.Tensor) -> torch.Tensor:
        """World points [P, 3] as the network sees them (rule G1)."""
        return (points - self.centre) / self.half_xyz


class FieldPart(Scene):
    """Points and directions [P, 3] in the world to density [P] per unit and colour [P, 3]."""

    def forward(
        self, points: torch.Tensor, directions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See the class."""
        density, colour = self.network.across(self.inside(points)[:, None], directions)
        return density[:, 0], colour[:, :, 0].transpose(0, 1)


class RaysPart(Scene):
    """Rays [N, 3] to colour [N, 3], depth [N] and opacity [N] (rule G2; runtime/rays.py)."""

    shares: torch.Tensor

    def __init__(self, network: Network, facts: Radiance) -> None:
        super().__init__(network, facts)
        middles = (torch.arange(facts.samples) + 0.5) / facts.samples
        self.register_buffer("shares", middles, persistent=False)

    def crossings(
        self, origins: torch.Tensor, directions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Where rays enter and leave the march box, [N] each; the same where they miss it."""
        tiny = torch.where(directions < 0, -_SMALLEST, _SMALLEST)
        safe = torch.where(directions.abs() < _SMALLEST, tiny, directions)
        one, other = (self.low - origins) / safe, (self.high - origins) / safe
        enter = torch.minimum(one, other).amax(dim=1).clamp(min=self.near)
        return enter, torch.maximum(torch.maximum(one, other).amin(dim=1), enter)

    def forward(
        self, origins: torch.Tensor, directions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """See the class."""
        enter, leave = self.crossings(origins, directions)
        first = self.inside(origins + enter[:, None] * directions)
        way = self.inside(origins + leave[:, None] * directions) - first
        density, colour = self.network.across(
            first[:, None] + self.shares[:, None] * way[:, None], directions
        )
        step = (leave - enter) / self.samples
        weights = weights_of((density * step[:, None]).clamp(max=_DEEPEST))
        opacity = weights.sum(dim=1)
        rgb = (colour * weights).sum(dim=2).transpose(0, 1)
        share = (weights * self.shares).sum(dim=1) / opacity.clamp(min=FAINT)
        depth = enter * (opacity / opacity.clamp(min=FAINT)) + share * (leave - enter)
        return rgb + (1 - opacity)[:, None] * self.background, depth, opacity


def weights_of(depths: torch.Tensor) -> torch.Tensor:
    """Weights of samples from their optical depths, [N, samples] (runtime/rays.py, rule Y3)."""
    before = torch.cumsum(depths, dim=1) - depths
    return torch.exp(-before) * (1 - torch.exp(-depths))
