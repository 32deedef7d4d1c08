"""Search indexes of given vectors, without a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.runtime.tasks.artefact import Stamp
from jetlift.runtime.tasks.search_build import Encoded, index_of
from jetlift.runtime.tasks.search_exact import stored
from jetlift.runtime.tasks.search_form import Entry
from jetlift.runtime.tasks.search_store import line_of

if TYPE_CHECKING:
    from jetlift.runtime.tasks.search_build import Method
    from jetlift.runtime.tasks.search_index import Index

STAMP = Stamp("0.1.0", "0" * 64, "drawn", "image", "fp32", "cpu", "/nowhere")


def rows_of(vectors: Any, *, start: int = 0) -> Encoded:
    """Vectors [n, D] on their way into an index, as entries of a source called drawn."""
    lines = [
        line_of(Entry("drawn", start + row, None, f"row {row}")) for row in range(len(vectors))
    ]
    return Encoded([stored(vector) for vector in vectors], lines, [])


def index_around(vectors: Any, method: Method | None = None) -> Index:
    """An index of vectors [n, D] of length 1."""
    return index_of(STAMP, rows_of(vectors), method)


def directions(count: int, dimensions: int, seed: int = 0) -> np.ndarray:
    """Random float32 vectors of length 1 in clusters."""
    centres = np.random.default_rng(99).standard_normal((20, dimensions))
    random = np.random.default_rng(seed)
    vectors = centres[random.integers(20, size=count)]
    vectors = vectors + 0.5 * random.standard_normal((count, dimensions))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
