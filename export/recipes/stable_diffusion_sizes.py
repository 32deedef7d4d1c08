"""Sizes of Stable Diffusion's models, and what they are in the words of their config.json files.

Read in copies of the published files: bigdataai-lab/stable-diffusion-v1-5@3beed0b (unet/, vae/,
text_encoder/config.json), jack-op11/stable-diffusion-inpainting@1855202 (unet/config.json, nine
input channels) and jack-op11/stable-diffusion-2-1-base@1f75838 (unet/, text_encoder/config.json).
SD-Turbo is distilled from version 2.1 and keeps its sizes; no copy of its own files was at hand.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

LATENTS = 4  # channels


@dataclass(frozen=True)
class Size:
    """One size of Stable Diffusion.

    Attributes:
        text: Width, layers and heads of the text encoder; its MLP is four times as wide.
        activation: Of the text encoder.
        pads_with_end: Whether short prompts are filled up with the end token; else with token 0.
        channels: The UNet's width per level; all but the last level attend to the words.
        heads: Attention heads per level, or the same number on all.
        linear: Whether attention is entered by linear layers instead of 1 x 1 convolutions.
        unet_layers: Residual blocks per level of the UNet.
        unet_inputs: Channels of the UNet's input: 4, or 9 with the mask and the masked picture.
        vae_channels: The VAE's width per level; a level less halves the picture.
        vae_layers: Residual blocks per level of the VAE.
        groups: Groups of every group normalisation.
        picture_px: Side of a picture.
        vocabulary: Rows of the table of tokens.
        merges: Merges of the tokenizer.
        context: Tokens of a prompt, begin and end included.
    """

    text: tuple[int, int, int]
    activation: str
    pads_with_end: bool
    channels: tuple[int, ...] = (320, 640, 1280, 1280)
    heads: int | tuple[int, ...] = 8
    linear: bool = False
    unet_layers: int = 2
    unet_inputs: int = 4
    vae_channels: tuple[int, ...] = (128, 256, 512, 512)
    vae_layers: int = 2
    groups: int = 32
    picture_px: int = 512
    vocabulary: int = 49_408
    merges: int = 48_894
    context: int = 77

    @property
    def latent_px(self) -> int:
        """Side of a picture's latents."""
        return int(self.picture_px // 2 ** (len(self.vae_channels) - 1))

    @property
    def pad_id(self) -> int:
        """Token that fills up short prompts; the end token comes last of all (see CLIP's Size)."""
        return 2 * 256 + self.merges + 1 if self.pads_with_end else 0

    @property
    def masked(self) -> bool:
        """Whether the UNet also takes the mask and the latents of the masked picture."""
        return self.unet_inputs > LATENTS


SD15 = Size((768, 12, 12), "quick_gelu", pads_with_end=True)
SD15_INPAINT = replace(SD15, unet_inputs=9)
TURBO = Size((1024, 23, 16), "gelu", pads_with_end=False, heads=(5, 10, 20, 20), linear=True)
# For tests: no published weights have it. Its tokens are bytes, so that it needs no package.
TINY = Size(
    (24, 2, 2), "quick_gelu", pads_with_end=True, channels=(16, 32), heads=2, unet_layers=1,
    vae_channels=(8, 8, 16), vae_layers=1, groups=4, picture_px=32, vocabulary=1024, merges=0,
)  # fmt: skip
TINY_TURBO = replace(TINY, activation="gelu", pads_with_end=False, heads=(2, 4), linear=True)
TINY_INPAINT = replace(TINY, unet_inputs=9)


def text_config(size: Size) -> dict[str, Any]:
    """text_encoder/config.json, as far as it sizes the model."""
    width, layers, heads = size.text
    return {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "hidden_act": size.activation,
        "vocab_size": size.vocabulary,
        "max_position_embeddings": size.context,
    }


def unet_config(size: Size) -> dict[str, Any]:
    """unet/config.json, as far as it sizes the model."""
    levels = len(size.channels)
    return {
        "in_channels": size.unet_inputs,
        "out_channels": LATENTS,
        "block_out_channels": list(size.channels),
        "down_block_types": ["CrossAttnDownBlock2D"] * (levels - 1) + ["DownBlock2D"],
        "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * (levels - 1),
        "layers_per_block": size.unet_layers,
        "norm_num_groups": size.groups,
        "cross_attention_dim": size.text[0],
        "attention_head_dim": size.heads if isinstance(size.heads, int) else list(size.heads),
        "use_linear_projection": size.linear,
    }


def vae_config(size: Size) -> dict[str, Any]:
    """vae/config.json, as far as it sizes the model."""
    levels = len(size.vae_channels)
    return {
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": LATENTS,
        "block_out_channels": list(size.vae_channels),
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "layers_per_block": size.vae_layers,
        "norm_num_groups": size.groups,
    }
