"""OWLv2: a picture and any words to boxes, one per patch.

Minderer et al., Scaling Open-Vocabulary Object Detection, arXiv 2306.09683. Sizes:
https://huggingface.co/google/owlv2-base-patch16-ensemble and -large-patch14-ensemble: config.json.

Parts: `image` gives each patch a box and a class embedding, `text` a prompt's embedding (CLIP's
text tower, 16 tokens). They are multiplied on the device in numpy (runtime/tasks/open_owl.py), so
other words need no other engine. The checkpoint's visual projection and its CLIP logit scale serve
neither: they are loaded, and left out of the graphs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from jetlift.export import random_weights, weights
from jetlift.export.recipes import clip_bpe, published
from jetlift.export.recipes.base import Loaded, PartRecipe, Recipe
from jetlift.export.recipes.clip import Tower
from jetlift.runtime.errors import InputError
from jetlift.runtime.manifest import ImagePreprocess, TensorSpec, TextPreprocess
from jetlift.runtime.task_forms import OpenVocabulary

if TYPE_CHECKING:
    from pathlib import Path

LICENCE = "Apache-2.0"
TOKENIZER = "assets/tokenizer.json"
# The sentence of transformers' documentation of OWLv2, and one of the seven that the paper's
# evaluation averages (appendix); give several --template for an ensemble.
TEMPLATE = "a photo of a {}"
# post_process_grounded_object_detection of transformers 5.23.
SCORE_THRESHOLD = 0.1
_HUB_FILES = ("*.json", "*.safetensors", "merges.txt")
OUTPUTS = ("boxes_cxcywh", "class_embeddings", "logit_shift", "logit_scale", "objectness")
_BUDGET = (
    "class_embeddings.cosine_mean>=0.99, class_embeddings.cosine_min>=0.9, "
    "boxes_cxcywh.cosine_mean>=0.99"
)


@dataclass(frozen=True)
class Size:
    """One size of OWLv2.

    Attributes:
        picture_px: Side of the square picture.
        patch_px: Side of a patch; each patch gives one box.
        picture: The transformer over patches.
        text: The transformer over tokens; a prompt's embedding is as wide.
        vocabulary: Rows of the table of tokens.
        merges: Merges of the tokenizer, as in clip.Size.
        context: Longest prompt in tokens, those that begin and end it included.
    """

    picture_px: int
    patch_px: int
    picture: Tower
    text: Tower
    vocabulary: int = 49_408
    merges: int = 48_894
    context: int = 16

    @property
    def end(self) -> int:
        """Id of the token that ends a text; the one before begins it."""
        return 2 * 256 + self.merges + 1


BASE = Size(960, 16, Tower(768, 12, 12), Tower(512, 12, 8))
LARGE = Size(1008, 14, Tower(1024, 24, 16), Tower(768, 12, 12))
# For tests: no published weights have it. Its tokens are bytes, so that it needs no package.
TINY = Size(48, 8, Tower(32, 2, 2), Tower(24, 2, 2), vocabulary=1024, merges=0, context=40)


def preprocess(size: Size) -> ImagePreprocess:
    """As Owlv2ImageProcessorPil does it, padding with black.

    Padding with 0.5, as older versions of transformers had it, was not what the model was trained
    with: huggingface/transformers#41938.
    """
    return ImagePreprocess(
        kind="image",
        input="pixel_values",
        size_wh=(size.picture_px, size.picture_px),
        fit="pad_square",
        resize_short=None,
        resample="gaussian_linear",
        colour="rgb",
        scale=1 / 255,
        mean=(0.48145466, 0.4578275, 0.40821073),
        std=(0.26862954, 0.26130258, 0.27577711),
        pad_value=0,
    )


def parts(size: Size) -> dict[str, PartRecipe]:
    """The two parts of one size."""
    image = PartRecipe(
        inputs=(_fixed("pixel_values", (1, 3, size.picture_px, size.picture_px)),),
        output_names=OUTPUTS,
        preprocess=preprocess(size),
        budget=_BUDGET,
    )
    text = PartRecipe(
        inputs=(
            TensorSpec(
                name="input_ids",
                dtype="int64",
                shape=("batch", "sequence"),
                min_shape=(1, 3),
                opt_shape=(1, size.context),
                max_shape=(8, size.context),
            ),
        ),
        output_names=("embedding",),
        preprocess=TextPreprocess(
            kind="text", tokenizer=TOKENIZER, max_tokens=size.context, ids="input_ids"
        ),
        budget="embedding.cosine_mean>=0.998, embedding.cosine_min>=0.99",
        runs_per="prompt",
    )
    return {"image": image, "text": text}


def _fixed(name: str, shape: tuple[int, ...]) -> TensorSpec:
    """A float32 input of one shape: thousands of patches leave no memory to batch pictures in."""
    return TensorSpec(name, "float32", shape, min_shape=shape, opt_shape=shape, max_shape=shape)


def load(size: Size, title: str, hub_id: str, source: str | None) -> Loaded:
    """Build the modules from a hub id, a folder, or the word 'random'.

    Raises:
        JetliftError: The weights cannot be had or do not fit the model.
    """
    from transformers import Owlv2ForObjectDetection

    from jetlift.export.recipes.clip_modules import TextEncoder
    from jetlift.export.recipes.owlv2_modules import PatchDetector

    tokenizer: Path | bytes
    seed = random_weights.seed_of(source)
    if seed is not None:
        model = drawn(size, seed)
        described = random_weights.describe(seed, title)
        tokenizer = clip_bpe.tokenizer_json(clip_bpe.merges(size.merges))
    else:
        name = source or hub_id
        file = weights.weights_file(weights.local_or_hub(name, _HUB_FILES))
        _check_config(file.parent, size)
        tokenizer = _tokenizer_of(file.parent)
        state = weights.read_safetensors(file)
        model = weights.pretrained(Owlv2ForObjectDetection, config_of(size), state, title)
        described = weights.describe(name, file, hub_id=hub_id, licence=LICENCE)
    modules = {
        "image": PatchDetector(model).eval(),
        "text": TextEncoder(model.owlv2, end=size.end, longest=size.context).eval(),
    }
    return Loaded(described, modules, {TOKENIZER: tokenizer}, open_vocabulary=facts())


def drawn(size: Size, seed: int) -> Any:  # noqa: ANN401 - transformers ships no types
    """The model of transformers with random weights, its heads no louder than what they hear.

    transformers 5.23 takes `initializer_factor`, 1, for the spread of the heads' layers. Their
    logits then reach 29,000 at full size: a box is a step at which float32's own rounding moves the
    answer by 5e-4 (torch against itself in float64), so no two engines can agree on it.
    """
    import torch
    from transformers import Owlv2ForObjectDetection

    model = random_weights.drawn(Owlv2ForObjectDetection, config_of(size), seed)
    with torch.no_grad():
        for head in (model.class_head, model.box_head, model.objectness_head):
            for layer in head.modules():
                if isinstance(layer, torch.nn.Linear):
                    layer.weight.mul_(layer.in_features**-0.5)
    return model


def facts() -> OpenVocabulary:
    """How boxes are found; transformers suppresses none that overlap."""
    return OpenVocabulary(
        family="owl",
        image="image",
        text="text",
        template=TEMPLATE,
        score_threshold=SCORE_THRESHOLD,
        iou_threshold=None,
    )


def config_of(size: Size) -> Any:  # noqa: ANN401 - transformers ships no types
    """One size in transformers' words."""
    from transformers import Owlv2Config

    wanted = _published(size)
    return Owlv2Config(
        text_config=wanted["text_config"],
        vision_config=wanted["vision_config"],
        projection_dim=wanted["projection_dim"],
    )


