"""The solver of unCLIP models, and how their small pictures are enlarged. numpy alone.

The solver is DDPM's ancestral sampling (Ho et al., arXiv 2006.11239, formulas 6, 7 and 15) with the
spacing and the learned variances of karlo (kakaobrain/karlo@3c68a50: karlo/modules/diffusion;
diffusers 0.42, schedulers/scheduling_unclip.py).

Rules:
    U1  Timesteps are spread from the first to the last training step, both included, so there are
        at least two.
    U2  Beta belongs to the step that is really taken, from one timestep to the next one of the run;
        where none is skipped it is the schedule's own, as diffusers has it. Both are rounded to
        float32, so that the last step, to where no noise is left, weighs the clean sample with
        0.9995. It draws no noise.
    U3  What the model says the clean sample is, is clipped before it is used.
    U4  A learned variance says where between the two bounds of the true one it lies, in logarithms
        (Nichol and Dhariwal, arXiv 2102.09672, formula 15): -1 the lower, 1 the upper.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np

from jetlift.runtime.diffusion.base import NoiseSchedule, Scheduler, draw
from jetlift.runtime.errors import UsageError
from jetlift.runtime.resample import axis_matrix

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]
    Doubles = npt.NDArray[np.float64]

Predicts = Literal["epsilon", "sample"]
_LEAST_VARIANCE = 1e-20


@dataclass(frozen=True)
class UnClipSettings:
    """What a stage's scheduler_config.json says.

    Attributes:
        predicts: `prediction_type`: the noise, or the clean sample itself.
        clip: `clip_sample_range`.
        learned: Whether the model gives a variance beside it (`learned_range`); otherwise it is
            the lower bound (`fixed_small_log`).
        train_steps: `num_train_timesteps`.
    """

    predicts: Predicts
    clip: float
    learned: bool = False
    train_steps: int = 1000


class UnClipScheduler(Scheduler):
    """Ancestral sampling in the way of karlo, for one picture.

    Args:
        settings: Facts of the stage.
        steps: Number of steps, 2 or more (rule U1).

    Attributes:
        clean: What the last step took for the clean sample, clipped; None before the first.

    Raises:
        UsageError: There are too few steps, or more than the model was trained with.
    """

    def __init__(self, settings: UnClipSettings, steps: int) -> None:
        if not 2 <= steps <= settings.train_steps:
            raise UsageError(
                f"{steps} steps were asked for",
                expected=f"2 to {settings.train_steps}, from the first training step to the last",
            )
        self._settings = settings
        self._schedule = NoiseSchedule.make("squaredcos_cap_v2", count=settings.train_steps)
        ratio = (settings.train_steps - 1) / (steps - 1)
        self.timesteps = np.round(np.arange(steps) * ratio)[::-1].astype(np.float32)
        self.initial_sigma = 1.0
        self.clean: Floats | None = None
        whole = [int(t) for t in self.timesteps]
        self._next = dict(zip(whole, [*whole[1:], -1], strict=True))

    def step(
        self, noise_pred: Floats, t: float, latents: Floats, rng: np.random.Generator
    ) -> Floats:
        """The sample at the next timestep; see Scheduler.step.

        Args:
            noise_pred: What the model predicts, float32 [batch, C, ...]; with a learned variance
                [batch, 2C, ...], the variance last.
            t: One of `timesteps`.
            latents: The sample at `t`, float32 [batch, C, ...].
            rng: Draws of the noise that is added; none at the last step (rule U2).
        """
        at = self._at(int(t))
        predicted, share = noise_pred, None
        if self._settings.learned:
            predicted, share = np.split(noise_pred, 2, axis=1)
        clean = predicted
        if self._settings.predicts == "epsilon":
            noise_scale = np.float32(np.sqrt(1 - at.kept))
            clean = (latents - noise_scale * predicted) / np.float32(np.sqrt(at.kept))
        limit = np.float32(self._settings.clip)
        self.clean = np.clip(clean, -limit, limit)  # U3
        moved = np.float32(at.of_clean) * self.clean + np.float32(at.of_sample) * latents
        if int(t) > 0:
            moved = moved + at.deviation(share) * draw(rng, latents.shape)
        return np.asarray(moved, np.float32)

    def noised(self, clean: Floats, noise: Floats, t: float) -> Floats:
        """See Scheduler.noised."""
        kept = self._schedule.kept[int(t)]
        mixed = np.float32(np.sqrt(kept)) * clean + np.float32(np.sqrt(1 - kept)) * noise
        return np.asarray(mixed, np.float32)

    def _at(self, t: int) -> _Place:
        """What is known of the step from `t` before the model is asked (rule U2)."""
        if t not in self._next:
            raise UsageError(
                f"Timestep {t} is none of this run's",
                expected=f"One of {', '.join(f'{known:g}' for known in self.timesteps)}",
            )
        following = self._next[t]
        kept = float(self._schedule.kept[t])
        kept_next = float(self._schedule.kept[following]) if following >= 0 else 1.0
        own = following == t - 1
        beta = float(self._schedule.betas[t]) if own else 1 - kept / kept_next
        return _Place(kept, kept_next, beta)


@dataclass(frozen=True)
class _Place:
    """One step of a run.

    Attributes:
        kept: Share of the signal's variance at its timestep.
        kept_next: The same at the next one.
        beta: Share of variance that lies between the two.
    """

    kept: float
    kept_next: float
    beta: float

    @property
    def of_clean(self) -> float:
        """Weight of the clean sample in the mean (Ho et al., formula 7)."""
        return float(np.sqrt(self.kept_next)) * self.beta / (1 - self.kept)

    @property
    def of_sample(self) -> float:
        """Weight of the sample at hand in the mean (the same)."""
        return float(np.sqrt(1 - self.beta)) * (1 - self.kept_next) / (1 - self.kept)

    def deviation(self, share: Floats | None) -> Floats:
        """Standard deviation of the noise that is added (rule U4).

        Args:
            share: Learned, -1 to 1 for the lower bound to the upper; None takes the lower.
        """
        lower = (1 - self.kept_next) / (1 - self.kept) * self.beta
        low = np.log(max(lower, _LEAST_VARIANCE))
        if share is None:
            return np.asarray(np.exp(0.5 * low), np.float32)
        weight = (share + np.float32(1)) / np.float32(2)
        logarithm = weight * np.float32(np.log(self.beta)) + (1 - weight) * np.float32(low)
        return np.asarray(np.exp(np.float32(0.5) * logarithm), np.float32)


def enlarged(picture_chw: Floats, side_px: int) -> Floats:
    """A square picture at a larger size, as the pipelines make it.

    torch.nn.functional.interpolate with mode 'bicubic' and antialias=True: Keys' cubic with
    a = -0.5, taps cut at the border and normalised. Computed in float64.

    Args:
        picture_chw: float32 [..., H, W] with H = W.
        side_px: Side of the result, at least that of the picture.
    """
    matrix = _enlarging(picture_chw.shape[-1], side_px)
    result: Doubles = matrix @ picture_chw.astype(np.float64) @ matrix.T
    return result.astype(np.float32)


@lru_cache(maxsize=8)
def _enlarging(side_px: int, new_side_px: int) -> Doubles:
    """Weights [new side, side] of one axis."""
    axis = axis_matrix("bicubic", side_px, new_side_px, 0, new_side_px)
    whole = np.zeros((new_side_px, side_px))
    whole[:, axis.start : axis.start + axis.weights.shape[1]] = axis.weights
    return whole
