"""karlo: pictures from words and variations of a picture, by the recipe of DALL-E 2 (unCLIP).

Ramesh et al., Hierarchical Text-Conditional Image Generation with CLIP Latents, arXiv 2204.06125.
DALL-E 2 is closed; karlo (https://github.com/kakaobrain/karlo) is its open relative: a prior from
CLIP's words to CLIP's pictures, a decoder to 64x64 pixels, and two U-Nets that enlarge them to
256x256, of which the second does the last step. Steps and guidance are those of its `fast` sampling
(karlo/sampler/template.py at 3c68a50) and of diffusers' pipelines, which are alike.

Every shape is fixed: words and the empty prompt go together where guidance needs both.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from jetlift.export import random_weights, weights
from jetlift.export.recipes import clip, clip_bpe, karlo_models, karlo_weights
from jetlift.export.recipes.base import Loaded, PartRecipe, Recipe
from jetlift.export.recipes.karlo_models import KARLO, Size
from jetlift.runtime.errors import InputError
from jetlift.runtime.manifest import TensorSpec, TextPreprocess, Weights
from jetlift.runtime.task_forms import UnClip

if TYPE_CHECKING:
    from pathlib import Path

    from jetlift.export.samples import Item, ItemContext, ReadItems

HUB_ID = "kakaobrain/karlo-v1-alpha"
LICENCE = "CreativeML OpenRAIL-M"
TOKENIZER, STATS = "assets/tokenizer.json", "assets/clip_stats.npy"
PARAMETERS = 3_726_123_724
_WANTED = ("*.json", "*.safetensors", "*.txt")
_ONE = "embedding.cosine_mean>=0.998, embedding.cosine_min>=0.99"
_NOISE = "noise.cosine_mean>=0.99, noise.cosine_min>=0.9"


def _fixed(name: str, *shape: int, dtype: Any = "float32") -> TensorSpec:  # noqa: ANN401 - a Literal
    return TensorSpec(name=name, dtype=dtype, shape=shape)


def _fed(part: str, size: Size) -> ReadItems:
    """Reads the samples of a part that raw input does not reach."""

    def items(context: ItemContext) -> list[Item]:
        from jetlift.export.recipes.karlo_samples import stage_items

        return stage_items(context, part, form(size), prompts(size))

    return items


def prompts(size: Size) -> TextPreprocess:
    """Prompts padded to the longest with the token that ends them, as CLIP's tokenizer does it."""
    return TextPreprocess(
        kind="text", tokenizer=TOKENIZER, max_tokens=size.clip.context, ids="input_ids",
        pad_to=size.clip.context, pad_id=size.clip.end,
    )  # fmt: skip


def parts(size: Size) -> dict[str, PartRecipe]:
    """The seven parts of one size."""
    tokens, width = size.clip.context, size.clip.text.width
    words = (
        _fixed("text_embedding", 2, size.width),
        _fixed("text_hidden", 2, tokens, width),
    )
    timestep = _fixed("timestep", 1, dtype="int64")
    text = PartRecipe(
        inputs=(_fixed("input_ids", 1, tokens, dtype="int64"),),
        output_names=("embedding", "hidden"),
        preprocess=prompts(size),
        budget=f"{_ONE}, hidden.cosine_mean>=0.99",
        runs_per="prompt",
    )
    image = PartRecipe(
        inputs=(_fixed("pixel_values", 1, 3, size.clip.picture_px, size.clip.picture_px),),
        output_names=("embedding",),
        preprocess=clip.preprocess(size.clip),
        budget=_ONE,
    )
    prior = PartRecipe(
        inputs=(
            _fixed("latents", 2, size.width), timestep, *words,
            _fixed("attention_mask", 2, tokens, dtype="int64"),
        ),
        output_names=("predicted",),
        preprocess=None,
        budget="predicted.cosine_mean>=0.998, predicted.cosine_min>=0.99",
        runs_per="step",
    )  # fmt: skip
    text_proj = PartRecipe(
        inputs=(_fixed("image_embedding", 1, size.width), *words),
        output_names=("context", "time_term"),
        preprocess=None,
        budget="context.cosine_mean>=0.998, time_term.cosine_mean>=0.998",
        runs_per="prompt",
    )
    inner = {
        "prior": prior,
        "text_proj": text_proj,
        "decoder": _decoder(size, timestep),
        "super_first": _upscaler(size, timestep, last=False),
        "super_last": _upscaler(size, timestep, last=True),
    }
    fed = {name: replace(part, items=_fed(name, size)) for name, part in inner.items()}
    return {"text": text, "image": image, **fed}


