"""Stable Diffusion: every part and every pipeline beside diffusers, published names, sizes."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from helpers import diffusers_pipes as pipes
from helpers.trt_builds import need_builder
from PIL import Image

from jetlift.engines.build import build
from jetlift.export.make import Request, export_recipe
from jetlift.export.recipes import stable_diffusion as sd
from jetlift.export.recipes import stable_diffusion_modules as modules
from jetlift.export.recipes import stable_diffusion_sizes as sizes
from jetlift.export.recipes.stable_diffusion_samples import TIMESTEPS
from jetlift.export.samples import ItemContext
from jetlift.runtime.bundle import Bundle
from jetlift.runtime.feeds import random_feeds
from jetlift.runtime.imaging import ImagingOptions
from jetlift.runtime.preprocess import prepare_image
from jetlift.runtime.session import open_session
from jetlift.runtime.sources import Frame
from jetlift.runtime.tasks import input_part, open_task
from jetlift.runtime.texts import TextItem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from jetlift.runtime.session.base import Session

SEED = 3
TINY = sd.recipe("sd-tiny", sizes.TINY, sd.Origin("Stable Diffusion, tiny", "nobody/none"), 0)
PROMPT, NEGATIVE = "a red tractor", "blue"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: Any) -> Bundle:
    out = tmp_path_factory.mktemp("sd") / "bundle"
    return export_recipe(TINY, f"random:{SEED}", Request(out, ("fp32", "fp16")))


@pytest.fixture(scope="module")
def models() -> Any:
    return pipes.drawn(sizes.TINY, SEED)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: Any) -> Any:
    return pipes.tokenizer(sizes.TINY, tmp_path_factory.mktemp("tokens"))


@pytest.fixture(scope="module")
def sessions(bundle: Bundle) -> Iterator[dict[str, Session]]:
    opened = {
        name: open_session(bundle, name, "fp32", target="cpu-onnxruntime")
        for name in bundle.manifest.parts
    }
    yield opened
    for session in opened.values():
        session.close()


def made(
    name: str, bundle: Bundle, sessions: Mapping[str, Session], item: Any, **options: Any
) -> Any:
    part = input_part(bundle, name)
    others = {other: session for other, session in sessions.items() if other != part}
    task = open_task(
        name, bundle, sessions[part], precision="fp32", others=others,
        options=ImagingOptions(seed=7, **options),
    )  # fmt: skip
    return task.process(item)


def largest_relative(got: Any, wanted: Any) -> float:
    return float(np.abs(got - wanted).max() / np.abs(wanted).max())


def picture(side: int = 32) -> Any:
    """A smooth picture, uint8 [side, side, 3] in BGR."""
    rows, columns = np.mgrid[0:side, 0:side] / side
    planes = [rows * 255, columns * 255, (1 - rows) * columns * 255]
    return np.stack(planes, axis=2).astype(np.uint8)


# Each part.


def test_prompts_are_encoded_as_transformers_does(sessions: Any, models: Any) -> None:
    ids = np.random.default_rng(0).integers(0, 500, (2, 77))
    with torch.no_grad():
        wanted = models.text(torch.from_numpy(ids)).last_hidden_state.numpy()
    got = sessions["text_encoder"].run({"input_ids": ids})["hidden_states"]
    assert largest_relative(got, wanted) < 1e-4


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("t", [999.0, 500.25, 1.0])
def test_noise_is_predicted_as_diffusers_does(
    sessions: Any, models: Any, batch: int, t: float
) -> None:
    rng = np.random.default_rng(1)
    latents = rng.standard_normal((batch, 4, 8, 8), dtype=np.float32)
    states = rng.standard_normal((batch, 77, 24), dtype=np.float32)
    with torch.no_grad():
        wanted = models.unet(torch.from_numpy(latents), t, torch.from_numpy(states)).sample.numpy()
    feeds = {"latents": latents, "timestep": np.array([t], np.float32), "hidden_states": states}
    got = sessions["unet"].run(feeds)["noise_pred"]
    assert largest_relative(got, wanted) < 1e-4


def test_pictures_are_encoded_and_decoded_as_diffusers_does(sessions: Any, models: Any) -> None:
    rng = np.random.default_rng(2)
    pixels = rng.uniform(-1, 1, (1, 3, 32, 32)).astype(np.float32)
    factor = models.vae.config.scaling_factor
    with torch.no_grad():
        spread = models.vae.encode(torch.from_numpy(pixels)).latent_dist
    got = sessions["vae_encoder"].run({"pixel_values": pixels})
    assert largest_relative(got["mean"], spread.mean.numpy() * factor) < 1e-4
    assert largest_relative(got["deviation"], spread.std.numpy() * factor) < 1e-4
    latents = rng.standard_normal((1, 4, 8, 8), dtype=np.float32)
    with torch.no_grad():
        raw = models.vae.decode(torch.from_numpy(latents) / factor).sample
    wanted = (raw * 0.5 + 0.5).clamp(0, 1).numpy()
    assert (
        largest_relative(sessions["vae_decoder"].run({"latents": latents})["picture"], wanted)
        < 1e-4
    )


def test_half_precision_keeps_the_timestep(bundle: Bundle, models: Any) -> None:
    """A timestep's angles have no place in 16 bits; noise_pred would not tell two of them apart."""
    rng = np.random.default_rng(1)
    latents = rng.standard_normal((1, 4, 8, 8), dtype=np.float32)
    states = rng.standard_normal((1, 77, 24), dtype=np.float32)
    with open_session(bundle, "unet", "fp16", target="cpu-onnxruntime") as session:
        for t in (999.0, 981.0, 21.0):
            with torch.no_grad():
                answer = models.unet(torch.from_numpy(latents), t, torch.from_numpy(states))
            feeds = {"latents": latents, "timestep": np.array([t], np.float32)}
            got = session.run(feeds | {"hidden_states": states})["noise_pred"]
            assert largest_relative(got, answer.sample.numpy()) < 2e-3


