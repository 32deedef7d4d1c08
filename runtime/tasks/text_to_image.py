"""Pictures from words, one input per prompt; see diffusion.py for fields and rules.

An unCLIP model has a way of its own, in unclip.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jetlift.runtime.diffusion import make_scheduler
from jetlift.runtime.errors import UsageError
from jetlift.runtime.imaging import ImagingOptions
from jetlift.runtime.tasks.diffusion import Begin, DiffusionTask, facts_of
from jetlift.runtime.tasks.unclip import open_words
from jetlift.runtime.texts import TextItem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.session.base import Session
    from jetlift.runtime.tasks.base import Item, Task
    from jetlift.runtime.tasks.diffusion import Settings


class TextToImageTask(DiffusionTask):
    """Words in, a picture out."""

    name = "text-to-image"

    def _prompt_of(self, item: Item) -> str:
        if not isinstance(item, TextItem):
            raise UsageError(f"Task {self.name} got no text", expected="A prompt")
        return item.text

    def _begin(self, item: Item, rng: np.random.Generator) -> Begin:
        del item
        settings, noise = self._settings, self._model.noise(rng)
        solver = make_scheduler(self._facts, settings.scheduler, settings.steps)
        return Begin(np.asarray(noise * np.float32(solver.initial_sigma), np.float32), noise)

    def _check_options(self) -> None:
        options = self._options
        self._refuse(
            {
                "--prompt": options.prompts or None,
                "--mask": options.mask,
                "--strength": options.strength,
            }
        )

    def _agreed(self) -> Settings:
        return self._usual()


def open_from(
    bundle: Bundle,
    session: Session,
    precision: str,
    part: str | None,
    *,
    others: Mapping[str, Session] | None = None,
    options: ImagingOptions | None = None,
) -> Task:
    """Open the task with sessions of every part; see DiffusionTask."""
    if bundle.manifest.unclip is not None:
        return open_words(bundle, session, precision, part, others=others, options=options)
    own = facts_of(bundle.manifest).text_encoder
    return TextToImageTask(bundle, {**(others or {}), own: session}, options or ImagingOptions())
