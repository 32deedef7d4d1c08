"""Samples of Stable Diffusion's parts: a folder of pictures, and of prompts in .txt files.

text_encoder  the prompts
vae_encoder   the pictures
vae_decoder   the latents that fp32's encoder makes of the pictures
unet          these latents with noise, at timesteps spread over the schedule, each picture with one
              of the prompts: what the UNet was trained on
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jetlift.export.samples import Item
from jetlift.runtime.diffusion.base import NoiseSchedule, draw, noise_stream
from jetlift.runtime.errors import InputError
from jetlift.runtime.preprocess import prepare_image
from jetlift.runtime.session import open_onnx
from jetlift.runtime.sources import open_source
from jetlift.runtime.text import TextPreparer
from jetlift.runtime.texts import open_texts

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from jetlift.export.samples import ItemContext
    from jetlift.runtime.manifest import ImagePreprocess, TextPreprocess

    Floats = npt.NDArray[np.float32]

TIMESTEPS = (951, 751, 551, 351, 151, 1)


@dataclass(frozen=True)
class _Encoded:
    """A picture's digest, its latents, and for a masked UNet what it sees of the picture."""

    digest: str
    latents: Floats
    seen: tuple[Floats, ...]


def decoder_items(context: ItemContext, spec: ImagePreprocess) -> list[Item]:
    """Latents of the pictures."""
    encoded = _encoded(context, spec, masked=False)
    return [Item(item.digest, ({"latents": item.latents},)) for item in encoded]


def unet_items(
    context: ItemContext, picture: ImagePreprocess, text: TextPreprocess, *, masked: bool
) -> list[Item]:
    """Latents of the pictures with noise, each with a prompt, at every one of TIMESTEPS."""
    states = _hidden_states(context, text)
    schedule = NoiseSchedule.make("scaled_linear", start=0.00085, end=0.012)
    items = []
    for place, item in enumerate(_encoded(context, picture, masked=masked)):
        noise = draw(noise_stream(place), item.latents.shape)
        feeds = []
        for t in TIMESTEPS:
            signal, deviation = np.sqrt(schedule.kept[t]), np.sqrt(1 - schedule.kept[t])
            noised = (signal * item.latents + deviation * noise).astype(np.float32)
            feeds.append({
                "latents": np.concatenate([noised, *item.seen], axis=1),
                "timestep": np.array([t], np.float32),
                "hidden_states": states[place % len(states)],
            })  # fmt: skip
        items.append(Item(item.digest, tuple(feeds)))
    return items


def _hidden_states(context: ItemContext, spec: TextPreprocess) -> list[Floats]:
    preparer = TextPreparer(spec, context.bundle_folder / spec.tokenizer)
    with (
        open_texts([str(context.folder)]) as source,
        open_onnx(context.files["text_encoder"], library="onnxruntime") as encoder,
    ):
        return [encoder.run(preparer([item.text]))["hidden_states"] for item in source]


def _encoded(context: ItemContext, spec: ImagePreprocess, *, masked: bool) -> Iterator[_Encoded]:
    """Every picture by fp32's encoder; the mask of a masked UNet is the picture's middle."""
    with (
        open_source([str(context.folder)]) as source,
        open_onnx(context.files["vae_encoder"], library="onnxruntime") as encoder,
    ):
        for frame in source:
            digest = hashlib.sha256(frame.image_bgr.tobytes()).hexdigest()
            pixels = prepare_image(frame.image_bgr, spec)
            latents: Floats = encoder.run({spec.input: pixels})["mean"]
            seen: tuple[Floats, ...] = ()
            if masked:
                mask = np.zeros_like(latents[:, :1])
                mask[_middle(mask)], pixels[_middle(pixels)] = 1.0, 0.0
                seen = (mask, encoder.run({spec.input: pixels})["mean"])
            yield _Encoded(digest, latents, seen)
        if source.skipped:
            raise InputError(
                f"{source.skipped[0].source} cannot be read: {source.skipped[0].reason}",
                expected="Samples that are all whole, since figures must be repeatable",
                do="Remove it from the samples",
            )


def _middle(planes: Floats) -> tuple[slice, ...]:
    """The middle half of both sides."""
    height, width = planes.shape[2:]
    rows, columns = slice(height // 4, 3 * height // 4), slice(width // 4, 3 * width // 4)
    return slice(None), slice(None), rows, columns
