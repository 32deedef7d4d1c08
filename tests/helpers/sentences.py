"""Real English sentences that every Python ships: the language reference in `pydoc_data.topics`.

They are the Python Software Foundation's, under the PSF licence, and are read where they lie.
"""

from __future__ import annotations

import re
from pydoc_data.topics import topics


def sentences(count: int) -> list[str]:
    """The first `count` plain sentences of 40 to 200 characters, in the topics' order by name."""
    found: dict[str, None] = {}
    for name in sorted(topics):
        for paragraph in topics[name].split("\n\n"):
            for piece in re.split(r"(?<=[.!?])\s", paragraph):
                sentence = re.sub(r"\s+", " ", piece).strip()
                if 40 < len(sentence) < 200 and re.fullmatch(r"[A-Z][A-Za-z ,;'()-]+\.", sentence):
                    found[sentence] = None
    return list(found)[:count]
