"""diffusers' own pipelines with a recipe's random weights, drawing from jetlift's stream."""

from __future__ import annotations

import contextlib
import warnings
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import torch

from jetlift.export.recipes import clip_bpe
from jetlift.export.recipes import stable_diffusion_sizes as sizes
from jetlift.export.recipes import stable_diffusion_weights as weights
from jetlift.runtime.diffusion.base import draw, noise_stream

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from jetlift.runtime.task_forms import Diffusion

# Where randn_tensor is imported by name and called.
_DRAWING = (
    "diffusers.models.autoencoders.vae",
    "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion",
    "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_img2img",
    "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_inpaint",
)


def drawn(size: sizes.Size, seed: int) -> weights.Models:
    """The three models that `random:SEED` makes."""
    configs = weights.Configs(
        sizes.text_config(size),
        sizes.unet_config(size) | {"sample_size": 64},  # which the pipelines compare with numbers
        sizes.vae_config(size),
    )
    return weights.drawn(configs, seed)


def tokenizer(size: sizes.Size, folder: Any) -> Any:
    """transformers' CLIPTokenizer with the recipe's tokens."""
    from transformers import PreTrainedTokenizerFast

    path = folder / "tokenizer.json"
    path.write_bytes(clip_bpe.tokenizer_json(clip_bpe.merges(size.merges)))
    end = "<|endoftext|>"
    made = PreTrainedTokenizerFast(
        tokenizer_file=str(path), model_max_length=size.context, pad_token=end, eos_token=end
    )
    if not size.pads_with_end:
        made.pad_token = made.convert_ids_to_tokens(0)
    return made


def scheduler(name: str, facts: Diffusion) -> Any:
    """diffusers' scheduler of the bundle's schedule."""
    import diffusers

    classes = {
        "ddim": diffusers.DDIMScheduler,
        "euler": diffusers.EulerDiscreteScheduler,
        "dpm++": diffusers.DPMSolverMultistepScheduler,
    }
    settings: dict[str, Any] = {
        "beta_schedule": facts.beta_schedule, "beta_start": facts.beta_start,
        "beta_end": facts.beta_end, "steps_offset": facts.steps_offset,
        "prediction_type": facts.prediction,
    }  # fmt: skip
    if facts.spacing is not None:
        settings["timestep_spacing"] = facts.spacing
    if name == "ddim":
        settings |= {"clip_sample": False, "set_alpha_to_one": facts.final_alpha_one}
    return classes[name](**settings)


def pipeline(kind: str, models: weights.Models, tokens: Any, solver: Any) -> Any:
    """One of diffusers' three pipelines."""
    import diffusers

    classes = {
        "text-to-image": diffusers.StableDiffusionPipeline,
        "image-to-image": diffusers.StableDiffusionImg2ImgPipeline,
        "inpaint": diffusers.StableDiffusionInpaintPipeline,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = classes[kind](
            vae=models.vae, text_encoder=models.text, tokenizer=tokens, unet=models.unet,
            scheduler=solver, safety_checker=None, feature_extractor=None,
            requires_safety_checker=False,
        )  # fmt: skip
    made.set_progress_bar_config(disable=True)
    return made


@contextlib.contextmanager
def drawing(seed: int) -> Iterator[None]:
    """diffusers draws what jetlift draws from this seed."""
    rng = noise_stream(seed)

    def drawn_tensor(shape: Any, **_options: Any) -> torch.Tensor:
        return torch.from_numpy(draw(rng, tuple(shape)))

    with contextlib.ExitStack() as stack:
        for module in _DRAWING:
            stack.enter_context(mock.patch(f"{module}.randn_tensor", drawn_tensor))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        yield


def as_bgr(picture: Any) -> npt.NDArray[np.uint8]:
    """A Pillow picture as OpenCV has it."""
    return np.ascontiguousarray(np.asarray(picture)[:, :, ::-1])
