"""Nearest neighbours by cosine, in an index of the user's own pictures or texts.

An index is made and kept by search_build, search_index and search_store. A model that compares
pictures with words searches pictures by words too, and texts by a picture: both its parts embed
into one space (manifest.zero_shot).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from jetlift.runtime.drawing import Tile, contact_sheet
from jetlift.runtime.errors import InputError, UsageError
from jetlift.runtime.sources import Frame, frame_at
from jetlift.runtime.tasks import artefact
from jetlift.runtime.tasks.base import Outcome, Prepared, StepTask, Task, place_of
from jetlift.runtime.tasks.encoder import Encoder
from jetlift.runtime.tasks.search_build import build_index, normalised
from jetlift.runtime.tasks.search_form import Entry, IndexHead
from jetlift.runtime.tasks.search_index import Hit, Index
from jetlift.runtime.texts import TextItem

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import numpy.typing as npt

    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.session.base import Session
    from jetlift.runtime.tasks.base import Array, Item

__all__ = [
    "Entry",
    "Hit",
    "Index",
    "IndexHead",
    "SearchTask",
    "build_index",
    "normalised",
    "open_from",
]
_WHAT = "The search index"
# Words lie apart from pictures, so the nearest pictures are spread over more lists than those of a
# picture, which the reading was tuned on.
_REACH_ACROSS = 4


class SearchTask(StepTask):
    """The nearest entries of an index for each input.

    Fields: `query` where it is a text; `hits`, a list of `source`, `index`, `time_s`, `score` and,
    for texts, `text`.
    Arrays: `embedding` [D].

    Args:
        encoder: What computes embeddings.
        index: What is searched.
        count: How many hits at most.
        across: Whether words are compared with pictures: a text that is too long is then refused,
            since what is cut off would decide nothing, and nobody would notice.

    Raises:
        UsageError: `count` is below 1.
    """

    name = "search"

    def __init__(
        self, encoder: Encoder, index: Index, *, count: int = 5, across: bool = False
    ) -> None:
        if count < 1:
            raise UsageError(f"Got a count of {count} hits", expected="At least 1")
        self._encoder, self._index, self._count, self._across = encoder, index, count, across
        self._cut = 0

    @property
    def notes(self) -> tuple[str, ...]:
        """See Task.notes."""
        cut = f"{self._cut} texts are longer than the model takes: their beginnings were looked for"
        return (*self._encoder.notes, *((cut,) if self._cut else ()))

    @property
    def engine(self) -> Session:
        """See StepTask.engine."""
        return self._encoder.engine

    def prepare(self, item: Item) -> Prepared:
        """See StepTask.prepare."""
        prepared = self._encoder.prepare(item)
        if prepared.truncated:
            self._refuse_cut(item, prepared.tokens)
        return prepared

    def finish(self, item: Item, prepared: Prepared, outputs: Mapping[str, Array]) -> Outcome:
        """Find the nearest entries; see StepTask.finish."""
        embedding = self._encoder.finish(item, prepared, outputs).embedding
        hits = self._index.nearest(
            normalised(embedding, item), self._count, reach=_REACH_ACROSS if self._across else 1
        )
        query = {"query": item.text} if isinstance(item, TextItem) else {}
        fields = place_of(item) | query | {"hits": [_hit_fields(hit) for hit in hits]}
        return Outcome(fields, {"embedding": embedding})

    def _refuse_cut(self, item: Item, tokens: int | None) -> None:
        if self._across:
            raise InputError(
                f"The text of {item.source} ({item.index}) is longer than the {tokens} tokens that "
                "the model takes",
                expected="A text that fits whole, since a part of it would mislead",
                do="Shorten it",
            )
        self._cut += 1

    def draw(self, item: Item, outcome: Outcome) -> npt.NDArray[np.uint8] | None:
        """The query and its hits as a contact sheet; None for texts."""
        if not isinstance(item, Frame):
            return None
        tiles = [Tile(item.image_bgr, ("query", Path(item.source).name), accent=True)]
        tiles += [_hit_tile(rank, hit) for rank, hit in enumerate(outcome.fields["hits"], 1)]
        return contact_sheet(tiles, columns=3)


def _hit_fields(hit: Hit) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "source": hit.entry.source,
        "index": hit.entry.index,
        "time_s": hit.entry.time_s,
        "score": round(hit.score, 6),
    }
    return fields if hit.entry.text is None else fields | {"text": hit.entry.text}


def _hit_tile(rank: int, hit: dict[str, Any]) -> Tile:
    name = Path(hit["source"]).name
    frame = f" at {hit['time_s']:.2f} s" if hit["time_s"] else ""
    lines = (f"{rank}.  {hit['score']:.3f}{frame}", name)
    if not Path(hit["source"]).is_file():  # moved since, or a camera
        return Tile(None, lines)
    try:
        return Tile(frame_at(hit["source"], hit["index"]), lines)
    except InputError:
        return Tile(None, lines)


def open_from(
    bundle: Bundle,
    session: Session,
    precision: str,
    part: str | None,
    *,
    index: Path | Index | None = None,
    count: int = 5,
) -> Task:
    """The task on a session, with an index or its folder, and how many hits; see open_task."""
    loaded = index if isinstance(index, Index) else Index.load(artefact.needed("search", index))
    encoder = Encoder(bundle, session, part)
    stamped, facts = loaded.head.stamp, bundle.manifest.zero_shot
    both = set() if facts is None else {facts.image, facts.text}
    if encoder.part_name != stamped.part and {encoder.part_name, stamped.part} == both:
        # Words among pictures, or the other way round: as with prompts, at any precision.
        artefact.check_stamp(stamped, bundle, stamped.part, stamped.precision, _WHAT)
        return SearchTask(encoder, loaded, count=count, across=True)
    artefact.check_stamp(stamped, bundle, encoder.part_name, precision, _WHAT)
    return SearchTask(encoder, loaded, count=count)
