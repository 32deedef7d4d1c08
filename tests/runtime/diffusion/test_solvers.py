"""Every solver beside diffusers' own, step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from jetlift.runtime.diffusion import SCHEDULERS, make_scheduler
from jetlift.runtime.diffusion.base import NoiseSchedule, noise_stream
from jetlift.runtime.diffusion.solvers import schedule_of
from jetlift.runtime.errors import UnknownNameError, UsageError
from jetlift.runtime.task_forms import Diffusion

if TYPE_CHECKING:
    import numpy.typing as npt

    from jetlift.runtime.diffusion import Scheduler

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

# diffusers 0.42 turns torch's arrays into numpy's by a protocol that numpy 2 finds old.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SHAPE = (2, 4, 8, 8)
_THEIRS = {
    "ddim": diffusers.DDIMScheduler,
    "euler": diffusers.EulerDiscreteScheduler,
    "dpm++": diffusers.DPMSolverMultistepScheduler,
}


def facts(**changes: Any) -> Diffusion:
    """The schedule of Stable Diffusion 1.5, with changes."""
    base: dict[str, Any] = {
        "text_encoder": "text_encoder", "unet": "unet", "vae_decoder": "vae_decoder",
        "vae_encoder": "vae_encoder", "latent_shape": (4, 8, 8), "size_wh": (64, 64),
        "train_steps": 1000, "beta_schedule": "scaled_linear", "beta_start": 0.00085,
        "beta_end": 0.012, "prediction": "epsilon", "spacing": None, "steps_offset": 1,
        "final_alpha_one": False, "scheduler": "ddim", "steps": 20, "guidance": 7.5,
        "strength": 0.8, "masked": False,
    }  # fmt: skip
    return Diffusion(**(base | changes))


def theirs(name: str, facts: Diffusion, steps: int, start: int = 0) -> Any:
    """diffusers' solver of the same schedule."""
    settings: dict[str, Any] = {
        "num_train_timesteps": facts.train_steps,
        "beta_schedule": facts.beta_schedule,
        "beta_start": facts.beta_start,
        "beta_end": facts.beta_end,
        "prediction_type": facts.prediction,
        "steps_offset": facts.steps_offset,
    }
    if facts.spacing is not None:
        settings["timestep_spacing"] = facts.spacing
    if name == "ddim":
        settings |= {"set_alpha_to_one": facts.final_alpha_one, "clip_sample": False}
    made = _THEIRS[name](**settings)
    made.set_timesteps(steps)
    if start and hasattr(made, "set_begin_index"):
        made.set_begin_index(start)
    return made


def predicted(latents: npt.NDArray[np.float32], t: float) -> npt.NDArray[np.float32]:
    """Stands for a model: depends on latents and timestep, and is not linear."""
    return np.asarray(np.tanh(latents * 0.9 + np.float32(t) / 700) * 0.8, np.float32)


def walked(
    ours: Scheduler, other: Any, start: int = 0
) -> list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
    """Latents after each step of both, each on its own path."""
    noise = noise_stream(5).standard_normal(SHAPE, dtype=np.float32)
    mine, its = noise * np.float32(ours.initial_sigma), torch.from_numpy(noise)
    its = its * other.init_noise_sigma
    if start:
        clean = noise_stream(6).standard_normal(SHAPE, dtype=np.float32)
        mine = ours.noised(clean, noise, float(ours.timesteps[0]))
        its = other.add_noise(
            torch.from_numpy(clean), torch.from_numpy(noise), other.timesteps[start : start + 1]
        )
    pairs = [(mine, its.numpy())]
    for t, their_t in zip(ours.timesteps, other.timesteps[start:], strict=True):
        mine = ours.step(predicted(ours.scaled(mine, t), t), t, mine, noise_stream(0))
        seen = other.scale_model_input(its, their_t).numpy()
        answer = torch.from_numpy(predicted(seen, float(their_t)))
        its = other.step(answer, their_t, its, return_dict=False)[0]
        pairs.append((mine, its.numpy()))
    return pairs


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("spacing", [None, "leading", "trailing", "linspace"])
@pytest.mark.parametrize("steps", [1, 4, 17, 50])
def test_timesteps_and_latents_are_diffusers(name: str, spacing: str | None, steps: int) -> None:
    described = facts(spacing=spacing)
    ours, other = make_scheduler(described, name, steps), theirs(name, described, steps)
    np.testing.assert_array_equal(ours.timesteps, other.timesteps.numpy().astype(np.float32))
    for mine, its in walked(ours, other):
        np.testing.assert_allclose(mine, its, rtol=1e-5, atol=3e-5)


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("prediction", ["v_prediction", "sample"])
def test_other_predictions(name: str, prediction: str) -> None:
    described = facts(prediction=prediction)
    ours, other = make_scheduler(described, name, 12), theirs(name, described, 12)
    for mine, its in walked(ours, other):
        np.testing.assert_allclose(mine, its, rtol=1e-5, atol=3e-5)


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("start", [3, 16, 19])
def test_a_picture_that_is_changed_begins_on_the_way(name: str, start: int) -> None:
    described = facts()
    ours = make_scheduler(described, name, 20, start)
    for mine, its in walked(ours, theirs(name, described, 20, start), start):
        np.testing.assert_allclose(mine, its, rtol=1e-5, atol=3e-5)


@pytest.mark.parametrize("final_alpha_one", [False, True])
def test_ddims_last_step(final_alpha_one: bool) -> None:  # noqa: FBT001
    described = facts(final_alpha_one=final_alpha_one)
    pairs = walked(make_scheduler(described, "ddim", 5), theirs("ddim", described, 5))
    np.testing.assert_allclose(*pairs[-1], rtol=1e-5, atol=3e-5)


@pytest.mark.parametrize("kind", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_schedules(kind: Any) -> None:
    described = facts(beta_schedule=kind, beta_start=0.0005, beta_end=0.015)
    ours, other = schedule_of(described), theirs("ddim", described, 10)
    np.testing.assert_allclose(ours.betas, other.betas.numpy(), rtol=1e-6)
    np.testing.assert_allclose(ours.kept, other.alphas_cumprod.numpy(), rtol=2e-6)


def test_every_solver_finds_the_picture_that_its_noise_hides() -> None:
    """A model that knows the picture leads every solver to it."""
    clean, noise = (noise_stream(seed).standard_normal(SHAPE, dtype=np.float32) for seed in (1, 2))
    kept = NoiseSchedule.make("scaled_linear", start=0.00085, end=0.012).kept
    for name in SCHEDULERS:
        described = facts(prediction="sample", final_alpha_one=True)
        solver = make_scheduler(described, name, 30, 12)
        t = float(solver.timesteps[0])
        latents = solver.noised(clean, noise, t)
        share = np.sqrt(1 - np.interp(t, np.arange(1000), kept))
        seen = solver.scaled(latents, t)
        assert np.corrcoef((seen - clean).ravel(), noise.ravel())[0, 1] > share / 2
        for t in solver.timesteps:
            latents = solver.step(clean, t, latents, noise_stream(0))
        np.testing.assert_allclose(latents, clean, atol=1e-4)


def test_steps_and_names_that_cannot_be() -> None:
    with pytest.raises(UnknownNameError, match="ddim, euler, dpm"):
        make_scheduler(facts(), "heun", 10)
    for steps in (0, 1001):
        with pytest.raises(UsageError, match="1 to 1000"):
            make_scheduler(facts(), "ddim", steps)
