"""What changed in the user's folders since an index was made.

Rules:
    U1  A file is unchanged while its size and its time of modification are; it is not encoded
        again.
    U2  A file that changed is encoded again, and all its former entries go.
    U3  A file that is no longer on the disk goes, wherever it lay; one that is still there stays,
        though no input names it this time.
    U4  Frames of cameras and lines of standard input stay; an update cannot name them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jetlift.runtime import listing, pictures, video
from jetlift.runtime.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

    from jetlift.runtime.tasks.search_form import FileFacts

_TEXTS = frozenset({".txt"})


@dataclass(frozen=True, eq=False)
class Changes:
    """What an update has to do.

    Attributes:
        encode: Files that are new or changed, in the order of the inputs.
        added: How many of these are new.
        changed: How many of these changed.
        gone: How many files are no longer there.
        kept: How many files stay as they are.
        dropped: bool [n], the entries that go.
    """

    encode: tuple[Path, ...]
    added: int
    changed: int
    gone: int
    kept: int
    dropped: npt.NDArray[np.bool_]


def changes(
    inputs: Sequence[str], known: Iterable[FileFacts], rows: int, *, texts: bool
) -> Changes:
    """Compare the inputs with what is indexed (rules U1 to U4).

    Args:
        inputs: Files, folders and patterns.
        known: The files of the index.
        rows: Number of its entries.
        texts: Whether it is an index of texts.

    Raises:
        InputError: An input does not exist or has no such files.
        UsageError: An input is no file, folder or pattern.
    """
    by_source: dict[str, list[FileFacts]] = {}
    for facts in known:
        by_source.setdefault(facts.source, []).append(facts)
    stale = {source for source, facts in by_source.items() if not _is_unchanged(facts[0])}
    gone = {source for source in stale if not Path(source).is_file()}
    named = dict.fromkeys(path.resolve() for path in _expanded(inputs, texts=texts))
    changed = [path for path in named if str(path) in stale]
    new = [path for path in named if str(path) not in by_source]
    dropped = np.zeros(rows, np.bool_)
    for source in gone | {str(path) for path in changed}:
        for facts in by_source[source]:
            dropped[facts.first : facts.first + facts.rows] = True
    encode = tuple(path for path in named if str(path) in stale or str(path) not in by_source)
    kept = len(by_source) - len(gone) - len(changed)
    return Changes(encode, len(new), len(changed), len(gone), kept, dropped)


def _is_unchanged(facts: FileFacts) -> bool:
    try:
        now = Path(facts.source).stat()
    except (OSError, ValueError):
        return False
    return (now.st_size, now.st_mtime_ns) == (facts.size_bytes, facts.mtime_ns)


def _expanded(inputs: Sequence[str], *, texts: bool) -> list[Path]:
    if not inputs:
        raise UsageError("No input was named", expected="A file, folder or pattern")
    what, folder, pattern = "pictures", pictures.SUFFIXES, pictures.SUFFIXES | video.SUFFIXES
    if texts:
        what, folder, pattern = "text files", _TEXTS, _TEXTS
    found: list[Path] = []
    for name in inputs:
        if Path(name).is_char_device() or name == "-":
            raise UsageError(
                f"An update got {name}, which is no file", expected="Files, folders, patterns"
            )
        try:
            found += listing.expand(name, what=what, in_folder=folder, in_pattern=pattern)
        except InputError:
            if not Path(name).is_dir():
                raise  # an emptied folder is news for an update, a misspelt name is none
    return found