# Whole pictures.


@pytest.mark.parametrize("scheduler", ["ddim", "euler", "dpm++"])
@pytest.mark.parametrize("guidance", [1.0, 7.5])
def test_words_become_diffusers_picture(
    bundle: Bundle, sessions: Any, models: Any, tokens: Any, scheduler: str, guidance: float
) -> None:
    negative = NEGATIVE if guidance > 1 else None
    got = made(
        "text-to-image", bundle, sessions, TextItem("argument", 0, PROMPT),
        steps=6, guidance=guidance, scheduler=scheduler, negative=negative,
    )  # fmt: skip
    assert bundle.manifest.diffusion is not None
    solver = pipes.scheduler(scheduler, bundle.manifest.diffusion)
    pipe = pipes.pipeline("text-to-image", models, tokens, solver)
    with pipes.drawing(7):
        wanted = pipe(
            PROMPT, height=32, width=32, num_inference_steps=6, guidance_scale=guidance,
            negative_prompt=negative,
        ).images[0]  # fmt: skip
    assert_alike(got.images["image"], pipes.as_bgr(wanted))
    assert got.fields["seeds"] == [7]
    assert got.fields["negative"] == negative


@pytest.mark.parametrize("scheduler", ["ddim", "euler", "dpm++"])
def test_a_picture_is_changed_as_diffusers_does(
    bundle: Bundle, sessions: Any, models: Any, tokens: Any, scheduler: str
) -> None:
    got = made(
        "image-to-image", bundle, sessions, Frame("p", 0, 0.0, picture()),
        prompts=(PROMPT,), steps=8, strength=0.6, scheduler=scheduler,
    )  # fmt: skip
    assert bundle.manifest.diffusion is not None
    solver = pipes.scheduler(scheduler, bundle.manifest.diffusion)
    pipe = pipes.pipeline("image-to-image", models, tokens, solver)
    with pipes.drawing(7):
        wanted = pipe(
            PROMPT, Image.fromarray(picture()[:, :, ::-1]), strength=0.6, num_inference_steps=8
        ).images[0]
    assert_alike(got.images["image"], pipes.as_bgr(wanted))


@pytest.mark.parametrize("scheduler", ["ddim", "euler", "dpm++"])
@pytest.mark.parametrize("strength", [1.0, 0.6])
def test_a_part_is_painted_as_diffusers_does(
    bundle: Bundle, sessions: Any, models: Any, tokens: Any, scheduler: str, strength: float
) -> None:
    got = made(
        "inpaint", bundle, sessions, Frame("p", 0, 0.0, picture()), prompts=(PROMPT,),
        steps=8, strength=strength, mask=mask(), scheduler=scheduler,
    )  # fmt: skip
    assert bundle.manifest.diffusion is not None
    solver = pipes.scheduler(scheduler, bundle.manifest.diffusion)
    wanted = inpainted(pipes.pipeline("inpaint", models, tokens, solver), strength)
    assert_alike(got.images["image"], wanted)


def mask() -> Any:
    """uint8 [32, 32]: a rectangle that does not keep to the latents' squares."""
    made_of = np.zeros((32, 32), np.uint8)
    made_of[6:25, 10:30] = 255
    return made_of


def inpainted(pipe: Any, strength: float) -> Any:
    """diffusers' answer."""
    with pipes.drawing(7):
        wanted = pipe(
            PROMPT, Image.fromarray(picture()[:, :, ::-1]), Image.fromarray(mask()),
            height=32, width=32, strength=strength, num_inference_steps=8,
        ).images[0]  # fmt: skip
    return pipes.as_bgr(wanted)


