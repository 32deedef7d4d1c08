"""What is looked for: pictures or texts, and the part of the model that encodes them.

Rules:
    Q1  One search takes one kind of query. `--text` is always text; an argument is text where it
        ends in .txt, is `-`, or is a text itself (rule X3 of texts), a picture where its suffix
        says so, and else what the index holds.
    Q2  The part that made the index encodes queries of its own kind. The other kind needs a model
        that compares both.
"""

from __future__ import annotations

import glob
from pathlib import Path
from typing import TYPE_CHECKING

from jetlift.runtime import pictures, video
from jetlift.runtime.errors import UsageError
from jetlift.runtime.manifest import TextPreprocess
from jetlift.runtime.run import open_inputs
from jetlift.runtime.texts import TextItem, TextSource, is_text, open_texts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.run import Inputs

OPTION = "text"


def part_of(bundle: Bundle, made_by: str, inputs: Sequence[str], texts: Sequence[str]) -> str:
    """The part that encodes the queries (rules Q1 and Q2).

    Args:
        bundle: The bundle of the index.
        made_by: The part that made the index.
        inputs: The command's arguments.
        texts: What came with `--text`.

    Raises:
        UsageError: There is no query, both kinds, or a kind that the model cannot compare.
    """
    of_texts = isinstance(bundle.part(made_by)[1].preprocess, TextPreprocess)
    kinds = {True for _ in texts} | {_is_words(name, of_texts) for name in inputs}
    if not kinds:
        raise UsageError("Nothing to look for was named", expected="A picture, or --text WORDS")
    if len(kinds) > 1:
        raise UsageError("Got pictures and texts to look for", expected="One kind in one search")
    words = kinds.pop()
    if words == of_texts:
        if not of_texts:
            _refuse_word(bundle, inputs)
        return made_by
    facts = bundle.manifest.zero_shot
    if facts is None or made_by not in (facts.image, facts.text):
        raise UsageError(
            f"The index holds {'texts' if of_texts else 'pictures'}, and {bundle.manifest.model} "
            f"cannot compare these with {'words' if words else 'pictures'}",
            expected=f"{'Texts' if of_texts else 'Pictures'} to look for, or an index made with a "
            "model for both, such as clip-vit-b32",
        )
    return facts.text if words else facts.image


def queries_of(bundle: Bundle, part: str, inputs: Sequence[str], texts: Sequence[str]) -> Inputs:
    """Open the queries as the part takes them.

    Raises:
        InputError: One of them cannot be used.
    """
    if not texts:
        return open_inputs(bundle, part, inputs)
    items: list[Path | TextItem | None] = []
    for place, text in enumerate(texts):
        is_file = text.endswith(".txt") and Path(text).is_file()
        items.append(Path(text) if is_file else TextItem(OPTION, place, text))
    if inputs:
        with open_texts(inputs, literal=True) as more:
            items += list(more)
    return TextSource(items)


def _is_words(name: str, of_texts: bool) -> bool:  # noqa: FBT001
    """Whether an argument is of texts; folders and the like are what the index is (rule Q1)."""
    if name == "-" or name.endswith(".txt") or is_text(name):
        return True
    return of_texts and Path(name).suffix.lower() not in pictures.SUFFIXES | video.SUFFIXES


def _refuse_word(bundle: Bundle, inputs: Sequence[str]) -> None:
    """A single word that names nothing may be meant as a text."""
    if bundle.manifest.zero_shot is None:
        return
    for name in inputs:
        if not (Path(name).exists() or glob.has_magic(name) or "/" in name or "." in name):
            raise UsageError(
                f"{name!r} is no file, and a single word may be a misspelt name",
                expected="A picture, a text of several words, or --text",
                do=f"To look for the word: --text {name}",
            )
