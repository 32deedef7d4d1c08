"""ViT-B/16: a picture to raw scores of ImageNet's 1000 classes.

Dosovitskiy et al., An Image is Worth 16x16 Words, arXiv 2010.11929; trained on ImageNet-21k and
fine-tuned on ImageNet-1k at 224 pixels: https://huggingface.co/google/vit-base-patch16-224. The
classes' names are the checkpoint's own, from its config.json.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from jetlift.export import random_weights, weights
from jetlift.export.recipes import published
from jetlift.export.recipes.base import Loaded, PartRecipe, Recipe, picture_input
from jetlift.runtime.manifest import Classification, ImagePreprocess

if TYPE_CHECKING:
    import torch

    from jetlift.export.fidelity.metric import Metric, MetricContext

LICENCE = "Apache-2.0"
LABELS, SCORES = "assets/labels.txt", "logits"


@dataclass(frozen=True)
class Size:
    """One size of ViT; its MLP is four times as wide as the rest."""

    picture_px: int
    patch_px: int
    width: int
    layers: int
    heads: int
    classes: int


B16 = Size(224, 16, 768, 12, 12, 1000)
# For tests: no published weights have it.
TINY = Size(32, 8, 32, 2, 2, 10)


def _metric(_context: MetricContext) -> Metric:
    from jetlift.export.fidelity.classes import ClassMetric

    return ClassMetric(SCORES)


def part(size: Size) -> PartRecipe:
    """The one part; preprocessing as ViTImageProcessor does it (preprocessor_config.json)."""
    return PartRecipe(
        inputs=(picture_input(size.picture_px),),
        output_names=(SCORES,),
        preprocess=ImagePreprocess(
            kind="image",
            input="pixel_values",
            size_wh=(size.picture_px, size.picture_px),
            fit="stretch",
            resize_short=None,
            resample="bilinear_antialias",
            colour="rgb",
            scale=1 / 255,
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
        ),
        budget=f"top1_agreement>=0.97, {SCORES}.cosine_mean>=0.99",
        metric=_metric,
        classification=Classification(output=SCORES, labels=LABELS),
    )


def load(size: Size, title: str, hub_id: str, source: str | None) -> Loaded:
    """Build the module from a hub id, a folder, or the word 'random'.

    Raises:
        JetliftError: The weights cannot be had or do not fit the model.
    """
    from transformers import ViTForImageClassification

    seed = random_weights.seed_of(source)
    if seed is not None:
        model = random_weights.drawn(ViTForImageClassification, config_of(size), seed)
        described = random_weights.describe(seed, title)
        labels = [f"class {number}" for number in range(size.classes)]
    else:
        name = source or hub_id
        file = weights.weights_file(weights.local_or_hub(name))
        labels = published.labels_of(file.parent, size.classes)
        state = weights.read_safetensors(file)
        model = weights.pretrained(ViTForImageClassification, config_of(size), state, title)
        described = weights.describe(name, file, hub_id=hub_id, licence=LICENCE)
    text = "".join(f"{label}\n" for label in labels)
    return Loaded(described, {"image": _scores_of(model)}, {LABELS: text.encode()})


def _scores_of(model: torch.nn.Module) -> torch.nn.Module:
    import torch

    class Scores(torch.nn.Module):
        """[batch, 3, side, side] -> raw scores [batch, classes]."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
            scores: torch.Tensor = self.model(pixel_values).logits
            return scores

    return Scores().eval()


def config_of(size: Size) -> Any:  # noqa: ANN401 - transformers ships no types
    """One size in transformers' words."""
    from transformers import ViTConfig

    return ViTConfig(
        hidden_size=size.width,
        intermediate_size=4 * size.width,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        image_size=size.picture_px,
        patch_size=size.patch_px,
        num_labels=size.classes,
    )


def recipe(name: str, title: str, size: Size, hub_id: str, parameters: int) -> Recipe:
    """One size as a recipe."""
    return Recipe(
        name=name,
        title=title,
        tasks=("classify",),
        hub_id=hub_id,
        licence=LICENCE,
        packaged=None,
        parameters=parameters,
        parts={"image": part(size)},
        load=partial(load, size, title, hub_id),
        random=True,
    )


RECIPE = recipe("vit-b16", "ViT-B/16", B16, "google/vit-base-patch16-224", 86_567_656)
