"""Write aside, then rename: nothing half-written is ever left under its final name.

Rules:
    A1  The aside file or folder lies beside its destination, so the rename stays on one filesystem.
    A2  Content is flushed to the disk before the rename.
    A3  On any exception, Ctrl-C included, the aside content is removed and nothing else is touched.
    A4  What a killed process left aside is removed by the next write to the same destination.
    A5  An existing file is replaced; an existing folder is never replaced.
"""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from jetlift.runtime.errors import InputError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator

_MARK = ".partial-"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
_REFUSED = {errno.EROFS, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.EEXIST}


@contextmanager
def file_aside(destination: Path) -> Iterator[Path]:
    """Yield a path to write to; on success it becomes `destination` (rules A1 to A5).

    Raises:
        StorageError: The disk is full or not writable.
    """
    with _aside(destination) as aside:
        yield aside
        _flush(aside)
        aside.replace(destination)


@contextmanager
def folder_aside(destination: Path) -> Iterator[Path]:
    """Yield an empty folder to fill; on success it becomes `destination` (rules A1 to A5).

    Raises:
        InputError: `destination` exists already.
        StorageError: The disk is full or not writable.
    """
    _refuse_existing(destination)  # A5
    with _aside(destination) as aside:
        aside.mkdir()
        yield aside
        for path in aside.rglob("*"):
            if path.is_file():
                _flush(path)
        _refuse_existing(destination)
        aside.rename(destination)


def make_folder(folder: Path) -> None:
    """Make a folder with all above it; one that exists will do.

    Raises:
        StorageError: It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # of any kind: some file systems say that there is no such file
        raise StorageError(
            f"The folder {folder} cannot be made: {os.strerror(error.errno or 0)}",
            expected="A place that may be written to",
            do="Choose another place for what is written",
        ) from error


def write_bytes(destination: Path, content: bytes) -> None:
    """Write a whole small file atomically.

    Raises:
        StorageError: The disk is full or not writable.
    """
    with file_aside(destination) as aside:
        aside.write_bytes(content)


@contextmanager
def _aside(destination: Path) -> Iterator[Path]:
    with storage_errors(destination):
        make_folder(destination.parent)
        _sweep(destination)  # A4
        aside = destination.with_name(f".{destination.name}{_MARK}{os.getpid()}")
        try:
            yield aside
        except BaseException:  # A3: KeyboardInterrupt leaves nothing behind either
            _remove(aside)
            raise


@contextmanager
def storage_errors(destination: Path) -> Iterator[None]:
    """Translate the operating system's refusals to write into StorageError.

    A refusal that names a file elsewhere is not about `destination` and passes as it is.
    """
    try:
        yield
    except OSError as error:
        refused = error.errno in _REFUSED and not _is_elsewhere(error, destination)
        if error.errno not in _FULL and not refused:
            raise
        raise StorageError(
            f"Writing {destination} failed: {os.strerror(error.errno or 0)}",
            expected="A folder with enough free space that may be written to",
            do="Free some space or choose another place; nothing half-written was left behind",
        ) from error


def _is_elsewhere(error: OSError, destination: Path) -> bool:
    if not isinstance(error.filename, (str, bytes)):
        return False
    named, folder = Path(os.fsdecode(error.filename)).absolute(), destination.parent.absolute()
    return not (named.is_relative_to(folder) or folder.is_relative_to(named))


def _refuse_existing(destination: Path) -> None:
    if destination.exists() or destination.is_symlink():
        raise InputError(
            f"{destination} exists already",
            expected="A name that is not taken, since finished artefacts are never overwritten",
            do="Choose another output folder or remove this one first",
        )


def _sweep(destination: Path) -> None:
    """Remove what dead processes left aside for this destination (A4)."""
    prefix = f".{destination.name}{_MARK}"
    for path in destination.parent.glob(f"{_escaped(prefix)}*"):
        pid = path.name.removeprefix(prefix)
        # One's own number on a file that is there already: left by a dead process that had it too,
        # as every first process of a container does.
        if pid.isdigit() and (int(pid) == os.getpid() or not Path(f"/proc/{pid}").exists()):
            _remove(path)


def _escaped(text: str) -> str:
    return "".join(f"[{char}]" if char in "*?[" else char for char in text)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    with path.open("rb+") as handle:
        os.fsync(handle.fileno())
