"""Files that a task makes of the user's own data: a search index, an anomaly model.

Rules:
    F1  One .npz file, read without unpickling: arrays, and `head`, which is JSON in UTF-8.
    F2  The head says what the file is, its schema version, and the SHA-256 of each array.
    F3  The stamp in the head names the bundle, part and precision whose numbers these are. Numbers
        of another bundle or precision mean nothing beside them, so they are refused. The target may
        differ: made on a workstation, used on a board.
    F4  The file appears whole or not at all.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

import numpy as np

from jetlift.runtime import atomic, jsonform
from jetlift.runtime.errors import ArtefactError, InputError, UsageError
from jetlift.runtime.jsonform import field
from jetlift.runtime.manifest import SHA256

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

    from jetlift.runtime.bundle import Bundle

    Array = npt.NDArray[Any]

_HEAD = "head"


@dataclass(frozen=True)
class Stamp:
    """Whose numbers these are (rule F3)."""

    jetlift: str = field(doc="Version of jetlift that wrote the file")
    bundle_sha256: str = field(doc="SHA-256 of the bundle's manifest", pattern=SHA256)
    model: str = field(doc="Model of the bundle")
    part: str = field(doc="Part that computed the numbers")
    precision: str = field(doc="Variant that computed the numbers")
    target: str = field(doc="Target it ran on")
    bundle_folder: str = field(doc="Where the bundle lay then: a hint, the hash decides")


class Head(Protocol):
    """What the head of every kind of file has."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def schema_version(self) -> int:
        """Version of this kind of file."""

    @property
    def stamp(self) -> Stamp:
        """Whose numbers these are."""

    @property
    def arrays_sha256(self) -> dict[str, str]:
        """Hash per array; filled in by `save`."""


HeadT = TypeVar("HeadT", bound=Head)


def stamp(bundle: Bundle, part: str, precision: str, target: str) -> Stamp:
    """The stamp of numbers computed here and now."""
    version = importlib.metadata.version("jetlift")
    model, folder = bundle.manifest.model, str(bundle.folder)
    return Stamp(version, bundle.sha256, model, part, precision, target, folder)


def save(path: Path, head: Head, arrays: Mapping[str, Array]) -> None:
    """Write a file (rules F1, F2 and F4).

    Raises:
        StorageError: The disk is full or not writable.
    """
    digests = {name: _digest(array) for name, array in arrays.items()}
    complete: Any = dataclasses.replace(head, arrays_sha256=digests)
    text = np.frombuffer(jsonform.dumps(complete).encode(), np.uint8)
    with atomic.file_aside(path) as aside, aside.open("wb") as handle:
        np.savez(handle, **{_HEAD: text}, **arrays)  # type: ignore[arg-type]


def load(
    path: Path, cls: type[HeadT], *, version: int, what: str
) -> tuple[HeadT, dict[str, Array]]:
    """Read a file back and verify it (rules F1 and F2).

    Args:
        path: Where it lies.
        cls: The dataclass of its head.
        version: The schema version this code reads.
        what: What it should be, with an article, for messages.

    Raises:
        InputError: There is no such file.
        ArtefactError: It is something else, altered, or of another version.
    """
    if not path.is_file():
        raise InputError(f"{path} is no file", expected=f"The file of {what}")
    try:
        contents = _read(path)
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise _refused(path, what, f"it cannot be read ({error})") from error
    text = contents.pop(_HEAD, None)
    if text is None or text.dtype != np.uint8:
        raise _refused(path, what, "it has no head")
    try:
        head = jsonform.loads(cls, text.tobytes())
    except jsonform.FormError as error:
        raise _refused(path, what, f"its head has {error}") from error
    if head.schema_version != version:
        made_by = head.stamp.jetlift
        raise _refused(path, what, f"its schema version is {head.schema_version}, by {made_by}")
    if head.arrays_sha256 != {name: _digest(array) for name, array in contents.items()}:
        raise _refused(path, what, "its arrays are not the ones that were written")
    return head, contents


def needed(task: str, given: Path | None) -> Path:
    """The file that a task cannot do without.

    Raises:
        UsageError: There is none; the message has the command that makes one.
    """
    if given is None:
        what, command = {
            "search": ("index", "jetlift index BUNDLE DIR -o INDEX"),
            "anomaly": ("fit", "jetlift fit BUNDLE GOOD_DIR -o FIT"),
            "classify": ("prompts", "jetlift prompts BUNDLE --prompt dog --prompt cat -o PROMPTS"),
            "detect": ("prompts", "jetlift prompts BUNDLE --prompt dog -o PROMPTS"),
        }[task]
        raise UsageError(
            f"Task {task} was asked for without its {what}",
            expected=f"A file made beforehand: {command}",
        )
    return given


def check_stamp(stamped: Stamp, bundle: Bundle, part: str, precision: str, what: str) -> None:
    """Refuse numbers of another bundle, part or precision (rule F3).

    Raises:
        ArtefactError: They are.
    """
    if stamped.bundle_sha256 != bundle.sha256:
        raise ArtefactError(
            f"{what} was made with another bundle of {stamped.model} "
            f"({stamped.bundle_sha256[:12]}, here {bundle.sha256[:12]})",
            expected="The very bundle it was made with",
            do="Use that bundle, or make it again with this one",
        )
    if (stamped.part, stamped.precision) != (part, precision):
        raise ArtefactError(
            f"{what} was made with {stamped.part} at {stamped.precision}",
            expected=f"Numbers of {part} at {precision}, as asked",
            do=f"Use --precision {stamped.precision}, or make it again",
        )


def _read(path: Path) -> dict[str, Array]:
    with path.open("rb") as handle:  # np.load would leave it open where it fails
        archive = np.load(handle, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise ValueError("a single array, not an archive of them")  # noqa: TRY004 - see load
        return {name: archive[name] for name in archive.files}


def _refused(path: Path, what: str, problem: str) -> ArtefactError:
    return ArtefactError(
        f"{path} is not {what} that can be used: {problem}",
        expected="The file exactly as this version of jetlift wrote it",
        do="Make it again",
    )


def _digest(array: Array) -> str:
    digest = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
