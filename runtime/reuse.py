"""Memory for frames and outputs, used again once nobody holds it.

An array of a megabyte is new memory to the operating system each time, and every page of it costs
a fault when it is first written: as much as copying it.

Rules:
    U1  An array that was handed out is its holder's alone. Its memory is used again only when it
        and every view of it are gone, as the language itself tells.
    U2  A few blocks wait at most; what more comes back is freed.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]
    Spare = deque[Array]

_WAITING_AT_MOST = 4  # more than items between two stages


class _Block:
    """What an array that is handed out rests on; gone with the last of its views (rule U1)."""

    def __init__(self, storage: Array, spare: Spare) -> None:
        self.__array_interface__ = storage.__array_interface__
        self._storage, self._spare = storage, spare

    def __del__(self) -> None:
        self._spare.append(self._storage)


class ReusedMemory:
    """Gives out arrays of mostly one shape (rules U1 and U2)."""

    def __init__(self) -> None:
        self._spare: Spare = deque(maxlen=_WAITING_AT_MOST)

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """A C-ordered array that belongs to the caller, of no particular content."""
        return np.asarray(_Block(self._storage(shape, np.dtype(dtype)), self._spare))

    def copy(self, array: Array) -> Array:
        """A C-ordered copy that belongs to the caller."""
        copy = self.empty(array.shape, array.dtype)
        np.copyto(copy, array)
        return copy

    def _storage(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """What waits of this kind, else new; what waits of another is freed."""
        while self._spare:
            storage = self._spare.pop()
            if storage.shape == shape and storage.dtype == dtype:
                return storage
        return np.empty(shape, dtype)
