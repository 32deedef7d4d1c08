"""Reads the weights of a CTranslate2 `model.bin`, which is how some packages ship Whisper.

The format, little-endian, as version 6 has it (OpenNMT/CTranslate2, python/ctranslate2/specs/
model_spec.py, ModelSpec._serialize, and include/ctranslate2/types.h for the element types):

    uint32 version, string specification, uint32 revision
    uint32 count, then per variable: string name, uint8 rank, uint32 per dimension,
                                     uint8 element type, uint32 bytes, the bytes
    uint32 count, then per alias:    string alias, string name of the variable it stands for
    string: uint16 length including the closing NUL, then the characters

Rules:
    C1  Only version 6 of the format is read; another one says which.
    C2  Every size is checked against what is left of the file before anything is taken, so that a
        damaged or hostile file costs no memory; nothing may be left over at the end.
    C3  Whatever is wrong with a file is an InputError that names the place.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.runtime.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    Array = npt.NDArray[Any]

VERSION = 6
_HIGHEST_RANK = 8
# bfloat16, type 5, has no numpy type and no file we know of uses it.
_DTYPES: dict[int, np.dtype[Any]] = {
    0: np.dtype("<f4"),
    1: np.dtype("i1"),
    2: np.dtype("<i2"),
    3: np.dtype("<i4"),
    4: np.dtype("<f2"),
}


@dataclass(frozen=True, eq=False)
class Ctranslate2File:
    """What a `model.bin` holds.

    Attributes:
        specification: Name of the architecture, as in 'WhisperSpec'.
        revision: Revision of that specification.
        variables: Arrays by name, read-only views of the file's bytes; aliases included.
    """

    specification: str
    revision: int
    variables: dict[str, Array]


def read(path: Path) -> Ctranslate2File:
    """Read a file (rules C1 to C3).

    Raises:
        InputError: The file cannot be read, is of another version, or is damaged.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    return parse(content, str(path))


def parse(content: bytes, source: str) -> Ctranslate2File:
    """Read the bytes of a file; `source` is its name in messages.

    Raises:
        InputError: It is of another version, or damaged.
    """
    cursor = _Cursor(content, source)
    version = cursor.number("I")
    if version != VERSION:
        raise InputError(
            f"{source} has format version {version} or is no CTranslate2 file",
            expected=f"A CTranslate2 model.bin of version {VERSION}",
            do="Convert the model with a current CTranslate2, or use its safetensors",
        )
    specification, revision = cursor.string(), cursor.number("I")
    variables = dict(_variable(cursor) for _ in range(cursor.number("I")))
    for _ in range(cursor.number("I")):
        alias, name = cursor.string(), cursor.string()
        if name not in variables:
            raise cursor.damaged(f"alias {alias!r} stands for {name!r}, which is not there")
        variables[alias] = variables[name]
    cursor.check_end()
    return Ctranslate2File(specification, revision, variables)


def _variable(cursor: _Cursor) -> tuple[str, Array]:
    name, rank = cursor.string(), cursor.number("B")
    if rank > _HIGHEST_RANK:
        raise cursor.damaged(f"variable {name!r} has rank {rank}")
    shape = tuple(cursor.number("I") for _ in range(rank))
    kind, size_bytes = cursor.number("B"), cursor.number("I")
    dtype = _DTYPES.get(kind)
    if dtype is None:
        raise cursor.damaged(f"variable {name!r} has the unknown element type {kind}")
    # math.prod and not numpy's: dimensions of a damaged file overflow int64.
    if math.prod(shape) * dtype.itemsize != size_bytes:
        raise cursor.damaged(
            f"variable {name!r} states {size_bytes} bytes for {dtype.name}{list(shape)}"
        )
    return name, np.frombuffer(cursor.take(size_bytes), dtype).reshape(shape)


class _Cursor:
    """A place in the bytes that never passes their end (rule C2)."""

    def __init__(self, content: bytes, source: str) -> None:
        self._content, self._source, self._at = memoryview(content), source, 0

    def take(self, count: int) -> memoryview:
        left = len(self._content) - self._at
        if count > left:
            raise self.damaged(f"{count} bytes were to follow and {left} are left")
        taken = self._content[self._at : self._at + count]
        self._at += count
        return taken

    def number(self, kind: str) -> int:
        (value,) = struct.unpack(f"<{kind}", self.take(struct.calcsize(f"<{kind}")))
        return int(value)

    def string(self) -> str:
        raw = bytes(self.take(self.number("H")))
        if not raw.endswith(b"\0"):
            raise self.damaged("a name does not end")
        try:
            return raw[:-1].decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.damaged("a name is not UTF-8") from error

    def check_end(self) -> None:
        left = len(self._content) - self._at
        if left:
            raise self.damaged(f"{left} bytes follow the last alias")

    def damaged(self, what: str) -> InputError:
        return InputError(
            f"{self._source} is damaged at byte {self._at}: {what}",
            expected="A whole CTranslate2 model.bin",
            do="Get the file again",
        )
