"""Every size of Whisper: facts against transformers, loaders against published names; a tiny one
all the way to engines. No published file of a multilingual size was loaded here."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from jetlift.export.make import Request, export_recipe
from jetlift.export.mel import filter_bank
from jetlift.export.recipes import RECIPES, whisper, whisper_tokens
from jetlift.export.recipes.whisper_sizes import SIZES, TINY, Size, table
from jetlift.export.recipes.whisper_weights import read_folder
from jetlift.runtime.audio import LogMel, Sound
from jetlift.runtime.errors import ArtefactError, InputError, UnknownNameError
from jetlift.runtime.session import open_session
from jetlift.runtime.sounds import SoundItem
from jetlift.runtime.tasks import open_task
from jetlift.runtime.tasks.greedy import GENERATION, GenerationFacts

KEYS = json.loads((Path(__file__).parents[1] / "data" / "whisper" / "keys.json").read_text())
EVERY = pytest.mark.parametrize("size", [*SIZES, TINY], ids=lambda size: size.name)


def _published(size: Size) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a published checkpoint of this size."""
    named: dict[str, list[str | int]] = dict(KEYS["encoder"]) | KEYS["decoder"]
    for side, layers in (("encoder", size.encoder_layers), ("decoder", size.decoder_layers)):
        each = KEYS["each_layer"] | (KEYS["each_decoder_layer"] if side == "decoder" else {})
        for layer in range(layers):
            named |= {f"model.{side}.layers.{layer}.{name}": axes for name, axes in each.items()}
    return {
        name: tuple(axis if isinstance(axis, int) else getattr(size, axis) for axis in axes)
        for name, axes in named.items()
    }


@EVERY
def test_parameters_are_those_of_transformers(size):
    from transformers import WhisperForConditionalGeneration

    with torch.device("meta"):
        model = WhisperForConditionalGeneration(whisper.config_of(size))
    assert sum(parameter.numel() for parameter in model.parameters()) == size.parameters
    shapes = {name: tuple(item.shape) for name, item in model.named_parameters()}
    assert shapes == _published(size)


def test_the_published_total_is_met():
    for name, total in KEYS["total_bytes_fp32"].items():
        size = next(size for size in SIZES if size.name == name)
        assert 4 * sum(int(np.prod(shape)) for shape in _published(size).values()) == total


def test_every_size_is_in_the_zoo():
    assert {size.name for size in SIZES} <= set(RECIPES)
    assert TINY.name not in RECIPES
    for size in SIZES:
        found = RECIPES[size.name]
        assert found.hub_id == f"openai/{size.name.replace('-en', '.en')}"
        assert (found.packaged is not None) == (size.name == "whisper-tiny-en")
        decoder = {spec.name: spec.shape for spec in found.parts["decoder"].inputs}
        assert len(decoder) == 2 + 4 * size.decoder_layers
        assert decoder["past_key_0"] == ("batch", size.heads, 448, 64)
        assert found.parts["encoder"].inputs[0].shape == ("batch", size.mel_bins, 3000)


def test_the_page_tells_the_same_facts():
    text = (Path(__file__).parents[2] / "docs" / "whisper.md").read_text(encoding="utf-8")
    assert table(SIZES) in text


# Loaders, on files of the tiny size with the published names.


@pytest.fixture
def state():
    random = np.random.default_rng(0)
    return {
        name: random.normal(0, 0.1, shape).astype(np.float16)
        for name, shape in _published(TINY).items()
    }


@pytest.fixture
def folder(tmp_path):
    """A folder as the hub has it, still without weights."""
    (tmp_path / "tokenizer.json").write_bytes(whisper_tokens.random_tokenizer(TINY))
    told = {"suppress_tokens": [1, 2], "begin_suppress_tokens": [32, TINY.text_tokens]}
    (tmp_path / "generation_config.json").write_text(json.dumps(told))
    return tmp_path


def _shards(folder: Path, state: dict[str, np.ndarray]) -> Path:
    names = list(state)
    files = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}  # fmt: skip  # noqa: E501
    for file, held in files.items():
        save_file({name: state[name] for name in held}, folder / file)
    places = {name: file for file, held in files.items() for name in held}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return index


def _loaded(folder: Path) -> dict[str, np.ndarray]:
    modules = whisper.load(TINY, str(folder)).modules
    return {
        f"{part}.{name}": item.detach().numpy()
        for part, module in modules.items()
        for name, item in module.named_parameters()
    }


def test_half_precision_and_shards_give_the_same_float32(folder, state):
    save_file(state, folder / "model.safetensors")
    whole = _loaded(folder)
    assert all(array.dtype == np.float32 for array in whole.values())
    np.testing.assert_array_equal(
        whole["decoder.embed_tokens.weight"],
        state["model.decoder.embed_tokens.weight"].astype(np.float32),
    )
    (folder / "model.safetensors").unlink()
    index = _shards(folder, state)
    assert read_folder(folder)[1] == index
    sharded = _loaded(folder)
    assert "their index's" in whisper.load(TINY, str(folder)).weights.note
    assert whole.keys() == sharded.keys()
    for name, array in whole.items():
        np.testing.assert_array_equal(array, sharded[name])


