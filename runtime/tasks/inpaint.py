"""A part of a given picture made anew as words say; see diffusion.py for fields and rules.

The mask has the picture's size, is cut and resized as the picture is, and holds where it is above
127. Outside it the picture is decoded from its own latents, and so is very like, not the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jetlift.runtime.diffusion import make_scheduler
from jetlift.runtime.diffusion.latent import Hold, latent_mask
from jetlift.runtime.errors import InputError, UsageError
from jetlift.runtime.imaging import ImagingOptions
from jetlift.runtime.preprocess import resized_pixels
from jetlift.runtime.sources import Frame
from jetlift.runtime.tasks.diffusion import Begin, facts_of
from jetlift.runtime.tasks.image_to_image import PictureTask

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.session.base import Session
    from jetlift.runtime.tasks.base import Item, Task
    from jetlift.runtime.tasks.diffusion import Settings

    Floats = npt.NDArray[np.float32]

_HALF = 127
_WHOLE = 1.0  # the default strength, as in diffusers' pipeline


class InpaintTask(PictureTask):
    """What the mask covers is made anew."""

    name = "inpaint"

    def _check_options(self) -> None:
        super()._check_options()
        if self._options.mask is None:
            raise UsageError(
                "Task inpaint got no mask",
                expected="A picture that is white where to paint: --mask mask.png",
            )

    def _agreed(self) -> Settings:
        given = self._options.strength
        return self._changed(_WHOLE if given is None else given)

    def _begin(self, item: Item, rng: np.random.Generator) -> Begin:
        """Draws in diffusers' order: the picture, the noise, the masked picture."""
        pixels, mask = self._pixels(item), self._mask(item)
        masked_unet = self._facts.masked
        is_whole = self._settings.strength == _WHOLE
        clean = None if masked_unet and is_whole else self._model.encoded(pixels, rng)
        noise = self._model.noise(rng)
        small = latent_mask(mask, (self._facts.latent_shape[1], self._facts.latent_shape[2]))
        hold = Hold(small, latents=clean)
        if masked_unet:
            left = np.where(mask, np.float32(0), pixels)
            hold = Hold(small, masked=self._model.encoded(left, rng))
        if is_whole or clean is None:
            return Begin(self._from_noise(noise), noise, hold)
        return Begin(self._noised(clean, noise), noise, hold)

    def _from_noise(self, noise: Floats) -> Floats:
        settings = self._settings
        solver = make_scheduler(self._facts, settings.scheduler, settings.steps)
        return np.asarray(noise * np.float32(solver.initial_sigma), np.float32)

    def _mask(self, item: Item) -> npt.NDArray[np.bool_]:
        """The mask at the size of the model's pictures, bool [H, W]."""
        mask = self._options.mask
        if mask is None or not isinstance(item, Frame):
            raise UsageError("Task inpaint got no mask or no picture", expected="One of each")
        if mask.shape != item.image_bgr.shape[:2]:
            raise InputError(
                "The mask is {1}x{0}, but {2} is {4}x{3}".format(
                    *mask.shape, item.source, *item.image_bgr.shape[:2]
                ),
                expected="A mask of the picture's size",
            )
        grey = np.repeat(mask[:, :, None], 3, axis=2)
        return np.asarray(resized_pixels(grey, self._spec)[0] > _HALF)


def open_from(
    bundle: Bundle,
    session: Session,
    _precision: str,
    _part: str | None,
    *,
    others: Mapping[str, Session] | None = None,
    options: ImagingOptions | None = None,
) -> Task:
    """Open the task with sessions of every part; see DiffusionTask."""
    own = facts_of(bundle.manifest).vae_encoder
    return InpaintTask(bundle, {**(others or {}), own: session}, options or ImagingOptions())
