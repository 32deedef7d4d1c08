"""A search index: the nearest of the user's own pictures or texts.

Rules:
    N1  Vectors are embeddings divided by their Euclidean length; the score is the inner product of
        two, which is their cosine: 1 for the same direction, 0 for unrelated, -1 for opposite.
    N2  An exact search compares every vector. An approximate one lets its lists propose candidates,
        and scores and orders these exactly, from the stored vectors. Equal scores keep the order of
        the index.
    N3  Files are remembered by absolute path, so that an index works from any folder.
    N4  What is in the index finds itself, first and with score 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jetlift.runtime.tasks import search_store
from jetlift.runtime.tasks.search_exact import nearest_rows, unit_rows
from jetlift.runtime.tasks.search_lists import Lists

if TYPE_CHECKING:
    import numpy.typing as npt

    from jetlift.runtime.tasks.search_form import Entry, IndexHead
    from jetlift.runtime.tasks.search_store import Entries, Tables

    Floats = npt.NDArray[np.float32]

_KEPT_IN_MEMORY_BYTES = 2**28


@dataclass(frozen=True)
class Hit:
    """One neighbour."""

    entry: Entry
    score: float


class Index:
    """An index.

    Attributes:
        head: What it is of.
        tables: What it holds.
        lists: What proposes candidates; None where the search is exact.
    """

    def __init__(self, head: IndexHead, tables: Tables, lists: Lists | None = None) -> None:
        self.head, self.tables, self.lists = head, tables, lists
        self._in_memory: Floats | None = None

    def __len__(self) -> int:
        return self.head.rows

    @property
    def entries(self) -> Entries:
        """What each row is."""
        return self.tables.entries

    def nearest(self, vector: Floats, count: int, *, reach: int = 1) -> list[Hit]:
        """The nearest entries, best first (rule N2).

        Args:
            vector: float32 [D] of length 1.
            count: How many at most.
            reach: Factor on the number of lists that an approximate search reads.
        """
        rows, scores = self.nearest_rows(vector, count, reach=reach)
        return [
            Hit(self.entries[int(row)], float(np.clip(score, -1, 1)))
            for row, score in zip(rows, scores, strict=True)
        ]

    def nearest_rows(
        self, vector: Floats, count: int, *, reach: int = 1
    ) -> tuple[npt.NDArray[np.int64], Floats]:
        """Rows and scores of the nearest entries, best first (rule N2)."""
        rows = self._candidates(vector, count, reach)
        # Not BLAS, whose last bit depends on where a row stands: equal rows have equal scores.
        scores = np.einsum("ij,j->i", unit_rows(self.tables.vectors[rows]), vector)
        order = np.argsort(-scores, kind="stable")[:count]
        return rows[order], scores[order]

    def save(self, folder: Path | str) -> Index:
        """Write a new index, whole or not at all; returns it as it is on the disk.

        Raises:
            InputError: There is something already, or another process writes there.
            StorageError: The disk is full or not writable.
        """
        path = Path(folder)
        search_store.refuse_existing(path)
        with search_store.sole_writer(path):
            return self.write(path)

    def write(self, folder: Path) -> Index:
        """Write this state of the index, replacing the one before; the caller is sole writer."""
        head = search_store.write(
            folder, self.head, self.tables, None if self.lists is None else self.lists.save
        )
        return Index(head, self.tables, self.lists)

    @classmethod
    def load(cls, folder: Path | str, *, to_change: bool = False) -> Index:
        """Read an index back; every file is verified, vectors and lists stay on the disk.

        Args:
            folder: Where it lies.
            to_change: Read the lists into memory, to bring it up to date.

        Raises:
            InputError: There is no such index.
            ArtefactError: It is something else, altered, or of another version.
            MissingPackageError: It is approximate and `faiss` is not installed.
        """
        path = Path(folder)
        head, tables = search_store.read(path)
        if head.tuning is None:
            return cls(head, tables)
        file = path / head.files["lists"].name
        lists = Lists.open(file, head.tuning, mapped=not to_change)
        if len(lists) != head.rows:
            raise search_store.refused(path, "its lists do not fit its vectors")
        return cls(head, tables, lists)

    def _candidates(self, vector: Floats, count: int, reach: int) -> npt.NDArray[np.int64]:
        if self.lists is not None:
            wanted = max(self.lists.tuning.candidates, 2 * count)
            keys = self.lists.candidates(vector[None], wanted, reach=reach)[0]
            keys = np.sort(keys[keys >= 0])
            rows: npt.NDArray[np.int64] = np.searchsorted(self.tables.keys, keys)
            return rows
        wanted = 2 * count + 16  # so that ties at the edge are decided by the order of the index
        vectors = self.tables.vectors
        if 2 * vectors.nbytes > _KEPT_IN_MEMORY_BYTES:
            return np.sort(nearest_rows(vectors, vector[None], wanted)[0])
        if self._in_memory is None:
            self._in_memory = unit_rows(vectors)
        scores = self._in_memory @ vector
        return np.sort(np.argsort(-scores, kind="stable")[:wanted])
