"""Where camera poses come from: an orbit, a spiral, or a JSON file of poses.

A file is `transforms.json` as Blender's NeRF scenes and instant-ngp have it: `frames`, each with a
`transform_matrix` from camera to world (x right, y up, looking along -z), and one lens for all:
`camera_angle_x` in radians, or `fl_x`, `fl_y`, `cx`, `cy` in pixels with `w` and `h`.
https://github.com/NVlabs/instant-ngp/blob/master/docs/nerf_dataset_tips.md

Rules:
    O1  `orbit:N` and `spiral:N` are N poses about the scene's centre, at the distance of the
        cameras it learned from. They are a film of FPS. A file is one where it states `fps`, else
        its views are pictures.
    O2  A pose turns and moves and does nothing else: a matrix that scales or mirrors is refused.
    O3  Lens distortion is refused, not ignored.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.runtime import listing
from jetlift.runtime.closing import Closing
from jetlift.runtime.errors import InputError, UsageError
from jetlift.runtime.rays import orbit_pose

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from jetlift.runtime.listing import Skipped
    from jetlift.runtime.task_forms import Radiance

    Doubles = npt.NDArray[np.float64]

FPS = 30.0
DEFAULT_COUNT, MOST = 60, 100_000
_NAMED = re.compile(r"(orbit|spiral)(?::(\d{1,6}))?")
_SPIRAL_TURNS, _SPIRAL_DEG = 2, (10.0, 65.0)
_DISTORTIONS = ("k1", "k2", "k3", "k4", "p1", "p2")
_ORTHONORMAL = 1e-3
_EXPECTED = "A file in the layout of instant-ngp's transforms.json"


@dataclass(frozen=True)
class Lens:
    """A pinhole camera's inside.

    Attributes:
        size_wh: Width and height of its pictures in pixels.
        focal_px: Focal lengths along x and y in pixels.
        centre_px: The principal point.
    """

    size_wh: tuple[int, int]
    focal_px: tuple[float, float]
    centre_px: tuple[float, float]


@dataclass(frozen=True, eq=False)
class PoseItem:
    """One view to render.

    Attributes:
        source: `orbit`, `spiral`, or the file.
        index: Number of the view within its source, from 0.
        time_s: Its time in the film, or None where it is a picture by itself.
        camera_to_world: float64 [4, 4].
        lens: The camera, or None for that of the scene.
    """

    source: str
    index: int
    time_s: float | None
    camera_to_world: Doubles
    lens: Lens | None = None


@dataclass(frozen=True, eq=False)
class Capture:
    """Views with one lens.

    Attributes:
        files: The picture of each view, as the file names it; empty names where it names none.
        poses: float64 [4, 4] each, camera to world.
        size_wh: Stated size of the pictures, or None.
        focal_px: Stated focal lengths at that size, or None.
        centre_px: Stated principal point at that size, or None.
        angle_x: Stated angle of view across, in radians, or None.
        fps: Views per second, where they are a film.
    """

    files: tuple[str, ...]
    poses: tuple[Doubles, ...]
    size_wh: tuple[int, int] | None
    focal_px: tuple[float, float] | None
    centre_px: tuple[float, float] | None
    angle_x: float | None
    fps: float | None

    def lens(self, size_wh: tuple[int, int]) -> Lens:
        """The lens for pictures of this size."""
        if self.focal_px is None or self.size_wh is None:
            focal = 0.5 * size_wh[0] / math.tan(0.5 * (self.angle_x or 1.0))
            return Lens(size_wh, (focal, focal), (size_wh[0] / 2, size_wh[1] / 2))
        across, down = (size_wh[axis] / self.size_wh[axis] for axis in (0, 1))
        centre = self.centre_px or (self.size_wh[0] / 2, self.size_wh[1] / 2)
        focal_px = (self.focal_px[0] * across, self.focal_px[1] * down)
        return Lens(size_wh, focal_px, (centre[0] * across, centre[1] * down))


class PoseSource(Closing):
    """Views of the given paths in order.

    Attributes:
        count: Number of views.
        fps: Views per second where all of it is a film, else None.
        skipped: Empty: a path that cannot be read is refused when it is opened.
    """

    def __init__(self, paths: Sequence[_Path], limit: int | None) -> None:
        self._paths, self._limit = tuple(paths), limit
        total = sum(len(path.poses) for path in paths)
        self.count: int | None = total if limit is None else min(limit, total)
        rates = {path.fps for path in paths}
        self.fps = rates.pop() if len(rates) == 1 else None
        self.skipped: list[Skipped] = []

    def __iter__(self) -> Iterator[PoseItem]:
        every = (
            PoseItem(path.source, index, index / path.fps if path.fps else None, pose, path.lens)
            for path in self._paths
            for index, pose in enumerate(path.poses)
        )
        return islice(every, self._limit)

    def close(self) -> None:
        """Nothing is held open."""


@dataclass(frozen=True, eq=False)
class _Path:
    source: str
    poses: tuple[Doubles, ...]
    fps: float | None
    lens: Lens | None = None


def open_poses(inputs: Sequence[str], scene: Radiance, *, limit: int | None = None) -> PoseSource:
    """Open the views of a run (rules O1 to O3).

    Args:
        inputs: `orbit`, `orbit:N`, `spiral:N`, JSON files, folders or patterns of them.
        scene: What is looked at.
        limit: Stop after this many views.

    Raises:
        InputError: A file cannot be read or states no poses.
        UsageError: There are no inputs, or a number is out of its range.
    """
    if not inputs:
        raise UsageError("No input was named", expected="orbit, orbit:N, spiral:N or a JSON file")
    if limit is not None and limit < 1:
        raise UsageError(f"Got a limit of {limit} views", expected="At least 1")
    paths: list[_Path] = []
    for name in inputs:
        if match := _NAMED.fullmatch(name):
            paths.append(_named(match[1], int(match[2] or DEFAULT_COUNT), scene))
        else:
            found = listing.expand(
                name, what="JSON files of poses, or 'orbit:N' or 'spiral:N',",
                in_folder={".json"}, in_pattern={".json"},
            )  # fmt: skip
            paths += [_of_file(path, scene) for path in found]
    return PoseSource(paths, limit)


def _named(kind: str, count: int, scene: Radiance) -> _Path:
    if not 1 <= count <= MOST:
        raise UsageError(f"Got {kind}:{count}", expected=f"1 to {MOST} views")
    make = orbit if kind == "orbit" else spiral
    return _Path(kind, tuple(make(count, scene)), FPS)


def orbit(count: int, scene: Radiance) -> list[Doubles]:
    """Poses of one full turn at the training cameras' distance and height."""
    centre = np.array(scene.centre_xyz)
    around = (scene.orbit_radius, scene.orbit_elevation_deg)
    return [orbit_pose(index / count, centre, *around) for index in range(count)]


