"""Whisper's time stamps: which token may follow which, and what a sequence of them says.

A time stamp is a token of its own; the first, <|0.00|>, lies right behind <|notimestamps|> in every
Whisper vocabulary, and each next one is 0.02 s later. A segment lies between two of them. The rules
are those of openai/whisper, whisper/decoding.py (ApplyTimestampRules), and of transformers'
WhisperTimeStampLogitsProcessor:

Rules:
    P1  A sequence begins with a time stamp, of 1 s at most.
    P2  Time stamps come in pairs, the end of one segment and the start of the next, but for the
        first and the last: behind a segment's end no text may follow, behind a pair none but text.
    P3  Time stamps never fall, and a segment lasts longer than nothing.
    P4  Where all time stamps together are likelier than the likeliest other token, it is one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jetlift.runtime.session.base import Array

LATEST_FIRST = 50  # 1.0 s


@dataclass(frozen=True)
class StampRules:
    """Rules P1 to P4 over a vocabulary.

    Attributes:
        first: Token of 0 s; all ids from it on are time stamps.
        end: Token that ends a sequence; ids below it are text.
        untimed: Token that asks for no time stamps, which is never taken.
    """

    first: int
    end: int
    untimed: int

    def apply(self, logits: Array, tokens: Sequence[int]) -> None:
        """Forbid in place what may not follow.

        Args:
            logits: float [vocabulary]; what is forbidden becomes minus infinity.
            tokens: What was taken behind the prompt.
        """
        logits[self.untimed] = -np.inf
        if not tokens:  # P1
            logits[: self.first] = -np.inf
            logits[self.first + LATEST_FIRST + 1 :] = -np.inf
            return
        last_is_stamp = tokens[-1] >= self.first
        ends_segment = last_is_stamp and len(tokens) > 1 and tokens[-2] < self.first
        if ends_segment:  # P2
            logits[: self.end] = -np.inf
        elif last_is_stamp:
            logits[self.first :] = -np.inf
        latest = next((token for token in reversed(tokens) if token >= self.first), None)
        if latest is not None:  # P3
            logits[self.first : latest + (0 if ends_segment else 1)] = -np.inf
        self._prefer_stamps(logits)

    def _prefer_stamps(self, logits: Array) -> None:
        """Rule P4."""
        likeliest = logits.max()
        stamps = np.exp(logits[self.first :] - likeliest).sum()
        if stamps > np.exp(logits[: self.first].max() - likeliest):
            logits[: self.first] = -np.inf


@dataclass(frozen=True)
class Piece:
    """Tokens between two time stamps.

    Attributes:
        start: Its start, as the number of the time stamp.
        end: Its end, or None where the sequence does not say.
        tokens: Ids of its text.
    """

    start: int
    end: int | None
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class Reading:
    """What the tokens of one window say.

    Attributes:
        pieces: The segments, in order.
        heard: Number of the time stamp up to which the window was heard to the end; None for the
            whole of it.
        goes_on: Whether text behind that was left out.
    """

    pieces: tuple[Piece, ...]
    heard: int | None
    goes_on: bool = False


def read_stamps(tokens: Sequence[int], first: int) -> Reading:
    """Cut a sequence into its segments.

    Where the last segment has no end, and is not the only one, speech goes on behind the window: it
    is left out, and the next window begins where the one before it ended (openai/whisper,
    whisper/transcribe.py).

    Args:
        tokens: What was taken behind the prompt.
        first: Token of 0 s.
    """
    pieces: list[Piece] = []
    start = 0
    text: list[int] = []
    for token in tokens:
        if token < first:
            text.append(token)
            continue
        if text:
            pieces.append(Piece(start, token - first, tuple(text)))
            text = []
        start = token - first
    ends_in_pair = len(tokens) > 1 and tokens[-1] >= first and tokens[-2] >= first
    if text and pieces:
        return Reading(tuple(pieces), pieces[-1].end, goes_on=True)
    if text:
        return Reading((Piece(start, None, tuple(text)),), None)
    return Reading(tuple(pieces), pieces[-1].end if pieces and ends_in_pair else None)
