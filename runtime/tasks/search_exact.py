"""Exact nearest neighbours among stored vectors: every one is compared.

Rules:
    E1  Vectors are stored as float16 and brought to length 1 when they are read, in float32: the
        score of two is their cosine, and a vector's score with itself is 1 to six digits. Against
        float32 vectors a score is off by less than 1e-3.
    E2  Equal scores keep the order of the index.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]
    Halves = npt.NDArray[np.float16]
    Rows = npt.NDArray[np.int64]

_BLOCK = 2**14


def stored(vector: Floats) -> Halves:
    """A vector of length 1 as it is kept, float16 [D] (rule E1)."""
    return vector.astype(np.float16)


def unit_rows(vectors: Halves) -> Floats:
    """Stored vectors at length 1, float32 [n, D] (rule E1)."""
    rows = np.asarray(vectors).astype(np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    rows /= np.maximum(lengths, np.finfo(np.float32).tiny)[:, None]
    return rows


def nearest_rows(vectors: Halves, queries: Floats, count: int) -> Rows:
    """The nearest rows of each query, best first, int64 [queries, at most count] (rule E2).

    Args:
        vectors: float16 [n, D], in memory or mapped; read in blocks.
        queries: float32 [queries, D] of length 1.
        count: How many per query.
    """
    best_scores = np.empty((len(queries), 0), np.float32)
    best_rows = np.empty((len(queries), 0), np.int64)
    for start in range(0, len(vectors), _BLOCK):
        scores = queries @ unit_rows(vectors[start : start + _BLOCK]).T
        rows = np.broadcast_to(np.arange(start, start + scores.shape[1]), scores.shape)
        best_scores = np.hstack([best_scores, scores])
        best_rows = np.hstack([best_rows, rows])
        order = _best(best_scores, count)
        best_scores = np.take_along_axis(best_scores, order, 1)
        best_rows = np.take_along_axis(best_rows, order, 1)
    return best_rows


def _best(scores: Floats, count: int) -> Rows:
    """Places of the best of each row of scores, best first, ties in order (rule E2)."""
    if scores.shape[1] <= 4 * count:
        return np.argsort(-scores, axis=1, kind="stable")[:, :count]
    # All that are no worse than the last of the best, so that ties at the edge keep their order.
    edge = -np.partition(-scores, count - 1, axis=1)[:, count - 1]
    out = np.empty((len(scores), count), np.int64)
    for number, (row, least) in enumerate(zip(scores, edge, strict=True)):
        places = np.flatnonzero(row >= least)
        out[number] = places[np.argsort(-row[places], kind="stable")][:count]
    return out
