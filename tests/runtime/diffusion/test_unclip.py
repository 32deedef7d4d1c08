"""unCLIP's solver beside diffusers' own, step by step, and the enlargement beside torch's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetlift.runtime.diffusion.base import draw, noise_stream
from jetlift.runtime.diffusion.unclip import UnClipScheduler, UnClipSettings, enlarged
from jetlift.runtime.errors import UsageError

if TYPE_CHECKING:
    from typing import Any

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

SHAPE = (1, 3, 4, 4)
PRIOR, DECODER, SUPER = (
    UnClipSettings("sample", 5.0),
    UnClipSettings("epsilon", 1.0, learned=True),
    UnClipSettings("epsilon", 1.0),
)
STAGES = {"prior": PRIOR, "decoder": DECODER, "enlargement": SUPER}


def theirs(settings: UnClipSettings, steps: int) -> Any:
    scheduler = diffusers.UnCLIPScheduler(
        variance_type="learned_range" if settings.learned else "fixed_small_log",
        clip_sample_range=settings.clip,
        prediction_type=settings.predicts,
        num_train_timesteps=settings.train_steps,
    )
    scheduler.set_timesteps(steps)
    return scheduler


@pytest.fixture
def shared_draws(monkeypatch):
    """diffusers draws what our generator draws."""
    from diffusers.schedulers import scheduling_unclip

    rng = noise_stream(7)
    monkeypatch.setattr(
        scheduling_unclip, "randn_tensor", lambda shape, **_: torch.from_numpy(draw(rng, shape))
    )


@pytest.mark.usefixtures("shared_draws")
@pytest.mark.parametrize("steps", [2, 7, 25, 1000])
@pytest.mark.parametrize("stage", STAGES)
def test_every_step_is_that_of_diffusers(stage, steps):
    settings = STAGES[stage]
    ours, reference = UnClipScheduler(settings, steps), theirs(settings, steps)
    assert ours.timesteps.tolist() == reference.timesteps.tolist()
    rng, source = noise_stream(7), np.random.default_rng(1)
    latents = source.standard_normal(SHAPE).astype(np.float32)
    channels = 6 if settings.learned else 3
    for number, t in enumerate(reference.timesteps):
        said = source.standard_normal((1, channels, 4, 4)).astype(np.float32)
        following = None if number + 1 == steps else reference.timesteps[number + 1]
        answer = reference.step(
            torch.from_numpy(said), t, torch.from_numpy(latents), prev_timestep=following
        )
        got = ours.step(said, float(t), latents, rng)
        assert got.dtype == np.float32
        # At t = 999 beta is near 1, and 1 - beta has one digit left in their float32.
        np.testing.assert_allclose(got, answer.prev_sample.numpy(), atol=2e-4, rtol=1e-5)
        np.testing.assert_allclose(ours.clean, answer.pred_original_sample.numpy(), atol=1e-4)
        latents = got


def test_the_last_step_draws_nothing():
    scheduler = UnClipScheduler(SUPER, 7)
    rng = noise_stream(3)
    latents = np.zeros(SHAPE, np.float32)
    scheduler.step(latents, 0.0, latents, rng)
    assert rng.random() == noise_stream(3).random()


@pytest.mark.parametrize("steps", [0, 1, 1001])
def test_a_number_of_steps_that_cannot_be_is_refused(steps):
    with pytest.raises(UsageError, match="2 to 1000"):
        UnClipScheduler(SUPER, steps)


def test_a_timestep_of_another_run_is_refused():
    with pytest.raises(UsageError, match="none of this run"):
        UnClipScheduler(SUPER, 7).step(
            np.zeros(SHAPE, np.float32), 5.0, np.zeros(SHAPE, np.float32), noise_stream(0)
        )


@given(st.sampled_from(sorted(STAGES)), st.integers(2, 60), st.floats(-50, 50, width=32))
def test_a_wild_prediction_stays_within_the_clip(stage, steps, value):
    settings = STAGES[stage]
    scheduler = UnClipScheduler(settings, steps)
    said = np.full((1, 6 if settings.learned else 3, 4, 4), np.clip(value, -1, 1), np.float32)
    said[:, :3] = value
    latents = np.zeros(SHAPE, np.float32)
    got = scheduler.step(said, float(scheduler.timesteps[0]), latents, noise_stream(0))
    assert np.isfinite(got).all()
    assert np.abs(scheduler.clean).max() <= settings.clip


@pytest.mark.parametrize("t", [0, 41, 500, 999])
def test_noise_is_added_as_diffusers_adds_it(t):
    source = np.random.default_rng(2)
    clean, noise = (source.standard_normal(SHAPE).astype(np.float32) for _ in range(2))
    wanted = theirs(DECODER, 25).add_noise(
        torch.from_numpy(clean), torch.from_numpy(noise), torch.tensor([t])
    )
    got = UnClipScheduler(DECODER, 25).noised(clean, noise, t)
    np.testing.assert_allclose(got, wanted.numpy(), atol=1e-6)


@pytest.mark.parametrize(("side", "larger"), [(64, 256), (16, 32), (10, 33), (7, 7)])
def test_the_enlargement_is_torchs(side, larger):
    picture = np.random.default_rng(0).standard_normal((1, 3, side, side)).astype(np.float32)
    wanted = torch.nn.functional.interpolate(
        torch.from_numpy(picture), size=[larger, larger], mode="bicubic", align_corners=False,
        antialias=True,
    )  # fmt: skip
    np.testing.assert_allclose(enlarged(picture, larger), wanted.numpy(), atol=3e-6)
