"""A search index on disk: a folder whose head names every other file with its hash.

Rules:
    D1  Files are written under names that no head has used, flushed, and only then named by a new
        head, which replaces the old one in one step: a write that is killed leaves the old index
        whole. What no head names is removed by the next write.
    D2  Every file is there with the stated size and SHA-256 before a byte of it is used; vectors,
        keys, entries and lists are then mapped, not read.
    D3  One writer at a time; another is refused.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.runtime import atomic, jsonform
from jetlift.runtime.bundle import sha256_of
from jetlift.runtime.errors import ArtefactError, InputError
from jetlift.runtime.tasks.search_form import (
    HEAD_NAME,
    SCHEMA_VERSION,
    WHAT,
    Entry,
    FileFacts,
    IndexHead,
    StoredFile,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    Halves = npt.NDArray[np.float16]
    Keys = npt.NDArray[np.int64]

SUFFIXES = {
    "vectors": "f16",
    "keys": "i64",
    "entries": "jsonl",
    "offsets": "i64",
    "files": "jsonl",
    "lists": "faiss",
}
_ALWAYS = frozenset(SUFFIXES) - {"lists"}
_LOCK = ".lock"
_MAX_HEAD_BYTES = 2**20


class Entries:
    """The table of entries: one JSON line each, read when it is asked for.

    Args:
        text: All lines, each with its end.
        offsets: int64 [n + 1], where each line begins and the last one ends.
    """

    def __init__(self, text: npt.NDArray[np.uint8], offsets: Keys) -> None:
        self._text, self._offsets = text, offsets

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def line(self, row: int) -> bytes:
        """One line with its end."""
        return self._text[self._offsets[row] : self._offsets[row + 1]].tobytes()

    def __getitem__(self, row: int) -> Entry:
        if not 0 <= row < len(self):
            raise IndexError(row)
        return jsonform.loads(Entry, self.line(row))

    def __iter__(self) -> Iterator[Entry]:
        return (self[row] for row in range(len(self)))

    @classmethod
    def of(cls, lines: Sequence[bytes]) -> Entries:
        """A table in memory."""
        offsets = np.zeros(len(lines) + 1, np.int64)
        np.cumsum([len(line) for line in lines], out=offsets[1:])
        return cls(np.frombuffer(b"".join(lines), np.uint8), offsets)


@dataclass(frozen=True, eq=False)
class Tables:
    """The arrays of an index.

    Attributes:
        vectors: float16 [n, D].
        keys: int64 [n], growing.
        entries: What each row is.
        files: Which rows belong to which file.
    """

    vectors: Halves
    keys: Keys
    entries: Entries
    files: tuple[FileFacts, ...]


def line_of(item: object) -> bytes:
    """A dataclass as one JSON line."""
    # ASCII alone, since names of files need not be Unicode and JSON's escapes carry them whole.
    return json.dumps(jsonform.to_data(item), allow_nan=False).encode("ascii") + b"\n"


def write(
    folder: Path,
    head: IndexHead,
    tables: Tables,
    save_lists: Callable[[Path], None] | None,
) -> IndexHead:
    """Write an index, or the next state of one (rule D1).

    Args:
        folder: Of the index; made where it is missing.
        head: Its head; `files` is filled in here.
        tables: What it holds.
        save_lists: Writes the lists to a file, where the search is approximate.

    Raises:
        StorageError: The disk is full or not writable.
    """
    entries = tables.entries
    parts: dict[str, Callable[[Path], None]] = {
        "vectors": lambda path: _dump(path, tables.vectors, "<f2"),
        "keys": lambda path: _dump(path, tables.keys, "<i8"),
        "entries": lambda path: _dump(path, entries._text, "|u1"),  # noqa: SLF001
        "offsets": lambda path: _dump(path, entries._offsets, "<i8"),  # noqa: SLF001
        "files": lambda path: _write_lines(path, map(line_of, tables.files)),
    }
    if save_lists is not None:
        parts["lists"] = save_lists
    with atomic.storage_errors(folder):
        atomic.make_folder(folder)
        try:
            files = {kind: _stored(folder, kind, head.update, parts[kind]) for kind in parts}
        except BaseException:
            for kind in parts:
                (folder / name_of(kind, head.update)).unlink(missing_ok=True)
            raise
        complete = replace(head, files=files)
        atomic.write_bytes(folder / HEAD_NAME, jsonform.dumps(complete).encode())
    sweep(folder, complete)
    return complete


def name_of(kind: str, update: int) -> str:
    """The name of a file of the index."""
    return f"{kind}-{update:06d}.{SUFFIXES[kind]}"


def sweep(folder: Path, head: IndexHead) -> None:
    """Remove what the head does not name, as a killed write leaves it (rule D1)."""
    named = {item.name for item in head.files.values()}
    for kind in SUFFIXES:
        for path in folder.glob(f"{kind}-*"):
            if path.name not in named:
                path.unlink(missing_ok=True)


@contextlib.contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Keep others from writing while the block runs (rule D3).

    Raises:
        InputError: Another process is writing.
        StorageError: The folder cannot be written.
    """
    with atomic.storage_errors(folder):
        atomic.make_folder(folder)
        handle = (folder / _LOCK).open("a")
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"{folder} is being written by another process",
                expected="One writer at a time",
                do="Wait until it has finished",
            ) from error
        yield


