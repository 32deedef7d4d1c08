"""What every solver of a noise schedule is, and the schedules themselves. numpy alone.

Rules:
    F1  Latents are float32. What is known beforehand (betas, sums, logarithms) is computed in
        float64 from float32 betas, so that each step differs from diffusers' by rounding alone.
    F2  Draws come from numpy's PCG64 (`noise_stream`). They are not torch's: a seed gives the same
        picture on every machine that runs the same engine, but not the one torch would give.
    F3  A scheduler is made for one picture. `step` is called once per timestep, in their order.

Sources: Ho et al., arXiv 2006.11239 (schedule); Nichol and Dhariwal, arXiv 2102.09672 (cosine
schedule); Lin et al., arXiv 2305.08891, table 2 (spacings); parameters as diffusers 0.42 names them
(src/diffusers/schedulers).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from jetlift.runtime.errors import UsageError

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]
    Doubles = npt.NDArray[np.float64]

BetaSchedule = Literal["linear", "scaled_linear", "squaredcos_cap_v2"]
Prediction = Literal["epsilon", "v_prediction", "sample"]
Spacing = Literal["leading", "trailing", "linspace"]
_LARGEST_BETA = 0.999


@dataclass(frozen=True)
class NoiseSchedule:
    """How much noise the model was trained with at each timestep.

    Attributes:
        betas: float64 [training timesteps], values of float32 (rule F1).
        kept: float64, the same shape: share of the signal's variance that is left, the product of
            1 - beta up to each timestep (`alphas_cumprod`).
    """

    betas: Doubles
    kept: Doubles

    @classmethod
    def make(
        cls, kind: BetaSchedule, *, start: float = 0.0001, end: float = 0.02, count: int = 1000
    ) -> NoiseSchedule:
        """The schedule of a checkpoint's scheduler_config.json.

        Args:
            kind: `beta_schedule`.
            start: `beta_start`; of no meaning to the cosine schedule.
            end: `beta_end`; as before.
            count: `num_train_timesteps`.
        """
        if kind == "linear":
            betas = np.linspace(start, end, count)
        elif kind == "scaled_linear":
            betas = np.linspace(math.sqrt(start), math.sqrt(end), count) ** 2
        else:
            betas = np.array([_cosine_beta(place, count) for place in range(count)])
        betas = betas.astype(np.float32).astype(np.float64)
        alphas = (np.float32(1.0) - betas.astype(np.float32)).astype(np.float64)
        return cls(betas, np.cumprod(alphas).astype(np.float32).astype(np.float64))

    @property
    def count(self) -> int:
        """Number of training timesteps."""
        return len(self.kept)

    @property
    def sigmas(self) -> Doubles:
        """Noise over signal at each timestep, as ratio of standard deviations."""
        sigmas: Doubles = np.sqrt((1.0 - self.kept) / self.kept)
        return sigmas


class Scheduler(ABC):
    """Goes from noise to a picture's latents, for one picture (rule F3).

    Attributes:
        timesteps: float32 [steps], falling: what the model is told at each step.
        initial_sigma: Standard deviation of the noise to begin with.
    """

    timesteps: Floats
    initial_sigma: float

    def scaled(self, latents: Floats, t: float) -> Floats:
        """Latents as the model wants to see them at timestep `t`; as they are by default."""
        del t
        return latents

    @abstractmethod
    def step(
        self, noise_pred: Floats, t: float, latents: Floats, rng: np.random.Generator
    ) -> Floats:
        """Latents of the next timestep.

        Args:
            noise_pred: What the model predicts, float32 [batch, channels, height, width].
            t: The timestep it was told.
            latents: Latents at `t`, not scaled; the same shape.
            rng: Draws of solvers that add noise; others leave it alone.
        """

    @abstractmethod
    def noised(self, clean: Floats, noise: Floats, t: float) -> Floats:
        """Latents of a picture as they are at timestep `t`, with this noise of deviation 1."""


def noise_stream(seed: int) -> np.random.Generator:
    """Draws of one picture (rule F2)."""
    return np.random.Generator(np.random.PCG64(seed))


def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Noise of deviation 1, float32 of this shape."""
    return rng.standard_normal(shape, dtype=np.float32)


def guided(without: Floats, within: Floats, guidance: float) -> Floats:
    """Classifier-free guidance: from the prediction without the words, through that with them.

    Ho and Salimans, arXiv 2207.12598, as diffusers weighs it: 1 is the prediction with the words.
    """
    return np.asarray(without + np.float32(guidance) * (within - without), np.float32)


def spaced(
    spacing: Spacing, steps: int, *, count: int, offset: int = 0, whole: bool = True
) -> Doubles:
    """Timesteps of a run, falling.

    Args:
        spacing: `timestep_spacing`.
        steps: Number of steps.
        count: Number of training timesteps.
        offset: `steps_offset`; with 'leading' alone.
        whole: Round those of 'linspace'.

    Raises:
        UsageError: There are more steps than training timesteps, or none.
    """
    if not 1 <= steps <= count:
        raise UsageError(
            f"{steps} steps were asked for",
            expected=f"1 to {count}, the number of steps the model was trained with",
        )
    if spacing == "linspace":
        times = np.linspace(0, count - 1, steps)[::-1]
        return np.round(times) if whole else times.copy()
    if spacing == "leading":
        return (np.arange(steps) * (count // steps))[::-1].astype(np.float64) + offset
    return np.round(np.arange(count, 0, -(count / steps))) - 1.0


def _cosine_beta(place: int, count: int) -> float:
    return min(1 - _cosine((place + 1) / count) / _cosine(place / count), _LARGEST_BETA)


def _cosine(share: float) -> float:
    return math.cos((share + 0.008) / 1.008 * math.pi / 2) ** 2
