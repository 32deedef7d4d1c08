"""A synthetic scene with known cameras, ray-traced here, for radiance fields to be trained on.

Spheres, boxes and a checkered slab, lit by a small sun with a soft shadow and by the sky. Pictures
are RGBA PNG with a transparent background, and `transforms.json` states the cameras in the layout
that Blender's NeRF scenes and instant-ngp share (docs/nerf.md). Nothing is downloaded.

Rules:
    N1  The same arguments give the same pixels: rays and shadows have no draw of chance, the sun's
        points and the pixels' parts are on fixed grids.
    N2  A folder appears whole or not at all.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from jetlift.runtime import atomic
from jetlift.runtime.errors import UsageError
from jetlift.runtime.rays import camera_rays, look_at

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    Doubles = npt.NDArray[np.float64]
    Flags = npt.NDArray[np.bool_]

ANGLE_X = 0.6911112070083618  # Blender's lens of 50 mm on a sensor of 36 mm
RADIUS, TARGET = 3.8, (0.0, 0.0, 0.25)
_FAR = 1e9
_SUN = np.array([0.55, -0.35, 0.76]) / np.linalg.norm([0.55, -0.35, 0.76])
_SUN_SPREAD, _SUN_POINTS = 0.07, 5
_SKY, _DIRECT, _GLINT = 0.38, 0.72, 0.25
_BIAS = 1e-4


@dataclass(frozen=True)
class Sphere:
    """A ball; `stripes` bands of `other_rgb` run around it.

    Attributes:
        centre: Its middle.
        radius: Its radius.
        rgb: Colour, 0 to 1.
        other_rgb: Second colour.
        stripes: Bands per unit of height; 0 for none.
        shine: Share of the glint.
    """

    centre: tuple[float, float, float]
    radius: float
    rgb: tuple[float, float, float]
    other_rgb: tuple[float, float, float] = (1.0, 1.0, 1.0)
    stripes: float = 0.0
    shine: float = 1.0

    def hit(self, origins: Doubles, directions: Doubles) -> Doubles:
        """Distance to its surface [N], or _FAR."""
        offset = origins - np.array(self.centre)
        half = (offset * directions).sum(axis=1)
        inside = half**2 - (offset**2).sum(axis=1) + self.radius**2
        distance = -half - np.sqrt(np.maximum(inside, 0.0))
        return np.where((inside > 0) & (distance > _BIAS), distance, _FAR)

    def normal(self, points: Doubles) -> Doubles:
        """Outward normals [N, 3]."""
        return np.asarray((points - np.array(self.centre)) / self.radius)

    def colour(self, points: Doubles, _normals: Doubles) -> Doubles:
        """Colours [N, 3]."""
        band = np.zeros(len(points), bool)
        if self.stripes:
            band = np.floor((points[:, 2] - self.centre[2]) * self.stripes) % 2 == 0
        return np.where(band[:, None], np.array(self.other_rgb), np.array(self.rgb))


@dataclass(frozen=True)
class Box:
    """A box along the axes, checkered where `checks` is above 0.

    Attributes:
        low: Its lowest corner.
        high: Its highest.
        rgb: Colour, 0 to 1.
        other_rgb: Second colour.
        checks: Checks per unit of length; 0 for none.
        shine: Share of the glint.
    """

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    rgb: tuple[float, float, float]
    other_rgb: tuple[float, float, float] = (1.0, 1.0, 1.0)
    checks: float = 0.0
    shine: float = 0.0

    def hit(self, origins: Doubles, directions: Doubles) -> Doubles:
        """Distance to its surface [N], or _FAR."""
        safe = np.where(np.abs(directions) < 1e-9, 1e-9, directions)
        one, other = (np.array(self.low) - origins) / safe, (np.array(self.high) - origins) / safe
        enter, leave = np.minimum(one, other).max(axis=1), np.maximum(one, other).min(axis=1)
        return np.where((leave > enter) & (enter > _BIAS), enter, _FAR)

    def normal(self, points: Doubles) -> Doubles:
        """Outward normals [N, 3]: the axis on whose face a point lies."""
        middle = (np.array(self.high) + np.array(self.low)) / 2
        half = (np.array(self.high) - np.array(self.low)) / 2
        offset = (points - middle) / half
        axis = np.abs(offset).argmax(axis=1)
        normals = np.zeros_like(points)
        rows = np.arange(len(points))
        normals[rows, axis] = np.sign(offset[rows, axis])
        return normals

    def colour(self, points: Doubles, normals: Doubles) -> Doubles:
        """Colours [N, 3]; checks are counted a little inside the surface."""
        odd = np.zeros(len(points), bool)
        if self.checks:
            odd = np.floor((points - 1e-3 * normals) * self.checks).sum(axis=1) % 2 == 1
        return np.where(odd[:, None], np.array(self.other_rgb), np.array(self.rgb))


SCENE: tuple[Sphere | Box, ...] = (
    Box((-1.1, -1.1, -0.1), (1.1, 1.1, 0.0), (0.86, 0.86, 0.82), (0.3, 0.34, 0.4), checks=2.5),
    Sphere((-0.42, -0.3, 0.36), 0.36, (0.85, 0.16, 0.13)),
    Sphere((0.5, 0.52, 0.28), 0.28, (0.12, 0.3, 0.75), (0.95, 0.8, 0.2), stripes=9.0, shine=0.5),
    Sphere((0.62, -0.62, 0.16), 0.16, (0.9, 0.55, 0.12)),
    Box((0.05, -0.35, 0.0), (0.5, 0.1, 0.45), (0.15, 0.6, 0.3), (0.75, 0.9, 0.5), checks=6.0),
    Box((-0.75, 0.35, 0.0), (-0.4, 0.75, 0.7), (0.55, 0.3, 0.65), (0.9, 0.85, 0.95), checks=4.0),
)


def cameras(count: int, radius: float = RADIUS) -> list[Doubles]:
    """Poses spread evenly over the upper hemisphere, from 8 to 70 degrees above the horizon.

    Turns go by the golden angle, heights by a van der Corput sequence, so that any run of them
    and every n-th of them is spread as well.
    """
    poses = []
    for index in range(count):
        around = index * np.pi * (3 - np.sqrt(5))
        sine = np.sin(np.deg2rad(8)) + _halves(index + 1) * np.sin(np.deg2rad(70)) * 0.85
        across = np.sqrt(1 - sine**2)
        outward = np.array([np.cos(around) * across, np.sin(around) * across, sine])
        poses.append(look_at(np.array(TARGET) + radius * outward, np.array(TARGET)))
    return poses


def _halves(number: int) -> float:
    """Van der Corput's sequence in base 2, 0 to 1."""
    share, part = 0.0, 0.5
    while number:
        share += part * (number % 2)
        number, part = number // 2, part / 2
    return share


