"""The files that an input names: one file, a folder's, or those a pattern matches.

Rules:
    L1  A folder means the files directly in it, a pattern its matches (`**` reaches deeper); of
        both, only files with a known suffix, none of them hidden.
    L2  Order is natural: img2 before img10.
    L3  A named file is taken whatever its suffix.
"""

from __future__ import annotations

import glob
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jetlift.runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

_DIGITS = re.compile(r"([0-9]+)")


@dataclass(frozen=True)
class Skipped:
    """An input that was left out.

    Attributes:
        source: Which one.
        reason: Why, as a clause.
    """

    source: str
    reason: str


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """A sort key under which numbers in names count as numbers."""
    pieces = _DIGITS.split(text)
    return tuple(
        (0, int(piece), piece) if index % 2 else (1, 0, piece) for index, piece in enumerate(pieces)
    )


def expand(
    name: str, *, what: str, in_folder: Collection[str], in_pattern: Collection[str]
) -> list[Path]:
    """The files one input names (rules L1 to L3).

    Args:
        name: What the user typed.
        what: What is looked for, in the plural, for messages.
        in_folder: Suffixes taken from a folder, lower case with dot.
        in_pattern: Suffixes taken from a pattern's matches.

    Raises:
        InputError: There is no such file or folder, or nothing of the kind in it.
    """
    try:
        if Path(name).is_dir():
            return _some(_known(Path(name).iterdir(), in_folder), name, what, in_folder)
        if Path(name).is_file():
            return [Path(name)]
        if glob.has_magic(name):
            matches = (Path(match) for match in glob.iglob(name, recursive=True))  # noqa: PTH207 - Path.glob refuses absolute patterns
            return _some(_known(matches, in_pattern), name, what, in_pattern)
    except (OSError, ValueError) as error:  # names too long, folders closed to us, null bytes
        reason = getattr(error, "strerror", None) or error  # without the name once more
        raise InputError(f"{_shown(name)} cannot be looked up: {reason}") from error
    kind = "is neither a file nor a folder" if Path(name).exists() else "does not exist"
    raise InputError(
        f"{_shown(name)} {kind}",
        expected=f"A file or folder with {what}, or a pattern in quotes",
        do="Check the name",
    )


def _known(paths: Iterable[Path], suffixes: Collection[str]) -> list[Path]:
    taken = [
        path
        for path in paths
        if path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file()
    ]
    return sorted(taken, key=lambda path: natural_key(str(path)))


def _some(paths: list[Path], name: str, what: str, suffixes: Collection[str]) -> list[Path]:
    if paths:
        return paths
    raise InputError(
        f"{name} has no {what}",
        expected=f"At least one file with a suffix of {' '.join(sorted(suffixes))}",
        do="Name another folder, or the files themselves",
    )


def _shown(name: str) -> str:
    return repr(name) if len(name) <= 200 else repr(name[:200] + "…")
