"""GPT-2: text that goes on from a prompt. It stands for GPT-3, whose weights are not published.

Radford et al., Language Models are Unsupervised Multitask Learners, 2019. Brown et al., arXiv
2005.14165, describe GPT-3 as the same architecture at up to 175 billion parameters, with attention
that is sparse in every other layer. Sizes: config.json of https://huggingface.co/openai-community/
gpt2, gpt2-medium and gpt2-large.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from jetlift.export import random_weights, weights
from jetlift.export.recipes import gpt_parts, published, random_tokenizers
from jetlift.export.recipes.base import Loaded, Recipe
from jetlift.runtime.errors import ArtefactError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

LICENCE = "MIT (the hub's page; openai/gpt-2 states a modified MIT licence)"
END = "<|endoftext|>"
# Masks that older versions of transformers saved with the weights: which token may see which.
_MASKS = re.compile(r"h\.\d+\.attn\.(?:masked_)?bias")
_HEAD, _TABLE = "lm_head.weight", "wte.weight"


@dataclass(frozen=True)
class Size:
    """One size of GPT-2.

    Attributes:
        width: Length of a hidden state.
        layers: Number of layers.
        heads: Heads of attention.
        vocabulary: Rows of the table of tokens; the last one ends a text.
        context: Longest text in tokens.
    """

    width: int
    layers: int
    heads: int
    vocabulary: int = 50_257
    context: int = 1024

    @property
    def cache(self) -> gpt_parts.Cache:
        """Shape of its keys and values."""
        return gpt_parts.Cache(self.layers, self.heads, self.width // self.heads, self.context)


SMALL, MEDIUM, LARGE = Size(768, 12, 12), Size(1024, 24, 16), Size(1280, 36, 20)
# For tests: no published weights have it.
TINY = Size(64, 2, 4, vocabulary=1024, context=48)


def config_of(size: Size) -> Any:  # noqa: ANN401 - transformers ships no types
    """One size in transformers' words."""
    from transformers import GPT2Config

    end = size.vocabulary - 1
    return GPT2Config(**_sizes(size), bos_token_id=end, eos_token_id=end)


def _sizes(size: Size) -> dict[str, int]:
    return {
        "vocab_size": size.vocabulary,
        "n_embd": size.width,
        "n_layer": size.layers,
        "n_head": size.heads,
        "n_positions": size.context,
    }


def load(size: Size, title: str, hub_id: str, source: str | None) -> Loaded:
    """Build the module from a hub id, a folder, or the word 'random'.

    Raises:
        JetliftError: The weights cannot be had or do not fit the model.
    """
    from transformers import GPT2LMHeadModel

    from jetlift.export.recipes.gpt_modules import Gpt2Decoder

    tokenizer: Path | bytes
    ends: tuple[int, ...] = (size.vocabulary - 1,)
    seed = random_weights.seed_of(source)
    if seed is not None:
        model = random_weights.drawn(GPT2LMHeadModel, config_of(size), seed)
        described = random_weights.describe(seed, title)
        tokenizer = random_tokenizers.byte_level(size.vocabulary, {END: ends[0]})
    else:
        name = source or hub_id
        file = weights.weights_file(weights.local_or_hub(name))
        published.check_config(file.parent, _sizes(size))
        tokenizer, ends = published.tokenizer_of(file.parent), published.ends_of(file.parent)
        state = without_masks(weights.read_safetensors(file))
        model = weights.pretrained(GPT2LMHeadModel, config_of(size), state, title)
        described = weights.describe(name, file, hub_id=hub_id, licence=LICENCE)
    module = Gpt2Decoder(model, size.context).eval()
    assets = gpt_parts.assets(tokenizer, size.cache, ends, chat=None)
    return Loaded(described, {gpt_parts.PART: module}, assets)


def without_masks(state: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """A checkpoint's weights under the names of transformers' model with its head.

    The published files name the body's weights alone and hold masks, which are no weights. A file
    with a head of its own holds the table of tokens once more.

    Raises:
        ArtefactError: Its head is not that table.
    """
    import numpy as np

    prefix = "transformer."
    plain = {name.removeprefix(prefix): array for name, array in state.items()}
    head = plain.pop(_HEAD, None)
    if head is not None and not np.array_equal(head, plain.get(_TABLE, head)):
        raise ArtefactError(
            "The output projection is not the table of tokens", expected="GPT-2, which ties them"
        )
    return {f"{prefix}{name}": plain[name] for name in plain if not _MASKS.fullmatch(name)}


def recipe(name: str, title: str, size: Size, hub_id: str, parameters: int) -> Recipe:
    """One size as a recipe."""
    return gpt_parts.recipe(
        name, title, hub_id, parameters,
        licence=LICENCE, cache=size.cache, load=partial(load, size, title, hub_id),
    )  # fmt: skip


RECIPES = (
    recipe("gpt2", "GPT-2", SMALL, "openai-community/gpt2", 124_439_808),
    recipe("gpt2-medium", "GPT-2 medium", MEDIUM, "openai-community/gpt2-medium", 354_823_168),
    recipe("gpt2-large", "GPT-2 large", LARGE, "openai-community/gpt2-large", 774_030_080),
)
