"""Tasks of latent diffusion: defaults, seeds, pictures on the way, masked UNets, and refusals."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("diffusers")

from helpers import diffusers_pipes as pipes
from helpers.diffusion_bundle import diffusion_bundle, torch_sessions
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from jetlift.export.recipes import stable_diffusion as sd
from jetlift.export.recipes import stable_diffusion_sizes as sizes
from jetlift.runtime.bundle import Bundle
from jetlift.runtime.diffusion.latent import latent_mask, start_of
from jetlift.runtime.errors import (
    BundleError,
    EngineLibraryError,
    InputError,
    UnknownNameError,
    UsageError,
)
from jetlift.runtime.imaging import ImagingOptions
from jetlift.runtime.session.fake import FakeSession
from jetlift.runtime.sources import Frame
from jetlift.runtime.tasks import input_part, open_task, other_parts
from jetlift.runtime.texts import TextItem

if TYPE_CHECKING:
    from pathlib import Path

SEED, PROMPT = 4, "a red tractor"
SIZES = {"sd": sizes.TINY, "turbo": sizes.TINY_TURBO, "inpaint": sizes.TINY_INPAINT}
DEFAULTS = {"sd": sd.USUAL, "turbo": sd.FEW, "inpaint": sd.USUAL}
WORDS = TextItem("argument", 0, PROMPT)
PICTURE = Frame(
    "p.png", 0, 0.0,
    np.stack([np.add.outer(np.arange(32) * k, np.arange(32) * 3) % 256 for k in (2, 4, 6)], 2)
    .astype(np.uint8),
)  # fmt: skip
MASK = np.zeros((32, 32), np.uint8)
MASK[5:25, 8:31] = 200


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: Any) -> dict[str, Bundle]:
    folder = tmp_path_factory.mktemp("diffusion")
    return {
        name: diffusion_bundle(folder / name, size, DEFAULTS[name]) for name, size in SIZES.items()
    }


@pytest.fixture(scope="module")
def sessions() -> dict[str, dict[str, FakeSession]]:
    return {name: torch_sessions(size, SEED) for name, size in SIZES.items()}


@pytest.fixture
def run(bundles: Any, sessions: Any) -> Any:
    """Runs a task of one of the bundles on an item."""

    def made(which: str, task: str, item: Any, changed: Any = None, **options: Any) -> Any:
        own = sessions[which] | (changed or {})
        part = input_part(bundles[which], task)
        others = {name: session for name, session in own.items() if name != part}
        chosen = ImagingOptions(**({"seed": 7} | options))
        opened = open_task(
            task, bundles[which], own[part], precision="fp32", others=others, options=chosen
        )
        return opened.process(item)

    return made


# Beside diffusers: what the exported graphs are not needed for.


def beside(which: str, kind: str, bundle: Bundle, tmp_path: Path, *given: Any, **more: Any) -> Any:
    facts = bundle.manifest.diffusion
    assert facts is not None
    solver = pipes.scheduler(facts.scheduler, facts)
    size = SIZES[which]
    pipe = pipes.pipeline(kind, pipes.drawn(size, SEED), pipes.tokenizer(size, tmp_path), solver)
    with pipes.drawing(7):
        return pipes.as_bgr(pipe(PROMPT, *given, **more).images[0])


def alike(got: Any, wanted: Any) -> None:
    assert np.abs(got.astype(int) - wanted.astype(int)).max() <= 1
    assert wanted.std() > 2


@pytest.mark.parametrize("steps", [1, 4])
def test_turbo_needs_few_steps_and_no_guidance(
    bundles: Any, run: Any, tmp_path: Path, steps: int
) -> None:
    got = run("turbo", "text-to-image", WORDS, steps=steps)
    wanted = beside(
        "turbo", "text-to-image", bundles["turbo"], tmp_path,
        height=32, width=32, num_inference_steps=steps, guidance_scale=0.0,
    )  # fmt: skip
    alike(got.images["image"], wanted)


def test_turbo_changes_a_picture(bundles: Any, run: Any, tmp_path: Path) -> None:
    got = run("turbo", "image-to-image", PICTURE, prompts=(PROMPT,))
    wanted = beside(
        "turbo", "image-to-image", bundles["turbo"], tmp_path,
        Image.fromarray(PICTURE.image_bgr[:, :, ::-1]),
        num_inference_steps=2, strength=0.5, guidance_scale=0.0,
    )  # fmt: skip
    alike(got.images["image"], wanted)
    assert (got.fields["steps"], got.fields["strength"]) == (2, 0.5)


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_a_masked_unet_sees_mask_and_masked_picture(
    bundles: Any, run: Any, tmp_path: Path, strength: float
) -> None:
    options = {"prompts": (PROMPT,), "mask": MASK, "strength": strength, "steps": 6}
    got = run("inpaint", "inpaint", PICTURE, **options)
    wanted = beside(
        "inpaint", "inpaint", bundles["inpaint"], tmp_path,
        Image.fromarray(PICTURE.image_bgr[:, :, ::-1]), Image.fromarray(MASK),
        height=32, width=32, num_inference_steps=6, strength=strength,
    )  # fmt: skip
    alike(got.images["image"], wanted)


# What the user gets.


def test_fields_and_defaults(run: Any) -> None:
    got = run("sd", "text-to-image", WORDS, steps=3)
    assert got.fields == {
        "source": "argument", "index": 0, "time_s": None, "prompt": PROMPT, "negative": "",
        "seeds": [7], "steps": 3, "guidance": 7.5, "scheduler": "dpm++", "strength": None,
        "size_wh": [32, 32],
    }  # fmt: skip
    assert got.images["image"].shape == (32, 32, 3)


def test_pictures_of_a_seed_can_be_made_again_alone(run: Any) -> None:
    both = run("sd", "text-to-image", WORDS, steps=2, count=2)
    assert both.fields["seeds"] == [7, 8]
    second = run("sd", "text-to-image", WORDS, steps=2, seed=8)
    np.testing.assert_array_equal(both.images["image-2"], second.images["image"])
    assert (both.images["image-1"] != both.images["image-2"]).any()


def test_a_seed_by_chance_is_told(run: Any) -> None:
    chance = run("sd", "text-to-image", WORDS, steps=2, seed=None)
    again = run("sd", "text-to-image", WORDS, steps=2, seed=chance.fields["seeds"][0])
    np.testing.assert_array_equal(chance.images["image"], again.images["image"])


def test_pictures_on_the_way(run: Any) -> None:
    got = run("sd", "text-to-image", WORDS, steps=6, step_images=3)
    assert set(got.images) == {"image", "step-02", "step-04", "step-06"}
    # After the last step the clean picture is the picture.
    assert np.abs(got.images["step-06"].astype(int) - got.images["image"]).max() <= 1


def test_the_unet_is_asked_for_both_prompts_at_once(run: Any, sessions: Any) -> None:
    unet = sessions["sd"]["unet"]
    before = unet.runs
    run("sd", "text-to-image", WORDS, steps=5)
    assert unet.runs == before + 5


def test_what_the_mask_leaves_stays(run: Any) -> None:
    """Outside the mask the latents are the picture's own, so other words change nothing there."""
    options = {"mask": MASK, "steps": 4}
    first = run("sd", "inpaint", PICTURE, prompts=("a red tractor",), **options)
    empty = run(
        "sd", "inpaint", PICTURE, prompts=("a",), **(options | {"mask": np.zeros_like(MASK)})
    )
    other = run(
        "sd", "inpaint", PICTURE, prompts=("b",), **(options | {"mask": np.zeros_like(MASK)})
    )
    np.testing.assert_array_equal(empty.images["image"], other.images["image"])
    assert (first.images["image"] != empty.images["image"]).any()


