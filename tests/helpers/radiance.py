"""A scene whose views can be said in advance: an opaque ball of one colour in a box."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.runtime.manifest import TensorSpec
from jetlift.runtime.rays import composite, crossings, weights_along
from jetlift.runtime.task_forms import Radiance

if TYPE_CHECKING:
    from collections.abc import Mapping

SCENE = Radiance(
    rays="rays", points="field", size_wh=(24, 16), focal_px=24.0, near=0.05,
    background_rgb=(1.0, 1.0, 1.0), centre_xyz=(0.1, -0.2, 0.3), half_xyz=(1.0, 1.0, 1.0),
    march_low_xyz=(-0.9, -1.2, -0.7), march_high_xyz=(1.1, 0.8, 1.3), samples=64,
    orbit_radius=3.0, orbit_elevation_deg=20.0,
)  # fmt: skip
BALL_RADIUS, BALL_RGB = 0.5, (0.2, 0.6, 0.8)


def ball(points: np.ndarray) -> np.ndarray:
    """Whether points [N, 3] are in the ball."""
    return np.linalg.norm(points - np.array(SCENE.centre_xyz), axis=-1) < BALL_RADIUS


class BallField:
    """A session of a part `field` whose density is that of the ball."""

    inputs = tuple(TensorSpec(n, "float32", ("points", 3)) for n in ("points", "directions"))

    def __init__(self) -> None:
        self.asked: list[int] = []

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        points = feeds["points"]
        self.asked.append(len(points))
        density = np.where(ball(points), 1000.0, 0.0).astype(np.float32)
        return {"density": density, "colour": np.tile(np.float32(BALL_RGB), (len(points), 1))}


class BallRays:
    """A session of a part `rays` of the same scene."""

    inputs = tuple(TensorSpec(n, "float32", ("rays", 3)) for n in ("origins", "directions"))

    def __init__(self) -> None:
        self.asked: list[int] = []

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        origins, directions = feeds["origins"], feeds["directions"]
        self.asked.append(len(origins))
        box = (np.array(SCENE.march_low_xyz), np.array(SCENE.march_high_xyz))
        enter, leave = crossings(origins, directions, *box, SCENE.near)
        middles = (np.arange(SCENE.samples) + 0.5) / SCENE.samples
        distances = enter[:, None] + middles * (leave - enter)[:, None]
        points = origins[:, None] + distances[..., None] * directions[:, None]
        weights = weights_along(ball(points) * 1000.0, (leave - enter) / SCENE.samples)
        colours = np.broadcast_to(np.array(BALL_RGB), points.shape)
        rgb, depth, opacity = composite(weights, colours, distances, np.ones(3))
        return {"rgb": rgb, "depth": depth, "opacity": opacity}