def picture(pose: Doubles, size: int, *, parts: int = 2) -> npt.NDArray[np.uint8]:
    """One view, uint8 [size, size, 4] in BGRA, of parts x parts rays per pixel.

    Edge pixels hold the colour of what is seen in them and how much of them that is.
    """
    fine = size * parts
    focal = 0.5 * fine / np.tan(0.5 * ANGLE_X)
    origins, directions = camera_rays(pose, (fine, fine), focal)
    rgb, alpha = trace(origins.astype(np.float64), directions.astype(np.float64))
    blocks = (size, parts, size, parts)
    covered = alpha.reshape(blocks).mean(axis=(1, 3))
    seen = (rgb * alpha[:, None]).reshape(*blocks, 3).mean(axis=(1, 3))
    shown = np.concatenate([seen / np.maximum(covered, 1e-9)[..., None], covered[..., None]], -1)
    levels = np.rint(np.clip(shown, 0, 1) * 255).astype(np.uint8)
    return np.ascontiguousarray(levels[..., [2, 1, 0, 3]])


def trace(origins: Doubles, directions: Doubles) -> tuple[Doubles, Doubles]:
    """Colour [N, 3] and coverage [N] (0 or 1) along rays."""
    distances = np.stack([solid.hit(origins, directions) for solid in SCENE])
    nearest, distance = distances.argmin(axis=0), distances.min(axis=0)
    rgb, alpha = np.zeros_like(origins), (distance < _FAR).astype(np.float64)
    for number, solid in enumerate(SCENE):
        rows = (nearest == number) & (distance < _FAR)
        points = origins[rows] + distance[rows, None] * directions[rows]
        normals = solid.normal(points)
        rgb[rows] = _lit(solid, points, normals, directions[rows])
    return rgb, alpha


