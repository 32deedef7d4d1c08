"""Latent diffusion between sessions: prompts to hidden states, noise to latents, to pictures.

The order of draws and of operations is that of diffusers' pipelines, so that equal draws give equal
pictures (diffusers 0.42.1, src/diffusers/pipelines/stable_diffusion).

Rules:
    D1  A prompt longer than the model reads is refused, never cut. So is a blank one; the negative
        prompt may be blank, and is where none is given.
    D2  With a guidance of 1 or less the UNet is asked once per step, with the words; above, for
        both prompts as one batch, the negative one first.
    D3  `strength` leaves out the first steps: of n, the last int(n * strength) are taken.
    D4  A mask holds where it is 1. At the latents' size it is what stands at the top left of each
        square. An ordinary UNet gets the picture back outside it after each step, with the noise
        of the next timestep; a masked UNet sees mask and masked picture at every step.
    D5  What an engine says is finite, or an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jetlift.runtime.diffusion.base import draw, guided
from jetlift.runtime.errors import EngineLibraryError, InputError, UsageError
from jetlift.runtime.manifest import TextPreprocess
from jetlift.runtime.text import open_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.diffusion.solvers import Solver
    from jetlift.runtime.session.base import Session
    from jetlift.runtime.task_forms import Diffusion

    Floats = npt.NDArray[np.float32]
    Watch = Callable[[int, Floats], None]


class PromptReader:
    """From prompts to the text encoder's hidden states.

    Args:
        bundle: A verified bundle.
        part: Name of the part that encodes text.
        session: An open session of it.

    Raises:
        UsageError: The part takes no padded text.
        BundleError: The tokenizer cannot be read.
        MissingPackageError: `tokenizers` is not installed.
    """

    def __init__(self, bundle: Bundle, part: str, session: Session) -> None:
        spec = bundle.part(part)[1].preprocess
        if not isinstance(spec, TextPreprocess) or spec.pad_to is None:
            raise UsageError(f"Part {part} reads no padded text", expected="A part for prompts")
        self._spec, self._length, self._session = spec, spec.pad_to, session
        self._tokenizer = open_tokenizer(bundle.path(spec.tokenizer))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def pair(self, prompt: str, negative: str | None) -> Floats:
        """Hidden states of both prompts, the negative one first, float32 [2, tokens, width].

        Raises:
            InputError: The prompt is blank, or one is too long (rule D1).
            EngineLibraryError: The engine failed or returned NaN or infinity.
        """
        return np.concatenate([self._encoded(negative or ""), self.one(prompt)])

    def one(self, prompt: str) -> Floats:
        """Hidden states of a prompt, float32 [1, tokens, width]; raises as `pair`."""
        if not prompt.strip():
            raise InputError(
                f"The prompt {prompt!r} is blank",
                expected="Words for what is to be seen; only the negative prompt may be blank",
            )
        return self._encoded(prompt)

    def _encoded(self, text: str) -> Floats:
        ids = self._tokenizer.encode(text).ids
        if len(ids) > self._length:
            raise InputError(
                f"The prompt {text[:60]!r}... has {len(ids)} tokens",
                expected=f"At most {self._length}, those that begin and end it included: the model "
                "reads no more",
                do="Shorten it",
            )
        padded = np.full((1, self._length), self._spec.pad_id or 0, np.int64)
        padded[0, : len(ids)] = ids
        return checked(self._session.run({self._spec.ids: padded})["hidden_states"], "the prompt")


@dataclass(frozen=True, eq=False)
class Hold:
    """What of a given picture is to stay.

    Attributes:
        mask: float32 [1, 1, height, width] at the latents' size, 1 where to paint anew.
        latents: The picture's, for an ordinary UNet; None for a masked one.
        masked: The masked picture's latents, for a masked UNet; None for an ordinary one.
    """

    mask: Floats
    latents: Floats | None = None
    masked: Floats | None = None


class LatentModel:
    """UNet and VAE of a bundle, between their sessions.

    Args:
        facts: What the manifest says of them.
        sessions: Open sessions by part.
    """

    def __init__(self, facts: Diffusion, sessions: Mapping[str, Session]) -> None:
        self._facts, self._sessions = facts, sessions

    def encoded(self, pixels: Floats, rng: np.random.Generator) -> Floats:
        """Latents of a picture, drawn as its encoder says they lie.

        Args:
            pixels: float32 [1, 3, height, width], RGB from -1 to 1.
            rng: Draws of this picture.
        """
        outputs = self._sessions[self._facts.vae_encoder].run({"pixel_values": pixels})
        mean, deviation = outputs["mean"], outputs["deviation"]
        latents: Floats = mean + deviation * draw(rng, mean.shape)
        return checked(latents, "the picture's latents")

    def decoded(self, latents: Floats) -> npt.NDArray[np.uint8]:
        """The picture of latents, uint8 [height, width, 3] in BGR."""
        outputs = self._sessions[self._facts.vae_decoder].run({"latents": latents})
        picture = checked(outputs["picture"], "the picture")[0]
        levels = np.round(picture * np.float32(255)).astype(np.uint8)
        return np.ascontiguousarray(levels[::-1].transpose(1, 2, 0))

    def noise(self, rng: np.random.Generator) -> Floats:
        """Noise of deviation 1, of the shape of one picture's latents."""
        return draw(rng, (1, *self._facts.latent_shape))

    def denoised(
        self,
        solver: Solver,
        latents: Floats,
        noise: Floats,
        states: Floats,
        guidance: float,
        *,
        hold: Hold | None = None,
        watch: Watch | None = None,
    ) -> Floats:
        """Walk through the solver's timesteps (rules D2 and D4).

        Args:
            solver: A new one.
            latents: Where to begin, float32 [1, channels, height, width].
            noise: The noise they hold.
            states: Hidden states, of one prompt or of both (rule D2).
            guidance: Weight of the words.
            hold: What is to stay of a given picture.
            watch: Called after each step with its number from 1 and the clean latents that the
                model sees in the noise.

        Raises:
            EngineLibraryError: The engine failed or returned NaN or infinity.
        """
        times = [float(t) for t in solver.timesteps]
        rng = np.random.default_rng(0)  # none of these solvers draws
        for place, t in enumerate(times):
            predicted = self._predicted(solver.scaled(latents, t), t, states, guidance, hold)
            latents = solver.step(predicted, t, latents, rng)
            if hold is not None and hold.latents is not None:
                last = place == len(times) - 1
                kept = (
                    hold.latents if last else solver.noised(hold.latents, noise, times[place + 1])
                )
                latents = np.asarray((1 - hold.mask) * kept + hold.mask * latents, np.float32)
            if watch is not None and solver.clean is not None:
                watch(place + 1, solver.clean)
        return latents

    def _predicted(
        self, latents: Floats, t: float, states: Floats, guidance: float, hold: Hold | None
    ) -> Floats:
        seen = latents
        if hold is not None and hold.masked is not None:
            seen = np.concatenate([latents, hold.mask, hold.masked], axis=1)
        feeds = {
            "latents": np.repeat(seen, len(states), axis=0),
            "timestep": np.array([t], np.float32),
            "hidden_states": states,
        }
        predicted = checked(self._sessions[self._facts.unet].run(feeds)["noise_pred"], "the noise")
        if len(states) == 1:
            return predicted
        return guided(predicted[:1], predicted[1:], guidance)


def start_of(steps: int, strength: float) -> int:
    """How many of the first steps to leave out (rule D3).

    Raises:
        UsageError: None would be left.
    """
    taken = min(int(steps * strength), steps)
    if taken < 1:
        raise UsageError(
            f"A strength of {strength:g} leaves none of {steps} steps",
            expected="int(steps * strength) of at least 1: more steps, or a larger strength",
        )
    return steps - taken


def latent_mask(mask: npt.NDArray[np.bool_], latent_hw: tuple[int, int]) -> Floats:
    """A mask at the latents' size (rule D4), float32 [1, 1, height, width].

    Args:
        mask: bool [H, W] at the picture's size, a multiple of the latents'.
        latent_hw: Height and width of the latents.
    """
    down, across = (side // small for side, small in zip(mask.shape, latent_hw, strict=True))
    return mask[::down, ::across].astype(np.float32)[None, None]


def checked(array: Floats, what: str) -> Floats:
    """Rule D5.

    Raises:
        EngineLibraryError: A number is none.
    """
    if not np.isfinite(array).all():
        raise EngineLibraryError(
            f"The engine gave NaN or infinity for {what}",
            expected="Finite numbers",
            do="Try --precision fp32: where that is finite, this variant overflows",
        )
    return array