def spiral(count: int, scene: Radiance) -> list[Doubles]:
    """Poses of two turns that rise from 10 to 65 degrees above the horizon."""
    centre, (low, high) = np.array(scene.centre_xyz), _SPIRAL_DEG
    shares = [index / max(1, count - 1) for index in range(count)]
    return [
        orbit_pose(_SPIRAL_TURNS * s, centre, scene.orbit_radius, low + s * (high - low))
        for s in shares
    ]


def _of_file(path: Path, scene: Radiance) -> _Path:
    capture = read_capture(path, lens_needed=False)
    size_wh = capture.size_wh or (scene.size_wh[0], scene.size_wh[1])
    stated = capture.focal_px is not None or capture.angle_x is not None
    lens = capture.lens(size_wh) if stated else None
    return _Path(str(path), capture.poses, capture.fps, lens)


def read_capture(path: Path, *, lens_needed: bool = True) -> Capture:
    """Read a file of poses.

    Args:
        path: As in transforms.json.
        lens_needed: Refuse a file that states no lens.

    Raises:
        InputError: It cannot be read, or states what this cannot use (rules O2 and O3).
    """
    stated = _object(path)
    frames = stated.get("frames")
    if not isinstance(frames, list) or not frames or not all(isinstance(f, dict) for f in frames):
        raise InputError(f"{path} lists no frames", expected=_EXPECTED)
    _refuse_unusable(path, stated, frames)
    size = [_number(path, stated, key) for key in ("w", "h")]
    focal = _number(path, stated, "fl_x")
    angle, fps = _number(path, stated, "camera_angle_x"), _number(path, stated, "fps")
    if lens_needed and angle is None and (focal is None or None in size):
        raise InputError(f"{path} states no lens", expected="camera_angle_x, or fl_x with w and h")
    centre = (_number(path, stated, "cx"), _number(path, stated, "cy"))
    return Capture(
        files=tuple(str(frame.get("file_path", "")) for frame in frames),
        poses=tuple(_pose(path, index, frame) for index, frame in enumerate(frames)),
        size_wh=None if size[0] is None or size[1] is None else (int(size[0]), int(size[1])),
        focal_px=None if focal is None else (focal, _number(path, stated, "fl_y") or focal),
        centre_px=None if centre[0] is None or centre[1] is None else (centre[0], centre[1]),
        angle_x=angle,
        fps=fps,
    )


