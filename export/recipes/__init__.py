"""The zoo: every model that jetlift knows how to export, one file each."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from jetlift.export import samples
from jetlift.export.recipes import (
    bert,
    clip,
    detic,
    dinov2,
    gpt2,
    grounding_dino,
    karlo,
    llama,
    minilm,
    nerf,
    owlv2,
    siglip,
    stable_diffusion,
    vit,
    whisper,
    yolox,
)
from jetlift.runtime.errors import UnknownNameError

if TYPE_CHECKING:
    from pathlib import Path

    from jetlift.export.fidelity import Metric
    from jetlift.export.recipes.base import PartRecipe, Recipe
    from jetlift.runtime.bundle import Bundle

RECIPES: dict[str, Recipe] = {
    item.name: item
    for item in (
        dinov2.RECIPE, minilm.RECIPE, *dinov2.MORE, *whisper.RECIPES, *clip.RECIPES,
        *siglip.RECIPES, vit.RECIPE, *bert.RECIPES, *gpt2.RECIPES, *llama.RECIPES, *yolox.RECIPES,
        *owlv2.RECIPES, grounding_dino.RECIPE, *detic.RECIPES, nerf.RECIPE, *karlo.RECIPES,
        *stable_diffusion.RECIPES,
    )
}  # fmt: skip


def recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        UnknownNameError: There is none; the message names the nearest.
    """
    if name in RECIPES:
        return RECIPES[name]
    near = difflib.get_close_matches(name, RECIPES, n=1)
    raise UnknownNameError(
        f"Model {name!r} is not in the zoo",
        expected=f"One of {', '.join(RECIPES)}",
        do=f"Did you mean {near[0]}?" if near else "See 'jetlift models', or use --onnx FILE",
    )


def samples_for(bundle: Bundle, part: str, folder: Path) -> samples.SampleSplit:
    """Read and split samples for a part of a finished bundle, as its export would.

    Raises:
        InputError: The folder is missing or has too few samples.
    """
    found = _part_recipe(bundle, part)
    read = None if found is None else found.items
    context = samples.ItemContext(folder, bundle.part(part)[1], bundle.folder, _fp32_of(bundle))
    return samples.prepare(context, read)


def metric_for(bundle: Bundle, part: str, measured: samples.Samples) -> Metric:
    """The metric that the export of a finished bundle judged a part by.

    Args:
        bundle: The bundle.
        part: Name of the part.
        measured: The samples whose outputs will be compared.
    """
    from jetlift.export.fidelity import MetricContext, VectorMetric
    from jetlift.export.fidelity.boxes import BoxMetric

    described, found = bundle.part(part)[1], _part_recipe(bundle, part)
    if described.detection is not None:
        height, width = (int(side) for side in described.inputs[0].shape[2:])
        return BoxMetric(described.outputs[0].name, (width, height), described.detection)
    if found is None or found.metric is None:
        return VectorMetric()
    return found.metric(MetricContext(part, measured, _fp32_of(bundle), bundle.folder))


def _part_recipe(bundle: Bundle, part: str) -> PartRecipe | None:
    found = RECIPES.get(bundle.manifest.model)
    return found.parts.get(part) if found is not None else None


def _fp32_of(bundle: Bundle) -> dict[str, Path]:
    """The fp32 graph of every part."""
    return {
        name: bundle.path(item.variants["fp32"].file)
        for name, item in bundle.manifest.parts.items()
    }
