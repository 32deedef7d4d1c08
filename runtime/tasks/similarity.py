"""How near two texts are: the cosine of their embeddings.

One line is one pair, with a tab between the two. Fields: `first`, `second`, `similarity` (-1 to 1),
`tokens` and `truncated`, each a list of two.

Rules:
    M1  A line without its one tab is refused; nothing is guessed of where a text ends.
    M2  The cosine is computed in float64, whatever the graph's embeddings are; equal texts have 1.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from jetlift.runtime.errors import EngineLibraryError, InputError, UsageError
from jetlift.runtime.tasks.base import Outcome, Task, place_of
from jetlift.runtime.tasks.encoder import Encoder
from jetlift.runtime.texts import TextItem

if TYPE_CHECKING:
    import numpy.typing as npt

    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.session.base import Session
    from jetlift.runtime.tasks.base import Item


class SimilarityTask(Task):
    """One cosine per pair of texts.

    Args:
        encoder: What computes embeddings of texts.

    Raises:
        UsageError: It takes pictures.
    """

    name = "similarity"

    def __init__(self, encoder: Encoder) -> None:
        if not encoder.takes_text:
            raise UsageError(
                f"Part {encoder.part_name} takes pictures",
                expected="A part that embeds texts",
                do="Name it with --part",
            )
        self._encoder = encoder

    def process(self, item: Item) -> Outcome:
        """Compare one pair; see Task.process."""
        if not isinstance(item, TextItem):
            raise UsageError("Task similarity got no text", expected="Pairs of texts")
        texts = [text.strip() for text in item.text.split("\t")]
        if len(texts) != 2 or not all(texts):
            raise InputError(
                f"Line {item.index + 1} of {item.source} has {len(texts)} texts between tabs",
                expected="Two texts with one tab between them",
            )
        both = [self._encoder.encode(replace(item, text=text)) for text in texts]
        fields = {
            "first": texts[0],
            "second": texts[1],
            "similarity": cosine(both[0].embedding, both[1].embedding),
            "tokens": [encoding.tokens for encoding in both],
            "truncated": [encoding.truncated for encoding in both],
        }
        return Outcome(place_of(item) | fields, {})


def cosine(first: npt.NDArray[np.floating], second: npt.NDArray[np.floating]) -> float:
    """Cosine of two vectors (rule M2), rounded to six digits, which is what float32 carries.

    Raises:
        EngineLibraryError: One of them is zero and has no direction.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    if lengths == 0:
        raise EngineLibraryError(
            "An embedding is zero throughout", expected="A vector with a direction"
        )
    return round(float(np.clip(a @ b / lengths, -1.0, 1.0)), 6)


def open_from(bundle: Bundle, session: Session, _precision: str, part: str | None) -> Task:
    """The task on a session; see open_task."""
    return SimilarityTask(Encoder(bundle, session, part))
