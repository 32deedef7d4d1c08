"""Where results go: lines of JSON, arrays, pictures, video.

Rules:
    K1  results.jsonl is written live as results.jsonl.partial, each line flushed as it comes, and
        takes its name when the run ends well. A run that fails or is killed leaves the .partial,
        whose lines are true as far as they go; the next run replaces it.
    K2  Arrays and video appear whole under their name or not at all (see atomic.py). So does each
        picture.
    K3  Two inputs never share a picture's name, whatever their folders: the second is `name-2`.
        Pictures are never written among the inputs, where one could replace another's input.
    K4  A disk that is full or closed is a StorageError.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import cv2
import numpy as np

from jetlift.runtime import atomic, pictures
from jetlift.runtime.drawing import Tile, contact_sheet
from jetlift.runtime.errors import StorageError, UsageError
from jetlift.runtime.movies import VideoSink

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    import numpy.typing as npt
    from typing_extensions import Self

    Array = npt.NDArray[Any]

__all__ = ["JsonlSink", "LiveText", "NpzSink", "PictureSink", "Tile", "VideoSink", "contact_sheet"]


class LiveText:
    """A text file in UTF-8 that grows as the run goes on (rule K1). A context manager.

    Args:
        path: Its name once the run ended well.

    Raises:
        StorageError: The file cannot be written.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.partial_path = self.path.with_name(f"{self.path.name}.partial")
        self.size_bytes = 0
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        with atomic.storage_errors(self.path):
            atomic.make_folder(self.path.parent)
            self._file = self.partial_path.open("wb")
        return self

    def append(self, text: str) -> None:
        """Write some text and flush it.

        Raises:
            UsageError: The file is not open.
            StorageError: The disk is full.
        """
        if self._file is None:
            raise UsageError("A line was written to a closed sink", expected="A sink in a with")
        # Half a character, as a file's name can hold, becomes an escape; JSON reads it back.
        content = text.encode(errors="backslashreplace")
        try:
            self._file.write(content)
            self._file.flush()
        except OSError as error:
            raise self._storage_error(error) from error
        self.size_bytes += len(content)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is None:
            return
        file, self._file = self._file, None
        try:
            file.close()
            if kind is None:
                self.partial_path.replace(self.path)
        except OSError as problem:
            if kind is None:  # otherwise the error that came first says more
                raise self._storage_error(problem) from problem

    def _storage_error(self, error: OSError) -> StorageError:
        return StorageError(
            f"Writing {self.partial_path} failed: {error.strerror or error}",
            expected="A folder with enough free space that may be written to",
            do="Free some space or choose another folder; the whole lines written so far are true",
        )


class JsonlSink(LiveText):
    """One JSON object per line (rule K1). A context manager.

    Raises:
        StorageError: The file cannot be written.
    """

    def write(self, fields: Mapping[str, Any]) -> None:
        """Append one object and flush it.

        Raises:
            UsageError: The sink is not open.
            StorageError: The disk is full.
            ValueError: A number is not finite.
        """
        self.append(f"{json.dumps(fields, ensure_ascii=False, allow_nan=False)}\n")