def _published(size: Size) -> dict[str, Any]:
    """What config.json says of a size."""
    text = {
        "vocab_size": size.vocabulary,
        "max_position_embeddings": size.context,
        "bos_token_id": size.end - 1,
        "eos_token_id": size.end,
    }
    pixels = {"image_size": size.picture_px, "patch_size": size.patch_px}
    return {
        "text_config": _tower(size.text) | text,
        "vision_config": _tower(size.picture) | pixels,
        "projection_dim": size.text.width,
    }


def _tower(tower: Tower) -> dict[str, Any]:
    return {
        "hidden_size": tower.width,
        "intermediate_size": 4 * tower.width,
        "num_hidden_layers": tower.layers,
        "num_attention_heads": tower.heads,
        "hidden_act": "quick_gelu",
    }


def _check_config(folder: Path, size: Size) -> None:
    """Hold a checkpoint's config.json to the recipe's sizes.

    Raises:
        InputError: There is none, or the checkpoint is of another size.
    """
    wanted = _published(size)
    published.check_config(folder, {"projection_dim": wanted["projection_dim"]})
    found = published.read_json(folder / published.CONFIG)
    for side in ("text_config", "vision_config"):
        stated = found.get(side)
        for key, value in wanted[side].items():
            if isinstance(stated, dict) and stated.get(key, value) != value:
                raise InputError(
                    f"{folder} is an OWLv2 with {side}.{key} {stated[key]}",
                    expected=f"{value}, as the chosen model has it",
                    do="Choose the model of that size (jetlift models)",
                )


def _tokenizer_of(folder: Path) -> Path | bytes:
    """The fast tokenizer's file, or one made of the checkpoint's merges.

    Raises:
        InputError: There is neither.
    """
    if (folder / published.TOKENIZER).is_file():
        return folder / published.TOKENIZER
    merges = folder / "merges.txt"
    if not merges.is_file():
        raise InputError(
            f"{folder} has neither tokenizer.json nor merges.txt",
            expected="One of them, as the checkpoint has it",
        )
    lines = merges.read_text(encoding="utf-8").split("\n")
    pairs = [tuple(line.split()) for line in lines[1:] if line]  # the first names the version
    return clip_bpe.tokenizer_json([(first, second) for first, second in pairs])


def recipe(name: str, title: str, size: Size, hub_id: str, parameters: int) -> Recipe:
    """One size as a recipe."""
    return Recipe(
        name=name,
        title=title,
        tasks=("detect",),
        hub_id=hub_id,
        licence=LICENCE,
        packaged=None,
        parameters=parameters,
        parts=parts(size),
        load=partial(load, size, title, hub_id),
        random=True,
    )


RECIPES = (
    recipe("owlv2-base", "OWLv2 B/16 ensemble", BASE, "google/owlv2-base-patch16-ensemble",
           154_573_575),
    recipe("owlv2-large", "OWLv2 L/14 ensemble", LARGE, "google/owlv2-large-patch14-ensemble",
           436_824_327),
)  # fmt: skip
