"""karlo's seven models in the words of transformers and diffusers, by size.

Configurations of the published checkpoint: https://huggingface.co/kakaobrain/karlo-v1-alpha, the
config.json of each folder, and of image_encoder in -v1-alpha-image-variations; they equal the
configurations in huggingface/diffusers@58eb52c:scripts/convert_kakao_brain_unclip_to_diffusers.py,
which made that checkpoint of kakaobrain/karlo's own (configs/*.yaml at 3c68a50).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.export.recipes import clip

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

    Array = npt.NDArray[Any]

CONTEXT_TOKENS = 4  # that a picture's embedding becomes, before those of the words


@dataclass(frozen=True)
class Transformer:
    """The prior: heads, length of a head, layers."""

    heads: int
    head: int
    layers: int


@dataclass(frozen=True)
class Unet:
    """A U-Net on square pictures.

    Attributes:
        side_px: Side of its pictures.
        channels: Per level, finest first.
        layers: Residual blocks per level.
        head: Length of an attention head; of the decoder alone.
    """

    side_px: int
    channels: tuple[int, ...]
    layers: int
    head: int = 64


@dataclass(frozen=True)
class Size:
    """One size of the whole.

    Attributes:
        clip: The two encoders; both sides' embeddings and the words' hidden states are of one
            length.
        prior: Words to embedding.
        words: Length of a token in the decoder's context.
        decoder: Embedding to a small picture.
        upscaler: That to a large one; there are two of it.
        train_steps: Timesteps each was trained with.
    """

    clip: clip.Size
    prior: Transformer
    words: int
    decoder: Unet
    upscaler: Unet
    train_steps: int = 1000

    @property
    def width(self) -> int:
        """Length of an embedding."""
        return self.clip.embedding

    @property
    def time_width(self) -> int:
        """Length of the decoder's time term."""
        return 4 * self.decoder.channels[0]


CHANNELS = (320, 640, 960, 1280)
KARLO = Size(clip.L14, Transformer(32, 64, 20), 1536, Unet(64, CHANNELS, 3), Unet(256, CHANNELS, 3))
# For tests: no published weights have it.
_TINY_CLIP = clip.Size(32, 8, clip.Tower(32, 2, 2), clip.Tower(24, 2, 2), 24, 1024, merges=0)
TINY = Size(
    _TINY_CLIP, Transformer(2, 16, 2), 32, Unet(16, (32, 64), 1, head=16), Unet(32, (32, 64), 1)
)


def prior_config(size: Size) -> dict[str, Any]:
    """Arguments of PriorTransformer."""
    return {
        "num_attention_heads": size.prior.heads,
        "attention_head_dim": size.prior.head,
        "num_layers": size.prior.layers,
        "embedding_dim": size.width,
        "num_embeddings": size.clip.context,
        "additional_embeddings": 4,
    }


def text_proj_config(size: Size) -> dict[str, Any]:
    """Arguments of UnCLIPTextProjModel."""
    return {
        "clip_extra_context_tokens": CONTEXT_TOKENS,
        "clip_embeddings_dim": size.width,
        "time_embed_dim": size.time_width,
        "cross_attention_dim": size.words,
    }


def decoder_config(size: Size) -> dict[str, Any]:
    """Arguments of UNet2DConditionModel: attention at every level but the finest."""
    coarser = len(size.decoder.channels) - 1
    return _unet(size.decoder) | {
        "down_block_types": [
            "ResnetDownsampleBlock2D",
            *["SimpleCrossAttnDownBlock2D"] * coarser,
        ],
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
        "up_block_types": [*["SimpleCrossAttnUpBlock2D"] * coarser, "ResnetUpsampleBlock2D"],
        "in_channels": 3,
        "out_channels": 6,
        "cross_attention_dim": size.words,
        "class_embed_type": "identity",
        "attention_head_dim": size.decoder.head,
        "resnet_time_scale_shift": "scale_shift",
    }


def super_config(size: Size) -> dict[str, Any]:
    """Arguments of UNet2DModel: no attention."""
    levels = len(size.upscaler.channels)
    return _unet(size.upscaler) | {
        "down_block_types": ["ResnetDownsampleBlock2D"] * levels,
        "up_block_types": ["ResnetUpsampleBlock2D"] * levels,
        "in_channels": 6,
        "out_channels": 3,
        "add_attention": False,
    }


def _unet(unet: Unet) -> dict[str, Any]:
    return {
        "sample_size": unet.side_px,
        "block_out_channels": list(unet.channels),
        "layers_per_block": unet.layers,
    }


def configs(size: Size) -> dict[str, Mapping[str, Any]]:
    """Arguments of diffusers' models by part; the encoders are transformers' own."""
    return {
        "prior": prior_config(size),
        "text_proj": text_proj_config(size),
        "decoder": decoder_config(size),
        "super_first": super_config(size),
        "super_last": super_config(size),
    }


def make(part: str, size: Size) -> Any:  # noqa: ANN401 - diffusers ships no types
    """One of diffusers' models, its weights as it initialises them."""
    return _architecture(part)(**configs(size)[part])


def make_empty(part: str, size: Size) -> Any:  # noqa: ANN401 - as before
    """The same without memory for its weights, but with what is computed of the sizes."""
    import torch

    with torch.device("meta"):
        model = make(part, size)
    if part == "prior":  # its mask is no weight: no token looks at a later one
        shape = model.causal_attention_mask.shape
        model.causal_attention_mask = torch.full(shape, -10000.0).triu_(1)
    return model


def _architecture(part: str) -> Callable[..., Any]:
    from diffusers import PriorTransformer, UNet2DConditionModel, UNet2DModel
    from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel

    known: dict[str, Callable[..., Any]] = {
        "prior": PriorTransformer,
        "text_proj": UnCLIPTextProjModel,
        "decoder": UNet2DConditionModel,
        "super_first": UNet2DModel,
        "super_last": UNet2DModel,
    }
    return known[part]


def encoder_config(part: str, size: Size) -> Any:  # noqa: ANN401 - transformers ships no types
    """The configuration of `text` or `image` in transformers' words."""
    whole = clip.config_of(size.clip)
    return whole.text_config if part == "text" else whole.vision_config


def encoder_architecture(part: str) -> Any:  # noqa: ANN401 - as before
    """The class of `text` or `image` in transformers."""
    from transformers import CLIPTextModelWithProjection, CLIPVisionModelWithProjection

    return CLIPTextModelWithProjection if part == "text" else CLIPVisionModelWithProjection


def wrapped(part: str, model: Any, size: Size) -> Any:  # noqa: ANN401 - torch is imported inside
    """A model as the module that is exported, in eval mode."""
    from jetlift.export.recipes import karlo_modules as modules

    if part == "text":
        return modules.WordEncoder(model, end=size.clip.end, longest=size.clip.context).eval()
    if part == "image":
        return modules.PictureEncoder(model).eval()
    if part == "text_proj":
        return modules.Conditions(model).eval()
    step = {"prior": modules.PriorStep, "decoder": modules.DecoderStep}.get(part, modules.SuperStep)
    return step(model, size.train_steps).eval()


def stats_of(model: Any) -> Array:  # noqa: ANN401 - as before
    """Mean and standard deviation of the prior's embeddings, float32 [2, D]."""
    rows = (model.clip_mean, model.clip_std)
    return np.concatenate([row.detach().float().numpy() for row in rows])