def write_poses(poses: Sequence[npt.NDArray[Any]], fps: float | None = None) -> str:
    """Poses as the text of such a file."""
    stated: dict[str, Any] = {} if fps is None else {"fps": fps}
    stated["frames"] = [{"transform_matrix": np.asarray(pose).tolist()} for pose in poses]
    return json.dumps(stated)


def _object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {error}", expected=_EXPECTED) from error
    if not isinstance(found, dict):
        raise InputError(f"{path} holds no JSON object", expected=_EXPECTED)
    return found


def _refuse_unusable(path: Path, stated: dict[str, Any], frames: list[dict[str, Any]]) -> None:
    bent = [key for key in _DISTORTIONS if stated.get(key)]
    if bent:  # O3
        raise InputError(
            f"{path} states lens distortion ({', '.join(bent)})",
            expected="Pictures without it",
            do="Undistort them first, for instance with COLMAP's image_undistorter",
        )
    if any("fl_x" in frame or "camera_angle_x" in frame for frame in frames):
        raise InputError(f"{path} has a lens for each frame", expected="One lens for all")


def _number(path: Path, stated: dict[str, Any], key: str) -> float | None:
    value = stated.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e6:
        raise InputError(f"{path} states {key} {value!r}", expected="A number above 0")
    return float(value)


def _pose(path: Path, index: int, frame: dict[str, Any]) -> Doubles:
    """A pose that only turns and moves (rule O2)."""
    where = f"Frame {index} of {path}"
    try:
        pose = np.array(frame.get("transform_matrix"), np.float64)
    except (TypeError, ValueError):
        pose = np.zeros(0)
    if pose.shape != (4, 4) or not np.isfinite(pose).all():
        raise InputError(f"{where} has no transform_matrix", expected="4 rows of 4 numbers")
    turn = pose[:3, :3]
    off = float(np.abs(turn.T @ turn - np.eye(3)).max())
    if off > _ORTHONORMAL or np.linalg.det(turn) < 0 or not np.allclose(pose[3], (0, 0, 0, 1)):
        raise InputError(
            f"{where} scales, shears or mirrors",
            expected="A matrix that turns and moves, its last row 0 0 0 1",
        )
    return pose


def about(poses: Sequence[Doubles]) -> tuple[Doubles, float, float]:
    """What cameras look at: the point nearest to all their axes, and how they stand around it.

    Returns:
        That point [3], their mean distance from it, and their mean height above the horizon in
        degrees. Cameras that all look the same way look at no point; the middle of those a unit
        before them stands in.
    """
    eyes = np.stack([pose[:3, 3] for pose in poses])
    ahead = np.stack([-pose[:3, 2] for pose in poses])
    across = np.eye(3) - ahead[:, :, None] * ahead[:, None, :]
    summed = across.sum(axis=0)
    if np.linalg.cond(summed) < 1e8:
        centre = np.linalg.solve(summed, (across @ eyes[:, :, None]).sum(axis=0)[:, 0])
    else:
        centre = (eyes + ahead).mean(axis=0)
    offset = eyes - centre
    radius = float(np.linalg.norm(offset, axis=1).mean())
    height = np.arctan2(offset[:, 2], np.linalg.norm(offset[:, :2], axis=1))
    return centre, radius, float(np.rad2deg(height).mean())
