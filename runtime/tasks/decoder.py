"""A decoder-only model's loop on the device: a prompt in pieces, then one token after the other.

The graph takes `token` and `position` int64 [1, tokens], and `past_key_i` and `past_value_i`
[1, groups, positions, d] per layer; it gives `logits` [1, vocabulary] after the last token, and
`new_key_i`, `new_value_i` [1, groups, tokens, d].

Rules:
    G1  The cache has room for every position from the start and is written in place; the graph
        looks at nothing at or behind the first token's position, so what lies there is no matter.
    G2  A prompt goes through in runs of at most `piece` tokens; how it is cut changes nothing but
        rounding.
    G3  More tokens than the cache has room for are refused, never cut.
    G4  Logits that are NaN or infinite end the run with an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jetlift.runtime.bundle import read_facts
from jetlift.runtime.errors import BundleError, EngineLibraryError, InputError, UsageError
from jetlift.runtime.jsonform import field
from jetlift.runtime.manifest import NAME, RELATIVE_PATH

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from jetlift.runtime.session.base import Array, Session

FACTS = "assets/decoder.json"
USER, SYSTEM = "{user}", "{system}"
_TOKEN, _POSITION, _PAST, _NEW, _LOGITS = "token", "position", "past_", "new_", "logits"


@dataclass(frozen=True)
class ChatTemplate:
    """How an instruct model wants one turn to be written. No language: two words are replaced."""

    turn: str = field(
        doc="What the model reads, up to where its answer begins; {user} stands for the user's "
        "text and {system} for the instruction, each once at most"
    )
    system: str = field(doc="The instruction where the user gives none")

    def written(self, user: str, system: str | None = None) -> str:
        """One turn as the model reads it; braces in the texts themselves mean nothing."""
        before, _, after = self.turn.partition(USER)
        told = self.system if system is None else system
        return before.replace(SYSTEM, told) + user + after.replace(SYSTEM, told)


@dataclass(frozen=True)
class DecoderFacts:
    """What a decoder's loop has to know; a bundle's `assets/decoder.json`."""

    decoder: str = field(doc="Part that computes tokens", pattern=NAME)
    tokenizer: str = field(doc="Path of tokenizer.json in the bundle", pattern=RELATIVE_PATH)
    ends: tuple[int, ...] = field(doc="Tokens that end a text")
    piece: int = field(doc="Most tokens in one run of the graph")
    chat: ChatTemplate | None = field(
        doc="How a turn is written; null where the model has no turns"
    )

    @classmethod
    def read(cls, path: Path) -> DecoderFacts:
        """Read the facts of a bundle.

        Raises:
            BundleError: The file is missing, of another form, or says what cannot be.
        """
        facts = read_facts(cls, path)
        if facts.piece < 1 or (facts.chat is not None and facts.chat.turn.count(USER) != 1):
            raise BundleError(
                f"{path.name} has pieces of {facts.piece} tokens, or a turn without its {USER}",
                expected=f"1 token or more, and {USER} once",
                do="Export the bundle again",
            )
        return facts


class Decoder:
    """A sequence on its way through a decoder (rules G1 to G4).

    Attributes:
        positions: How many tokens the cache has room for.
        done: How many it holds.

    Args:
        session: An open session of the decoder's part.
        piece: Most tokens in one run.

    Raises:
        UsageError: The session is no such decoder's.
    """

    def __init__(self, session: Session, piece: int) -> None:
        specs = {spec.name: spec for spec in session.inputs}
        shapes = {name: spec.shape for name, spec in specs.items() if name.startswith(_PAST)}
        fixed = all(isinstance(axis, int) for shape in shapes.values() for axis in shape)
        if set(specs) - set(shapes) != {_TOKEN, _POSITION} or not shapes or not fixed:
            raise UsageError(
                f"The session takes {', '.join(specs)}",
                expected="A decoder's: token, position, past_key_0, past_value_0, …, of fixed size",
            )
        self._session, self._piece = session, piece
        self._past = {
            name: np.zeros(tuple(map(int, shape)), specs[name].dtype)
            for name, shape in shapes.items()
        }
        self.positions = int(next(iter(shapes.values()))[2])
        self.done = 0

    @property
    def room(self) -> int:
        """How many more tokens the cache takes."""
        return self.positions - self.done

    def restart(self) -> None:
        """Begin another sequence (rule G1: nothing has to be cleared)."""
        self.done = 0

    def cached(self) -> dict[str, tuple[Array, int]]:
        """Copies of the keys and values so far, [1, groups, done, d], and their room, by input."""
        return {
            name: (cache[:, :, : self.done].copy(), cache.shape[2])
            for name, cache in self._past.items()
        }

    def advance(self, tokens: Sequence[int]) -> Array:
        """Take the next tokens (rules G2 and G3).

        Returns:
            float32 logits [vocabulary] of what follows the last.

        Raises:
            UsageError: There are no tokens.
            InputError: There is no room for them.
            EngineLibraryError: The engine failed or returned NaN or infinity (rule G4).
        """
        if not tokens:
            raise UsageError("A decoder got no tokens", expected="At least one")
        if len(tokens) > self.room:
            raise InputError(
                f"{self.done} and {len(tokens)} more tokens were given",
                expected=f"At most {self.positions}, which this bundle's graph has room for",
                do="Shorten the text",
            )
        for start in range(0, len(tokens), self._piece):
            logits = self._run(tokens[start : start + self._piece])
        return logits

    def _run(self, tokens: Sequence[int]) -> Array:
        count, end = len(tokens), self.done + len(tokens)
        position = np.arange(self.done, end, dtype=np.int64)[None]
        feeds = {_TOKEN: np.array([tokens], np.int64), _POSITION: position, **self._past}
        outputs = self._session.run(feeds)
        logits: Array = outputs[_LOGITS][0]
        if not np.isfinite(logits).all():
            raise EngineLibraryError(
                f"The decoder's logits at position {end - 1} hold NaN or infinity",
                expected="Finite numbers",
                do="Try --precision fp32: where that is finite, this variant overflows",
            )
        for name, cache in self._past.items():
            fresh = outputs[_NEW + name.removeprefix(_PAST)]
            cache[:, :, self.done : end] = fresh[:, :, :count]
        self.done = end
        return logits
