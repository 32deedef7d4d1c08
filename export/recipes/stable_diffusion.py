"""Stable Diffusion: pictures from words, by latent diffusion.

Rombach et al., High-Resolution Image Synthesis with Latent Diffusion Models, arXiv 2112.10752.
`sd15`: version 1.5, text encoder of CLIP ViT-L/14. `sd15-inpaint`: its UNet of nine channels, which
also sees the mask and the masked picture. `sd-turbo`: version 2.1 distilled to one to four steps
without guidance (Sauer et al., arXiv 2311.17042), text encoder of OpenCLIP ViT-H/14 without its
last layer. Sizes and their sources: stable_diffusion_sizes.py.

Parts: `text_encoder` once per prompt, `unet` once per step, both prompts of a guided step as one
batch of two, `vae_decoder` once per picture, `vae_encoder` for a picture that is given. Pictures
are 512 x 512, as the models were trained. What the device does between is runtime/diffusion.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from jetlift.export import random_weights
from jetlift.export.recipes import clip_bpe
from jetlift.export.recipes import stable_diffusion_weights as published
from jetlift.export.recipes.base import Loaded, PartRecipe, Recipe, picture_input, read_by
from jetlift.export.recipes.stable_diffusion_sizes import (
    LATENTS,
    SD15,
    SD15_INPAINT,
    TURBO,
    Size,
    text_config,
    unet_config,
    vae_config,
)
from jetlift.runtime.manifest import ImagePreprocess, TensorSpec, TextPreprocess
from jetlift.runtime.task_forms import Diffusion

_SAMPLES = "stable_diffusion_samples"
TOKENIZER = "assets/tokenizer.json"
_PAIR = 2  # a guided step asks with and without the words
RAIL = "CreativeML OpenRAIL-M"
STABILITY = "Stability AI Community License (https://stability.ai/license)"


@dataclass(frozen=True)
class Defaults:
    """What a user gets who names nothing.

    Attributes:
        scheduler: One of runtime/diffusion.
        steps: Its steps.
        guidance: Weight of the words.
        strength: How far a given picture is changed.
        spacing: Of timesteps, where no checkpoint says it.
    """

    scheduler: Any
    steps: int
    guidance: float
    strength: float
    spacing: Any = None


def preprocess(size: Size) -> ImagePreprocess:
    """A given picture: its centre square, from -1 to 1.

    A picture of the model's size is taken as VaeImageProcessor of diffusers takes it; another is
    resized with Pillow's bicubic filter where diffusers has Lanczos'.
    """
    side = size.picture_px
    return ImagePreprocess(
        kind="image",
        input="pixel_values",
        size_wh=(side, side),
        fit="crop",
        resize_short=side,
        resample="bicubic_antialias",
        colour="rgb",
        scale=1 / 255,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    )


def _batched(
    name: str,
    shape: tuple[int, ...],
    usual: int = 1,
    dtype: Any = "float32",  # noqa: ANN401
) -> TensorSpec:
    """An input of batch 1 or 2."""
    return TensorSpec(
        name=name,
        dtype=dtype,
        shape=("batch", *shape),
        min_shape=(1, *shape),
        opt_shape=(usual, *shape),
        max_shape=(_PAIR, *shape),
    )


def parts(size: Size, *, guided: bool = True) -> dict[str, PartRecipe]:
    """The four parts of one size; `guided` where a usual step asks with and without the words."""
    side, context, usual = size.latent_px, size.context, _PAIR if guided else 1
    text = TextPreprocess(
        kind="text", tokenizer=TOKENIZER, max_tokens=context, ids="input_ids",
        pad_to=context, pad_id=size.pad_id,
    )  # fmt: skip
    text_encoder = PartRecipe(
        inputs=(_batched("input_ids", (context,), 1, "int64"),),
        output_names=("hidden_states",),
        preprocess=text,
        budget="hidden_states.cosine_mean>=0.998, hidden_states.cosine_min>=0.99",
        runs_per="prompt",
    )
    unet = PartRecipe(
        inputs=(
            _batched("latents", (size.unet_inputs, side, side), usual),
            TensorSpec(name="timestep", dtype="float32", shape=(1,)),
            _batched("hidden_states", (context, size.text[0]), usual),
        ),
        output_names=("noise_pred",),
        preprocess=None,
        budget="noise_pred.cosine_mean>=0.998, noise_pred.cosine_min>=0.99",
        items=read_by(
            _SAMPLES,
            "unet_items",
            picture=preprocess(size),
            text=text,
            masked=size.masked,
        ),
        runs_per="step",
    )
    decoder = PartRecipe(
        inputs=(_batched("latents", (LATENTS, side, side)),),
        output_names=("picture",),
        preprocess=None,
        budget="picture.cosine_mean>=0.999, picture.cosine_min>=0.995",
        items=read_by(_SAMPLES, "decoder_items", spec=preprocess(size)),
    )
    encoder = PartRecipe(
        inputs=(replace(picture_input(size.picture_px), max_shape=_square(size, _PAIR)),),
        output_names=("mean", "deviation"),
        preprocess=preprocess(size),
        budget="mean.cosine_mean>=0.998, mean.cosine_min>=0.99",
    )
    return {
        "text_encoder": text_encoder,
        "unet": unet,
        "vae_decoder": decoder,
        "vae_encoder": encoder,
    }


def _square(size: Size, batch: int) -> tuple[int, ...]:
    return batch, 3, size.picture_px, size.picture_px


def facts(size: Size, schedule: published.Schedule, defaults: Defaults) -> Diffusion:
    """How its parts make pictures."""
    return Diffusion(
        text_encoder="text_encoder",
        unet="unet",
        vae_decoder="vae_decoder",
        vae_encoder="vae_encoder",
        latent_shape=(LATENTS, size.latent_px, size.latent_px),
        size_wh=(size.picture_px, size.picture_px),
        train_steps=schedule.train_steps,
        beta_schedule=schedule.beta_schedule,
        beta_start=schedule.beta_start,
        beta_end=schedule.beta_end,
        prediction=schedule.prediction,
        spacing=schedule.spacing,
        steps_offset=schedule.steps_offset,
        final_alpha_one=schedule.final_alpha_one,
        scheduler=defaults.scheduler,
        steps=defaults.steps,
        guidance=defaults.guidance,
        strength=defaults.strength,
        masked=size.masked,
    )


# Steps, guidance and strength as in the examples of the models' pages and of diffusers' pipelines;
# of the schedulers here DPM-Solver++ needs the fewest steps. sd15's own, PNDM, is not among them.
USUAL = Defaults("dpm++", 25, 7.5, 0.8)
FEW = Defaults("euler", 1, 1.0, 0.5, "trailing")


@dataclass(frozen=True)
class Origin:
    """Where a checkpoint comes from: its title, its hub id and its licence."""

    title: str
    hub_id: str
    licence: str = RAIL


def load(size: Size, defaults: Defaults, origin: Origin, source: str | None) -> Loaded:
    """Build the modules from a hub id, a folder as diffusers saves it, or the word 'random'.

    Raises:
        JetliftError: The weights cannot be had or do not fit the model.
    """
    from jetlift.export.recipes import stable_diffusion_modules as modules

    seed = random_weights.seed_of(source)
    configs = published.Configs(text_config(size), unet_config(size), vae_config(size))
    if seed is not None:
        models = published.drawn(configs, seed)
        described = random_weights.describe(seed, origin.title)
        tokenizer = clip_bpe.tokenizer_json(clip_bpe.merges(size.merges))
        schedule = published.Schedule(spacing=defaults.spacing)
    else:
        name = source or origin.hub_id
        checkpoint = published.Checkpoint.open(name)
        models = checkpoint.models(configs, origin.title)
        described = checkpoint.describe(name, origin.hub_id, origin.licence)
        tokenizer = checkpoint.tokenizer(size.pad_id)
        schedule = checkpoint.schedule()
    built = {
        "text_encoder": modules.TextEncoder(models.text).eval(),
        "unet": modules.Unet(models.unet).eval(),
        "vae_decoder": modules.VaeDecoder(models.vae).eval(),
        "vae_encoder": modules.VaeEncoder(models.vae).eval(),
    }
    form = facts(size, schedule, defaults)
    return Loaded(described, built, {TOKENIZER: tokenizer}, diffusion=form)


def recipe(
    name: str, size: Size, origin: Origin, parameters: int, defaults: Defaults = USUAL
) -> Recipe:
    """One checkpoint as a recipe."""
    return Recipe(
        name=name,
        title=origin.title,
        tasks=("inpaint",) if size.masked else ("text-to-image", "image-to-image", "inpaint"),
        hub_id=origin.hub_id,
        licence=origin.licence,
        packaged=None,
        parameters=parameters,
        parts=parts(size, guided=defaults.guidance > 1),
        load=partial(load, size, defaults, origin),
        random=True,
    )


_OWNER = "stable-diffusion-v1-5"
RECIPES = (
    recipe("sd15", SD15,
           Origin("Stable Diffusion 1.5", f"{_OWNER}/stable-diffusion-v1-5"), 1_066_235_307),
    recipe("sd15-inpaint", SD15_INPAINT,
           Origin("Stable Diffusion 1.5 inpainting", f"{_OWNER}/stable-diffusion-inpainting"),
           1_066_249_707),
    recipe("sd-turbo", TURBO, Origin("SD-Turbo", "stabilityai/sd-turbo", STABILITY),
           1_289_952_427, FEW),
)  # fmt: skip
