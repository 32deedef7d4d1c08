"""A given picture changed as words say; see diffusion.py for fields and rules.

The picture's centre square is taken, as the bundle's preprocessing says.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from jetlift.runtime.diffusion import make_scheduler
from jetlift.runtime.diffusion.latent import start_of
from jetlift.runtime.errors import UsageError
from jetlift.runtime.imaging import ImagingOptions
from jetlift.runtime.manifest import ImagePreprocess
from jetlift.runtime.preprocess import prepare_image
from jetlift.runtime.sources import Frame
from jetlift.runtime.tasks.diffusion import Begin, DiffusionTask, facts_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import numpy.typing as npt

    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.session.base import Session
    from jetlift.runtime.tasks.base import Item, Task
    from jetlift.runtime.tasks.diffusion import Settings

    Floats = npt.NDArray[np.float32]


class PictureTask(DiffusionTask):
    """A picture in and a prompt beside it, a picture out."""

    def _prompt_of(self, item: Item) -> str:
        del item
        return self._options.prompts[0]

    def _check_options(self) -> None:
        if len(self._options.prompts) != 1:
            raise UsageError(
                f"Task {self.name} got {len(self._options.prompts)} prompts",
                expected="One that says what is to be seen: --prompt 'a red tractor'",
            )

    def _parts(self) -> tuple[str, ...]:
        return (*super()._parts(), self._facts.vae_encoder)

    def _pixels(self, item: Item) -> Floats:
        """An input as the encoder takes it, float32 [1, 3, height, width], RGB from -1 to 1."""
        if not isinstance(item, Frame):
            raise UsageError(f"Task {self.name} got no picture", expected="A picture")
        return prepare_image(item.image_bgr, self._spec)

    @property
    def _spec(self) -> ImagePreprocess:
        spec = self._bundle.part(self._facts.vae_encoder)[1].preprocess
        if not isinstance(spec, ImagePreprocess):
            raise UsageError(
                f"Part {self._facts.vae_encoder} reads no pictures", expected="A part for pictures"
            )
        return spec

    def _changed(self, strength: float) -> Settings:
        settings = self._usual(strength)
        return replace(settings, start=start_of(settings.steps, strength))

    def _noised(self, clean: Floats, noise: Floats) -> Floats:
        """A picture's latents at the first timestep that is taken."""
        settings = self._settings
        solver = make_scheduler(self._facts, settings.scheduler, settings.steps, settings.start)
        return solver.noised(clean, noise, float(solver.timesteps[0]))


class ImageToImageTask(PictureTask):
    """The whole picture is changed."""

    name = "image-to-image"

    def _check_options(self) -> None:
        super()._check_options()
        self._refuse({"--mask": self._options.mask})

    def _agreed(self) -> Settings:
        given = self._options.strength
        return self._changed(self._facts.strength if given is None else given)

    def _begin(self, item: Item, rng: np.random.Generator) -> Begin:
        clean = self._model.encoded(self._pixels(item), rng)
        noise = self._model.noise(rng)
        return Begin(self._noised(clean, noise), noise)


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
    return ImageToImageTask(bundle, {**(others or {}), own: session}, options or ImagingOptions())
