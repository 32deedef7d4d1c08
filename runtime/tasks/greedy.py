"""The most likely token, one after the other: an encoder-decoder model's loop on the device.

The decoder's graph takes `token` and `position` int64 [batch], `past_key_i` and `past_value_i`
[batch, heads, positions, d] per layer, and the cross keys and values under their own names; it
gives `logits` [batch, vocabulary] and `new_key_i`, `new_value_i` [batch, heads, 1, d].

Rules:
    G1  The cache has room for every position from the start and is written in place; the graph
        looks at nothing at or behind `position`, so what lies there does not matter.
    G2  A batch goes on until each of its sequences has ended, met its limit, or filled the cache.
    G3  Logits that are NaN or infinite end the run with an error: they have no most likely token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jetlift.runtime.bundle import read_facts
from jetlift.runtime.errors import BundleError, EngineLibraryError, UsageError
from jetlift.runtime.jsonform import field
from jetlift.runtime.manifest import RELATIVE_PATH

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from jetlift.runtime.session.base import Array, Session

GENERATION = "assets/generation.json"
_TOKEN, _POSITION, _PAST, _NEW, _LOGITS = "token", "position", "past_", "new_", "logits"


@dataclass(frozen=True)
class GenerationFacts:
    """What a model's vocabulary asks of the loop; a bundle's `assets/generation.json`."""

    encoder: str = field(doc="Part that takes the sound")
    cross: str = field(doc="Part that makes the decoder's cross keys and values of its output")
    decoder: str = field(doc="Part that computes one token")
    tokenizer: str = field(doc="Path of tokenizer.json in the bundle", pattern=RELATIVE_PATH)
    prompt: tuple[int, ...] = field(
        doc="Tokens that every sequence begins with: its start, the language and what to do where "
        "the model knows several, and the last one, which asks for no time stamps"
    )
    end: int = field(doc="Token that ends a sequence; from it on, ids are no text")
    nothing_said: int = field(doc="Token whose probability after the first one means silence")
    suppress: tuple[int, ...] = field(doc="Tokens that are never taken")
    suppress_first: tuple[int, ...] = field(doc="Tokens that are not taken right after the prompt")
    max_tokens: int = field(doc="Most tokens per window, as the model was trained")
    languages: dict[str, int] | None = field(
        doc="Token of each language by its code; null for a model of English alone", default=None
    )
    transcribe: int | None = field(
        doc="Token that asks for the words as spoken; null for a model of English alone",
        default=None,
    )
    translate: int | None = field(
        doc="Token that asks for them in English; null for a model of English alone", default=None
    )

    @property
    def start(self) -> int:
        """Token that begins every sequence."""
        return self.prompt[0]

    @property
    def untimed(self) -> int:
        """Token that asks for no time stamps."""
        return self.prompt[-1]

    @property
    def first_stamp(self) -> int:
        """Token of 0 s: in every Whisper vocabulary the next one; time stamps are the last ids."""
        return self.prompt[-1] + 1

    @classmethod
    def read(cls, path: Path) -> GenerationFacts:
        """Read the facts of a bundle.

        Raises:
            BundleError: The file is missing or of another form.
        """
        facts = read_facts(cls, path)
        if len(facts.prompt) < 2:
            raise BundleError(f"{path.name} has no prompt", expected="At least two tokens")
        if facts.languages is not None and (facts.transcribe is None or facts.translate is None):
            raise BundleError(
                f"{path.name} has languages and no token to transcribe or translate",
                do="Export the bundle again",
            )
        return facts


@dataclass(frozen=True)
class Decoded:
    """One sequence.

    Attributes:
        tokens: Ids after the prompt, the end left out.
        ended: Whether the model ended it; otherwise it was cut at the limit.
        silence: Probability that nothing was said, as the model puts it.
    """

    tokens: tuple[int, ...]
    ended: bool
    silence: float


class Steps:
    """A batch on its way through a decoder, one token at a time (rule G1).

    Args:
        session: An open session of the decoder's part.
        cross: The cross keys and values, [batch, ...] each.

    Raises:
        UsageError: The session is no decoder's.
    """

    def __init__(self, session: Session, cross: Mapping[str, Array]) -> None:
        specs = {spec.name: spec for spec in session.inputs}
        shapes = {name: spec.shape[1:] for name, spec in specs.items() if name.startswith(_PAST)}
        if _TOKEN not in specs or _POSITION not in specs or not shapes:
            raise UsageError(
                f"The session takes {', '.join(specs)}",
                expected="A decoder's: token, position, past_key_0, past_value_0, …",
            )
        names = [name for name in specs if name not in shapes and name not in (_TOKEN, _POSITION)]
        self._session, self._cross = session, {n: np.ascontiguousarray(cross[n]) for n in names}
        self.batch = len(self._cross[names[0]])
        self.past = {
            name: np.zeros((self.batch, *map(int, shape)), np.float32)
            for name, shape in shapes.items()
        }
        self.positions = next(iter(self.past.values())).shape[2]
        self.done = 0

    def advance(self, token: Array) -> Array:
        """Take one token of each sequence, int64 [batch].

        Returns:
            float logits [batch, vocabulary] of what follows.

        Raises:
            EngineLibraryError: The engine failed or returned NaN or infinity (rule G3).
        """
        position = np.full(self.batch, self.done, np.int64)
        feeds = {_TOKEN: token, _POSITION: position, **self.past, **self._cross}
        outputs = self._session.run(feeds)
        for name, cache in self.past.items():
            cache[:, :, self.done] = outputs[_NEW + name.removeprefix(_PAST)][:, :, 0]
        if not np.isfinite(outputs[_LOGITS]).all():
            raise EngineLibraryError(
                f"The decoder's logits at position {self.done} hold NaN or infinity",
                expected="Finite numbers",
                do="Try --precision fp32: where that is finite, this variant overflows",
            )
        self.done += 1
        return outputs[_LOGITS]

    def rewind(self, done: int) -> None:
        """Go on as if only the first so many tokens had been taken (rule G1).

        Raises:
            UsageError: There were not so many.
        """
        if not 0 <= done <= self.done:
            raise UsageError(f"{self.done} tokens were to be rewound to {done}")
        self.done = done


class _Row:
    """One sequence of a batch, which takes no token once it is done."""

    def __init__(self, room: int) -> None:
        self.tokens: list[int] = []
        self.ended, self._room = False, room

    @property
    def done(self) -> bool:
        return self.ended or len(self.tokens) >= self._room

    def take(self, token: int, end: int) -> None:
        if self.done:
            return
        if token == end:
            self.ended = True
        else:
            self.tokens.append(token)


class GreedyDecoder:
    """The loop around a decoder's session.

    Args:
        session: An open session of the decoder's part.
        facts: What the vocabulary asks for.
    """

    def __init__(self, session: Session, facts: GenerationFacts) -> None:
        self._session, self._facts = session, facts

    def decode(
        self, cross: Mapping[str, Array], limits: Sequence[int] | None = None
    ) -> list[Decoded]:
        """Decode a batch (rules G1 to G3).

        Args:
            cross: The cross keys and values, [batch, ...] each.
            limits: Most tokens per sequence; None for the model's own limit.

        Raises:
            UsageError: The session is no decoder's.
            EngineLibraryError: The engine failed or returned NaN or infinity.
        """
        facts, steps = self._facts, Steps(self._session, cross)
        for token in facts.prompt:
            logits = steps.advance(np.full(steps.batch, token, np.int64))
            if steps.done == 1:
                silence = _softmax(logits)[:, facts.nothing_said]
        logits[:, list(facts.suppress_first)] = -np.inf
        most = min(facts.max_tokens, steps.positions - len(facts.prompt))
        rows = [
            _Row(min(most, limit))
            for limit in (limits if limits is not None else [most] * steps.batch)
        ]
        while True:
            tokens = self._most_likely(logits)
            for row, token in zip(rows, tokens.tolist(), strict=True):
                row.take(token, facts.end)
            if all(row.done for row in rows):  # G2
                break
            logits = steps.advance(tokens)
        return [
            Decoded(tuple(row.tokens), row.ended, float(probability))
            for row, probability in zip(rows, silence, strict=True)
        ]

    def _most_likely(self, logits: Array) -> Array:
        logits[:, list(self._facts.suppress)] = -np.inf
        return np.asarray(logits.argmax(axis=1), np.int64)


def _softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