def test_every_published_name_is_used_and_each_is_needed(folder, state):
    for missing in (
        "model.encoder.conv1.bias",
        "model.decoder.layers.1.encoder_attn.k_proj.weight",
    ):
        save_file({k: v for k, v in state.items() if k != missing}, folder / "model.safetensors")
        with pytest.raises(ArtefactError, match="missing_keys"):
            whisper.load(TINY, str(folder))
    save_file(state | {"model.decoder.more": np.zeros(1)}, folder / "model.safetensors")
    with pytest.raises(ArtefactError, match="unexpected_keys"):
        whisper.load(TINY, str(folder))
    other = "model.decoder.embed_tokens.weight"
    save_file(state | {other: state[other][:-1]}, folder / "model.safetensors")
    with pytest.raises(ArtefactError, match="do not fit"):
        whisper.load(TINY, str(folder))


def test_broken_indices_are_refused(folder, state):
    index = _shards(folder, state)
    told = json.loads(index.read_text())
    for changed, message in (
        ({"weight_map": told["weight_map"] | {"more": "model-00001-of-00002.safetensors"}}, "more"),
        ({"weight_map": {"a": "../a.safetensors"}}, r"names the file '\.\./a"),
        ({"weight_map": {"a": "a.bin"}}, "names the file 'a.bin'"),
        ({"weight_map": {"a": "gone.safetensors"}}, "cannot be read"),
        ({}, "cannot be read"),
    ):
        index.write_text(json.dumps(changed))
        with pytest.raises(InputError, match=message):
            read_folder(folder)


def test_a_package_is_refused_where_none_ships_the_size():
    with pytest.raises(InputError, match="No package ships the weights of whisper-base"):
        RECIPES["whisper-base"].load("package")


# Sound.


@pytest.mark.parametrize("bins", [80, 128])
def test_log_mel_equals_that_of_transformers(tmp_path, bins):
    from transformers import WhisperFeatureExtractor

    path = tmp_path / "filters.npy"
    np.save(path, filter_bank(bins, 400, 16_000))
    log_mel = LogMel(whisper.PREPROCESS, path)
    random = np.random.default_rng(bins)
    sounds = {
        "noise": random.normal(0, 0.1, 160_000),
        "whole window": random.normal(0, 0.1, 480_000) * np.linspace(0, 1, 480_000),
        "tone": np.sin(np.arange(50_000) * 0.1),
        "nearly nothing": random.normal(0, 1e-6, 1000),
    }
    extractor = WhisperFeatureExtractor(feature_size=bins)
    for name, sound in sounds.items():
        samples = sound.astype(np.float32)
        wanted = extractor(samples, sampling_rate=16_000, return_tensors="np").input_features
        np.testing.assert_allclose(log_mel.window(samples), wanted, atol=2e-4, err_msg=name)


# A bundle of the tiny size.


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    out = tmp_path_factory.mktemp("bundles") / "whisper-for-tests"
    return export_recipe(whisper.recipe(TINY), "random", Request(out, ("fp32",)))


@pytest.fixture(scope="module")
def speech_like():
    """Two seconds whose level rises and falls, so that the gate lets it through."""
    random = np.random.default_rng(0)
    beats = np.sin(np.arange(32_000) / 16_000 * 2 * np.pi * 3) ** 2
    return Sound((random.normal(0, 0.2, 32_000) * beats).astype(np.float32), 16_000)


@contextlib.contextmanager
def _task(bundle, **asked):
    with contextlib.ExitStack() as stack:
        parts = {
            name: stack.enter_context(
                open_session(bundle, name, "fp32", target="cpu-onnxruntime", threads=1)
            )
            for name in bundle.manifest.parts
        }
        yield open_task(
            "transcribe", bundle, parts["encoder"], precision="fp32", others=parts, **asked
        )


def test_a_multilingual_bundle_says_what_it_can(bundle):
    assert bundle.manifest.weights.random
    assert sum(part.parameters for part in bundle.manifest.parts.values()) == TINY.parameters
    facts = GenerationFacts.read(bundle.path(GENERATION))
    assert facts.languages is not None
    assert len(facts.languages) == 99


def test_the_language_is_detected_or_taken(bundle, speech_like):
    item = SoundItem("sound", 0, speech_like)
    with _task(bundle) as task:
        found = task.run(item)
    (window,) = found["windows"]
    assert found["language"] in GenerationFacts.read(bundle.path(GENERATION)).languages
    assert 0 < window["language_probability"] <= 1
    with _task(bundle, language="Japanese", translate=True) as task:
        told = task.run(item)
    assert told["language"] == "ja"
    assert "language_probability" not in told["windows"][0]
    assert 0 < window["silence"] < 1
    with (
        pytest.raises(UnknownNameError, match=r"Did you mean ja \(Japanese\) or"),
        _task(bundle, language="japanees"),
    ):
        pass
    with pytest.raises(UnknownNameError, match="has no Cantonese"), _task(bundle, language="yue"):
        pass


def test_every_part_builds_for_tensorrt_rtx(bundle):
    reason = "TensorRT-RTX is not installed (pip install 'jetlift[rtx]')"
    pytest.importorskip("tensorrt_rtx", reason=reason)
    pytest.importorskip("polygraphy", reason=reason)
    from jetlift.engines.build import build

    built = build(bundle, "rtx-sm86")
    assert [result.part for result in built] == ["encoder", "cross", "decoder"]
    assert all(bundle.engine_path("rtx-sm86", result.part, "fp32").is_file() for result in built)
