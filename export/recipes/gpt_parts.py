"""What the decoders of the GPT family have in common: their one part, its samples and its assets.

Why there is one part and not one for the prompt and one for each token: gpt_modules.py, D1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.export.recipes.base import PartRecipe, Recipe
from jetlift.export.recipes.steps import StepMetric, steps_of
from jetlift.export.samples import Item
from jetlift.runtime import jsonform
from jetlift.runtime.errors import InputError
from jetlift.runtime.manifest import TensorSpec, TextPreprocess
from jetlift.runtime.session import open_onnx
from jetlift.runtime.tasks.decoder import FACTS, ChatTemplate, Decoder, DecoderFacts
from jetlift.runtime.text import open_tokenizer
from jetlift.runtime.texts import open_texts

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from jetlift.export.fidelity.metric import MetricContext
    from jetlift.export.recipes.base import Loaded
    from jetlift.export.samples import ItemContext

    Array = npt.NDArray[Any]

PART, TOKENIZER = "decoder", "assets/tokenizer.json"
PIECE = 128  # tokens of a prompt per run
SAMPLE_TOKENS = 48


@dataclass(frozen=True)
class Cache:
    """Shape of a decoder's keys and values.

    Attributes:
        layers: Number of layers.
        groups: Keys per layer and token.
        size: Length of a key.
        positions: How many tokens there is room for.
    """

    layers: int
    groups: int
    size: int
    positions: int

    def names(self, kind: str) -> tuple[str, ...]:
        """Key and value of each layer in turn."""
        return tuple(
            f"{kind}_{what}_{layer}" for layer in range(self.layers) for what in ("key", "value")
        )


def parts(cache: Cache) -> dict[str, PartRecipe]:
    """The decoder. Batch 1: a device writes one text, and each more would be a cache more."""
    piece = min(PIECE, cache.positions)
    shape = (1, cache.groups, cache.positions, cache.size)
    past = (TensorSpec(name, "float32", shape, shape, shape, shape) for name in cache.names("past"))

    def tokens(name: str) -> TensorSpec:
        return TensorSpec(name, "int64", (1, "tokens"), (1, 1), (1, 1), (1, piece))

    decoder = PartRecipe(
        inputs=(
            tokens("token"),
            tokens("position"),
            *past,
        ),
        output_names=("logits", *cache.names("new")),
        preprocess=TextPreprocess(
            kind="text", tokenizer=TOKENIZER, max_tokens=cache.positions, ids="token"
        ),
        budget="token_agreement>=0.95, logits.cosine_mean>=0.99",
        metric=_metric,
        items=step_items,
    )
    return {PART: decoder}


def recipe(  # noqa: D417 - the rest is a Recipe's own
    name: str,
    title: str,
    hub_id: str,
    parameters: int,
    *,
    licence: str,
    cache: Cache,
    load: Callable[[str | None], Loaded],
) -> Recipe:
    """One decoder as a recipe.

    Args:
        cache: Shape of its keys and values.
    """
    return Recipe(
        name=name,
        title=title,
        tasks=("generate",),
        hub_id=hub_id,
        licence=licence,
        packaged=None,
        parameters=parameters,
        parts=parts(cache),
        load=load,
        random=True,
    )


def assets(
    tokenizer: Path | bytes, cache: Cache, ends: tuple[int, ...], chat: ChatTemplate | None
) -> dict[str, Path | bytes]:
    """Tokenizer and facts of the loop."""
    piece = min(PIECE, cache.positions)
    facts = DecoderFacts(PART, TOKENIZER, ends=ends, piece=piece, chat=chat)
    return {TOKENIZER: tokenizer, FACTS: jsonform.dumps(facts).encode()}


def step_items(context: ItemContext) -> list[Item]:
    """Some steps of each text, evenly spread, with the words before them given.

    Raises:
        InputError: A text's tokens do not make a step.
    """
    facts = DecoderFacts.read(context.bundle_folder / FACTS)
    tokenizer = open_tokenizer(context.bundle_folder / facts.tokenizer)
    items = []
    with (
        open_texts([str(context.folder)]) as source,
        open_onnx(context.files[PART], library="onnxruntime") as session,
    ):
        for item in source:
            ids = tokenizer.encode(item.text).ids[:SAMPLE_TOKENS]
            if len(ids) < 2:
                raise InputError(
                    f"Line {item.index + 1} of {item.source} has {len(ids)} tokens",
                    expected="At least 2, one to be given and one to follow",
                )
            decoder = Decoder(session, facts.piece)
            decoder.advance(ids)
            given = _Given(tuple(ids), decoder.cached())
            steps: Any = tuple(StepFeeds(given, place) for place in steps_of(len(ids)))
            items.append(Item(hashlib.sha256(item.text.encode()).hexdigest(), steps))
    return items


@dataclass(frozen=True, eq=False)
class _Given:
    """A text that the decoder is given.

    Attributes:
        tokens: Its tokens.
        past: Keys and values of these, per input of that name, [1, groups, tokens, d], and the
            number of positions that the input has.
    """

    tokens: tuple[int, ...]
    past: Mapping[str, tuple[Array, int]]


class StepFeeds(Mapping[str, "Array"]):
    """What the decoder gets at one step; the caches are made when they are asked for.

    GPT-2's take 75 MB per step; a text's own keys and values are some 7 MB, for all its steps.
    """

    def __init__(self, given: _Given, position: int) -> None:
        self._given, self._position = given, position

    def __getitem__(self, name: str) -> Array:
        if name == "token":
            return np.array([[self._given.tokens[self._position]]], np.int64)
        if name == "position":
            return np.array([[self._position]], np.int64)
        words, positions = self._given.past[name]
        cache = np.zeros((*words.shape[:2], positions, words.shape[3]), words.dtype)
        cache[:, :, : self._position] = words[:, :, : self._position]
        return cache

    def __iter__(self) -> Iterator[str]:
        return iter(("token", "position", *self._given.past))

    def __len__(self) -> int:
        return 2 + len(self._given.past)


def _metric(context: MetricContext) -> StepMetric:
    """By the likeliest token at each step: all of them are of a text, none of a fixed prompt."""
    return StepMetric([True] * len(context.samples.feeds))
