"""CLIP: pictures and words to embeddings in one space, for labels in any words and for search.

Radford et al., Learning Transferable Visual Models From Natural Language Supervision,
arXiv 2103.00020. Sizes: https://huggingface.co/openai/clip-vit-base-patch32 (and -base-patch16,
-large-patch14): config.json. OpenCLIP's checkpoints of these sizes load as well, saved for
transformers (`--weights laion/CLIP-ViT-B-32-laion2B-s34B-b79K`) or in open_clip's own names
(clip_open.py): their config says which activation they were trained with.

Parts: `image` and `text`, each to an embedding of length 1. Attention in `text` looks back only, so
what stands behind the end token changes nothing, and the graph needs no mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from jetlift.export import random_weights, weights
from jetlift.export.recipes import clip_bpe, clip_open
from jetlift.export.recipes.base import Loaded, PartRecipe, Recipe, picture_input
from jetlift.runtime.errors import InputError
from jetlift.runtime.manifest import ImagePreprocess, TensorSpec, TextPreprocess, ZeroShot

if TYPE_CHECKING:
    from pathlib import Path

LICENCE = "MIT (openai/CLIP states it; the hub's page names none)"
TOKENIZER = "assets/tokenizer.json"
# Section 3.1.4 of the paper: the sentence that stands for a label where nothing better is known.
TEMPLATE = "a photo of a {}."
_AS_SAVED = "A folder as transformers saves it: config.json, model.safetensors, tokenizer.json"
_SIZES = ("projection_dim", "vocab_size", "max_position_embeddings", "image_size", "patch_size")
BUDGET = "embedding.cosine_mean>=0.998, embedding.cosine_min>=0.99"


@dataclass(frozen=True)
class Tower:
    """Width, layers and heads of one transformer; its MLP is four times as wide."""

    width: int
    layers: int
    heads: int


@dataclass(frozen=True)
class Size:
    """One size of CLIP.

    Attributes:
        picture_px: Side of the picture.
        patch_px: Side of a patch.
        picture: The transformer over patches.
        text: The transformer over tokens.
        embedding: Length of an embedding.
        vocabulary: Rows of the table of tokens.
        merges: Merges of the tokenizer; its ids are 256 bytes, 256 that end a word, one per merge,
            and two that begin and end a text.
        context: Longest text in tokens, these two included.
    """

    picture_px: int
    patch_px: int
    picture: Tower
    text: Tower
    embedding: int
    vocabulary: int = 49_408
    merges: int = 48_894
    context: int = 77

    @property
    def end(self) -> int:
        """Id of the token that ends a text; the one before begins it."""
        return 2 * 256 + self.merges + 1


B32 = Size(224, 32, Tower(768, 12, 12), Tower(512, 12, 8), 512)
B16 = Size(224, 16, Tower(768, 12, 12), Tower(512, 12, 8), 512)
L14 = Size(224, 14, Tower(1024, 24, 16), Tower(768, 12, 12), 768)
# For tests: no published weights have it. Its tokens are bytes, so that it needs no package.
TINY = Size(32, 8, Tower(32, 2, 2), Tower(24, 2, 2), 16, vocabulary=1024, merges=0)


def preprocess(size: Size) -> ImagePreprocess:
    """As CLIPImageProcessor does it (preprocessor_config.json of each size)."""
    return ImagePreprocess(
        kind="image",
        input="pixel_values",
        size_wh=(size.picture_px, size.picture_px),
        fit="crop",
        resize_short=size.picture_px,
        resample="bicubic_antialias",
        colour="rgb",
        scale=1 / 255,
        mean=(0.48145466, 0.4578275, 0.40821073),
        std=(0.26862954, 0.26130258, 0.27577711),
    )


def parts(size: Size) -> dict[str, PartRecipe]:
    """The two parts of one size."""
    longest = size.context
    image = PartRecipe(
        inputs=(picture_input(size.picture_px),),
        output_names=("embedding",),
        preprocess=preprocess(size),
        budget=f"{BUDGET}, embedding.neighbour_agreement>=0.9",
    )
    text = PartRecipe(
        inputs=(
            TensorSpec(
                name="input_ids",
                dtype="int64",
                shape=("batch", "sequence"),
                min_shape=(1, 3),
                opt_shape=(1, longest),
                max_shape=(8, longest),
            ),
        ),
        output_names=("embedding",),
        preprocess=TextPreprocess(
            kind="text", tokenizer=TOKENIZER, max_tokens=longest, ids="input_ids"
        ),
        budget=f"{BUDGET}, embedding.neighbour_agreement>=0.9",
    )
    return {"image": image, "text": text}


def load(size: Size, title: str, hub_id: str, source: str | None) -> Loaded:
    """Build the modules from a hub id, a folder, or the word 'random'.

    Raises:
        JetliftError: The weights cannot be had or do not fit the model.
    """
    from transformers import CLIPModel

    from jetlift.export.recipes.clip_modules import PictureEncoder, TextEncoder

    tokenizer: Path | bytes
    seed = random_weights.seed_of(source)
    if seed is not None:
        model = random_weights.drawn(CLIPModel, config_of(size), seed)
        described = random_weights.describe(seed, title)
        tokenizer = clip_bpe.tokenizer_json(clip_bpe.merges(size.merges))
    else:
        name = source or hub_id
        file = weights.weights_file(weights.local_or_hub(name))
        config, state, tokenizer = _published(file, size)
        model = weights.pretrained(CLIPModel, config, state, title)
        described = weights.describe(name, file, hub_id=hub_id.partition("@")[0], licence=LICENCE)
    modules = {
        "image": PictureEncoder(model).eval(),
        "text": TextEncoder(model, end=size.end, longest=size.context).eval(),
    }
    return Loaded(described, modules, {TOKENIZER: tokenizer}, _zero_shot(model))


def _zero_shot(model: Any) -> ZeroShot:  # noqa: ANN401 - transformers ships no types
    scale = float(model.logit_scale.detach().exp())
    return ZeroShot("image", "text", scale, 0.0, scores="softmax", template=TEMPLATE)


def config_of(size: Size) -> Any:  # noqa: ANN401 - as before
    """One size in transformers' words, with OpenAI's activation."""
    from transformers import CLIPConfig

    both = {"projection_dim": size.embedding, "hidden_act": "quick_gelu"}
    tokens = {
        "vocab_size": size.vocabulary,
        "max_position_embeddings": size.context,
        "bos_token_id": size.end - 1,
        "eos_token_id": size.end,
    }
    pixels = {"image_size": size.picture_px, "patch_size": size.patch_px}
    return CLIPConfig(
        text_config=_tower(size.text) | both | tokens,
        vision_config=_tower(size.picture) | both | pixels,
        projection_dim=size.embedding,
    )


def _tower(tower: Tower) -> dict[str, Any]:
    return {
        "hidden_size": tower.width,
        "intermediate_size": 4 * tower.width,
        "num_hidden_layers": tower.layers,
        "num_attention_heads": tower.heads,
    }


def _published(file: Path, size: Size) -> tuple[Any, dict[str, Any], Path | bytes]:
    """A checkpoint's config, weights and tokenizer, in transformers' names.

    Raises:
        JetliftError: A file is missing or does not fit.
    """
    folder = file.parent
    stated = (folder / clip_open.CONFIG).is_file()
    state = clip_bpe.without_positions(file) if stated else {}
    if clip_open.MARK not in state:
        config = _published_config(folder, size)
        return config, state or clip_bpe.without_positions(file), folder / "tokenizer.json"
    config = config_of(size)
    activation = clip_open.activation_of(folder, size, preprocess(size))
    config.text_config.hidden_act = config.vision_config.hidden_act = activation
    own = folder / "tokenizer.json"
    made = own if own.is_file() else clip_bpe.tokenizer_json(clip_bpe.merges(size.merges))
    return config, clip_open.renamed(state), made


def _published_config(folder: Path, size: Size) -> Any:  # noqa: ANN401 - as before
    """The checkpoint's own config, held to the recipe's sizes.

    Raises:
        InputError: There is none, or it is of another size.
    """
    from transformers import CLIPConfig

    for name in ("config.json", "tokenizer.json"):
        if not (folder / name).is_file():
            raise InputError(f"{folder} has no {name}", expected=_AS_SAVED)
    try:
        found = CLIPConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder} has no config.json of a CLIP: {str(error).splitlines()[0]}",
            expected=_AS_SAVED,
        ) from error
    wanted = config_of(size)
    for part in ("text_config", "vision_config"):
        theirs, ours = getattr(found, part), getattr(wanted, part)
        for name in (*_tower(size.text), *_SIZES):
            if getattr(theirs, name, None) != getattr(ours, name, None):
                raise InputError(
                    f"{folder} is a CLIP with {part}.{name} {getattr(theirs, name, None)}",
                    expected=f"{getattr(ours, name, None)}, as the chosen model has it",
                    do="Choose the model of that size (jetlift models)",
                )
    return found


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


# On main of -base-patch32 there is no safetensors file, but in the change that adds one.
RECIPES = (
    recipe("clip-vit-b32", "CLIP ViT-B/32", B32, "openai/clip-vit-base-patch32@refs/pr/15",
           151_277_312),
    recipe("clip-vit-b16", "CLIP ViT-B/16", B16, "openai/clip-vit-base-patch16", 149_620_736),
    recipe("clip-vit-l14", "CLIP ViT-L/14", L14, "openai/clip-vit-large-patch14", 427_616_512),
)  # fmt: skip
