"""text-to-image and variations of an unCLIP model, whole, beside diffusers' two pipelines."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers import karlo as helper

from jetlift.runtime.bundle import Bundle
from jetlift.runtime.diffusion.base import draw, noise_stream
from jetlift.runtime.errors import BundleError, EngineLibraryError, InputError, UsageError
from jetlift.runtime.imaging import ImagingOptions
from jetlift.runtime.session import open_session
from jetlift.runtime.sources import Frame
from jetlift.runtime.tasks import open_task
from jetlift.runtime.tasks.unclip import as_picture, shown_steps
from jetlift.runtime.tasks.unclip_stages import read_stats
from jetlift.runtime.texts import TextItem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jetlift.runtime.session.base import Session

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    # diffusers 0.42 marks both pipelines as no longer developed.
    pytest.mark.filterwarnings("ignore:.*no longer being actively maintained.*"),
]

PROMPT, SEED, STEPS = "a red bus", 11, 4
ITEM = TextItem("argument", 0, PROMPT)
PICTURE = np.random.default_rng(0).integers(0, 255, (50, 40, 3), np.uint8)
FRAME = Frame("picture.png", 0, None, PICTURE)
QUICK = ImagingOptions(seed=SEED, steps=2)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return helper.bundle_in(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def sessions(bundle: Bundle) -> Iterator[dict[str, Session]]:
    with contextlib.ExitStack() as stack:
        yield {
            part: stack.enter_context(open_session(bundle, part, "fp32", target="cpu-onnxruntime"))
            for part in bundle.manifest.parts
        }


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    return helper.models()


def opened(task: str, bundle: Bundle, sessions: dict[str, Session], options: ImagingOptions) -> Any:
    part = "text" if task == "text-to-image" else "image"
    others = {name: session for name, session in sessions.items() if name != part}
    return open_task(
        task, bundle, sessions[part], precision="fp32", part=part, others=others, options=options
    )


# Beside diffusers, with the same draws in the same order.


@pytest.fixture
def shared_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """diffusers draws from the stream that the task draws from."""
    from diffusers.pipelines.deprecated.unclip import (
        pipeline_unclip,
        pipeline_unclip_image_variation,
    )
    from diffusers.schedulers import scheduling_unclip

    rng = noise_stream(SEED)

    def same(shape: Any, **_: Any) -> Any:
        return torch.from_numpy(draw(rng, tuple(shape)))

    for module in (scheduling_unclip, pipeline_unclip, pipeline_unclip_image_variation):
        monkeypatch.setattr(module, "randn_tensor", same)


def tokenizer_of(bundle: Bundle) -> Any:
    from transformers import CLIPTokenizerFast

    special = dict.fromkeys(("pad_token", "eos_token", "unk_token"), "<|endoftext|>")
    special["bos_token"] = "<|startoftext|>"  # noqa: S105 - no password
    return CLIPTokenizerFast(
        tokenizer_file=str(bundle.path("assets/tokenizer.json")), model_max_length=77, **special
    )


@pytest.mark.usefixtures("shared_draws")
@pytest.mark.parametrize("guidance", [None, 1.0])
def test_words_become_the_picture_that_diffusers_makes(bundle, sessions, models, guidance):
    from diffusers import UnCLIPPipeline, UnCLIPScheduler

    pipeline = UnCLIPPipeline(
        prior=models["prior"],
        prior_scheduler=UnCLIPScheduler(prediction_type="sample", clip_sample_range=5.0),
        **helper.reference(models, tokenizer_of(bundle)),
    )
    pipeline.set_progress_bar_config(disable=True)
    more = {} if guidance is None else {"decoder_guidance_scale": guidance}
    wanted = pipeline(
        PROMPT, prior_num_inference_steps=STEPS, decoder_num_inference_steps=STEPS,
        output_type="np", **more,
    ).images[0]  # fmt: skip
    options = ImagingOptions(seed=SEED, steps=STEPS, guidance=guidance)
    outcome = opened("text-to-image", bundle, sessions, options).process(ITEM)
    compare(outcome, wanted)
    assert outcome.fields == {
        "source": "argument", "index": 0, "time_s": None, "prompt": PROMPT, "seeds": [SEED],
        "steps": {"prior": STEPS, "decoder": STEPS, "enlargement": 7},
        "guidance": 8.0 if guidance is None else guidance, "size_wh": [32, 32],
    }  # fmt: skip


@pytest.mark.usefixtures("shared_draws")
def test_a_picture_becomes_the_variation_that_diffusers_makes(bundle, sessions, models):
    from diffusers import UnCLIPImageVariationPipeline
    from PIL import Image
    from transformers import CLIPImageProcessor

    pipeline = UnCLIPImageVariationPipeline(
        feature_extractor=CLIPImageProcessor(
            size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
        ),
        image_encoder=models["image"],
        **helper.reference(models, tokenizer_of(bundle)),
    )
    pipeline.set_progress_bar_config(disable=True)
    picture = Image.fromarray(np.ascontiguousarray(PICTURE[:, :, ::-1]))
    wanted = pipeline(picture, decoder_num_inference_steps=STEPS, output_type="np").images[0]
    options = ImagingOptions(seed=SEED, steps=STEPS)
    outcome = opened("variations", bundle, sessions, options).process(FRAME)
    compare(outcome, wanted)
    assert outcome.fields["steps"] == {"decoder": STEPS, "enlargement": 7}


def compare(outcome: Any, wanted: np.ndarray) -> None:
    """A picture beside floats [H, W, 3] in RGB, 0 to 1: to half a level and rounding."""
    got = outcome.images["image"][:, :, ::-1].astype(np.float64)
    assert got.shape == wanted.shape
    assert wanted.std() > 0.05, "the reference is no flat picture"
    assert np.abs(got - wanted * 255).max() <= 0.5 + 255e-3


# What is asked for.


def test_a_seed_makes_the_same_picture_and_another_one_does_not(bundle, sessions):
    pictures = [
        opened("text-to-image", bundle, sessions, ImagingOptions(seed=seed, steps=2))
        .process(ITEM)
        .images["image"]
        for seed in (1, 1, 2)
    ]
    assert np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], pictures[2])


def test_picture_n_draws_from_seed_plus_n(bundle, sessions):
    several = ImagingOptions(seed=4, steps=2, count=2)
    made = opened("variations", bundle, sessions, several).process(FRAME)
    alone = opened("variations", bundle, sessions, ImagingOptions(seed=5, steps=2)).process(FRAME)
    assert list(made.images) == ["image-1", "image-2"]
    assert made.fields["seeds"] == [4, 5]
    assert np.array_equal(made.images["image-2"], alone.images["image"])


def test_a_seed_by_chance_is_told(bundle, sessions):
    task = opened("variations", bundle, sessions, ImagingOptions(steps=2))
    first = task.process(FRAME)
    again = opened(
        "variations", bundle, sessions, ImagingOptions(steps=2, seed=first.fields["seeds"][0])
    ).process(FRAME)
    assert np.array_equal(first.images["image"], again.images["image"])


def test_pictures_on_the_way_are_small_and_named_by_their_step(bundle, sessions):
    options = ImagingOptions(seed=SEED, steps=4, step_images=2)
    images = opened("text-to-image", bundle, sessions, options).process(ITEM).images
    assert list(images) == ["image", "step-02", "step-04"]
    assert images["step-04"].shape == (16, 16, 3)
    assert images["image"].shape == (32, 32, 3)


@pytest.mark.parametrize(
    ("count", "steps", "shown"),
    [(0, 25, []), (1, 25, [25]), (5, 25, [5, 10, 15, 20, 25]), (9, 3, [1, 2, 3])],
)
def test_shown_steps_are_evenly_spread(count, steps, shown):
    assert sorted(shown_steps(count, steps)) == shown


def test_levels_are_rounded_as_diffusers_rounds_them():
    from diffusers.image_processor import VaeImageProcessor

    pixels = np.linspace(-1.2, 1.2, 3 * 8 * 8, dtype=np.float32).reshape(1, 3, 8, 8)
    unit = np.clip(pixels * np.float32(0.5) + np.float32(0.5), 0, 1).transpose(0, 2, 3, 1)
    wanted = np.asarray(VaeImageProcessor.numpy_to_pil(unit)[0])
    assert np.array_equal(as_picture(pixels)[:, :, ::-1], wanted)


# What is refused.


@pytest.mark.parametrize("text", ["", " \t"])
def test_a_blank_prompt_is_refused(bundle, sessions, text):
    with pytest.raises(InputError, match="blank"):
        opened("text-to-image", bundle, sessions, QUICK).process(TextItem("x", 0, text))


def test_the_longest_prompt_is_read_and_a_longer_one_refused(bundle, sessions):
    task = opened("text-to-image", bundle, sessions, QUICK)
    task.process(TextItem("x", 0, "a " * 75))  # with begin and end, 77
    with pytest.raises(InputError, match="At most 77 tokens"):
        task.process(TextItem("x", 0, "a " * 76))


@pytest.mark.parametrize(
    "options",
    [
        {"negative": "blue"}, {"strength": 0.5}, {"mask": np.zeros((2, 2), np.uint8)},
        {"scheduler": "ddim"}, {"prompts": ("a dog",)}, {"steps": 1},
    ],
)  # fmt: skip
@pytest.mark.parametrize("task", ["text-to-image", "variations"])
def test_what_the_model_has_no_use_for_is_refused(bundle, sessions, task, options):
    with pytest.raises(UsageError):
        opened(task, bundle, sessions, ImagingOptions(**options))


def test_another_kind_of_input_is_refused(bundle, sessions):
    with pytest.raises(UsageError, match="got no text"):
        opened("text-to-image", bundle, sessions, QUICK).process(FRAME)
    with pytest.raises(UsageError, match="got no picture"):
        opened("variations", bundle, sessions, QUICK).process(ITEM)


def test_a_missing_session_is_told(bundle, sessions):
    with pytest.raises(UsageError, match="no session of decoder"):
        opened("variations", bundle, {k: v for k, v in sessions.items() if k != "decoder"}, QUICK)


def test_parts_that_a_task_does_not_need_need_not_be_open(bundle, sessions):
    without_prior = {name: session for name, session in sessions.items() if name != "prior"}
    without_image = {name: session for name, session in sessions.items() if name != "image"}
    assert opened("variations", bundle, without_prior, QUICK).process(FRAME).images
    assert opened("text-to-image", bundle, without_image, QUICK).process(ITEM).images


@pytest.mark.parametrize("size_hw", [(1, 1), (4320, 7680)])
def test_pictures_of_any_size_are_read(bundle, sessions, size_hw):
    frame = Frame("p", 0, None, np.full((*size_hw, 3), 90, np.uint8))
    outcome = opened("variations", bundle, sessions, QUICK).process(frame)
    assert outcome.images["image"].shape == (32, 32, 3)


class Broken:
    """A session that answers NaN."""

    def __init__(self, inner: Session) -> None:
        self._inner, self.inputs, self.outputs = inner, inner.inputs, inner.outputs

    def run(self, feeds: Any) -> dict[str, np.ndarray]:
        return {name: array * np.nan for name, array in self._inner.run(feeds).items()}


@pytest.mark.parametrize(
    "part", ["text", "prior", "text_proj", "decoder", "super_first", "super_last"]
)
def test_nan_is_an_error_whichever_part_says_it(bundle, sessions, part):
    broken: Any = sessions | {part: Broken(sessions[part])}
    with pytest.raises(EngineLibraryError, match="NaN"):
        opened("text-to-image", bundle, broken, QUICK).process(ITEM)


@pytest.mark.parametrize(
    "content", [np.zeros((3, 4), np.float32), np.zeros((2, 4)), np.zeros(2, np.float32)]
)
def test_statistics_of_another_form_are_refused(tmp_path: Path, content):
    np.save(tmp_path / "stats.npy", content)
    with pytest.raises(BundleError, match=r"float32 \[2, D\]"):
        read_stats(tmp_path / "stats.npy")


def test_a_file_that_is_no_array_is_refused(tmp_path: Path):
    (tmp_path / "stats.npy").write_bytes(b"no array")
    with pytest.raises(BundleError, match="cannot be read"):
        read_stats(tmp_path / "stats.npy")
