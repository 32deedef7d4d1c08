"""What a search index on disk says of itself: `head.json` and the lines of its two tables.

An index is a folder. Its head names every other file with its SHA-256; `search_store` reads and
writes them, and docs/search.md describes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jetlift.runtime.jsonform import field
from jetlift.runtime.manifest import SHA256
from jetlift.runtime.tasks import artefact  # noqa: TC001 - read to know the form

SCHEMA_VERSION = 2
HEAD_NAME = "head.json"
WHAT = "a search index"
# Names are made here alone: a kind and the number of the update that wrote it.
FILE_NAME = r"(?:vectors|keys|entries|offsets|files|lists)-[0-9]{6}\.[a-z0-9]+"


@dataclass(frozen=True)
class Entry:
    """One indexed input, a line of the table of entries."""

    source: str = field(doc="Absolute path of the file, or the device")
    index: int = field(doc="Frame or line within the source, from 0")
    time_s: float | None = field(doc="Time within the source in seconds; null for texts")
    text: str | None = field(doc="The text itself; null for pictures", default=None)


@dataclass(frozen=True)
class FileFacts:
    """One indexed file, a line of the table of files: what tells whether it changed since."""

    source: str = field(doc="Absolute path")
    size_bytes: int = field(doc="Its size when it was read")
    mtime_ns: int = field(doc="When it was last modified, in nanoseconds since 1970")
    first: int = field(doc="Row of its first entry")
    rows: int = field(doc="Number of its entries, which follow one another")


@dataclass(frozen=True)
class StoredFile:
    """One file of the index."""

    name: str = field(doc="Name in the folder", pattern=FILE_NAME)
    sha256: str = field(doc="SHA-256 of the content", pattern=SHA256)
    size_bytes: int = field(doc="Size in bytes")


@dataclass(frozen=True)
class Tuning:
    """How an approximate index was set, and what that was measured to find."""

    lists: int = field(doc="Number of lists that the vectors are sorted into")
    probes: int = field(doc="Number of lists that a query looks into")
    candidates: int = field(doc="Number of nearest candidates that are compared exactly")
    trained_on: int = field(doc="Number of vectors in the index when the lists were made")
    recall_at_10: float = field(
        doc="Share of the true ten nearest that were found, over queries from the index itself, "
        "each without itself, when the lists were made"
    )
    queries: int = field(doc="Number of these queries")


@dataclass(frozen=True)
class IndexHead:
    """head.json of a search index."""

    kind: Literal["jetlift-search-index"] = field(doc="Says what the folder is")
    schema_version: int = field(doc="Version of this schema")
    stamp: artefact.Stamp = field(doc="Whose numbers these are")
    update: int = field(doc="How often the index was written; part of the files' names")
    rows: int = field(doc="Number of entries")
    dimensions: int = field(doc="Length of a vector")
    method: Literal["exact", "approximate"] = field(
        doc="exact: every vector is compared; approximate: those of the nearest lists"
    )
    next_key: int = field(doc="Key of the next vector; keys grow and are never used again")
    tuning: Tuning | None = field(doc="Null where the search is exact")
    skipped: int = field(doc="Inputs that could not be read when the index was last written")
    files: dict[str, StoredFile] = field(
        doc="vectors (float16), keys (int64), entries and files (JSON lines), offsets of the "
        "entries (int64), lists (FAISS)"
    )