def _decoder(size: Size, timestep: TensorSpec) -> PartRecipe:
    side, tokens = size.decoder.side_px, size.clip.context + karlo_models.CONTEXT_TOKENS
    return PartRecipe(
        inputs=(
            _fixed("sample", 2, 3, side, side),
            timestep,
            _fixed("context", 2, tokens, size.words),
            _fixed("time_term", 2, size.time_width),
            _fixed("attention_mask", 2, tokens, dtype="int64"),
        ),
        output_names=("noise",),
        preprocess=None,
        budget=_NOISE,
        runs_per="step",
    )


def _upscaler(size: Size, timestep: TensorSpec, *, last: bool) -> PartRecipe:
    side = size.upscaler.side_px
    return PartRecipe(
        inputs=(_fixed("sample", 1, 6, side, side), timestep),
        output_names=("noise",),
        preprocess=None,
        budget=_NOISE,
        runs_per="prompt" if last else "step",
    )


def load(size: Size, title: str, hub_id: str, source: str | None) -> Loaded:
    """Make the modules from a hub id, a folder as diffusers saves a pipeline, or 'random'.

    Raises:
        JetliftError: The weights cannot be had or do not fit the model.
    """
    seed = random_weights.seed_of(source)
    if seed is not None:
        stats = karlo_weights.random_stats(size, seed)
        tokenizer = clip_bpe.tokenizer_json(clip_bpe.merges(size.clip.merges))
        described = random_weights.describe(seed, title)
        model = partial(karlo_weights.random_model, size=size, seed=seed)
    else:
        folders = _folders(source or hub_id)
        stats = karlo_weights.published_stats(size, folders["prior"])
        tokenizer = karlo_weights.tokenizer_json(size, folders["prior"].parent / "tokenizer")
        described = _described(source or hub_id, folders, hub_id)
        model = _published(size, folders)
    modules = karlo_weights.Parts(lambda part: karlo_models.wrapped(part, model(part), size))
    assets: dict[str, Path | bytes] = {
        TOKENIZER: tokenizer,
        STATS: karlo_weights.stats_file(stats),
    }
    return Loaded(described, modules, assets, unclip=form(size))


def _published(size: Size, folders: dict[str, Path]) -> Any:  # noqa: ANN401 - a function
    def model(part: str) -> Any:  # noqa: ANN401 - diffusers ships no types
        return karlo_weights.published_model(part, size, folders[part])

    return model


def _folders(source: str) -> dict[str, Path]:
    """The folder of each part (rule K3 of karlo_weights)."""
    root = weights.local_or_hub(source, _WANTED)
    if root.is_file():
        raise InputError(
            f"{root} is one file", expected="A folder as diffusers saves an UnCLIPPipeline"
        )
    folders = {part: root / name for part, name in karlo_weights.FOLDERS.items()}
    missing = [path.name for part, path in folders.items() if part != "image" and not path.is_dir()]
    if missing:
        raise InputError(
            f"{root} has no folder {', '.join(missing)}",
            expected="A folder as diffusers saves an UnCLIPPipeline",
        )
    if not folders["image"].is_dir():
        name = karlo_weights.FOLDERS["image"]
        wanted = (f"{name}/config.json", f"{name}/*.safetensors")
        folders["image"] = weights.local_or_hub(karlo_weights.IMAGE_HUB_ID, wanted) / name
    return folders


def _described(source: str, folders: dict[str, Path], hub_id: str) -> Weights:
    """The manifest's word on a checkpoint of several files: it has the hash of the prior's."""
    file = weights.weights_file(folders["prior"])
    described = weights.describe(source, file, hub_id=hub_id, licence=LICENCE)
    note = "The SHA-256 is that of the prior's file"
    if folders["image"].parent != folders["prior"].parent:
        note += f"; the encoder of pictures is from {karlo_weights.IMAGE_HUB_ID}"
    return Weights(described.source, described.licence, described.sha256, note, described.random)


def form(size: Size) -> UnClip:
    """How the parts make a picture, for the manifest.

    Sources: scheduler_config.json of the prior (clip_sample_range 5, sample), of the decoder and of
    the enlargement (1, epsilon); defaults of diffusers' UnCLIPPipeline.
    """
    return UnClip(
        text="text", image="image", prior="prior", text_proj="text_proj", decoder="decoder",
        super_first="super_first", super_last="super_last", clip_stats=STATS,
        prior_steps=25, decoder_steps=25, super_steps=7,
        prior_guidance=4.0, decoder_guidance=8.0, prior_clip=5.0, train_steps=size.train_steps,
    )  # fmt: skip


def recipe(name: str, title: str, size: Size, hub_id: str, parameters: int) -> Recipe:
    """One size as a recipe."""
    return Recipe(
        name=name,
        title=title,
        tasks=("text-to-image", "variations"),
        hub_id=hub_id,
        licence=LICENCE,
        packaged=None,
        parameters=parameters,
        parts=parts(size),
        load=partial(load, size, title, hub_id),
        random=True,
    )


RECIPES = (recipe("karlo", "karlo v1 alpha (unCLIP)", KARLO, HUB_ID, PARAMETERS),)
