"""Detic: boxes and outlines of whatever words name, trained with 21,000 classes.

Zhou et al., Detecting Twenty-thousand Classes using Image-level Supervision, arXiv 2201.02605.
Facts are read in facebookresearch/Detic@436cda2: configs/Base-C2_L_R5021k_640b64_4x.yaml (pixels,
levels, counts, thresholds), Detic_LCOCOI21k_CLIP_R5021k_640b32_4x_ft4x_max-size.yaml and
Detic_LCOCOI21k_CLIP_SwinB_896b32_4x_ft4x_max-size.yaml, docs/MODEL_ZOO.md (files); demo.py and
predict.py (words, one class per proposal, 0.3 for words of one's own).

Parts: `proposals` on a picture, `regions` on its proposals and words, `masks` on kept boxes, `text`
on words. docs/detic.md says where this differs from the original.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, cast

from jetlift.export import random_weights
from jetlift.export.recipes import clip, detic_weights
from jetlift.export.recipes.base import Loaded, PartRecipe, Recipe
from jetlift.export.recipes.detic_sizes import R50, SWIN_B
from jetlift.runtime.bundle import sha256_of
from jetlift.runtime.manifest import ImagePreprocess, TensorSpec, Weights
from jetlift.runtime.task_forms import DeticFacts, OpenVocabulary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jetlift.export.recipes import detic_samples
    from jetlift.export.recipes.detic_modules import Detic
    from jetlift.export.recipes.detic_sizes import Size
    from jetlift.export.samples import Item, ItemContext, ReadItems
    from jetlift.runtime.manifest import TextPreprocess

LICENCE = "Apache-2.0 (facebookresearch/Detic); CLIP's words: MIT (openai/CLIP)"
CLIP_HUB_ID = clip.RECIPES[0].hub_id
CLIP_TITLE = clip.RECIPES[0].title
TEMPLATE = "a {}"
STRIDES = (8, 16, 32, 64, 128)
SCORE_THRESHOLD = 0.3
_FILES = "https://dl.fbaipublicfiles.com/detic/"
_WORDS_MEASURED = 80
_MASKS_MEASURED = 16
# Of the levels, by direction; boxes are held tighter, since five pixels turn them by 1e-5.
BUDGET = "p3.cosine_mean>=0.99, p4.cosine_mean>=0.99, p5.cosine_mean>=0.99"


def preprocess(size: Size) -> ImagePreprocess:
    """RGB, bilinear as Pillow does it, into a box of fixed size."""
    return ImagePreprocess(
        kind="image",
        input="pixel_values",
        size_wh=size.size_wh,
        fit="letterbox",
        resize_short=None,
        resample="bilinear_antialias",
        colour="rgb",
        scale=1.0,
        mean=detic_weights.MEAN,
        std=detic_weights.STD,
        pad_value=116,  # the original pads with the mean, which no one level of grey is
    )


def parts(size: Size) -> dict[str, PartRecipe]:
    """The four parts of one size."""
    text = clip.parts(size.words)["text"]
    width, height = size.size_wh
    return {
        "proposals": PartRecipe(
            inputs=(_fixed("pixel_values", (1, 3, height, width)),),
            output_names=("p3", "p4", "p5", "heat", "distances"),
            preprocess=preprocess(size),
            budget=f"{BUDGET}, heat.cosine_mean>=0.99, distances.cosine_mean>=0.99",
        ),
        "regions": PartRecipe(
            inputs=(
                *_levels(size),
                _many("boxes_xyxy", "regions", 4, (1, size.regions, size.regions)),
                _many("words", "prompts", size.words.embedding,
                      (1, min(_WORDS_MEASURED, size.prompts), size.prompts)),
                _fixed("picture_wh", (1, 2)),
            ),
            output_names=("scores", "moved_xyxy"),
            preprocess=None,
            budget="scores.cosine_mean>=0.99, moved_xyxy.cosine_mean>=0.9999",
            items=_items("regions", size),
            runs_per="region",
        ),
        "masks": PartRecipe(
            inputs=(
                *_levels(size),
                _many("boxes_xyxy", "regions", 4,
                      (1, min(_MASKS_MEASURED, size.masks), size.masks)),
            ),
            output_names=("masks",),
            preprocess=None,
            budget="masks.cosine_mean>=0.99",
            items=_items("masks", size),
            runs_per="region",
        ),
        "text": PartRecipe(
            inputs=text.inputs,
            output_names=text.output_names,
            preprocess=text.preprocess,
            budget=text.budget,
            items=_items("words", size),
            runs_per="prompt",
        ),
    }  # fmt: skip


def _items(which: str, size: Size) -> ReadItems:
    """Samples of a part that pictures do not reach; reading them takes more than this list does."""

    def read(context: ItemContext) -> Sequence[Item]:
        from jetlift.export.recipes import detic_samples

        items: Sequence[Item] = getattr(detic_samples, which)(context, facts=sample_facts(size))
        return items

    return read


def sample_facts(size: Size) -> detic_samples.Facts:
    """What samples of the parts behind the first are made with."""
    from jetlift.export.recipes import detic_samples

    text = cast("TextPreprocess", clip.parts(size.words)["text"].preprocess)
    detic = cast("DeticFacts", facts(size).detic)
    return detic_samples.Facts(preprocess(size), text, TEMPLATE, detic, size.prompts, size.masks)


def _fixed(name: str, shape: tuple[int, ...]) -> TensorSpec:
    return TensorSpec(name, "float32", shape, shape, shape, shape)


def _many(name: str, axis: str, width: int, counts: tuple[int, int, int]) -> TensorSpec:
    least, usual, most = ((count, width) for count in counts)
    return TensorSpec(name, "float32", (axis, width), least, usual, most)


def _levels(size: Size) -> list[TensorSpec]:
    return [
        _fixed(f"p{3 + index}", (1, size.channels, rows, columns))
        for index, (columns, rows) in enumerate(size.grids[:3])
    ]


def facts(size: Size) -> OpenVocabulary:
    """What the device needs to know beside the graphs; the file's docstring says from where."""
    return OpenVocabulary(
        family="detic",
        image="proposals",
        text="text",
        template=TEMPLATE,
        score_threshold=SCORE_THRESHOLD,
        iou_threshold=0.5,
        detic=DeticFacts(
            regions="regions",
            masks="masks",
            strides=STRIDES,
            heat_threshold=0.0001,
            level_candidates=1000,
            proposal_iou=0.9,
            proposals=size.regions,
            detections=300,
            one_label=True,
        ),
    )


