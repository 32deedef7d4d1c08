"""Where texts come from: .txt files, folders and patterns of them, standard input.

Rules:
    X1  One text per line; blank lines are no texts. `index` is the line's number from 0, blank
        lines counted, so that it finds the line again.
    X2  Files are UTF-8, with or without a byte order mark. One that is not is left out, counted
        and named in `skipped`. Where no text could be read, the end is an InputError.
    X3  Where the caller allows it, an argument is a text itself if it names nothing that is there,
        is no *.txt, and has white space or a character beyond ASCII. A single word is told from a
        misspelt name by nothing, so it goes through standard input.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from jetlift.runtime import listing
from jetlift.runtime.closing import Closing
from jetlift.runtime.errors import InputError, UsageError
from jetlift.runtime.listing import Skipped

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


STANDARD_INPUT, ARGUMENT = "-", "argument"
_SUFFIXES = frozenset({".txt"})


@dataclass(frozen=True)
class TextItem:
    """One text on its way to a task.

    Attributes:
        source: The file it comes from, `-` for standard input, or `argument` (rule X3).
        index: Its line in the source, from 0.
        text: The line without its end.
    """

    source: str
    index: int
    text: str


class TextSource(Closing):
    """Texts of the given inputs in order.

    Attributes:
        skipped: Files that could not be read in this iteration so far, and why (rule X2).
        count: None: lines are counted by reading them.
    """

    count: int | None = None

    def __init__(
        self, inputs: Sequence[Path | TextItem | None], *, limit: int | None = None
    ) -> None:
        self._inputs, self._limit = tuple(inputs), limit
        self.skipped: list[Skipped] = []

    def __iter__(self) -> Iterator[TextItem]:
        self.skipped.clear()
        delivered = 0
        every = (item for path in self._inputs for item in self._items(path))
        for item in islice(every, self._limit):
            delivered += 1
            yield item
        if not delivered:
            raise self._nothing_read()

    def _items(self, path: Path | TextItem | None) -> Iterator[TextItem]:
        if isinstance(path, TextItem):
            yield path
            return
        if path is None:
            yield from _texts(STANDARD_INPUT, _standard_input())
            return
        try:
            # Not splitlines(): it would also break lines at form feeds and the like.
            lines = path.read_text(encoding="utf-8-sig").split("\n")
        except UnicodeDecodeError as error:
            self.skipped.append(Skipped(str(path), f"it is not UTF-8 at byte {error.start}"))
        except OSError as error:
            self.skipped.append(Skipped(str(path), error.strerror or str(error)))
        else:
            yield from _texts(str(path), lines)

    def _nothing_read(self) -> InputError:
        reasons = "; ".join(f"{item.source}: {item.reason}" for item in self.skipped[:3])
        return InputError(
            "No text could be read" + (f" ({reasons})" if reasons else ""),
            expected="At least one line with visible characters, in UTF-8",
        )

    def close(self) -> None:
        """Nothing is held open: each file is read at once."""


def open_texts(
    inputs: Sequence[str], *, limit: int | None = None, literal: bool = False
) -> TextSource:
    """Open the inputs of a run on texts (rules X1 to X3).

    Args:
        inputs: .txt files, folders of them, patterns, or `-` for standard input.
        limit: Stop after this many texts.
        literal: Whether an argument may be a text itself.

    Raises:
        InputError: One of them cannot be used.
        UsageError: There are none.
    """
    if not inputs:
        raise UsageError("No input was named", expected="A .txt file, a folder, or - for a pipe")
    if limit is not None and limit < 1:
        raise UsageError(f"Got a limit of {limit} texts", expected="At least 1")
    paths: list[Path | TextItem | None] = []
    for place, name in enumerate(inputs):
        if name == STANDARD_INPUT:
            paths.append(None)
        elif literal and is_text(name):
            paths.append(TextItem(ARGUMENT, place, name))
        else:
            paths += listing.expand(
                name, what="text files", in_folder=_SUFFIXES, in_pattern=_SUFFIXES
            )
    return TextSource(paths, limit=limit)


def is_text(name: str) -> bool:
    """Whether an argument is a text itself (rule X3)."""
    spaced = any(character.isspace() for character in name)
    if not name.strip() or name.endswith(tuple(_SUFFIXES)) or not (spaced or not name.isascii()):
        return False
    try:
        return not Path(name).exists()
    except (OSError, ValueError):  # longer than any name, or with a null byte
        return True


def _texts(source: str, lines: Iterable[str]) -> Iterator[TextItem]:
    for index, line in enumerate(lines):
        text = line.rstrip("\r\n")
        if text.strip():
            yield TextItem(source, index, text)


def _standard_input() -> Iterator[str]:
    for number, line in enumerate(sys.stdin.buffer, 1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise InputError(
                f"Line {number} of standard input is not UTF-8 at its byte {error.start}",
                expected="Text in UTF-8",
            ) from error