def assert_alike(got: Any, wanted: Any) -> None:
    """Within one level of 255, and not by being grey alike."""
    assert got.shape == wanted.shape
    assert np.abs(got.astype(int) - wanted.astype(int)).max() <= 1
    assert wanted.std() > 2


# Cost, builds and samples.


def test_operations_are_those_that_torch_counts(bundle: Bundle, models: Any) -> None:
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    built = {
        "text_encoder": modules.TextEncoder(models.text),
        "unet": modules.Unet(models.unet),
        "vae_decoder": modules.VaeDecoder(models.vae),
        "vae_encoder": modules.VaeEncoder(models.vae),
    }
    for name, module in built.items():
        feeds = random_feeds(bundle.part(name)[1], 0)
        arguments = [torch.from_numpy(feeds[spec.name]) for spec in TINY.parts[name].inputs]
        plain = sdpa_kernel(SDPBackend.MATH)  # the CPU's fused attention is counted by nobody
        with FlopCounterMode(display=False) as counter, torch.no_grad(), plain:
            module(*arguments)
        cost = bundle.variant(name, "fp32").cost
        assert not cost.uncounted
        counted = sum(cost.operations_by_precision.values())
        assert counted == pytest.approx(counter.get_total_flops(), rel=0.02)


@pytest.mark.parametrize("target", ["rtx-sm86", "cpu"])
def test_every_part_builds(bundle: Bundle, tmp_path: Path, target: str) -> None:
    built_for(bundle, tmp_path, target, ["fp16" if target == "rtx-sm86" else "fp32"])


@pytest.mark.long
@pytest.mark.parametrize("target", ["rtx-sm86", "cpu"])
def test_every_variant_of_every_part_builds(tmp_path: Path, target: str) -> None:
    precisions = ("fp32", "fp16", "int8", "int8w")
    made_here = export_recipe(TINY, "random:3", Request(tmp_path / "all", precisions))
    asked = list(precisions) if target == "rtx-sm86" else ["fp32", "int8"]
    built_for(made_here, tmp_path, target, asked)


def built_for(bundle: Bundle, folder: Path, target: str, asked: list[str]) -> None:
    """Build in a copy; every part at every precision asked for, and nothing falls short."""
    if target == "rtx-sm86":
        need_builder()
    shutil.copytree(bundle.folder, folder / "copy")
    results = build(Bundle.open(folder / "copy"), target, asked, race_limit_s=0)
    assert {(r.part, r.precision) for r in results} == {(p, q) for p in TINY.parts for q in asked}
    assert not any(result.shortfall for result in results)


@pytest.mark.parametrize("masked", [False, True])
def test_samples_are_noised_pictures_with_prompts(
    bundle: Bundle,
    models: Any,
    tmp_path: Path,
    masked: bool,  # noqa: FBT001
) -> None:
    for name, side in (("a", 32), ("b", 40), ("c", 24)):
        Image.fromarray(picture(side)).save(tmp_path / f"{name}.png")
    (tmp_path / "prompts.txt").write_text("a red tractor\na barn\n", encoding="utf-8")
    files = {
        name: bundle.path(part.variants["fp32"].file)
        for name, part in bundle.manifest.parts.items()
    }
    part = bundle.part("unet")[1]
    context = ItemContext(tmp_path, part, bundle.folder, files)
    size = sizes.TINY_INPAINT if masked else sizes.TINY
    read = sd.parts(size)["unet"].items
    assert read is not None
    items = list(read(context))
    assert [len(item.feeds) for item in items] == [len(TIMESTEPS)] * 3
    feed = items[0].feeds[-1]  # at timestep 1 there is hardly any noise
    assert feed["latents"].shape == (1, 9 if masked else 4, 8, 8)
    assert float(feed["timestep"][0]) == 1
    pixels = torch.from_numpy(prepare_image(picture()[:, :, ::-1], sd.preprocess(sizes.TINY)))
    with torch.no_grad():
        mean = models.vae.encode(pixels).latent_dist.mean.numpy() * models.vae.config.scaling_factor
    assert np.abs(feed["latents"][:, :4] - mean).max() < 0.2
    if masked:
        assert feed["latents"][0, 4].sum() == 16
    states = [item.feeds[0]["hidden_states"] for item in items]
    assert (states[0] == states[2]).all()  # two prompts for three pictures
    assert (states[0] != states[1]).any()
    decoder = sd.parts(size)["vae_decoder"].items
    assert decoder is not None
    (latents,) = (item.feeds[0]["latents"] for item in list(decoder(context))[:1])
    np.testing.assert_allclose(latents, mean, atol=1e-4)
