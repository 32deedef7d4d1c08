"""What text-to-image, image-to-image and inpaint share, with a latent diffusion model.

Fields: `prompt`, `negative` (null without guidance), `seeds`, one per picture, `steps`, `guidance`,
`scheduler`, `strength` (null where no picture is given) and `size_wh`. Images: `image`, or
`image-1`, `image-2` where several were asked for, and `step-05` and so on for what the model takes
for the clean picture on its way.

Rules:
    V1  Picture n of an input draws from seed + n, and each input begins with the same seed, so that
        every picture can be made again alone.
    V2  Without guidance, which is 1 or less, a negative prompt would change nothing: it is refused.
    V3  Options that the task has no use for are refused, never left out.
"""

from __future__ import annotations

import math
import secrets
from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jetlift.runtime.diffusion import make_scheduler
from jetlift.runtime.diffusion.base import noise_stream
from jetlift.runtime.diffusion.latent import LatentModel, PromptReader
from jetlift.runtime.errors import UsageError
from jetlift.runtime.tasks.base import Outcome, Task, place_of
from jetlift.runtime.tasks.unclip import shown_steps

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import numpy.typing as npt

    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.diffusion.latent import Hold
    from jetlift.runtime.imaging import ImagingOptions
    from jetlift.runtime.manifest import Manifest
    from jetlift.runtime.session.base import Session
    from jetlift.runtime.task_forms import Diffusion
    from jetlift.runtime.tasks.base import Item

    Floats = npt.NDArray[np.float32]
    Pictures = dict[str, npt.NDArray[np.uint8]]


@dataclass(frozen=True)
class Settings:
    """What the user and the model agree on.

    Attributes:
        steps: Of the whole schedule.
        start: Steps that are left out of it.
        guidance: Weight of the words.
        scheduler: Name of the solver.
        strength: How far a given picture is changed; None where there is none.
    """

    steps: int
    start: int
    guidance: float
    scheduler: str
    strength: float | None


@dataclass(frozen=True, eq=False)
class Begin:
    """Where a picture begins: latents, the noise in them, and what is to stay."""

    latents: Floats
    noise: Floats
    hold: Hold | None = None


class DiffusionTask(Task):
    """Pictures by a latent diffusion model.

    Args:
        bundle: A verified bundle of such a model.
        sessions: Open sessions by part; the caller closes them.
        options: What the user says of the pictures.

    Raises:
        UsageError: The model is none of these, a session is missing, or an option is of no use.
        UnknownNameError: There is no such scheduler.
        BundleError: The tokenizer cannot be read.
        MissingPackageError: `tokenizers` is not installed.
    """

    def __init__(
        self, bundle: Bundle, sessions: Mapping[str, Session], options: ImagingOptions
    ) -> None:
        self._facts = facts_of(bundle.manifest)
        self._options, self._bundle = options, bundle
        self._check_sessions(sessions)
        self._check_options()
        self._settings = self._agreed()
        make_scheduler(self._facts, self._settings.scheduler, self._settings.steps)  # or refused
        part = self._facts.text_encoder
        self._reader = PromptReader(bundle, part, sessions[part])
        self._model = LatentModel(self._facts, sessions)

    @abstractmethod
    def _prompt_of(self, item: Item) -> str:
        """What is to be seen."""

    @abstractmethod
    def _begin(self, item: Item, rng: np.random.Generator) -> Begin:
        """Where the picture of an input begins."""

    @abstractmethod
    def _check_options(self) -> None:
        """Refuse options that this task has no use for (rule V3)."""

    @abstractmethod
    def _agreed(self) -> Settings:
        """Options and the model's own choices together."""

    def process(self, item: Item) -> Outcome:
        """Make the pictures of one input; see Task.process.

        Raises:
            InputError: A prompt is blank or too long, a picture cannot be used.
        """
        options, settings = self._options, self._settings
        prompt = self._prompt_of(item)
        states = self._states(prompt)
        first = secrets.randbits(32) if options.seed is None else options.seed
        seeds = [first + number for number in range(options.count)]  # V1
        images: Pictures = {}
        for number, seed in enumerate(seeds, 1):
            suffix = f"-{number}" if options.count > 1 else ""
            made = self._made(item, states, seed)
            images |= {f"{name}{suffix}": picture for name, picture in made.items()}
        fields = {
            "prompt": prompt,
            "negative": (options.negative or "") if settings.guidance > 1 else None,
            "seeds": seeds,
            "steps": settings.steps,
            "guidance": settings.guidance,
            "scheduler": settings.scheduler,
            "strength": settings.strength,
            "size_wh": list(self._facts.size_wh),
        }
        return Outcome(place_of(item) | fields, {}, images=images)

    def _states(self, prompt: str) -> Floats:
        if self._settings.guidance > 1:
            return self._reader.pair(prompt, self._options.negative)
        return self._reader.one(prompt)

    def _made(self, item: Item, states: Floats, seed: int) -> Pictures:
        """One picture and those on the way to it."""
        settings = self._settings
        solver = make_scheduler(self._facts, settings.scheduler, settings.steps, settings.start)
        begin = self._begin(item, noise_stream(seed))
        shown = shown_steps(self._options.step_images, len(solver.timesteps))
        on_the_way: dict[int, Floats] = {}

        def watch(number: int, clean: Floats) -> None:
            if number in shown:
                on_the_way[number] = clean

        latents = self._model.denoised(
            solver, begin.latents, begin.noise, states, settings.guidance,
            hold=begin.hold, watch=watch,
        )  # fmt: skip
        pictures = {"image": self._model.decoded(latents)}
        for number, clean in on_the_way.items():
            pictures[f"step-{number:02d}"] = self._model.decoded(clean)
        return pictures

    def _usual(self, strength: float | None = None) -> Settings:
        """Settings before any step is left out."""
        options, facts = self._options, self._facts
        guidance = facts.guidance if options.guidance is None else options.guidance
        if options.negative is not None and guidance <= 1:
            raise UsageError(
                f"Got --negative with a guidance of {guidance:g}, which asks for the words alone",
                expected="A guidance above 1 with a negative prompt",
                do="Add --guidance 7.5, or leave --negative out",
            )
        steps = options.steps or facts.steps
        if strength and options.steps is None:
            steps = max(steps, math.ceil(1 / strength))  # so that one is left
        scheduler = options.scheduler or facts.scheduler
        return Settings(steps, 0, guidance, scheduler, strength)

    def _refuse(self, unused: Mapping[str, Any]) -> None:
        """Say no to options that are given and of no use."""
        given = [name for name, value in unused.items() if value is not None]
        if given:
            raise UsageError(
                f"Task {self.name} got {', '.join(given)}",
                expected="Options that change this task's pictures alone",
            )

    def _check_sessions(self, sessions: Mapping[str, Session]) -> None:
        missing = [name for name in self._parts() if name not in sessions]
        if missing:
            raise UsageError(
                f"Task {self.name} got no session of {', '.join(missing)}",
                expected=f"One of each of {', '.join(self._parts())}",
            )

    def _parts(self) -> tuple[str, ...]:
        """Names of the parts that the task runs."""
        facts = self._facts
        return facts.text_encoder, facts.unet, facts.vae_decoder


def facts_of(manifest: Manifest) -> Diffusion:
    """What the manifest says of its diffusion model.

    Raises:
        UsageError: It is none.
    """
    if manifest.diffusion is None:
        raise UsageError(
            f"{manifest.model} makes no pictures by latent diffusion",
            expected="A bundle of Stable Diffusion, such as sd15",
        )
    return manifest.diffusion
