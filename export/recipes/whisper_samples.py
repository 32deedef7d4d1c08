"""Samples and metrics of Whisper's parts, made of a folder of speech (see export/speech.py).

encoder   each utterance; judged by the words that fp32's other parts make of its output
cross     fp32's hidden states of the first utterances, since one answer to them is 18 MB
decoder   the prompt and some steps of each utterance, with the spoken words before them given
          (teacher forcing); judged by the token that it finds likeliest and by its logits
          (steps.py)
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.export.fidelity.words import WordMetric
from jetlift.export.recipes.steps import StepMetric, steps_of
from jetlift.export.samples import Item
from jetlift.export.speech import Utterance, read_utterances
from jetlift.runtime.errors import UsageError
from jetlift.runtime.session import open_onnx
from jetlift.runtime.tasks.greedy import GENERATION, GenerationFacts, GreedyDecoder, Steps
from jetlift.runtime.text import open_tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from jetlift.export.fidelity.metric import MetricContext
    from jetlift.export.samples import ItemContext
    from jetlift.runtime.manifest import AudioPreprocess
    from jetlift.runtime.session.base import Session

    Array = npt.NDArray[Any]

CROSS_UTTERANCES = 48
HIDDEN_KEPT = 64  # what a split of any size takes to calibrate and search
_BATCH = 8


def encoder_items(context: ItemContext, spec: AudioPreprocess) -> list[Item]:
    """Each utterance with its words."""
    return [
        Item(item.digest, ({spec.input: item.log_mel},), item.text)
        for item in read_utterances(context, spec)
    ]


def cross_items(context: ItemContext, spec: AudioPreprocess) -> list[Item]:
    """Hidden states of the first utterances."""
    utterances = read_utterances(context, spec)[:CROSS_UTTERANCES]
    with _fp32(context.files, "encoder") as encoder:
        return [
            Item(item.digest, (encoder.run({spec.input: item.log_mel}),)) for item in utterances
        ]


def decoder_items(context: ItemContext, spec: AudioPreprocess) -> list[Item]:
    """The prompt's steps of each utterance, and others evenly spread to its end."""
    facts = GenerationFacts.read(context.bundle_folder / GENERATION)
    tokenizer = open_tokenizer(context.bundle_folder / facts.tokenizer)
    utterances = read_utterances(context, spec)
    heard = _Heard(_fp32(context.files, "encoder"), _fp32(context.files, "cross"), spec)
    spoken = [
        (*facts.prompt, *tokenizer.encode(f" {item.text}", add_special_tokens=False).ids)
        for item in utterances
    ]
    items: list[Item] = []
    with _fp32(context.files, "decoder") as decoder:
        for start in range(0, len(utterances), _BATCH):
            rows = range(start, min(start + _BATCH, len(utterances)))
            told = [_Told(utterances[row], spoken[row]) for row in rows]
            _give_words(decoder, heard, told)
            for item in told:
                places = steps_of(len(item.tokens), len(facts.prompt))
                steps: Any = tuple(StepFeeds(item, place, heard) for place in places)
                items.append(Item(item.utterance.digest, steps, item.utterance.text))
    return items


class _Heard:
    """fp32's cross keys and values of an utterance; the last one's are kept.

    A search asks for the same few dozen utterances over and over: their hidden states, 2 MB each,
    are kept too, so that only the cross graph is run again and not the encoder.
    """

    def __init__(self, encoder: Session, cross: Session, spec: AudioPreprocess) -> None:
        self._encoder, self._cross, self._spec = encoder, cross, spec
        self._last: tuple[Utterance, dict[str, Array]] | None = None
        self._hidden: OrderedDict[str, dict[str, Array]] = OrderedDict()

    def __call__(self, utterance: Utterance) -> dict[str, Array]:
        if self._last is None or self._last[0] is not utterance:
            self._last = (utterance, self._cross.run(self._hidden_of(utterance)))
        return self._last[1]

    def _hidden_of(self, utterance: Utterance) -> dict[str, Array]:
        found = self._hidden.get(utterance.digest)
        if found is None:
            found = self._encoder.run({self._spec.input: utterance.log_mel})
            self._hidden[utterance.digest] = found
            if len(self._hidden) > HIDDEN_KEPT:
                self._hidden.popitem(last=False)
        self._hidden.move_to_end(utterance.digest)
        return found


