"""SigLIP: pictures and words in one space, where each word is judged by itself.

Zhai et al., Sigmoid Loss for Language Image Pre-Training, arXiv 2303.15343; Tschannen et al.,
SigLIP 2, arXiv 2502.14786. Sizes: https://huggingface.co/google/siglip-base-patch16-224 (and
-base-patch16-384, -so400m-patch14-384, siglip2-base-patch16-224): config.json, as read by
transformers 5.23 and open_clip 3.3 (model_configs/ViT-B-16-SigLIP*.json).

Unlike CLIP's, its scores need no second word: sigmoid of scale * cosine + bias says of one word how
likely it fits. Every text is padded to 64 tokens and read at the last place, as it was trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from jetlift.export import random_weights, weights
from jetlift.export.recipes import published, siglip_tokens
from jetlift.export.recipes.base import Loaded, PartRecipe, Recipe, picture_input
from jetlift.export.recipes.clip import BUDGET, TOKENIZER
from jetlift.runtime.errors import InputError
from jetlift.runtime.manifest import ImagePreprocess, TensorSpec, TextPreprocess, ZeroShot

if TYPE_CHECKING:
    from pathlib import Path

LICENCE = "Apache-2.0"
# transformers' documentation of both models: the sentence its zero-shot pipeline uses.
TEMPLATE = "This is a photo of {}."
CONTEXT = 64
LARGEST_BATCH = 8
# Pillow's numbers of its filters, as preprocessor_config.json writes them.
_FILTERS = {"bilinear_antialias": 2, "bicubic_antialias": 3}


@dataclass(frozen=True)
class Size:
    """One size of SigLIP; both towers have the same width, layers and heads.

    Attributes:
        picture_px: Side of the picture.
        patch_px: Side of a patch.
        width: Of both towers, and length of an embedding.
        inner: Width of the MLPs.
        layers: Of each tower.
        heads: Of each tower.
        vocabulary: Rows of the table of tokens.
        end: Id of the token that ends a text.
        pad: Id of padding.
        punctuation: Whether a canonical text keeps punctuation (siglip_tokens.py, rule S1).
        resample: Filter that pictures are resized with.
    """

    picture_px: int
    patch_px: int
    width: int = 768
    inner: int = 3072
    layers: int = 12
    heads: int = 12
    vocabulary: int = 32_000
    end: int = 1
    pad: int = 1
    punctuation: bool = False
    resample: Literal["bicubic_antialias", "bilinear_antialias"] = "bicubic_antialias"


BASE, BASE_384 = Size(224, 16), Size(384, 16)
SO400M = Size(384, 14, 1152, 4304, 27, 16)
BASE_2 = Size(
    224, 16, vocabulary=256_000, pad=0, punctuation=True, resample="bilinear_antialias"
)  # fmt: skip
# For tests: no published weights have it.
TINY = Size(32, 8, 32, 64, 2, 2, vocabulary=256)


def preprocess(size: Size) -> ImagePreprocess:
    """As SiglipImageProcessor does it: both axes at will, -1 to 1."""
    return ImagePreprocess(
        kind="image",
        input="pixel_values",
        size_wh=(size.picture_px, size.picture_px),
        fit="stretch",
        resize_short=None,
        resample=size.resample,
        colour="rgb",
        scale=1 / 255,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    )


def parts(size: Size) -> dict[str, PartRecipe]:
    """The two parts of one size."""
    image = PartRecipe(
        inputs=(picture_input(size.picture_px),),
        output_names=("embedding",),
        preprocess=preprocess(size),
        budget=f"{BUDGET}, embedding.neighbour_agreement>=0.9",
    )
    ids = TensorSpec(
        name="input_ids",
        dtype="int64",
        shape=("batch", CONTEXT),
        min_shape=(1, CONTEXT),
        opt_shape=(1, CONTEXT),
        max_shape=(LARGEST_BATCH, CONTEXT),
    )
    text = PartRecipe(
        inputs=(ids,),
        output_names=("embedding",),
        preprocess=TextPreprocess(
            kind="text",
            tokenizer=TOKENIZER,
            max_tokens=CONTEXT,
            ids="input_ids",
            pad_to=CONTEXT,
            pad_id=size.pad,
        ),
        budget=f"{BUDGET}, embedding.neighbour_agreement>=0.9",
    )
    return {"image": image, "text": text}


def load(size: Size, title: str, hub_id: str, source: str | None) -> Loaded:
    """Build the modules from a hub id, a folder, or the word 'random'.

    Raises:
        JetliftError: The weights cannot be had or do not fit the model.
    """
    from transformers import SiglipModel

    from jetlift.export.recipes.siglip_modules import PictureEncoder, TextEncoder

    seed = random_weights.seed_of(source)
    if seed is not None:
        model = random_weights.drawn(SiglipModel, config_of(size), seed)
        described = random_weights.describe(seed, title)
        tokenizer = siglip_tokens.drawn(
            size.vocabulary, end=size.end, pad=size.pad, punctuation=size.punctuation
        )
    else:
        name = source or hub_id
        file = weights.weights_file(weights.local_or_hub(name))
        _check(file.parent, size)
        tokenizer = siglip_tokens.published(
            file.parent, end=size.end, vocabulary=size.vocabulary, punctuation=size.punctuation
        )
        state = weights.read_safetensors(file)
        model = weights.pretrained(SiglipModel, config_of(size), state, title)
        described = weights.describe(name, file, hub_id=hub_id, licence=LICENCE)
    facts = ZeroShot(
        image="image",
        text="text",
        logit_scale=float(model.logit_scale.detach().exp()),
        logit_bias=float(model.logit_bias.detach()),
        scores="sigmoid",
        template=TEMPLATE,
    )
    modules = {"image": PictureEncoder(model).eval(), "text": TextEncoder(model).eval()}
    return Loaded(described, modules, {TOKENIZER: tokenizer}, facts)


def config_of(size: Size) -> Any:  # noqa: ANN401 - transformers ships no types
    """One size in transformers' words."""
    from transformers import SiglipConfig

    tower = {
        "hidden_size": size.width,
        "intermediate_size": size.inner,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
    }
    tokens = {
        "vocab_size": size.vocabulary,
        "max_position_embeddings": CONTEXT,
        "pad_token_id": size.pad,
        "bos_token_id": None,
        "eos_token_id": size.end,
    }
    pixels = {"image_size": size.picture_px, "patch_size": size.patch_px}
    return SiglipConfig(text_config=tower | tokens, vision_config=tower | pixels)