class NpzSink:
    """Named arrays, one row per input, as one .npz file (rule K2). A context manager.

    Beside the arrays the file holds `source` (text), `index` (int64) and `time_s` (float64, NaN for
    texts), one entry per row. Rows wait on the disk, so memory does not grow with their number.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._stack = ExitStack()
        self._rows: list[tuple[str, int, float]] = []
        self._columns: dict[str, tuple[np.dtype[Any], tuple[int, ...], IO[bytes]]] = {}
        self.size_bytes = 0

    def __enter__(self) -> Self:
        atomic.make_folder(self.path.parent)
        return self

    def write(
        self, source: str, index: int, time_s: float | None, arrays: Mapping[str, Array]
    ) -> None:
        """Append one row.

        Raises:
            UsageError: The arrays have other names, shapes or dtypes than those of the first row.
            StorageError: The disk is full.
        """
        with atomic.storage_errors(self.path):
            if not self._rows:
                self._columns = {
                    name: (array.dtype, array.shape, self._spool())
                    for name, array in arrays.items()
                }
            self._check(arrays)
            for name, array in arrays.items():
                spool = self._columns[name][2]
                self.size_bytes += spool.write(np.ascontiguousarray(array).tobytes())
                spool.flush()  # a full disk is to show here, not when the file is closed
        self._rows.append((source, index, float("nan") if time_s is None else time_s))

    def _spool(self) -> IO[bytes]:
        # Nameless on Linux: a killed process leaves nothing of it behind.
        file = tempfile.TemporaryFile(dir=self.path.parent)  # noqa: SIM115 - the stack closes it
        return self._stack.enter_context(file)

    def _check(self, arrays: Mapping[str, Array]) -> None:
        got = {name: (array.dtype, array.shape) for name, array in arrays.items()}
        expected = {name: column[:2] for name, column in self._columns.items()}
        if got != expected:
            raise UsageError(f"A row has the arrays {got}", expected=f"{expected}, as the first")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            with suppress(OSError):  # of bytes that no disk has room for; the first error says more
                self._stack.close()
            return
        with self._stack, atomic.file_aside(self.path) as aside:
            self._assemble(aside)

    def _assemble(self, aside: Path) -> None:
        sources, indices, times_s = zip(*self._rows, strict=True) if self._rows else ((), (), ())
        facts = {
            "source": np.array(sources, np.str_),
            "index": np.array(indices, np.int64),
            "time_s": np.array(times_s, np.float64),
        }
        with zipfile.ZipFile(aside, "w") as archive:
            for name, array in facts.items():
                with archive.open(f"{name}.npy", "w") as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)
            for name, (dtype, shape, spool) in self._columns.items():
                header = {
                    "descr": np.lib.format.dtype_to_descr(dtype),
                    "fortran_order": False,
                    "shape": (len(self._rows), *shape),
                }
                spool.seek(0)
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array_header_1_0(member, header)
                    shutil.copyfileobj(spool, member, 2**20)


class PictureSink:
    """Pictures in a folder, named after what they were drawn from (rules K2 and K3).

    Args:
        folder: Made where it is missing.
        label: What was drawn, as in `anomaly`; it becomes part of each name.
        suffix: `.png`, or `.jpg` where size matters more than exact pixels.
    """

    def __init__(self, folder: Path | str, *, label: str, suffix: str = ".png") -> None:
        self.folder, self._label, self._suffix = Path(folder), label, suffix
        self._taken: set[str] = set()
        atomic.make_folder(self.folder)

    def write(self, source: str, index: int, image_bgr: Array) -> Path:
        """Write one picture and say where.

        Raises:
            UsageError: The input lies in the very folder of the pictures (rule K3).
            StorageError: The disk is full.
        """
        if Path(source).resolve().parent == self.folder.resolve():
            raise UsageError(
                f"Pictures were to be written into {self.folder}, where the input {source} lies",
                expected="A folder of their own, so that no input is ever replaced",
                do="Choose another output folder",
            )
        path = self._free_path(source, index)
        _, encoded = cv2.imencode(self._suffix, image_bgr)
        atomic.write_bytes(path, encoded.tobytes())
        return path

    def _free_path(self, source: str, index: int) -> Path:
        stem = Path(source).stem or "picture"
        if Path(source).suffix.lower() not in pictures.SUFFIXES:
            stem = f"{stem}_{index:06d}"
        number = 1
        while True:
            again = "" if number == 1 else f"-{number}"
            path = self.folder / f"{stem}{again}.{self._label}{self._suffix}"
            key = path.name.casefold()  # some filesystems do not tell A from a
            if key not in self._taken:
                self._taken.add(key)
                return path
            number += 1