class _Told:
    """An utterance whose words the decoder is given.

    Attributes:
        utterance: What is heard.
        tokens: The prompt, then the spoken words.
        past: Per input of that name, keys or values of every token, [1, heads, tokens, d].
        positions: How many tokens the decoder's cache has room for.
        names: The decoder's inputs.
    """

    def __init__(self, utterance: Utterance, tokens: tuple[int, ...]) -> None:
        self.utterance, self.tokens = utterance, tokens
        self.past: dict[str, Array] = {}
        self.positions = 0
        self.names: tuple[str, ...] = ()


def _give_words(decoder: Session, heard: _Heard, told: Sequence[_Told]) -> None:
    """Fill in the keys and values of a batch of utterances."""
    crosses = [heard(item.utterance) for item in told]
    batch = {name: np.concatenate([cross[name] for cross in crosses]) for name in crosses[0]}
    steps = Steps(decoder, batch)
    longest = max(len(item.tokens) for item in told)
    # What a shorter one is given behind its end is looked at by nobody.
    tokens = np.array([item.tokens + (0,) * (longest - len(item.tokens)) for item in told])
    for column in tokens.T:
        steps.advance(np.ascontiguousarray(column, np.int64))
    for row, item in enumerate(told):
        item.positions, item.names = steps.positions, tuple(spec.name for spec in decoder.inputs)
        item.past = {
            name: cache[row : row + 1, :, : len(item.tokens)].copy()
            for name, cache in steps.past.items()
        }


class StepFeeds(Mapping[str, "Array"]):
    """What the decoder gets at one step; the large arrays are made when they are asked for.

    24 MB per step would be 25 GB for a corpus; the words' own keys and values are some 0.3 MB.
    """

    def __init__(self, told: _Told, position: int, heard: _Heard) -> None:
        self._told, self._position, self._heard = told, int(position), heard

    def __getitem__(self, name: str) -> Array:
        if name == "token":
            return np.array([self._told.tokens[self._position]], np.int64)
        if name == "position":
            return np.array([self._position], np.int64)
        if name not in self._told.past:
            return self._heard(self._told.utterance)[name]
        words = self._told.past[name]
        cache = np.zeros((*words.shape[:2], self._told.positions, words.shape[3]), np.float32)
        cache[:, :, : self._position] = words[:, :, : self._position]
        return cache

    def __iter__(self) -> Iterator[str]:
        return iter(self._told.names)

    def __len__(self) -> int:
        return len(self._told.names)


def word_metric(context: MetricContext) -> WordMetric:
    """Judges the encoder by the words that fp32's other parts make of its output."""
    if any(not isinstance(label, str) for label in context.samples.labels):
        raise UsageError(
            "The samples have no words", expected="A folder of speech with transcripts"
        )
    facts = GenerationFacts.read(context.folder / GENERATION)
    tokenizer = open_tokenizer(context.folder / facts.tokenizer)
    cross = _fp32(context.files, facts.cross)
    decoder = GreedyDecoder(_fp32(context.files, facts.decoder), facts)

    def decode(hidden: dict[str, Array], limits: Sequence[int]) -> list[tuple[int, ...]]:
        return [item.tokens for item in decoder.decode(cross.run(hidden), limits)]

    def to_text(tokens: Sequence[int]) -> str:
        return str(tokenizer.decode(list(tokens)))

    return WordMetric(decode, to_text, context.samples.labels)


def step_metric(context: MetricContext) -> StepMetric:
    """Judges the decoder step by step."""
    facts = GenerationFacts.read(context.folder / GENERATION)
    last_given = len(facts.prompt) - 1
    return StepMetric([int(feed["position"][0]) >= last_given for feed in context.samples.feeds])


def _fp32(files: Mapping[str, Path], part: str) -> Session:
    return open_onnx(files[part], library="onnxruntime")