def _lit(solid: Sphere | Box, points: Doubles, normals: Doubles, directions: Doubles) -> Doubles:
    """Lambert's law under a sun with soft shadows, sky light that fades downward, and a glint."""
    start = points + _BIAS * 10 * normals
    sunlight = np.zeros(len(points))
    for towards in _sun_points():
        blocked = _blocked(start, np.broadcast_to(towards, points.shape))
        sunlight += np.where(blocked, 0.0, np.maximum((normals * towards).sum(axis=1), 0.0))
    sunlight /= len(_sun_points())
    sky = _SKY * (0.65 + 0.35 * normals[:, 2])
    colour = solid.colour(points, normals) * (sky + _DIRECT * sunlight)[:, None]
    mirrored = directions - 2 * (directions * normals).sum(axis=1, keepdims=True) * normals
    glint = np.maximum((mirrored * _SUN).sum(axis=1), 0.0) ** 24 * (sunlight > 0)
    return np.asarray(np.clip(colour + (_GLINT * solid.shine * glint)[:, None], 0.0, 1.0))


def _sun_points() -> list[Doubles]:
    side = np.cross(_SUN, [0.0, 0.0, 1.0])
    side = side / np.linalg.norm(side)
    other = np.cross(_SUN, side)
    spread = np.linspace(-_SUN_SPREAD, _SUN_SPREAD, _SUN_POINTS)
    points = [_SUN + a * side + b * other for a in spread for b in spread]
    return [point / np.linalg.norm(point) for point in points]


def _blocked(origins: Doubles, directions: Doubles) -> Flags:
    blocked = np.zeros(len(origins), bool)
    for solid in SCENE:
        blocked |= solid.hit(origins, directions) < _FAR
    return blocked


def write_scene(
    folder: Path, *, views: int, size: int, progress: Callable[[int], None] = lambda _done: None
) -> None:
    """Write pictures and transforms.json (rules N1 and N2).

    Raises:
        UsageError: Fewer views or pixels than anything could be learned from.
        InputError: The folder is there already.
    """
    if views < 2 or size < 8:
        raise UsageError(
            f"Got {views} views of {size} pixels", expected="At least 2 views of 8 pixels"
        )
    focal = 0.5 * size / float(np.tan(0.5 * ANGLE_X))
    frames = []
    with atomic.folder_aside(folder) as aside:
        (aside / "images").mkdir()
        for index, pose in enumerate(cameras(views)):
            name = f"images/r_{index:03d}.png"
            cv2.imwrite(str(aside / name), picture(pose, size))
            frames.append({"file_path": name, "transform_matrix": pose.tolist()})
            progress(index + 1)
        stated = {
            "camera_angle_x": ANGLE_X, "fl_x": focal, "fl_y": focal,
            "cx": size / 2, "cy": size / 2, "w": size, "h": size, "frames": frames,
        }  # fmt: skip
        (aside / "transforms.json").write_text(json.dumps(stated, indent=1), encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """The script."""
    parser = argparse.ArgumentParser(
        prog="python -m jetlift.export.scene", description="Write a synthetic scene to train on."
    )
    parser.add_argument("-o", "--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--views", type=int, default=60)
    parser.add_argument("--size", type=int, default=128, help="pixels per side")
    given = parser.parse_args(arguments)
    write_scene(given.out, views=given.views, size=given.size)


if __name__ == "__main__":
    main()
