"""Lists of names that detectors of any words are often asked for, shipped with their sources.

    jetlift prompts detic --from lvis -o lvis.prompts

Each list is a file in vocabularies/ that says where it is from and under which licence.
"""

from __future__ import annotations

import json
from pathlib import Path

from jetlift.runtime.errors import UnknownNameError

_FOLDER = Path(__file__).with_name("vocabularies")


def names() -> tuple[str, ...]:
    """The lists there are."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.json")))


def words_of(name: str) -> tuple[str, ...]:
    """The words of a list, in its own order.

    Raises:
        UnknownNameError: There is no such list.
    """
    if name not in names():
        raise UnknownNameError(
            f"There is no list of names {name!r}", expected=f"One of {', '.join(names())}"
        )
    content = json.loads((_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return tuple(content["words"])