# What is refused.

WRONG: dict[str, tuple[str, str, Any, dict[str, Any]]] = {
    "a negative prompt without guidance": ("turbo", "text-to-image", WORDS, {"negative": "x"}),
    "words beside words": ("sd", "text-to-image", WORDS, {"prompts": ("x",)}),
    "a mask for words": ("sd", "text-to-image", WORDS, {"mask": MASK}),
    "a strength for words": ("sd", "text-to-image", WORDS, {"strength": 0.5}),
    "no prompt": ("sd", "image-to-image", PICTURE, {}),
    "two prompts": ("sd", "image-to-image", PICTURE, {"prompts": ("a", "b")}),
    "a mask for the whole picture": (
        "sd", "image-to-image", PICTURE, {"prompts": ("a",), "mask": MASK}
    ),
    "no mask": ("sd", "inpaint", PICTURE, {"prompts": ("a",)}),
    "a picture as words": ("sd", "text-to-image", PICTURE, {}),
    "words as a picture": ("sd", "image-to-image", WORDS, {"prompts": ("a",)}),
    "no step is left": (
        "sd", "image-to-image", PICTURE, {"prompts": ("a",), "strength": 0.1, "steps": 4}
    ),
    "no strength": ("sd", "image-to-image", PICTURE, {"prompts": ("a",), "strength": 0.0}),
}  # fmt: skip