def refuse_existing(folder: Path) -> None:
    """Refuse to make an index where something is.

    Raises:
        InputError: There is a file, or a folder that is not empty.
    """
    free = not folder.exists() or (
        folder.is_dir() and all(path.name == _LOCK for path in folder.iterdir())
    )
    if not free:
        raise InputError(
            f"{folder} exists already",
            expected="A new folder, or --update to bring an index up to date",
            do="Choose another one with -o, or add --update",
        )


def read_head(folder: Path) -> IndexHead:
    """Read the head of an index.

    Raises:
        InputError: There is no index.
        ArtefactError: It is something else, or of another version.
    """
    path = folder / HEAD_NAME
    if folder.is_file():
        raise refused(folder, "it is a file; an index is a folder, since version 2 of its form")
    if not path.is_file():
        raise InputError(
            f"{folder} is no search index: it has no {HEAD_NAME}",
            expected="A folder made by 'jetlift index'",
            do="Make one with: jetlift index BUNDLE DIR -o INDEX",
        )
    if path.stat().st_size > _MAX_HEAD_BYTES:
        raise refused(folder, f"its {HEAD_NAME} is larger than any real one")
    try:
        data = jsonform.parse(path.read_bytes())
        version = data.get("schema_version") if isinstance(data, dict) else None
        if isinstance(version, int) and version != SCHEMA_VERSION:
            raise refused(folder, f"its schema version is {version}, not {SCHEMA_VERSION}")
        head = jsonform.read(IndexHead, data)
    except jsonform.FormError as error:
        raise refused(folder, f"its head has {error}") from error
    wanted = _ALWAYS if head.method == "exact" else frozenset(SUFFIXES)
    if set(head.files) != wanted or (head.tuning is None) != (head.method == "exact"):
        raise refused(folder, f"its head does not describe an index whose search is {head.method}")
    return head


def read(folder: Path) -> tuple[IndexHead, Tables]:
    """Read an index and verify every file of it (rule D2).

    Raises:
        InputError: There is no index.
        ArtefactError: It is something else, altered, or of another version.
    """
    head = read_head(folder)
    with ThreadPoolExecutor(max_workers=4) as pool:  # hashlib lets go of the GIL
        for problem in pool.map(lambda item: _problem(folder, item), head.files.values()):
            if problem:
                raise refused(folder, problem)
    rows = head.rows
    vectors = _mapped(folder, head, "vectors", "<f2", (rows, head.dimensions))
    keys = _mapped(folder, head, "keys", "<i8", (rows,))
    offsets = _mapped(folder, head, "offsets", "<i8", (rows + 1,))
    text = _mapped(folder, head, "entries", "|u1", (head.files["entries"].size_bytes,))
    if rows == 0 or int(offsets[-1]) != len(text) or (np.diff(offsets) <= 0).any():
        raise refused(folder, "its entries do not fit their offsets")
    return head, Tables(vectors, keys, Entries(text, offsets), _files(folder, head))


def refused(folder: Path, problem: str) -> ArtefactError:
    """The refusal of an index."""
    return ArtefactError(
        f"{folder} is not {WHAT} that can be used: {problem}",
        expected="The folder exactly as this version of jetlift wrote it",
        do="Make it again",
    )


def _files(folder: Path, head: IndexHead) -> tuple[FileFacts, ...]:
    content = (folder / head.files["files"].name).read_bytes()
    try:
        return tuple(jsonform.loads(FileFacts, line) for line in content.split(b"\n") if line)
    except jsonform.FormError as error:
        raise refused(folder, f"its table of files has {error}") from error


def _mapped(
    folder: Path, head: IndexHead, kind: str, dtype: str, shape: tuple[int, ...]
) -> npt.NDArray[Any]:
    item = head.files[kind]
    if item.size_bytes != np.dtype(dtype).itemsize * int(np.prod(shape)):
        raise refused(folder, f"its {kind} do not fit its head")
    if item.size_bytes == 0:
        return np.empty(shape, dtype)
    return np.memmap(folder / item.name, dtype, "r", shape=shape)


def _problem(folder: Path, item: StoredFile) -> str | None:
    path = folder / item.name
    if not path.is_file() or path.is_symlink():
        return f"it lacks {item.name}"
    if path.stat().st_size != item.size_bytes:
        return f"{item.name} has {path.stat().st_size} bytes, not {item.size_bytes}"
    return None if sha256_of(path) == item.sha256 else f"{item.name} was altered"


def _stored(folder: Path, kind: str, update: int, save: Callable[[Path], None]) -> StoredFile:
    path = folder / name_of(kind, update)
    save(path)
    with path.open("rb+") as handle:
        os.fsync(handle.fileno())
    return StoredFile(path.name, sha256_of(path), path.stat().st_size)


def _dump(path: Path, array: npt.NDArray[Any], dtype: str) -> None:
    with path.open("wb") as handle:
        for start in range(0, len(array), 2**16):
            handle.write(np.ascontiguousarray(array[start : start + 2**16], dtype).tobytes())


def _write_lines(path: Path, lines: Iterator[bytes]) -> None:
    with path.open("wb") as handle:
        handle.writelines(lines)