def _check(folder: Path, size: Size) -> None:
    """Hold a checkpoint's own files to the recipe's sizes and filter.

    Raises:
        InputError: It is of another size, or its pictures are prepared otherwise.
    """
    found = published.read_json(folder / published.CONFIG)
    wanted = config_of(size)
    for part, names in (
        ("text_config", ("hidden_size", "vocab_size", "num_hidden_layers")),
        ("vision_config", ("hidden_size", "image_size", "patch_size", "num_hidden_layers")),
    ):
        stated = found.get(part) or {}
        for name in names:
            value = getattr(wanted, part).to_dict()[name]
            if stated.get(name, value) != value:
                raise InputError(
                    f"{folder} is a SigLIP with {part}.{name} {stated[name]}",
                    expected=f"{value}, as the chosen model has it",
                    do="Choose the model of that size (jetlift models)",
                )
    file = folder / "preprocessor_config.json"
    stated = published.read_json(file) if file.is_file() else {}
    if stated.get("resample", _FILTERS[size.resample]) != _FILTERS[size.resample]:
        raise InputError(
            f"{file} resizes pictures with Pillow's filter {stated['resample']}",
            expected=f"{_FILTERS[size.resample]}, as the chosen model was described",
        )


def recipe(name: str, title: str, size: Size, hub_id: str, parameters: int) -> Recipe:
    """One size as a recipe."""
    return Recipe(
        name=name,
        title=title,
        tasks=("classify", "embed", "search"),
        hub_id=hub_id,
        licence=LICENCE,
        packaged=None,
        parameters=parameters,
        parts=parts(size),
        load=partial(load, size, title, hub_id),
        random=True,
    )


RECIPES = (
    recipe("siglip-base", "SigLIP base, 224 pixels", BASE, "google/siglip-base-patch16-224",
           203_155_968),
    recipe("siglip-base-384", "SigLIP base, 384 pixels", BASE_384,
           "google/siglip-base-patch16-384", 203_447_808),
    recipe("siglip-so400m", "SigLIP So400m, 384 pixels", SO400M,
           "google/siglip-so400m-patch14-384", 877_960_496),
    recipe("siglip2-base", "SigLIP 2 base, 224 pixels", BASE_2,
           "google/siglip2-base-patch16-224", 375_187_968),
)  # fmt: skip
