"""Cameras and rays: where views look, what rays cross, and how samples along a ray become colour.

Frame of reference: the world is right-handed with z up. A camera looks along its own -z, with x to
the right and y up, as Blender, OpenGL and instant-ngp's transforms.json have it.

Rules:
    Y1  A direction has length 1, so that distances along a ray are distances in the world.
    Y2  A pixel's ray goes through the middle of the pixel.
    Y3  Weights along a ray are those of Max, Optical models for direct volume rendering (1995), as
        Mildenhall et al., arXiv 2003.08934, equation 3, have them: w_i = T_i (1 - exp(-s_i d)),
        T_i = exp(-sum over j < i of s_j d). They are never negative and sum to 1 at most.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]
    Doubles = npt.NDArray[np.float64]
    Floats = npt.NDArray[np.float32]

# Below this opacity a depth falls to 0: it would be a quotient of two roundings.
FAINT = 0.05
_SMALLEST = 1e-6  # of a direction's component, so that no distance is infinite


def look_at(
    eye_xyz: Array, target_xyz: Array, up_xyz: tuple[float, float, float] = (0.0, 0.0, 1.0)
) -> Doubles:
    """The pose of a camera at one point that looks at another.

    Looking straight along `up_xyz`, the picture's top is at +y instead. A camera at its very target
    looks down.

    Returns:
        float64 [4, 4], camera to world.
    """
    eye = np.asarray(eye_xyz, np.float64)
    back = eye - np.asarray(target_xyz, np.float64)
    away = float(np.linalg.norm(back))
    back = back / away if away > _SMALLEST else np.array([0.0, 0.0, 1.0])
    right = np.cross(np.asarray(up_xyz, np.float64), back)
    if np.linalg.norm(right) < _SMALLEST:
        right = np.cross(np.array([0.0, 1.0, 0.0]), back)
    right = right / np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2], pose[:3, 3] = right, np.cross(back, right), back, eye
    return pose


def orbit_pose(turn: float, centre_xyz: Array, radius: float, elevation_deg: float) -> Doubles:
    """A camera on a circle around a centre that it looks at.

    Args:
        turn: Share of a full turn, counted from +x towards +y.
        centre_xyz: What is looked at.
        radius: Distance from it.
        elevation_deg: How far above the horizon the camera stands.

    Returns:
        float64 [4, 4], camera to world.
    """
    around, above = 2 * np.pi * turn, np.deg2rad(elevation_deg)
    outward = np.array(
        [np.cos(around) * np.cos(above), np.sin(around) * np.cos(above), np.sin(above)]
    )
    centre = np.asarray(centre_xyz, np.float64)
    return look_at(centre + radius * outward, centre)


def camera_rays(
    camera_to_world: Array,
    size_wh: tuple[int, int],
    focal_px: float | tuple[float, float],
    centre_px: tuple[float, float] | None = None,
) -> tuple[Floats, Floats]:
    """The rays of a pinhole camera's pixels, row by row (rules Y1 and Y2).

    Args:
        camera_to_world: [4, 4].
        size_wh: Width and height of the picture in pixels.
        focal_px: Focal length in pixels, of both axes or of each.
        centre_px: The principal point; None is the picture's middle.

    Returns:
        Origins and directions, float32 [H * W, 3] each.
    """
    width, height = size_wh
    x0, y0 = centre_px or (width / 2, height / 2)
    along, down = focal_px if isinstance(focal_px, tuple) else (focal_px, focal_px)
    x, y = np.meshgrid((np.arange(width) + 0.5 - x0), (np.arange(height) + 0.5 - y0))
    seen = np.stack([x / along, -y / down, -np.ones_like(x)], axis=-1).reshape(-1, 3)
    pose = np.asarray(camera_to_world, np.float64)
    directions = seen @ pose[:3, :3].T
    directions = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    origins = np.broadcast_to(pose[:3, 3], directions.shape)
    return np.ascontiguousarray(origins, np.float32), directions.astype(np.float32)


def crossings(
    origins: Array, directions: Array, low_xyz: Array, high_xyz: Array, near: float
) -> tuple[Floats, Floats]:
    """Where rays enter and leave a box (slab method; Kay and Kajiya, 1986).

    Args:
        origins: [N, 3].
        directions: [N, 3].
        low_xyz: The box's lowest corner.
        high_xyz: Its highest.
        near: Nothing nearer than this counts.

    Returns:
        Distances, float32 [N] each. A ray that misses leaves where it enters.
    """
    tiny = np.where(directions < 0, -_SMALLEST, _SMALLEST)
    safe = np.where(np.abs(directions) < _SMALLEST, tiny, directions)
    one = (np.asarray(low_xyz) - origins) / safe
    other = (np.asarray(high_xyz) - origins) / safe
    enter = np.maximum(np.minimum(one, other).max(axis=1), near)
    leave = np.maximum(np.maximum(one, other).min(axis=1), enter)
    return enter.astype(np.float32), leave.astype(np.float32)


def weights_along(density: Array, step: Array) -> Doubles:
    """How much each sample of a ray is seen (rule Y3).

    Args:
        density: Per unit of length, 0 or more, [N, samples].
        step: Length that a sample stands for, [N].

    Returns:
        float64 [N, samples].
    """
    depth = np.asarray(density, np.float64) * np.asarray(step, np.float64)[:, None]
    before = np.cumsum(depth, axis=1) - depth
    return np.asarray(np.exp(-before) * -np.expm1(-depth))


def composite(
    weights: Array, colours: Array, distances: Array, background_rgb: Array
) -> tuple[Floats, Floats, Floats]:
    """Colour, depth and opacity of rays.

    Args:
        weights: [N, samples], of `weights_along`.
        colours: [N, samples, 3], 0 to 1.
        distances: [N, samples], of the samples from the ray's origin.
        background_rgb: What is seen where nothing is.

    Returns:
        Colour [N, 3], depth [N] as the mean distance of what is seen (falling to 0 where less
        than FAINT is), and opacity [N], float32.
    """
    opacity = weights.sum(axis=1)
    seen = (weights[..., None] * colours).sum(axis=1)
    rgb = seen + (1 - opacity)[:, None] * np.asarray(background_rgb)
    depth = (weights * distances).sum(axis=1) / np.maximum(opacity, FAINT)
    return rgb.astype(np.float32), depth.astype(np.float32), opacity.astype(np.float32)
