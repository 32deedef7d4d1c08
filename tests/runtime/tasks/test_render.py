"""Views of a ball that is known: colour, depth, batches, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.radiance import BALL_RADIUS, BALL_RGB, SCENE, BallField, BallRays, ball

from jetlift.runtime.errors import EngineLibraryError, InputError, UsageError
from jetlift.runtime.poses import Lens, PoseItem, orbit
from jetlift.runtime.sources import Frame
from jetlift.runtime.task_forms import PosePreprocess
from jetlift.runtime.tasks.render import BATCH, PointRenderer, RayRenderer, RenderTask

RAYS = PosePreprocess("poses", positions="origins", directions="directions")
POINTS = PosePreprocess("poses", positions="points", directions="directions")
EVERYWHERE = np.ones((1, 1, 1), bool)


def item(lens: Lens | None = None) -> PoseItem:
    return PoseItem("orbit", 2, 2 / 30, orbit(5, SCENE)[2], lens)


def occupied(cells: int = 16) -> np.ndarray:
    """Cells that the ball reaches into."""
    places = (np.stack(np.meshgrid(*[np.arange(cells * 4)] * 3, indexing="ij"), -1) + 0.5) / cells
    points = (places / 4 * 2 - 1) + np.array(SCENE.centre_xyz)
    return ball(points).reshape((cells, 4) * 3).any(axis=(1, 3, 5))


def test_the_ball_is_in_the_middle_at_its_distance():
    task = RenderTask(RayRenderer(BallRays(), RAYS), SCENE)
    outcome = task.process(item())
    picture = task.draw(item(), outcome)
    assert picture is None  # drawn is the view that was rendered, and no other
    view = item()
    outcome = task.process(view)
    picture = task.draw(view, outcome)
    assert picture.shape == (16, 24, 3)
    colour_bgr = np.rint(np.array(BALL_RGB[::-1]) * 255)
    np.testing.assert_allclose(picture[8, 12], colour_bgr, atol=1)
    assert (picture[0, 0] == 255).all()
    depth = outcome.arrays["depth"]
    assert depth.shape == outcome.arrays["opacity"].shape == (16, 24)
    assert depth[8, 12] == pytest.approx(SCENE.orbit_radius - BALL_RADIUS, abs=0.06)
    fields = outcome.fields
    assert list(fields)[:3] == ["source", "index", "time_s"]
    assert fields["size_wh"] == [24, 16]
    assert fields["mean_depth"] == pytest.approx(2.6, abs=0.15)
    assert 0 < fields["opacity"] < 1


def test_marching_outside_gives_the_same_view_with_fewer_points():
    inside = RenderTask(RayRenderer(BallRays(), RAYS), SCENE).process(item())
    views = []
    for grid in (EVERYWHERE, occupied()):
        session = BallField()
        task = RenderTask(PointRenderer(session, POINTS, SCENE, grid, 5000), SCENE)
        outcome = task.process(item())
        views.append(sum(session.asked))
        assert max(session.asked) <= 5000
        assert outcome.fields["engine_runs"] == len(session.asked)
        for name in ("depth", "opacity"):
            np.testing.assert_allclose(outcome.arrays[name], inside.arrays[name], atol=1e-4)
    assert views[1] < 0.25 * views[0]


def test_a_view_is_rendered_in_batches():
    session = BallRays()
    lens = Lens((100, 90), (100.0, 100.0), (50.0, 45.0))
    outcome = RenderTask(RayRenderer(session, RAYS), SCENE).process(item(lens))
    assert session.asked == [BATCH, BATCH, 9000 - 2 * BATCH]
    assert outcome.fields["engine_runs"] == 3
    assert outcome.arrays["depth"].shape == (90, 100)


def test_one_pixel_is_a_view_and_a_gigantic_one_is_refused():
    task = RenderTask(RayRenderer(BallRays(), RAYS), SCENE)
    one = task.process(item(Lens((1, 1), (1.0, 1.0), (0.5, 0.5))))
    assert one.arrays["depth"].shape == (1, 1)
    away = np.eye(4)
    away[:3, 3] = (0, 0, -50)
    nothing = task.process(PoseItem("p", 0, None, away))
    assert nothing.fields["mean_depth"] is None
    with pytest.raises(InputError, match="4097x4096"):
        task.process(item(Lens((4097, 4096), (1.0, 1.0), (0.0, 0.0))))


def test_pictures_and_broken_engines_are_refused():
    class Broken(BallRays):
        def run(self, feeds):
            return super().run(feeds) | {"depth": np.full(len(feeds["origins"]), np.nan)}

    task = RenderTask(RayRenderer(Broken(), RAYS), SCENE)
    with pytest.raises(EngineLibraryError, match="depth holds NaN"):
        task.process(item())
    with pytest.raises(UsageError, match="camera poses"):
        task.process(Frame("p.png", 0, 0.0, np.zeros((4, 4, 3), np.uint8)))
