"""Stable Diffusion's checkpoints: published names, diffusers' folders, and refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from helpers import diffusers_pipes as pipes
from helpers.checkpoints import documented
from safetensors.torch import load_file, save_file

from jetlift.export.recipes import RECIPES, clip_bpe
from jetlift.export.recipes import stable_diffusion as sd
from jetlift.export.recipes import stable_diffusion_sizes as sizes
from jetlift.export.recipes import stable_diffusion_weights as published
from jetlift.runtime.errors import ArtefactError, InputError
from jetlift.runtime.text import open_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

SIZES = {"sd15": sizes.SD15, "sd-turbo": sizes.TURBO, "sd15-inpaint": sizes.SD15_INPAINT}
ORIGIN = sd.Origin("Stable Diffusion, tiny", "nobody/none")
_OLD = {"to_q": "query", "to_k": "key", "to_v": "value"}


def meta(name: str, part: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of one of the libraries' models, without weights."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    size = SIZES[name]
    with torch.device("meta"):
        model: Any
        if part == "unet":
            model = UNet2DConditionModel.from_config(sizes.unet_config(size))
        elif part == "vae":
            model = AutoencoderKL.from_config(sizes.vae_config(size))
        else:
            model = CLIPTextModel(CLIPTextConfig(**sizes.text_config(size)))
    return {key: tuple(value.shape) for key, value in model.state_dict().items()}


@pytest.mark.parametrize("name", SIZES)
def test_the_models_have_the_documented_names_and_shapes(name: str) -> None:
    listed = "sd-turbo" if name == "sd-turbo" else "sd15"
    unet = documented(listed, "unet")
    if name == "sd15-inpaint":
        unet["conv_in.weight"] = (320, 9, 3, 3)
    assert meta(name, "unet") == unet
    vae = {key: np.empty(shape) for key, shape in documented(listed, "vae").items()}
    assert meta(name, "vae") == {key: item.shape for key, item in published.renamed(vae).items()}
    text = documented(listed, "text_encoder")
    assert {f"text_model.{key}": shape for key, shape in meta(name, "text_encoder").items()} == text


@pytest.mark.parametrize("name", SIZES)
def test_parameters_are_those_of_the_definitions(name: str) -> None:
    counted = sum(
        int(np.prod(shape)) for part in ("unet", "vae", "text_encoder")
        for shape in meta(name, part).values()
    )  # fmt: skip
    assert RECIPES[name].parameters == counted


# Loading a folder.


@pytest.fixture(scope="module")
def models() -> published.Models:
    return pipes.drawn(sizes.TINY, 5)


@pytest.fixture
def folder(tmp_path: Path, models: published.Models) -> Path:
    """A tiny checkpoint as version 1.5 was saved: older names, a slow tokenizer's files."""
    saved = tmp_path / "checkpoint"
    for part in ("unet", "vae"):
        getattr(models, part).save_pretrained(saved / part)
    models.text.save_pretrained(saved / "text_encoder")
    vae = saved / published.FILES[2]
    save_file({_older(name): value for name, value in load_file(vae).items()}, vae)
    text = saved / published.FILES[0]
    state = {
        f"text_model.{name.removeprefix('text_model.')}": value
        for name, value in load_file(text).items()
    }
    state["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    save_file(state, text)
    (saved / "scheduler").mkdir()
    schedule = {
        "_class_name": "PNDMScheduler", "beta_start": 0.00085, "beta_end": 0.012,
        "beta_schedule": "scaled_linear", "steps_offset": 1, "set_alpha_to_one": False,
        "num_train_timesteps": 1000, "trained_betas": None, "clip_sample": False,
    }  # fmt: skip
    write(saved / published.SCHEDULER, schedule)
    (saved / "tokenizer").mkdir()
    made = json.loads(clip_bpe.tokenizer_json([("a", "b</w>")]))
    write(saved / "tokenizer" / "vocab.json", made["model"]["vocab"])
    (saved / "tokenizer" / "merges.txt").write_text("#version: 0.2\na b</w>\n", encoding="utf-8")
    write(saved / "tokenizer" / "tokenizer_config.json", {"pad_token": "<|endoftext|>"})
    return saved


def _older(name: str) -> str:
    if "attentions" not in name:
        return name
    for new, old in _OLD.items():
        name = name.replace(f".{new}.", f".{old}.")
    return name.replace(".to_out.0.", ".proj_attn.")


def write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


# One merge more than the tiny size has, so that merges.txt is read.
SIZE = replace(sizes.TINY, merges=1)


def load(folder: Path) -> Any:
    return sd.load(SIZE, sd.USUAL, ORIGIN, str(folder))


def test_a_folder_with_the_older_names_gives_the_same_models(
    folder: Path, models: published.Models, tmp_path: Path
) -> None:
    loaded = load(folder)
    for part, own in (("unet", models.unet), ("text_encoder", models.text)):
        got = loaded.modules[part].model.state_dict()
        for name, value in own.state_dict().items():
            assert torch.equal(got[name], value)
    latents = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 4, 8, 8)))
    wanted = models.vae.decode(latents.float() / models.vae.config.scaling_factor).sample
    got = loaded.modules["vae_decoder"](latents.float())
    assert torch.equal(got, torch.clamp(wanted * 0.5 + 0.5, 0, 1))
    assert loaded.weights.sha256 is not None
    assert loaded.weights.licence == "not stated: see the source"
    assert loaded.diffusion.steps_offset == 1
    assert loaded.diffusion.spacing is None
    (tmp_path / "tokenizer.json").write_bytes(loaded.assets[sd.TOKENIZER])
    ids = open_tokenizer(tmp_path / "tokenizer.json").encode("ab").ids
    assert ids == [SIZE.pad_id - 1, 512, SIZE.pad_id]


