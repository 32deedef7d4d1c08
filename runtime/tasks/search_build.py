"""Making a search index of the user's own pictures or texts, and bringing one up to date.

Rules:
    N5  From APPROXIMATE_FROM entries on, the search is approximate unless the user says otherwise.
    N6  An update encodes what is new or changed and nothing else; lists are changed, not made anew,
        until they are outgrown (rule A3 of search_lists).
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from jetlift.runtime.errors import ArtefactError, InputError, MissingPackageError
from jetlift.runtime.sources import Frame
from jetlift.runtime.tasks import artefact
from jetlift.runtime.tasks.encoder import Encoder
from jetlift.runtime.tasks.search_exact import stored
from jetlift.runtime.tasks.search_form import SCHEMA_VERSION, Entry, FileFacts, IndexHead
from jetlift.runtime.tasks.search_index import Index
from jetlift.runtime.tasks.search_lists import is_outgrown, make_lists
from jetlift.runtime.tasks.search_store import Entries, Tables, line_of
from jetlift.runtime.texts import TextItem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy.typing as npt

    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.session.base import Session
    from jetlift.runtime.tasks.base import Item

    Floats = npt.NDArray[np.float32]
    Halves = npt.NDArray[np.float16]

Method = Literal["exact", "approximate"]
APPROXIMATE_FROM = 100_000


@dataclass
class Encoded:
    """New rows on their way into an index."""

    vectors: list[Halves]
    lines: list[bytes]
    files: list[FileFacts]
    notes: tuple[str, ...] = ()
    skipped: int = 0


def encode_all(
    encoder: Encoder, source: Iterable[Item], progress: Callable[[int], None] | None = None
) -> Encoded:
    """Encode every input of a source.

    Raises:
        InputError: An embedding has no direction.
        EngineLibraryError: The engine failed or returned no finite numbers.
    """
    new = Encoded([], [], [])
    cut = 0
    for item in source:
        encoding = encoder.encode(item)
        cut += bool(encoding.truncated)
        _note_file(new, item)
        new.vectors.append(stored(normalised(encoding.embedding, item)))
        new.lines.append(line_of(_entry(item)))
        if progress is not None:
            progress(len(new.lines))
    longer = f"{cut} texts are longer than the model takes: their beginnings were indexed"
    new.notes = (*encoder.notes, *((longer,) if cut else ()))
    new.skipped = len(getattr(source, "skipped", ()))
    return new


def build_index(
    bundle: Bundle,
    session: Session,
    source: Iterable[Item],
    *,
    precision: str,
    target: str,
    part: str | None = None,
    method: Method | None = None,
    progress: Callable[[int], None] | None = None,
    notices: list[str] | None = None,
) -> Index:
    """Make an index of every input of a source.

    Args:
        bundle: The bundle whose part computes.
        session: An engine of the part.
        source: A Source or TextSource.
        precision: The session's variant, for the stamp.
        target: The session's target, for the stamp.
        part: Name of the part; may be left out where only one is an encoder.
        method: How it is searched; None goes by the number of entries (rule N5).
        progress: Called with the number of inputs done.
        notices: Gets what the user should know of the inputs.

    Raises:
        InputError: Nothing could be read, or an embedding has no direction.
        EngineLibraryError: The engine failed or returned no finite numbers.
        MissingPackageError: It is to be approximate and `faiss` is not installed.
    """
    if method == "approximate":
        check_method(method)  # before hours of encoding
    encoder = Encoder(bundle, session, part)
    new = encode_all(encoder, source, progress)
    if not new.lines:
        raise InputError("There is nothing to index", expected="At least one picture or text")
    stamp = artefact.stamp(bundle, encoder.part_name, precision, target)
    made = index_of(stamp, new, method)
    if notices is not None:
        notices += [*new.notes, *notices_of(made, method)]
    return made


def index_of(stamp: artefact.Stamp, new: Encoded, method: Method | None = None) -> Index:
    """An index of rows that are encoded already; raises as `build_index`."""
    vectors = np.stack(new.vectors)
    keys = np.arange(len(vectors), dtype=np.int64)
    tables = Tables(vectors, keys, Entries.of(new.lines), tuple(new.files))
    head = IndexHead(
        kind="jetlift-search-index",
        schema_version=SCHEMA_VERSION,
        stamp=stamp,
        update=0,
        rows=len(vectors),
        dimensions=vectors.shape[1],
        method="exact",
        next_key=len(vectors),
        tuning=None,
        skipped=new.skipped,
        files={},
    )
    return _with_method(head, tables, method)


def check_method(method: Method | None) -> None:
    """Refuse what this machine cannot make, before anything is encoded.

    Raises:
        MissingPackageError: `faiss` is not installed.
    """
    if method == "approximate" and not _has_faiss():
        raise MissingPackageError("faiss", extra="search", purpose="to search an approximate index")


def notices_of(index: Index, asked: Method | None) -> tuple[str, ...]:
    """What the user should know of how an index is searched."""
    tuning = index.head.tuning
    if tuning is not None:
        told = (
            f"Approximate search: {tuning.probes} of {tuning.lists} lists are read; they found "
            f"{tuning.recall_at_10:.1%} of the true ten nearest of {tuning.queries} entries when "
            f"the lists were made of {tuning.trained_on}"
        )
        return (told,)
    if asked is None and len(index) >= APPROXIMATE_FROM:
        told = (
            f"{len(index)} entries, and faiss is not installed: every query compares them all. "
            "For a faster search: pip install 'jetlift[search]', then jetlift index --update"
        )
        return (told,)
    return ()


def updated(
    index: Index, dropped: npt.NDArray[np.bool_], new: Encoded, method: Method | None
) -> Index:
    """The index without some rows and with new ones.

    Args:
        index: Loaded `to_change`; its lists are changed.
        dropped: bool [n], the rows that go.
        new: What comes.
        method: None keeps the method until rule N5 says otherwise.

    Raises:
        InputError: Nothing would be left.
        MissingPackageError: It becomes approximate and `faiss` is not installed.
    """
    old, kept = index.tables, np.flatnonzero(~dropped)
    if len(kept) + len(new.lines) == 0:
        raise InputError("There is nothing left to index", expected="At least one entry")
    keys = np.arange(index.head.next_key, index.head.next_key + len(new.lines), dtype=np.int64)
    vectors = np.concatenate([old.vectors[kept], *_stacked(new, index.head.dimensions)])
    tables = Tables(
        vectors,
        np.concatenate([old.keys[kept], keys]),
        Entries.of([*(old.entries.line(int(row)) for row in kept), *new.lines]),
        (*_moved(old.files, dropped), *_shifted(new.files, len(kept))),
    )
    head = replace(
        index.head,
        update=index.head.update + 1,
        rows=len(vectors),
        next_key=index.head.next_key + len(new.lines),
        skipped=new.skipped,
    )
    lists = index.lists
    wants = method or (index.head.method if lists is not None else None)
    if lists is not None and not is_outgrown(lists.tuning, len(vectors)) and wants != "exact":
        lists.remove(np.asarray(old.keys[dropped]))
        lists.add(vectors[len(kept) :], keys)
        return Index(head, tables, lists)
    return _with_method(head, tables, wants)


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


def _with_method(head: IndexHead, tables: Tables, method: Method | None) -> Index:
    """Make lists where the search is to be approximate (rule N5)."""
    large = method is None and head.rows >= APPROXIMATE_FROM and _has_faiss()
    if method != "approximate" and not large:
        return Index(replace(head, method="exact", tuning=None), tables)
    lists = make_lists(tables.vectors, tables.keys)
    return Index(replace(head, method="approximate", tuning=lists.tuning), tables, lists)


def _has_faiss() -> bool:
    return importlib.util.find_spec("faiss") is not None


def _stacked(new: Encoded, dimensions: int) -> list[Any]:
    if not new.vectors:
        return []
    if new.vectors[0].shape != (dimensions,):
        raise ArtefactError(
            f"The index holds vectors of {dimensions} numbers, and the part gives "
            f"{new.vectors[0].size}"
        )
    return [np.stack(new.vectors)]


def _moved(files: Iterable[FileFacts], dropped: npt.NDArray[np.bool_]) -> list[FileFacts]:
    """The files that stay, with their rows after others are gone."""
    before = np.concatenate([[0], np.cumsum(dropped)])
    return [
        replace(facts, first=facts.first - int(before[facts.first]))
        for facts in files
        if not dropped[facts.first]
    ]


def _shifted(files: Iterable[FileFacts], by: int) -> list[FileFacts]:
    return [replace(facts, first=facts.first + by) for facts in files]


def _note_file(new: Encoded, item: Item) -> None:
    """Count an input to its file, if it is of one."""
    row = len(new.lines)
    entry_source = _source_of(item)
    last = new.files[-1] if new.files else None
    if last is not None and last.source == entry_source and last.first + last.rows == row:
        new.files[-1] = replace(last, rows=last.rows + 1)
        return
    path = Path(entry_source)
    if path.is_file():
        facts = path.stat()
        new.files.append(FileFacts(entry_source, facts.st_size, facts.st_mtime_ns, row, 1))


def _source_of(item: Item) -> str:
    path = Path(item.source)
    return str(path.resolve()) if path.is_file() else item.source


def _entry(item: Item) -> Entry:
    source = _source_of(item)
    if isinstance(item, Frame):
        return Entry(source, item.index, item.time_s)
    return Entry(source, item.index, None, item.text if isinstance(item, TextItem) else None)
