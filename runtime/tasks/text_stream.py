"""From token ids to text while they come.

Rules:
    U1  What was given out never changes: together the pieces are the decoded tokens, up to a stop
        string. So a character that is not whole yet (U+FFFD at the end) is held back, and so is
        what may be the beginning of a stop string.
    U2  The first stop string that appears ends the text, and is no part of it.
    U3  A token is decoded behind some before it, on which its text may depend (a leading space).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jetlift.runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

_UNFINISHED = "\ufffd"
_CONTEXT = 4  # tokens before, by which spaces are decided


class TextStream:
    """Decodes tokens one by one.

    Attributes:
        stopped: Whether a stop string has appeared; nothing is taken after it.

    Args:
        tokenizer: A tokenizer of the package `tokenizers`.
        stops: Strings that end the text.

    Raises:
        UsageError: A stop string is empty.
    """

    def __init__(self, tokenizer: Any, stops: Sequence[str] = ()) -> None:  # noqa: ANN401 - the package ships no types
        if "" in stops:
            raise UsageError("Got an empty stop string", expected="At least one character")
        self._tokenizer, self._stops = tokenizer, tuple(stops)
        self._ids: list[int] = []
        self._read = 0  # ids whose text is in `_pending` or was given out
        self._pending = ""
        self.stopped = False

    def push(self, token: int) -> str:
        """Take a token and give what text is certain now (rule U1)."""
        if self.stopped:
            return ""
        self._ids.append(token)
        fresh = self._fresh()
        if fresh.endswith(_UNFINISHED):
            return ""
        self._read = len(self._ids)
        self._pending += fresh
        return self._certain()

    def finish(self) -> str:
        """Give what was held back, once no more tokens come."""
        if not self.stopped:
            self._pending += self._fresh()
            self._read = len(self._ids)
            self._cut_at_stop()
        rest, self._pending = self._pending, ""
        return rest

    def _fresh(self) -> str:
        """Text of the tokens that were not read yet (rule U3)."""
        start = max(0, self._read - _CONTEXT)
        known = str(self._tokenizer.decode(self._ids[start : self._read]))
        whole = str(self._tokenizer.decode(self._ids[start:]))
        return whole[len(known) :]

    def _certain(self) -> str:
        self._cut_at_stop()
        held = 0 if self.stopped else _held_back(self._pending, self._stops)
        end = len(self._pending) - held
        told, self._pending = self._pending[:end], self._pending[end:]
        return told

    def _cut_at_stop(self) -> None:
        """End the text at the first stop string (rule U2)."""
        places = [place for stop in self._stops if (place := self._pending.find(stop)) >= 0]
        if places:
            self._pending, self.stopped = self._pending[: min(places)], True


def _held_back(text: str, stops: Sequence[str]) -> int:
    """How many characters at the end of a text may begin a stop string."""
    longest = max((len(stop) for stop in stops), default=1) - 1
    return next(
        (
            length
            for length in range(min(longest, len(text)), 0, -1)
            if any(stop.startswith(text[-length:]) for stop in stops)
        ),
        0,
    )
