"""Samples and metric of a radiance field's parts, made of the folder that it was trained on.

Rules:
    L1  As many views that were trained on as views that were not, in this order: the first choose
        (export/samples.py, S2), and every figure that is reported comes from held-out views.
    L2  A view is seen through a coarse even grid of its pixels, so that one run of a part is one
        view.
    L3  `field` is judged by what the march outside makes of its answers (runtime/rays.py), not by
        densities that nobody sees.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.export.fidelity.views import ViewMetric
from jetlift.export.radiance import RadianceFacts, View, read_views
from jetlift.export.samples import Item
from jetlift.runtime import jsonform
from jetlift.runtime.errors import InputError, UsageError
from jetlift.runtime.rays import composite, crossings, weights_along

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from jetlift.export.fidelity.metric import MetricContext, Outputs
    from jetlift.export.samples import ItemContext
    from jetlift.runtime.task_forms import Radiance

    Array = npt.NDArray[Any]

FACTS = "assets/radiance.json"
SIDE = 24
MOST_VIEWS = 16
MOST_POINTS = 65_536


@dataclass(frozen=True, eq=False)
class Seen:
    """What is true of one sample.

    Attributes:
        picture: float32 [H, W, 3].
        distances: Of the samples along each ray [N, samples], for `field`.
        step: Length that a sample stands for [N].
        background_rgb: Colour where nothing is.
    """

    picture: Array
    distances: Array
    step: Array
    background_rgb: Array


def facts_in(folder: Path) -> RadianceFacts:
    """The facts among a bundle's assets."""
    return jsonform.loads(RadianceFacts, (folder / FACTS).read_text(encoding="utf-8"))


def ray_items(context: ItemContext) -> list[Item]:
    """Each view as the rays of a grid of its pixels (rules L1 and L2)."""
    scene = facts_in(context.bundle_folder).radiance
    return [_item(view, scene, SIDE, as_points=False) for view in _chosen(context.folder)]


def point_items(context: ItemContext) -> list[Item]:
    """Each view as the points along the rays of a coarser grid (rules L1 and L2)."""
    scene = facts_in(context.bundle_folder).radiance
    side = min(SIDE, math.isqrt(MOST_POINTS // scene.samples))
    return [_item(view, scene, side, as_points=True) for view in _chosen(context.folder)]


def _chosen(folder: Path) -> list[View]:
    train, held_out = read_views(folder)
    count = min(len(train), len(held_out), MOST_VIEWS)
    if count < 2:
        raise InputError(
            f"{folder} has {len(train)} views that were trained on and {len(held_out)} held out",
            expected="At least 2 of each",
        )
    both = (train, held_out)
    return [views[index * len(views) // count] for views in both for index in range(count)]


def _item(view: View, scene: Radiance, side: int, *, as_points: bool) -> Item:
    rows, columns = (_grid(length, side) for length in view.rgba.shape[:2])
    shape = (*view.rgba.shape[:2], 3)
    origins, directions = (
        array.reshape(shape)[rows][:, columns].reshape(-1, 3) for array in view.rays()
    )
    box = (np.array(scene.march_low_xyz), np.array(scene.march_high_xyz))
    enter, leave = crossings(origins, directions, *box, scene.near)
    middles = (np.arange(scene.samples) + 0.5) / scene.samples
    distances = enter[:, None] + middles * (leave - enter)[:, None]
    feeds = {"origins": origins, "directions": directions}
    if as_points:
        points = origins[:, None] + distances[..., None] * directions[:, None]
        feeds = {
            "points": points.reshape(-1, 3).astype(np.float32),
            "directions": np.repeat(directions, scene.samples, axis=0),
        }
    picture = view.over(scene.background_rgb)[rows][:, columns]
    step = (leave - enter) / scene.samples
    content = picture.tobytes() + origins.tobytes() + directions.tobytes()
    seen = Seen(picture, distances, step, np.array(scene.background_rgb))
    return Item(hashlib.sha256(content).hexdigest(), (feeds,), seen)


def _grid(length: int, side: int) -> npt.NDArray[np.int64]:
    count = min(length, side)
    return (np.arange(count) * length) // count


def ray_metric(context: MetricContext) -> ViewMetric:
    """Judges `rays` by its colours."""
    truths = _truths(context)

    def views_of(outputs: Outputs) -> list[Array]:
        pairs = zip(outputs["rgb"], truths, strict=True)
        return [rgb.reshape(truth.picture.shape) for rgb, truth in pairs]

    return ViewMetric(views_of, [truth.picture for truth in truths])


def point_metric(context: MetricContext) -> ViewMetric:
    """Judges `field` by the views that are marched with it (rule L3)."""
    truths = _truths(context)

    def views_of(outputs: Outputs) -> list[Array]:
        rows = zip(outputs["density"], outputs["colour"], truths, strict=True)
        return [_marched(density, colour, truth) for density, colour, truth in rows]

    return ViewMetric(views_of, [truth.picture for truth in truths])


def _marched(density: Array, colour: Array, truth: Seen) -> Array:
    shape = truth.distances.shape
    weights = weights_along(density.reshape(shape), truth.step)
    rgb, _, _ = composite(weights, colour.reshape(*shape, 3), truth.distances, truth.background_rgb)
    return rgb.reshape(truth.picture.shape)


def _truths(context: MetricContext) -> list[Seen]:
    if not all(isinstance(label, Seen) for label in context.samples.labels):
        raise UsageError(
            "The samples have no pictures", expected="A folder of pictures with transforms.json"
        )
    return list(context.samples.labels)
