"""What a recipe is: how one foundation model becomes ONNX.

A recipe is one file that holds facts (sources, shapes, preprocessing, budgets) and two functions:
`load` turns weights into torch modules, and each module is one part of the bundle.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jetlift.runtime.manifest import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import torch

    from jetlift.export.fidelity.metric import Metric, MetricContext
    from jetlift.export.samples import Item, ItemContext, ReadItems
    from jetlift.export.weights import PackagedWeights
    from jetlift.runtime.manifest import (
        AudioPreprocess,
        Classification,
        Detection,
        ImagePreprocess,
        TextPreprocess,
        Weights,
        ZeroShot,
    )
    from jetlift.runtime.task_forms import (
        Diffusion,
        OpenVocabulary,
        PosePreprocess,
        Radiance,
        RunsPer,
        UnClip,
    )


def picture_input(side_px: int) -> TensorSpec:
    """Input `pixel_values` of a square picture, float32 [batch, 3, side, side], batch 1 to 8."""
    axes = (3, side_px, side_px)
    return TensorSpec(
        name="pixel_values",
        dtype="float32",
        shape=("batch", *axes),
        min_shape=(1, *axes),
        opt_shape=(1, *axes),
        max_shape=(8, *axes),
    )


@dataclass(frozen=True)
class PartRecipe:
    """One graph of a model, before it is a graph.

    Attributes:
        inputs: Graph inputs in the order of `module.forward`, with min, opt and max shapes.
        output_names: Names for what `forward` returns, in order.
        preprocess: How raw input becomes graph input.
        budget: Default fidelity budget, as in 'embedding.cosine_min>=0.99'.
        patch_grid_hw: Rows and columns of the patch tokens, where there are any.
        metric: Makes the task's own metric; None compares outputs as vectors.
        items: Reads the samples of the part; None reads them as the preprocessing asks.
        classification: How the part's output becomes labels, where it is a classifier.
        detection: How the part's raw output becomes boxes, where it is a detector.
        runs_per: How often it runs.
        exact_inputs: Operators of which an input is a place to read at, and the input's position:
            all that makes it stays FP32 in 16-bit variants.
    """

    inputs: tuple[TensorSpec, ...]
    output_names: tuple[str, ...]
    preprocess: ImagePreprocess | TextPreprocess | AudioPreprocess | PosePreprocess | None
    budget: str
    patch_grid_hw: tuple[int, int] | None = None
    metric: Callable[[MetricContext], Metric] | None = None
    items: ReadItems | None = None
    classification: Classification | None = None
    detection: Detection | None = None
    runs_per: RunsPer = "input"
    exact_inputs: Mapping[str, int] = field(default_factory=dict)


def read_by(module: str, function: str, **facts: Any) -> ReadItems:  # noqa: ANN401 - the function's own
    """Samples by a function of this folder, imported when they are read.

    A list of the recipes needs nothing of what reading takes.
    """

    def read(context: ItemContext) -> Sequence[Item]:
        found = importlib.import_module(f"jetlift.export.recipes.{module}")
        items: Sequence[Item] = getattr(found, function)(context, **facts)
        return items

    return read


@dataclass(frozen=True)
class Loaded:
    """Weights in memory.

    Attributes:
        weights: Where they come from, for the manifest.
        modules: One torch module per part, in eval mode, float32.
        assets: Files to put into the bundle, by their path in it, or their content.
        zero_shot: How pictures are compared with words, where the model does that.
        open_vocabulary: How it finds what words name, where it does that.
        diffusion: How it makes pictures by latent diffusion, where it does that.
        unclip: How it makes pictures from CLIP embeddings, where it does that.
        radiance: How it renders views, where it does that.
    """

    weights: Weights
    modules: Mapping[str, torch.nn.Module]
    assets: Mapping[str, Path | bytes] = field(default_factory=dict)
    zero_shot: ZeroShot | None = None
    open_vocabulary: OpenVocabulary | None = None
    diffusion: Diffusion | None = None
    unclip: UnClip | None = None
    radiance: Radiance | None = None


@dataclass(frozen=True)
class Recipe:
    """How one foundation model becomes ONNX.

    Attributes:
        name: Name on the command line.
        title: Name for people.
        tasks: What `jetlift run` does with it, the default first.
        hub_id: Default source, `owner/name` on the Hugging Face hub.
        licence: Licence of the weights at `hub_id`.
        packaged: Weights that a Python package ships, for machines without a hub; None where
            no package does.
        parameters: Number of trained parameters of the exported parts.
        parts: Parts by name.
        load: From a weights argument (None, hub id, folder, file, 'package' or 'random') to
            modules.
        random: Whether it can be made with random weights.
    """

    name: str
    title: str
    tasks: tuple[str, ...]
    hub_id: str
    licence: str
    packaged: PackagedWeights | None
    parameters: int
    parts: Mapping[str, PartRecipe]
    load: Callable[[str | None], Loaded]
    random: bool = False
