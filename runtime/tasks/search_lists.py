"""Approximate nearest neighbours: vectors sorted into lists, of which a query reads the nearest.

Rules:
    A1  An inverted file of FAISS: k-means cells by inner product, codes of 8 bits per number
        (Jégou, Douze, Schmid: Product quantization for nearest neighbor search, 2011, section IV).
        What it proposes is compared exactly by the caller.
    A2  How many lists a query reads is measured when they are made: twice the smallest power of two
        that finds RECALL_WANTED of the true ten nearest of QUERIES vectors of the index, each
        without itself. Twice, because the lists were made of these and not of what will be asked.
        What is reached is told.
    A3  Vectors have keys; adding and removing leaves the lists as they are. Once there are
        GROWN_BY times as many vectors as the lists were made of, they are made anew.
    A4  The same vectors make the same lists.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.runtime.errors import ArtefactError, MissingPackageError
from jetlift.runtime.tasks.search_exact import nearest_rows, unit_rows
from jetlift.runtime.tasks.search_form import Tuning

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]
    Halves = npt.NDArray[np.float16]
    Keys = npt.NDArray[np.int64]

RECALL_WANTED, QUERIES, WANTED = 0.995, 128, 10
GROWN_BY = 2.0
CANDIDATES = 100
_SAMPLES_PER_LIST, _ROUNDS, _LEAST_LISTS, _MOST_LISTS = 40, 10, 16, 4096
_BLOCK = 2**16


class Lists:
    """The lists of an index, in memory or mapped from their file.

    Args:
        faiss_index: FAISS's own object.
        tuning: How many lists a query reads.
    """

    def __init__(self, faiss_index: Any, tuning: Tuning) -> None:  # noqa: ANN401 - no types
        self._index, self.tuning = faiss_index, tuning

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def candidates(
        self, vectors: Floats, count: int, *, probes: int | None = None, reach: int = 1
    ) -> Keys:
        """Keys of the likely nearest of each vector, int64 [queries, count]; -1 fills up.

        Args:
            vectors: float32 [queries, D] of length 1.
            count: How many per vector.
            probes: How many lists to read; what was tuned if not given.
            reach: Factor on that.
        """
        wanted = min(self.tuning.lists, reach * (probes or self.tuning.probes))
        how = _faiss().SearchParametersIVF(nprobe=wanted)
        found: Keys = self._index.search(np.ascontiguousarray(vectors), count, params=how)[1]
        return found

    def add(self, vectors: Halves, keys: Keys) -> None:
        """Put vectors into the lists (rule A3).

        Args:
            vectors: float16 [n, D].
            keys: int64 [n], none of them used before.
        """
        for start in range(0, len(vectors), _BLOCK):
            rows = slice(start, start + _BLOCK)
            self._index.add_with_ids(unit_rows(vectors[rows]), np.ascontiguousarray(keys[rows]))

    def remove(self, keys: Keys) -> None:
        """Take vectors out of the lists (rule A3)."""
        if len(keys):
            self._index.remove_ids(np.ascontiguousarray(keys))

    def save(self, path: Path) -> None:
        """Write the lists as FAISS does."""
        _faiss().write_index(self._index, str(path))

    @classmethod
    def open(cls, path: Path, tuning: Tuning, *, mapped: bool) -> Lists:
        """Open the lists of a file whose hash was checked.

        Args:
            path: The file.
            tuning: As the head of the index has it.
            mapped: Read from the disk as needed, which can only be searched; else from memory.

        Raises:
            MissingPackageError: `faiss` is not installed.
            ArtefactError: This FAISS cannot read it.
        """
        faiss = _faiss()
        try:
            found = faiss.read_index(str(path), faiss.IO_FLAG_MMAP if mapped else 0)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise ArtefactError(
                f"The lists of the index cannot be read by FAISS {faiss.__version__}: {reason}",
                expected="Lists written by this or an earlier FAISS",
                do="Install a newer one, or make the index again",
            ) from error
        if not isinstance(found, faiss.IndexIVF):
            raise ArtefactError("The lists of the index are none, but another index of FAISS")
        return cls(found, tuning)


def make_lists(vectors: Halves, keys: Keys) -> Lists:
    """Make lists of vectors and set how many a query reads (rules A1, A2 and A4).

    Args:
        vectors: float16 [n, D], n at least 2.
        keys: int64 [n].

    Raises:
        MissingPackageError: `faiss` is not installed.
    """
    faiss = _faiss()
    rows, dimensions = vectors.shape
    number = list_count(rows)
    coarse = faiss.IndexFlatIP(dimensions)
    inverted = faiss.IndexIVFScalarQuantizer(
        coarse, dimensions, number, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
    )
    inverted.cp.niter, inverted.cp.min_points_per_centroid = _ROUNDS, 1
    random = np.random.default_rng(0)
    sample = np.sort(random.permutation(rows)[: number * _SAMPLES_PER_LIST])
    inverted.train(unit_rows(vectors[sample]))
    made = Lists(inverted, Tuning(number, 1, CANDIDATES, rows, 0.0, 0))
    made.add(vectors, keys)
    made.tuning = _tuned(made, vectors, keys, np.sort(random.permutation(rows)[:QUERIES]))
    return made


def list_count(rows: int) -> int:
    """How many lists to sort vectors into: the power of two below twice the square root."""
    wanted: int = 2 ** int(math.log2(2 * math.sqrt(rows)))
    return int(min(rows, max(_LEAST_LISTS, min(_MOST_LISTS, wanted))))


def is_outgrown(tuning: Tuning, rows: int) -> bool:
    """Whether lists should be made anew (rule A3)."""
    return rows > GROWN_BY * tuning.trained_on


def _tuned(made: Lists, vectors: Halves, keys: Keys, sample: npt.NDArray[np.int64]) -> Tuning:
    """The least reading that finds enough (rule A2)."""
    queries = unit_rows(vectors[sample])
    truth = nearest_rows(vectors, queries, WANTED + 1)
    wanted = [set(keys[row[row != own][:WANTED]]) for row, own in zip(truth, sample, strict=True)]
    total = sum(map(len, wanted))
    number, probes = made.tuning.lists, 1

    def share(reading: int) -> float:
        found = made.candidates(queries, CANDIDATES, probes=reading)
        hits = sum(len(set(row) & want) for row, want in zip(found, wanted, strict=True))
        return hits / total if total else 1.0

    while share(probes) < RECALL_WANTED and probes < number:
        probes = min(2 * probes, number)
    probes = min(2 * probes, number)
    recall = share(probes)
    return Tuning(number, probes, CANDIDATES, len(vectors), round(recall, 6), len(queries))


def _faiss() -> Any:  # noqa: ANN401 - faiss ships no types
    try:
        import faiss
    except ImportError as error:
        raise MissingPackageError(
            "faiss", extra="search", purpose="to search an approximate index"
        ) from error
    return faiss
