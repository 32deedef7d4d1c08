"""Small decoders of Llama's family: rotary positions, RMS norms, shared keys (grouped queries).

Qwen2.5-0.5B (Qwen Team, arXiv 2412.15115) and Llama 3.2 1B (Grattafiori et al., arXiv 2407.21783).
Sizes: config.json of https://huggingface.co/Qwen/Qwen2.5-0.5B-Instruct and of
https://huggingface.co/meta-llama/Llama-3.2-1B-Instruct, which asks for its licence to be accepted.
The checkpoints without -Instruct have the same sizes and load with --weights.

The models read 32,768 and 131,072 tokens. The graph's cache has room for CONTEXT of them, since it
is read whole for each token: 2,048 are 50 MB of Qwen's keys and values and 134 MB of Llama's, in
FP32. A longer text is refused, not cut.

Turns are written by a template without a language (runtime/tasks/decoder.py): the first turn alone,
as the models' own templates write it without tools.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from jetlift.export import random_weights, weights
from jetlift.export.recipes import gpt_parts, published, random_tokenizers
from jetlift.export.recipes.base import Loaded, Recipe
from jetlift.runtime.tasks.decoder import ChatTemplate

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CONTEXT = 2048


@dataclass(frozen=True)
class Family:
    """What models of one maker share.

    Attributes:
        architecture: transformers' class; its config's class has `Config` for `ForCausalLM`.
        licence: Licence of the weights.
        special: Special tokens and their ids, of which random weights' tokenizer knows.
        ends: Tokens that end an answer.
        chat: How a turn is written.
    """

    architecture: str
    licence: str
    special: Mapping[str, int]
    ends: tuple[int, ...]
    chat: ChatTemplate


# https://huggingface.co/Qwen/Qwen2.5-0.5B-Instruct: tokenizer_config.json, generation_config.json
QWEN = Family(
    architecture="Qwen2ForCausalLM",
    licence="Apache-2.0",
    special={"<|endoftext|>": 151_643, "<|im_start|>": 151_644, "<|im_end|>": 151_645},
    ends=(151_645, 151_643),
    chat=ChatTemplate(
        turn="<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{user}<|im_end|>\n"
        "<|im_start|>assistant\n",
        system="You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
    ),
)
# https://github.com/meta-llama/llama-models: models/llama3/prompt_templates
LLAMA = Family(
    architecture="LlamaForCausalLM",
    licence="Llama 3.2 Community License",
    special={
        "<|begin_of_text|>": 128_000,
        "<|end_of_text|>": 128_001,
        "<|start_header_id|>": 128_006,
        "<|end_header_id|>": 128_007,
        "<|eom_id|>": 128_008,
        "<|eot_id|>": 128_009,
    },
    ends=(128_001, 128_008, 128_009),
    chat=ChatTemplate(
        turn="<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n{system}<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\n{user}<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        system="You are a helpful assistant.",
    ),
)


@dataclass(frozen=True)
class Size:
    """One size.

    Attributes:
        family: Whose it is.
        width: Length of a hidden state.
        layers: Number of layers.
        heads: Query heads.
        groups: Key and value heads.
        inner: Width of the MLP.
        vocabulary: Rows of the table of tokens, which is the output projection as well.
        longest: Most tokens the model reads.
        epsilon: Of the norms.
        rotations: How positions turn (transformers' rope_parameters).
        context: How many tokens the graph has room for.
    """

    family: Family
    width: int
    layers: int
    heads: int
    groups: int
    inner: int
    vocabulary: int
    longest: int
    epsilon: float
    rotations: Mapping[str, Any] = field(hash=False)
    context: int = CONTEXT

    @property
    def cache(self) -> gpt_parts.Cache:
        """Shape of its keys and values."""
        size = self.width // self.heads
        return gpt_parts.Cache(self.layers, self.groups, size, self.context)


_LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500_000.0, "factor": 32.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
}  # fmt: skip
QWEN_05B = Size(
    QWEN, 896, 24, 14, 2, 4864, 151_936, 32_768, 1e-6,
    {"rope_type": "default", "rope_theta": 1_000_000.0},
)  # fmt: skip
LLAMA_1B = Size(LLAMA, 2048, 16, 32, 8, 8192, 128_256, 131_072, 1e-5, _LLAMA3)


def config_of(size: Size) -> Any:  # noqa: ANN401 - transformers ships no types
    """One size in transformers' words."""
    import transformers

    name = size.family.architecture.replace("ForCausalLM", "Config")
    return getattr(transformers, name)(
        **_sizes(size),
        rope_parameters=dict(size.rotations),
        bos_token_id=None,
        eos_token_id=None,
    )


def _sizes(size: Size) -> dict[str, Any]:
    return {
        "vocab_size": size.vocabulary,
        "hidden_size": size.width,
        "intermediate_size": size.inner,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.groups,
        "max_position_embeddings": size.longest,
        "rms_norm_eps": size.epsilon,
        "tie_word_embeddings": True,
    }


def load(size: Size, title: str, hub_id: str, source: str | None) -> Loaded:
    """Build the module from a hub id, a folder, or the word 'random'.

    Raises:
        JetliftError: The weights cannot be had or do not fit the model.
    """
    import transformers

    from jetlift.export.recipes.gpt_modules import LlamaDecoder

    tokenizer: Path | bytes
    family, seed = size.family, random_weights.seed_of(source)
    architecture, ends = getattr(transformers, family.architecture), family.ends
    if seed is not None:
        model = random_weights.drawn(architecture, config_of(size), seed)
        described = random_weights.describe(seed, title)
        tokenizer = random_tokenizers.byte_level(size.vocabulary, family.special)
    else:
        name = source or hub_id
        file = weights.weights_file(weights.local_or_hub(name))
        published.check_config(file.parent, _published_sizes(size))
        tokenizer, ends = published.tokenizer_of(file.parent), published.ends_of(file.parent)
        state = weights.read_safetensors(file)
        model = weights.pretrained(architecture, config_of(size), state, title)
        described = weights.describe(name, file, hub_id=hub_id, licence=family.licence)
    module = LlamaDecoder(model, size.context).eval()
    assets = gpt_parts.assets(tokenizer, size.cache, ends, family.chat)
    return Loaded(described, {gpt_parts.PART: module}, assets)


def _published_sizes(size: Size) -> dict[str, Any]:
    """As config.json has them; -Instruct and base differ in how far they were trained alone."""
    told = _sizes(size) | {"rope_theta": size.rotations["rope_theta"]}
    del told["max_position_embeddings"]
    return told


def recipe(name: str, title: str, size: Size, hub_id: str, parameters: int) -> Recipe:
    """One size as a recipe."""
    return gpt_parts.recipe(
        name, title, hub_id, parameters,
        licence=size.family.licence, cache=size.cache, load=partial(load, size, title, hub_id),
    )  # fmt: skip


RECIPES = (
    recipe("qwen2.5-0.5b", "Qwen2.5 0.5B", QWEN_05B, "Qwen/Qwen2.5-0.5B-Instruct", 494_032_768),
    recipe(
        "llama-3.2-1b", "Llama 3.2 1B", LLAMA_1B, "meta-llama/Llama-3.2-1B-Instruct", 1_235_814_400
    ),
)
