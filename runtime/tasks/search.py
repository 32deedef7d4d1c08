"""Nearest neighbours by cosine, in an index of the user's own pictures or texts.

Rules:
    N1  Vectors are embeddings divided by their Euclidean length; the score is the inner product of
        two, which is their cosine: 1 for the same direction, 0 for unrelated, -1 for opposite.
    N2  Search is exact: every vector is compared. Equal scores keep the order of the index.
    N3  Files are remembered by absolute path, so that an index works from any folder.
    N4  What is in the index finds itself, first and with score 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from jetlift.runtime.drawing import Tile, contact_sheet
from jetlift.runtime.errors import ArtefactError, InputError, UsageError
from jetlift.runtime.jsonform import field
from jetlift.runtime.sources import Frame, frame_at
from jetlift.runtime.tasks import artefact
from jetlift.runtime.tasks.base import Outcome, Task, place_of
from jetlift.runtime.tasks.encoder import Encoder
from jetlift.runtime.texts import TextItem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy.typing as npt

    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.session.base import Session
    from jetlift.runtime.tasks.base import Item

    Floats = npt.NDArray[np.float32]

SCHEMA_VERSION = 1
_WHAT = "a search index"


@dataclass(frozen=True)
class Entry:
    """One indexed input."""

    source: str = field(doc="Absolute path of the file, or the device")
    index: int = field(doc="Frame or line within the source, from 0")
    time_s: float | None = field(doc="Time within the source in seconds; null for texts")
    text: str | None = field(doc="The text itself; null for pictures", default=None)


@dataclass(frozen=True)
class IndexHead:
    """The head of an index file."""

    kind: Literal["jetlift-search-index"] = field(doc="Says what the file is")
    schema_version: int = field(doc="Version of this schema")
    stamp: artefact.Stamp = field(doc="Whose numbers these are")
    arrays_sha256: dict[str, str] = field(doc="SHA-256 of dtype, shape and bytes of each array")
    entries: tuple[Entry, ...] = field(doc="What each row of `vectors` is")
    skipped: int = field(doc="Inputs that could not be read when the index was made")


@dataclass(frozen=True)
class Hit:
    """One neighbour."""

    entry: Entry
    score: float


@dataclass(frozen=True, eq=False)
class Index:
    """An index in memory.

    Attributes:
        head: What it is of.
        vectors: float32 [entries, D] of length 1 (rule N1).
    """

    head: IndexHead
    vectors: Floats

    def nearest(self, vector: Floats, count: int) -> list[Hit]:
        """The nearest entries, best first (rule N2).

        Args:
            vector: float32 [D] of length 1.
            count: How many at most.
        """
        scores = self.vectors @ vector
        best = np.argsort(-scores, kind="stable")[:count]
        return [Hit(self.head.entries[row], float(np.clip(scores[row], -1, 1))) for row in best]

    def save(self, path: Path | str) -> None:
        """Write the index as one file, atomically.

        Raises:
            StorageError: The disk is full or not writable.
        """
        artefact.save(Path(path), self.head, {"vectors": self.vectors})

    @classmethod
    def load(cls, path: Path | str) -> Index:
        """Read an index back.

        Raises:
            InputError: There is no such file.
            ArtefactError: It is something else, altered, or of another version.
        """
        head, arrays = artefact.load(Path(path), IndexHead, version=SCHEMA_VERSION, what=_WHAT)
        vectors = arrays.get("vectors")
        fits = vectors is not None and vectors.ndim == 2 and len(vectors) == len(head.entries)
        if vectors is None or not fits or vectors.dtype != np.float32:
            raise ArtefactError(f"{path} is not {_WHAT}: its vectors do not fit its entries")
        return cls(head, vectors)


def build_index(
    bundle: Bundle,
    session: Session,
    source: Iterable[Item],
    *,
    precision: str,
    target: str,
    part: str | None = None,
    progress: Callable[[int], None] | None = None,
    notices: list[str] | None = None,
) -> Index:
    """Encode every input of a source.

    Args:
        bundle: The bundle whose part computes.
        session: An engine of the part.
        source: A Source or TextSource.
        precision: The session's variant, for the stamp.
        target: The session's target, for the stamp.
        part: Name of the part; may be left out where only one is an encoder.
        progress: Called with the number of inputs done.
        notices: Gets what the user should know of the inputs.

    Raises:
        InputError: Nothing could be read, or an embedding has no direction.
        EngineLibraryError: The engine failed or returned no finite numbers.
    """
    encoder = Encoder(bundle, session, part)
    entries, vectors = [], []
    for item in source:
        vectors.append(normalised(encoder.encode(item).embedding, item))
        entries.append(_entry(item))
        if progress is not None:
            progress(len(entries))
    if not entries:
        raise InputError("There is nothing to index", expected="At least one picture or text")
    if notices is not None:
        notices.extend(encoder.notes)
    head = IndexHead(
        kind="jetlift-search-index",
        schema_version=SCHEMA_VERSION,
        stamp=artefact.stamp(bundle, encoder.part_name, precision, target),
        arrays_sha256={},
        entries=tuple(entries),
        skipped=len(getattr(source, "skipped", ())),
    )
    return Index(head, np.stack(vectors))


def normalised(embedding: Floats, item: Item) -> Floats:
    """An embedding at length 1 (rule N1), float32 [D].

    Raises:
        InputError: It has length zero and so no direction.
    """
    length = float(np.linalg.norm(embedding.astype(np.float64)))
    if length == 0.0:
        raise InputError(
            f"The embedding of {item.source} ({item.index}) is all zero",
            expected="An embedding that has a direction",
        )
    return (embedding / length).astype(np.float32)


class SearchTask(Task):
    """The nearest entries of an index for each input.

    Fields: `hits`, a list of `source`, `index`, `time_s`, `score` and, for texts, `text`.
    Arrays: `embedding` [D].

    Args:
        encoder: What computes embeddings.
        index: What is searched.
        count: How many hits at most.

    Raises:
        UsageError: `count` is below 1.
    """

    name = "search"

    def __init__(self, encoder: Encoder, index: Index, *, count: int = 5) -> None:
        if count < 1:
            raise UsageError(f"Got a count of {count} hits", expected="At least 1")
        self._encoder, self._index, self._count = encoder, index, count

    @property
    def notes(self) -> tuple[str, ...]:
        """See Task.notes."""
        return self._encoder.notes

    def process(self, item: Item) -> Outcome:
        """Find the nearest entries; see Task.process."""
        embedding = self._encoder.encode(item).embedding
        hits = self._index.nearest(normalised(embedding, item), self._count)
        fields = place_of(item) | {"hits": [_hit_fields(hit) for hit in hits]}
        return Outcome(fields, {"embedding": embedding})

    def draw(self, item: Item, outcome: Outcome) -> npt.NDArray[np.uint8] | None:
        """The query and its hits as a contact sheet; None for texts."""
        if not isinstance(item, Frame):
            return None
        tiles = [Tile(item.image_bgr, ("query", Path(item.source).name), accent=True)]
        tiles += [_hit_tile(rank, hit) for rank, hit in enumerate(outcome.fields["hits"], 1)]
        return contact_sheet(tiles, columns=3)


def _entry(item: Item) -> Entry:
    path = Path(item.source)
    source = str(path.resolve()) if path.is_file() else item.source
    if isinstance(item, Frame):
        return Entry(source, item.index, item.time_s)
    return Entry(source, item.index, None, item.text if isinstance(item, TextItem) else None)


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
    """The task on a session, with an index or its file, and how many hits; see open_task."""
    loaded = index if isinstance(index, Index) else Index.load(artefact.needed("search", index))
    encoder = Encoder(bundle, session, part)
    stamped = loaded.head.stamp
    artefact.check_stamp(stamped, bundle, encoder.part_name, precision, "The search index")
    return SearchTask(encoder, loaded, count=count)
