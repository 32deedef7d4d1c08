"""DDIM, Euler and DPM-Solver++ (2M), each step as diffusers 0.42 takes it.

Rules:
    S1  Timesteps follow the checkpoint's spacing; where it states none, the solver's usual one in
        diffusers: 'leading' for DDIM, 'linspace' for the others.
    S2  DDIM is without added noise (eta 0), Euler without churn; both and DPM-Solver++ draw
        nothing, so that the first noise decides the picture.
    S3  DPM-Solver++ begins and ends with a first-order step.
    S4  `start` leaves out the first timesteps, for a picture that is changed and not made anew.

Sources: DDIM, Song et al., arXiv 2010.02502, formula 12. Euler, Karras et al., arXiv 2206.00364,
algorithm 2 without churn. DPM-Solver++, Lu et al., arXiv 2211.01095, algorithm 2.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from jetlift.runtime.diffusion.base import NoiseSchedule, Scheduler, spaced

if TYPE_CHECKING:
    from jetlift.runtime.diffusion.base import Floats
    from jetlift.runtime.task_forms import Diffusion


class Solver(Scheduler):
    """A scheduler that tells what it takes for the picture.

    Attributes:
        clean: Latents of the picture as the model saw them in the noise of the last step, float32;
            None before the first.
    """

    clean: Floats | None = None


class Ddim(Solver):
    """DDIM without added noise.

    Args:
        facts: The checkpoint's schedule.
        steps: Number of steps of the whole schedule.
        start: How many of them to leave out (rule S4).
    """

    initial_sigma = 1.0

    def __init__(self, facts: Diffusion, steps: int, start: int = 0) -> None:
        self._schedule, self._prediction = schedule_of(facts), facts.prediction
        count = self._schedule.count
        times = spaced(facts.spacing or "leading", steps, count=count, offset=facts.steps_offset)
        self.timesteps = times.astype(np.float32)[start:]
        self._stride = count // steps
        self._last_kept = 1.0 if facts.final_alpha_one else float(self._schedule.kept[0])

    def step(
        self, noise_pred: Floats, t: float, latents: Floats, rng: np.random.Generator
    ) -> Floats:
        """See Scheduler.step."""
        del rng
        signal, noise = self._deviations(int(t))
        before = int(t) - self._stride
        clean, epsilon = clean_and_noise(self._prediction, noise_pred, latents, signal, noise)
        self.clean = clean
        kept = float(self._schedule.kept[before]) if before >= 0 else self._last_kept
        return mixed(math.sqrt(kept), clean, math.sqrt(1 - kept), epsilon)

    def noised(self, clean: Floats, noise: Floats, t: float) -> Floats:
        """See Scheduler.noised."""
        signal, deviation = self._deviations(int(t))
        return mixed(signal, clean, deviation, noise)

    def _deviations(self, t: int) -> tuple[float, float]:
        kept = float(self._schedule.kept[t])
        return math.sqrt(kept), math.sqrt(1 - kept)


class _Sigmas(Solver):
    """What Euler and DPM-Solver++ share: a falling list of noise levels that ends at 0."""

    def _begin(
        self, facts: Diffusion, times: np.ndarray[tuple[int], np.dtype[np.float64]], start: int
    ) -> None:
        schedule = schedule_of(facts)
        levels = np.interp(times, np.arange(schedule.count), schedule.sigmas)
        self.timesteps = times.astype(np.float32)[start:]
        self._sigmas = np.append(levels, 0.0).astype(np.float32).astype(np.float64)[start:]
        self._prediction = facts.prediction

    def _levels(self, t: float) -> tuple[float, float]:
        """Noise level at timestep `t` and at the next."""
        place = int(np.flatnonzero(self.timesteps == np.float32(t))[0])
        return float(self._sigmas[place]), float(self._sigmas[place + 1])


class Euler(_Sigmas):
    """Euler steps along the noise level; latents are the picture plus noise of that level.

    Args: as Ddim.
    """

    def __init__(self, facts: Diffusion, steps: int, start: int = 0) -> None:
        spacing = facts.spacing or "linspace"
        times = spaced(
            spacing, steps, count=facts.train_steps, offset=facts.steps_offset, whole=False
        )
        self._begin(facts, times, start)
        largest = float(self._sigmas.max())
        self.initial_sigma = math.hypot(largest, 1.0) if spacing == "leading" else largest

    def scaled(self, latents: Floats, t: float) -> Floats:
        """See Scheduler.scaled: divided by the deviation of picture and noise together."""
        return np.asarray(latents / np.float32(math.hypot(self._levels(t)[0], 1.0)), np.float32)

    def step(
        self, noise_pred: Floats, t: float, latents: Floats, rng: np.random.Generator
    ) -> Floats:
        """See Scheduler.step."""
        del rng
        level, following = self._levels(t)
        if self._prediction == "epsilon":
            slope = noise_pred
        elif self._prediction == "v_prediction":
            whole = level * level + 1.0
            clean = mixed(-level / math.sqrt(whole), noise_pred, 1.0 / whole, latents)
            slope = mixed(1.0 / level, latents, -1.0 / level, clean)
        else:
            slope = mixed(1.0 / level, latents, -1.0 / level, noise_pred)
        self.clean = mixed(1.0, latents, -level, slope)
        return mixed(1.0, latents, following - level, slope)

    def noised(self, clean: Floats, noise: Floats, t: float) -> Floats:
        """See Scheduler.noised."""
        return mixed(1.0, clean, self._levels(t)[0], noise)


class DpmSolver(_Sigmas):
    """DPM-Solver++ of second order, multistep, midpoint (rule S3).

    Args: as Ddim.
    """

    initial_sigma = 1.0

    def __init__(self, facts: Diffusion, steps: int, start: int = 0) -> None:
        spacing, count = facts.spacing or "linspace", facts.train_steps
        if spacing == "trailing":
            times = spaced(spacing, steps, count=count)
        else:  # one step more, of which the last is left out
            times = spaced(spacing, steps + 1, count=count, offset=facts.steps_offset)
            times = times[:steps]
        self._begin(facts, times, start)
        self._before: tuple[Floats, float] | None = None  # clean latents, log of signal over noise

    def step(
        self, noise_pred: Floats, t: float, latents: Floats, rng: np.random.Generator
    ) -> Floats:
        """See Scheduler.step."""
        del rng
        level, following = self._levels(t)
        signal, noise = _deviations(level)
        signal_next, noise_next = _deviations(following)
        clean, _ = clean_and_noise(self._prediction, noise_pred, latents, signal, noise)
        before, self._before = self._before, (clean, -math.log(level))
        self.clean = clean
        target = clean
        if before is not None and following > 0:
            clean_before, log_before = before
            forward = math.log(level) - math.log(following)
            ratio = (-math.log(level) - log_before) / forward
            target = mixed(1.0 + 0.5 / ratio, clean, -0.5 / ratio, clean_before)
        # exp(-h) of the paper is the ratio of the two noise levels.
        gain = signal_next * (1.0 - following / level)
        return mixed(noise_next / noise, latents, gain, target)

    def noised(self, clean: Floats, noise: Floats, t: float) -> Floats:
        """See Scheduler.noised."""
        signal, deviation = _deviations(self._levels(t)[0])
        return mixed(signal, clean, deviation, noise)


def schedule_of(facts: Diffusion) -> NoiseSchedule:
    """The schedule that a checkpoint was trained with."""
    return NoiseSchedule.make(
        facts.beta_schedule, start=facts.beta_start, end=facts.beta_end, count=facts.train_steps
    )


def clean_and_noise(
    prediction: str, predicted: Floats, latents: Floats, signal: float, noise: float
) -> tuple[Floats, Floats]:
    """The picture and the noise that a prediction means.

    Args:
        prediction: What the model predicts: 'epsilon', 'v_prediction' or 'sample'.
        predicted: Its prediction.
        latents: What it was made from, `signal` times the picture plus `noise` times the noise.
        signal: Standard deviation of the picture in them.
        noise: Standard deviation of the noise.
    """
    if prediction == "epsilon":
        return mixed(1.0 / signal, latents, -noise / signal, predicted), predicted
    if prediction == "v_prediction":
        clean = mixed(signal, latents, -noise, predicted)
        return clean, mixed(signal, predicted, noise, latents)
    return predicted, mixed(1.0 / noise, latents, -signal / noise, predicted)


def mixed(first_weight: float, first: Floats, second_weight: float, second: Floats) -> Floats:
    """A weighted sum of two arrays in float32 (rule F1 of `base`)."""
    return np.asarray(
        np.float32(first_weight) * first + np.float32(second_weight) * second, np.float32
    )


def _deviations(level: float) -> tuple[float, float]:
    """Deviations of picture and noise from their ratio; their squares add up to 1."""
    signal = 1.0 / math.hypot(level, 1.0)
    return signal, level * signal