def load(size: Size, title: str, url: str, source: str | None) -> Loaded:
    """Build the modules from a checkpoint and CLIP's words, or the word 'random'.

    Raises:
        JetliftError: The weights cannot be had or do not fit the model.
    """
    from jetlift.export.recipes.detic_modules import Masks, Proposals, Regions

    seed = random_weights.seed_of(source)
    if seed is not None:
        model, described = drawn(size, seed), random_weights.describe(seed, title)
        words = clip.load(size.words, CLIP_TITLE, CLIP_HUB_ID, source)
    else:
        given = detic_weights.sources_of(source, url, CLIP_HUB_ID)
        model = _filled(size, given, title)
        words = clip.load(size.words, CLIP_TITLE, CLIP_HUB_ID, given.clip)
        described = Weights(
            source=given.detector.name,
            licence=LICENCE,
            sha256=sha256_of(given.detector),
            note=f"Words by {words.weights.source} (SHA-256 {words.weights.sha256})",
            random=False,
        )
    modules = {
        "proposals": Proposals(model).eval(),
        "regions": Regions(model).eval(),
        "masks": Masks(model).eval(),
        "text": words.modules["text"],
    }
    return Loaded(described, modules, words.assets, open_vocabulary=facts(size))


def _filled(size: Size, given: detic_weights.Sources, title: str) -> Detic:
    from jetlift.export.recipes.detic_modules import Detic

    model = Detic(size)
    detic_weights.fill(model, detic_weights.read(given.detector), title)
    return model.eval()


def drawn(size: Size, seed: int) -> Detic:
    """The detector with random weights; its boxes begin at 16 cells, as untrained ones do."""
    import torch

    from jetlift.export.recipes.detic_modules import Detic

    model: Detic = random_weights.initialised(lambda: Detic(size), seed)
    head = "proposal_generator.centernet_head"
    with torch.no_grad():
        model.get_parameter(f"{head}.bbox_pred.bias").add_(8.0)
        for number in range(len(STRIDES)):  # none is constant: random_weights.py, R3
            model.get_parameter(f"{head}.scales.{number}.scale").mul_(1.01 + 0.01 * number)
    return model


def recipe(name: str, title: str, size: Size, file: str, parameters: int) -> Recipe:
    """One size as a recipe."""
    url = f"{_FILES}{file}"
    return Recipe(
        name=name,
        title=title,
        tasks=("detect",),
        hub_id=url,
        licence=LICENCE,
        packaged=None,
        parameters=parameters,
        parts=parts(size),
        load=partial(load, size, title, url),
        random=True,
    )


RECIPES = (
    recipe("detic-r50", "Detic, ResNet-50", R50,
           "Detic_LCOCOI21k_CLIP_R5021k_640b32_4x_ft4x_max-size.pth", 142_224_215),
    recipe("detic-swinb", "Detic, Swin-B", SWIN_B,
           "Detic_LCOCOI21k_CLIP_SwinB_896b32_4x_ft4x_max-size.pth", 205_002_191),
)  # fmt: skip
