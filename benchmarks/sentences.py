"""Real English sentences that every Python ships: the language reference in `pydoc_data.topics`.

They are the Python Software Foundation's, under the PSF licence, and are read where they lie.
"""

from __future__ import annotations

import re
from pydoc_data.topics import topics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

LICENCE = "PSF-2.0"
# Words in lower case and commas: what can be read aloud in one way only.
_PLAIN = re.compile(r"[A-Z][a-z]*(?:,? [a-z]+){7,21}\.")
_WRITTEN = re.compile(r"[A-Z][A-Za-z ,;'()-]+\.")


def sentences(count: int) -> list[str]:
    """The first `count` plain sentences of 40 to 200 characters, in the topics' order by name."""
    found = (item for item in _pieces() if 40 < len(item) < 200 and _WRITTEN.fullmatch(item))
    return list(dict.fromkeys(found))[:count]


def spoken_sentences() -> list[str]:
    """Every sentence of 8 to 22 words without names, brackets or code, in the same order."""
    return list(dict.fromkeys(item for item in _pieces() if _PLAIN.fullmatch(item)))


def _pieces() -> Iterator[str]:
    for name in sorted(topics):
        for paragraph in topics[name].split("\n\n"):
            for piece in re.split(r"(?<=[.!?])\s", paragraph):
                yield re.sub(r"\s+", " ", piece).strip()
