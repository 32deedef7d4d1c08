"""Views of a radiance field from camera poses.

Fields: `camera_to_world` (4 rows of 4), `size_wh`, `focal_px`, `mean_depth` (over the pixels in
which something is seen; null where nothing is), `opacity` (mean), `engine_runs`. Arrays: `depth`,
the mean distance of what is seen along each pixel's ray, and `opacity`, float32 [H, W].

Rules:
    E1  Part `rays` marches inside the engine: a run takes BATCH rays at most, its pixels come out
        finished.
    E2  Part `field` is marched here: points in cells that the occupancy grid knows to be empty are
        not computed, and have density 0.
    E3  A view has MOST_PIXELS at most; a larger one is refused, not shrunk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.runtime.errors import ArtefactError, EngineLibraryError, InputError, UsageError
from jetlift.runtime.poses import Lens, PoseItem
from jetlift.runtime.rays import camera_rays, composite, crossings, weights_along
from jetlift.runtime.task_forms import PosePreprocess
from jetlift.runtime.tasks.base import Outcome, Task, place_of

if TYPE_CHECKING:
    import numpy.typing as npt

    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.session.base import Session
    from jetlift.runtime.task_forms import Radiance
    from jetlift.runtime.tasks.base import Item

    Floats = npt.NDArray[np.float32]

BATCH = 4096
MOST_PIXELS = 4096 * 4096
_SEEN = 0.5  # opacity from which a pixel counts as showing something
_DEEPEST = 30.0


@dataclass(frozen=True, eq=False)
class Rendered:
    """Pixels, flat.

    Attributes:
        rgb: float32 [N, 3], 0 to 1.
        depth: float32 [N].
        opacity: float32 [N].
        runs: Runs of the engine.
    """

    rgb: Floats
    depth: Floats
    opacity: Floats
    runs: int


class RayRenderer:
    """Renders rays with part `rays` (rule E1)."""

    def __init__(self, session: Session, spec: PosePreprocess) -> None:
        self._session, self._spec = session, spec

    def render(self, origins: Floats, directions: Floats) -> Rendered:
        """Pixels of rays [N, 3]."""
        rows: list[dict[str, Any]] = []
        for start in range(0, len(origins), BATCH):
            batch = slice(start, start + BATCH)
            feeds = {
                self._spec.positions: origins[batch],
                self._spec.directions: directions[batch],
            }
            rows.append(self._session.run(feeds))
        rgb, depth, opacity = (
            np.concatenate([row[name] for row in rows]) for name in ("rgb", "depth", "opacity")
        )
        return Rendered(rgb, depth, opacity, len(rows))


class PointRenderer:
    """Renders rays with part `field`, marching here (rule E2).

    Args:
        session: An engine of the part.
        spec: Its inputs.
        scene: The scene.
        occupied: bool [x, y, z] over the scene's box.
        most_points: Points that a run takes at most.
    """

    def __init__(
        self,
        session: Session,
        spec: PosePreprocess,
        scene: Radiance,
        occupied: npt.NDArray[np.bool_],
        most_points: int,
    ) -> None:
        self._session, self._spec, self._scene = session, spec, scene
        self._occupied, self._most_points = occupied, most_points

    def render(self, origins: Floats, directions: Floats) -> Rendered:
        """Pixels of rays [N, 3]."""
        done = [
            self._march(origins[start : start + BATCH], directions[start : start + BATCH])
            for start in range(0, len(origins), BATCH)
        ]
        rgb, depth, opacity = (
            np.concatenate([getattr(part, name) for part in done])
            for name in ("rgb", "depth", "opacity")
        )
        return Rendered(rgb, depth, opacity, sum(part.runs for part in done))

    def _march(self, origins: Floats, directions: Floats) -> Rendered:
        scene = self._scene
        box = (np.array(scene.march_low_xyz), np.array(scene.march_high_xyz))
        enter, leave = crossings(origins, directions, *box, scene.near)
        middles = (np.arange(scene.samples, dtype=np.float32) + np.float32(0.5)) / scene.samples
        distances = enter[:, None] + middles * (leave - enter)[:, None]
        points = origins[:, None] + distances[..., None] * directions[:, None]
        needed = self._is_occupied(points) & (leave > enter)[:, None]
        looked = directions[np.nonzero(needed)[0]]
        density, colour, runs = self._ask(points[needed].astype(np.float32), looked)
        step = (leave - enter) / scene.samples
        densities = np.zeros(distances.shape, np.float32)
        colours = np.zeros((*distances.shape, 3), np.float32)
        densities[needed], colours[needed] = density, colour
        deepest = _DEEPEST / np.maximum(step, 1e-12)
        weights = weights_along(np.minimum(densities, deepest[:, None]), step)
        seen = composite(weights, colours, distances, np.array(scene.background_rgb))
        return Rendered(*seen, runs)

    def _is_occupied(self, points: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        sides = np.array(self._occupied.shape)
        centre, half = np.array(self._scene.centre_xyz), np.array(self._scene.half_xyz)
        cells = (((points - centre) / half * 0.5 + 0.5) * sides).astype(np.int64)
        cells = np.clip(cells, 0, sides - 1)
        return np.asarray(self._occupied[cells[..., 0], cells[..., 1], cells[..., 2]])

    def _ask(self, points: Floats, directions: Floats) -> tuple[Floats, Floats, int]:
        if not len(points):
            return np.zeros(0, np.float32), np.zeros((0, 3), np.float32), 0
        rows = []
        for start in range(0, len(points), self._most_points):
            batch = slice(start, start + self._most_points)
            feeds = {self._spec.positions: points[batch], self._spec.directions: directions[batch]}
            rows.append(self._session.run(feeds))
        density, colour = (np.concatenate([row[n] for row in rows]) for n in ("density", "colour"))
        return density, colour, len(rows)


class RenderTask(Task):
    """One view per pose.

    Args:
        renderer: What renders rays.
        scene: The scene, and the camera where a pose names none.
    """

    name = "render"

    def __init__(self, renderer: RayRenderer | PointRenderer, scene: Radiance) -> None:
        self._renderer, self._scene = renderer, scene
        self._last: tuple[PoseItem, npt.NDArray[np.uint8]] | None = None

    def process(self, item: Item) -> Outcome:
        """Render one view; see Task.process."""
        if not isinstance(item, PoseItem):
            raise UsageError("Views are rendered from camera poses", expected="Such as orbit:60")
        lens = item.lens or self._lens()
        width, height = lens.size_wh
        if width * height > MOST_PIXELS:  # E3
            raise InputError(
                f"A view of {width}x{height} was asked for",
                expected=f"{MOST_PIXELS} pixels at most",
            )
        rays = camera_rays(item.camera_to_world, lens.size_wh, lens.focal_px, lens.centre_px)
        rendered = self._renderer.render(*rays)
        for name in ("rgb", "depth", "opacity"):
            if not np.isfinite(getattr(rendered, name)).all():
                raise EngineLibraryError(
                    f"Output {name} holds NaN or infinity for {item.source} ({item.index})",
                    expected="Finite numbers",
                    do="Try --precision fp32: where that is finite, this variant overflows",
                )
        levels = np.rint(np.clip(rendered.rgb, 0, 1) * 255).astype(np.uint8)
        self._last = (item, np.ascontiguousarray(levels.reshape(height, width, 3)[..., ::-1]))
        shape = (height, width)
        arrays = {n: getattr(rendered, n).reshape(shape) for n in ("depth", "opacity")}
        return Outcome(_fields(item, lens, rendered), arrays)

    def draw(self, item: Item, outcome: Outcome) -> npt.NDArray[np.uint8] | None:
        """The view itself."""
        del outcome
        return self._last[1] if self._last is not None and self._last[0] is item else None

    def _lens(self) -> Lens:
        width, height = self._scene.size_wh
        focal_px = (self._scene.focal_px, self._scene.focal_px)
        return Lens((width, height), focal_px, (width / 2, height / 2))


def _fields(item: PoseItem, lens: Lens, rendered: Rendered) -> dict[str, Any]:
    seen = rendered.opacity > _SEEN
    depth = float(rendered.depth[seen].mean()) if seen.any() else None
    return place_of(item) | {
        "camera_to_world": [[round(float(v), 9) for v in row] for row in item.camera_to_world],
        "size_wh": list(lens.size_wh),
        "focal_px": round(lens.focal_px[0], 6),
        "mean_depth": None if depth is None else round(depth, 6),
        "opacity": round(float(rendered.opacity.mean()), 6),
        "engine_runs": rendered.runs,
    }


def open_from(bundle: Bundle, session: Session, _precision: str, part: str | None) -> Task:
    """The task on a session; see open_task.

    Raises:
        UsageError: The bundle or the part is no radiance field's.
        ArtefactError: The occupancy grid is not one.
    """
    scene = bundle.manifest.radiance
    if scene is None:
        raise UsageError(
            f"{bundle.manifest.model} is no radiance field", expected="A bundle such as nerf's"
        )
    name, described = bundle.part(part or scene.rays)
    spec = described.preprocess
    if name not in (scene.rays, scene.points) or not isinstance(spec, PosePreprocess):
        raise UsageError(f"Part {name} renders nothing", expected=f"{scene.rays} or {scene.points}")
    wanted, got = {s.name for s in described.inputs}, {s.name for s in session.inputs}
    if wanted != got:
        raise UsageError(
            f"The session takes {', '.join(sorted(got))}", expected=f"A session of part {name}"
        )
    if name == scene.rays:
        return RenderTask(RayRenderer(session, spec), scene)
    most = (described.inputs[0].max_shape or (BATCH,))[0]
    grid = _occupancy(bundle, scene)
    return RenderTask(PointRenderer(session, spec, scene, grid, most), scene)


def _occupancy(bundle: Bundle, scene: Radiance) -> npt.NDArray[np.bool_]:
    if scene.occupancy is None:
        return np.ones((1, 1, 1), bool)
    try:
        grid = np.load(bundle.path(scene.occupancy), allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ArtefactError(f"{scene.occupancy} cannot be read: {error}") from error
    if grid.dtype != np.bool_ or grid.ndim != 3 or not grid.size:
        raise ArtefactError(
            f"{scene.occupancy} is {grid.dtype}{list(grid.shape)}", expected="bool [x, y, z]"
        )
    return np.asarray(grid)