@pytest.mark.parametrize("which", WRONG)
def test_options_without_effect_are_refused(run: Any, which: str) -> None:
    model, task, item, options = WRONG[which]
    with pytest.raises(UsageError):
        run(model, task, item, **options)


def test_prompts_that_cannot_be_read(run: Any) -> None:
    """The tiny tokenizer makes a token of each letter; two stand for begin and end."""
    with pytest.raises(InputError, match="blank"):
        run("sd", "text-to-image", replace(WORDS, text=" "))
    run("sd", "text-to-image", replace(WORDS, text="x" * 75), steps=1)
    with pytest.raises(InputError, match=r"78 tokens.*At most 77"):
        run("sd", "text-to-image", replace(WORDS, text="x" * 76), steps=1)
    with pytest.raises(InputError, match="tokens"):
        run("sd", "text-to-image", WORDS, steps=1, negative="x" * 76)


def test_pictures_of_any_size_are_taken(run: Any) -> None:
    for height, width in ((1, 1), (4320, 7680)):
        frame = replace(PICTURE, image_bgr=np.full((height, width, 3), 90, np.uint8))
        got = run("sd", "image-to-image", frame, prompts=("a",), steps=2)
        assert got.images["image"].shape == (32, 32, 3)


def test_a_mask_of_another_size_is_refused(run: Any) -> None:
    with pytest.raises(InputError, match=r"mask is 16x32, but p\.png is 32x32"):
        run("sd", "inpaint", PICTURE, prompts=("a",), mask=MASK[:, :16])


def test_an_engine_that_overflows_is_an_error(run: Any, sessions: Any) -> None:
    whole = sessions["sd"]["unet"]
    broken = FakeSession(
        whole.inputs, whole.outputs, lambda feeds: {"noise_pred": feeds["latents"] * np.nan}
    )
    with pytest.raises(EngineLibraryError, match="NaN"):
        run("sd", "text-to-image", WORDS, {"unet": broken}, steps=2)


def test_names_and_sessions_that_are_not_there(run: Any, bundles: Any, sessions: Any) -> None:
    with pytest.raises(UnknownNameError, match="heun"):
        run("sd", "text-to-image", WORDS, scheduler="heun")
    with pytest.raises(UsageError, match="vae_decoder"):
        open_task("text-to-image", bundles["sd"], sessions["sd"]["text_encoder"], precision="fp32")


def test_a_broken_tokenizer_is_told(tmp_path: Path, sessions: Any) -> None:
    bundle = diffusion_bundle(tmp_path / "b", sizes.TINY)
    bundle.path(sd.TOKENIZER).write_text("{")
    with pytest.raises(BundleError, match="tokenizer"):
        open_task(
            "text-to-image", bundle, sessions["sd"]["text_encoder"], precision="fp32",
            others=sessions["sd"],
        )  # fmt: skip


# Pure functions.


@given(st.integers(1, 1000), st.floats(0.0, 1.0))
def test_strength_leaves_out_the_first_steps(steps: int, strength: float) -> None:
    if int(steps * strength) < 1:
        with pytest.raises(UsageError, match="leaves none"):
            start_of(steps, strength)
    else:
        assert steps - start_of(steps, strength) == int(steps * strength)


def test_a_mask_at_the_latents_size_is_torchs_nearest() -> None:
    torch = pytest.importorskip("torch")
    mask = np.random.default_rng(0).random((32, 48)) > 0.5
    wanted = torch.nn.functional.interpolate(torch.from_numpy(mask)[None, None].float(), (8, 12))
    np.testing.assert_array_equal(latent_mask(mask, (8, 12)), wanted.numpy())


def test_parts_that_take_pictures_stay_closed_where_words_alone_go_in(bundles: Any) -> None:
    bundle = next(iter(bundles.values()))
    opened = {
        task: set(other_parts(bundle, task, input_part(bundle, task)))
        for task in ("text-to-image", "image-to-image")
    }
    assert opened["text-to-image"] == {"unet", "vae_decoder"}
    assert opened["image-to-image"] == {"unet", "vae_decoder", "text_encoder"}
