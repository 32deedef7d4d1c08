"""Trains a radiance field on rays of pictures: one step after another, to be gone on with later.

Rules:
    U1  Every draw of step n comes from a generator seeded with the seed and n, so a run that was
        stopped and gone on with does what it would have done.
    U2  Where pictures have alpha, each ray is shown on a random background of its own, so that
        what is empty must become empty and not background-coloured (Mueller et al., arXiv
        2201.05989, appendix E.3).
    U3  Samples in cells that an occupancy grid knows to be empty are not computed. The grid holds
        a falling maximum of the densities met, as there (appendix C); before WARM steps every
        cell counts as occupied. Rays march through the occupied cells' box alone.
    U4  The number of rays of a step follows from how many samples the last rays needed.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from jetlift.export.radiance_modules import Network, RaysPart, weights_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jetlift.export.radiance import FieldConfig
    from jetlift.runtime.task_forms import Radiance

GRID = 48
WARM, EVERY, FADE = 64, 16, 0.8
_WARM_RAYS = 192
_PROBED = 8  # the share of cells looked at each time is one in so many
_EMPTY_ALPHA = 0.02
_POINTS, _FEWEST_RAYS, _MOST_RAYS = 12_000, 256, 4096
_LARGEST_STEP = 2**20


@dataclass(frozen=True, eq=False)
class Rays:
    """Rays and what is seen along them.

    Attributes:
        origins: float32 [M, 3].
        directions: float32 [M, 3].
        rgba: float32 [M, 4], not premultiplied.
        has_alpha: Whether any is transparent.
    """

    origins: torch.Tensor
    directions: torch.Tensor
    rgba: torch.Tensor
    has_alpha: bool


@dataclass(frozen=True)
class Pace:
    """How a run learns.

    Attributes:
        steps: Steps of the whole run.
        rate: First learning rate; it falls to a thirtieth along a cosine.
        points: Samples computed per step, about.
    """

    steps: int
    rate: float = 2e-2
    points: int = _POINTS


class Trainer:
    """A network, its optimiser and its occupancy grid.

    Args:
        config: The network.
        scene: The scene; its march box is narrowed as the grid empties.
        seed: Of every draw.
        pace: How to learn.
    """

    def __init__(self, config: FieldConfig, scene: Radiance, seed: int, pace: Pace) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = Network(config)
        self.scene, self.seed, self.pace, self.step = scene, seed, pace, 0
        self.adam = torch.optim.Adam(self.network.parameters(), lr=pace.rate, eps=1e-12)
        self.seen = torch.full((GRID, GRID, GRID), 1e3)
        self._rays = _WARM_RAYS
        self._part = RaysPart(self.network, scene)

    def advance(self, rays: Rays) -> float:
        """One step; the mean square error of its rays."""
        with _repeatable():
            return self._advance(rays)

    def _advance(self, rays: Rays) -> float:
        draw = torch.Generator().manual_seed(self.seed * _LARGEST_STEP + self.step)
        for group in self.adam.param_groups:
            group["lr"] = self._rate()
        chosen = torch.randint(len(rays.origins), (self._rays,), generator=draw)
        rgb, opacity, points = self._march(rays.origins[chosen], rays.directions[chosen], draw)
        rgba = rays.rgba[chosen]
        background = torch.tensor(self.scene.background_rgb).expand(len(rgba), 3)
        if rays.has_alpha:  # U2
            background = torch.rand((len(rgba), 3), generator=draw)
        wanted = rgba[:, :3] * rgba[:, 3:] + (1 - rgba[:, 3:]) * background
        error = (rgb + (1 - opacity)[:, None] * background - wanted).square().mean()
        self.adam.zero_grad(set_to_none=True)
        error.backward()  # type: ignore[no-untyped-call]  # torch ships no types for it
        self.adam.step()
        self.step += 1
        if self.step > WARM:  # U4
            wanted_rays = int(self.pace.points * len(rgb) / max(points, 1))
            self._rays = min(max(wanted_rays, _FEWEST_RAYS), _MOST_RAYS)
        if self.step % EVERY == 0:
            self._look_around(draw)
        return float(error.detach())

    def kept_state(self) -> dict[str, torch.Tensor]:
        """Everything a run needs to go on, by name."""
        state = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        for number, moments in self.adam.state_dict()["state"].items():
            state |= {f"adam.{number}.{name}": value for name, value in moments.items()}
        return state | {"seen": self.seen, "rays": torch.tensor(self._rays)}

    def restore(self, state: dict[str, torch.Tensor], scene: Radiance, step: int) -> None:
        """Go on from `kept_state` (rule U1)."""
        pairs = [name.split(".", 1) for name in state if name.startswith("network.")]
        self.network.load_state_dict({name: state[f"network.{name}"] for _, name in pairs})
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in state.items():
            if name.startswith("adam."):
                _, number, kind = name.split(".")
                moments.setdefault(int(number), {})[kind] = value
        groups = self.adam.state_dict()["param_groups"]
        self.adam.load_state_dict({"state": moments, "param_groups": groups})
        self.seen, self._rays = state["seen"].clone(), int(state["rays"])
        self.scene, self.step = scene, step
        self._part = RaysPart(self.network, scene)

    def occupied(self) -> torch.Tensor:
        """Bool [GRID, GRID, GRID], x first, over the scene's box (rule U3)."""
        if self.step < WARM:
            return torch.ones_like(self.seen, dtype=torch.bool)
        length = 2 * math.sqrt(sum(half**2 for half in self.scene.half_xyz)) / self.scene.samples
        return self.seen * length / 2 > _EMPTY_ALPHA

    def _rate(self) -> float:
        done = self.step / self.pace.steps
        return self.pace.rate * (1 / 30 + (1 - 1 / 30) * 0.5 * (1 + math.cos(math.pi * done)))

    def _march(
        self, origins: torch.Tensor, directions: torch.Tensor, draw: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor, int]:
        """Colour without background [R, 3], opacity [R], and how many samples were computed."""
        part, count = self._part, self.scene.samples
        enter, leave = part.crossings(origins, directions)
        places = (torch.arange(count) + torch.rand((len(origins), count), generator=draw)) / count
        distances = enter[:, None] + places * (leave - enter)[:, None]
        points = origins[:, None] + distances[:, :, None] * directions[:, None]
        inside = part.inside(points)
        needed = self._needed(inside) & (leave > enter)[:, None]
        looked = self.network.looked(directions)
        density, geometry = self.network.solid(inside[needed])
        coloured = self.network.colour(geometry, looked[needed.nonzero()[:, 0]])
        depths = torch.zeros_like(places)
        depths[needed] = density * ((leave - enter) / count)[:, None].expand_as(places)[needed]
        weights = weights_of(depths)
        rows = needed.nonzero()[:, 0]
        rgb = torch.zeros_like(origins).index_add(0, rows, weights[needed][:, None] * coloured)
        return rgb, weights.sum(dim=1), len(rows)

    def _needed(self, inside: torch.Tensor) -> torch.Tensor:
        cells = ((inside * 0.5 + 0.5) * GRID).long().clamp(0, GRID - 1)
        return self.occupied()[cells[..., 0], cells[..., 1], cells[..., 2]]

    @torch.no_grad()
    def _look_around(self, draw: torch.Generator) -> None:
        """Look at some cells at a random point in each, half of them occupied ones (rule U3)."""
        flat = self.seen.view(-1)
        count = flat.numel() // _PROBED
        full = self.occupied().view(-1).nonzero()[:, 0]
        cells = torch.randint(flat.numel(), (count,), generator=draw)
        if len(full):
            cells = torch.cat([cells, full[torch.randint(len(full), (count,), generator=draw)]])
        corner = torch.stack([cells // GRID**2, cells // GRID % GRID, cells % GRID], dim=1)
        places = (corner + torch.rand(corner.shape, generator=draw)) / GRID * 2 - 1
        density, _ = self.network.solid(places)
        if self.step == EVERY:
            flat.zero_()
        flat[cells] = torch.maximum(flat[cells] * FADE, density)
        if self.step >= WARM:
            self._narrow()

    def _narrow(self) -> None:
        """March through the box of the occupied cells, and one cell around them."""
        cells = self.occupied().nonzero()
        if not len(cells):
            return
        half, centre = torch.tensor(self.scene.half_xyz), torch.tensor(self.scene.centre_xyz)
        low = ((cells.amin(dim=0) - 1).clamp(min=0) / GRID * 2 - 1) * half + centre
        high = ((cells.amax(dim=0) + 2).clamp(max=GRID) / GRID * 2 - 1) * half + centre
        self.scene = replace(
            self.scene, march_low_xyz=tuple(low.tolist()), march_high_xyz=tuple(high.tolist())
        )
        self._part = RaysPart(self.network, self.scene)


@contextlib.contextmanager
def _repeatable() -> Iterator[None]:
    """Sums whose order no other thread decides, so that rule U1 holds to the last bit."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(mode=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(mode=before)


@torch.no_grad()
def rendered(
    network: Network, scene: Radiance, origins: torch.Tensor, directions: torch.Tensor,
    batch: int = 2048,
) -> torch.Tensor:  # fmt: skip
    """Colours [N, 3] as the exported part renders them."""
    part = RaysPart(network, scene).eval()
    rows = [
        part(origins[start : start + batch], directions[start : start + batch])[0]
        for start in range(0, len(origins), batch)
    ]
    return torch.cat(rows)