def test_turbos_schedule_is_read(folder: Path) -> None:
    """As stabilityai/sd-turbo@b335f73 has it, as far as it is read."""
    write(folder / published.SCHEDULER, {
        "_class_name": "EulerDiscreteScheduler", "beta_end": 0.012, "beta_start": 0.00085,
        "beta_schedule": "scaled_linear", "clip_sample": False, "interpolation_type": "linear",
        "num_train_timesteps": 1000, "prediction_type": "epsilon", "set_alpha_to_one": False,
        "steps_offset": 1, "timestep_spacing": "trailing", "use_karras_sigmas": False,
    })  # fmt: skip
    schedule = published.Checkpoint.open(str(folder)).schedule()
    assert schedule == published.Schedule(spacing=sd.FEW.spacing)


@pytest.mark.parametrize("name", published.FILES[1:])
def test_a_key_short_or_too_many_is_refused(folder: Path, name: str) -> None:
    state = load_file(folder / name)
    lost = next(iter(state))
    save_file({key: value for key, value in state.items() if key != lost}, folder / name)
    with pytest.raises(ArtefactError, match="does not fit"):
        load(folder)
    save_file(state | {"strange": torch.zeros(2)}, folder / name)
    with pytest.raises(ArtefactError, match="strange"):
        load(folder)


def test_another_size_is_refused(folder: Path) -> None:
    config = json.loads((folder / "unet" / "config.json").read_text())
    write(folder / "unet" / "config.json", config | {"cross_attention_dim": 1024})
    with pytest.raises(InputError, match="cross_attention_dim 1024"):
        load(folder)


@pytest.mark.parametrize("name", [published.FILES[1], published.SCHEDULER])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(InputError, match=name):
        load(folder)


@pytest.mark.parametrize(
    "change",
    [{"use_karras_sigmas": True}, {"timestep_spacing": "odd"}, {"prediction_type": "flow"},
     {"rescale_betas_zero_snr": True}],
)  # fmt: skip
def test_a_schedule_that_no_scheduler_here_can_do_is_refused(
    folder: Path, change: dict[str, Any]
) -> None:
    content = json.loads((folder / published.SCHEDULER).read_text())
    write(folder / published.SCHEDULER, content | change)
    with pytest.raises(InputError, match="no scheduler here"):
        load(folder)


def test_a_tokenizer_that_contradicts_itself_is_refused(folder: Path) -> None:
    vocabulary = json.loads((folder / "tokenizer" / "vocab.json").read_text())
    write(folder / "tokenizer" / "vocab.json", vocabulary | {"!": 1, '"': 0})
    with pytest.raises(ArtefactError, match="numbers its tokens"):
        load(folder)


def test_other_padding_is_refused(folder: Path) -> None:
    """As in version 2, whose two files differ; the one that counts comes first."""
    write(folder / "tokenizer" / "special_tokens_map.json", {"pad_token": {"content": "!"}})
    with pytest.raises(ArtefactError, match="fills up prompts with '!'"):
        load(folder)


def test_of_a_hub_only_what_is_read_is_taken() -> None:
    """Files as stable-diffusion-v1-5 has them, some of them 7 GB large."""
    from huggingface_hub.utils import filter_repo_objects

    wanted = {
        "scheduler/scheduler_config.json", "text_encoder/config.json", "unet/config.json",
        "text_encoder/model.safetensors", "tokenizer/merges.txt", "tokenizer/vocab.json",
        "tokenizer/special_tokens_map.json", "tokenizer/tokenizer_config.json",
        "unet/diffusion_pytorch_model.safetensors", "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    }  # fmt: skip
    others = {
        "v1-5-pruned.safetensors", "v1-5-pruned-emaonly.ckpt", "safety_checker/model.safetensors",
        "unet/diffusion_pytorch_model.bin", "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/diffusion_pytorch_model.non_ema.safetensors", "README.md",
        "text_encoder/model.fp16.safetensors", "vae/diffusion_pytorch_model.bin",
    }  # fmt: skip
    patterns = list(published._HUB_PATTERNS)
    assert set(filter_repo_objects(wanted | others, allow_patterns=patterns)) == wanted
