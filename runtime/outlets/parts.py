"""Files of a run that has no end: ended at a size or an age, numbered, the oldest removed.

Rules:
    N1  Without a rotation the file has the name that was asked for. Where it must end early, as
        when pictures change their size, the next are NAME-000002.SUFFIX and so on.
    N2  With a rotation every file is numbered, from 000001 on. Numbers go on behind those that are
        there, so that a service that starts again replaces nothing, whatever its clock says.
    N3  Where a limit is kept, the oldest parts go first, also those of earlier runs and what these
        left unfinished, so that all parts together stay below it; each is counted. A part never
        grows beyond an eighth of the limit by more than one result.
    N4  Only files of exactly such names are ever removed.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jetlift.runtime import atomic
from jetlift.runtime.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from jetlift.runtime.clock import Clock

_PARTS_IN_LIMIT = 8


@dataclass(frozen=True)
class Rotation:
    """When a part ends, and how much is kept.

    Attributes:
        part_bytes: A part ends when it is as large; None for no such limit.
        part_s: A part ends when it is as old; None for no such limit.
        keep_bytes: All parts together stay below (rule N3); None keeps everything.
    """

    part_bytes: float | None = None
    part_s: float | None = None
    keep_bytes: float | None = None

    def __post_init__(self) -> None:
        for value in (self.part_bytes, self.part_s, self.keep_bytes):
            if value is not None and value <= 0:
                raise UsageError(f"Got {self}", expected="Sizes and times above 0")

    @property
    def numbered(self) -> bool:
        """Whether every part has a number (rule N2)."""
        return any(value is not None for value in (self.part_bytes, self.part_s, self.keep_bytes))

    @property
    def largest_bytes(self) -> float | None:
        """The size at which a part ends, by either limit."""
        limits = [self.part_bytes, self.keep_bytes and self.keep_bytes / _PARTS_IN_LIMIT]
        return min((limit for limit in limits if limit is not None), default=None)


@dataclass(frozen=True)
class Naming:
    """How the parts of one outlet are called.

    Attributes:
        folder: Where they lie.
        stem: Before the number; empty where the number is all, as for folders of pictures.
        suffix: Behind it, with its dot.
    """

    folder: Path
    stem: str
    suffix: str

    @classmethod
    def of(cls, path: Path) -> Naming:
        """The naming of the parts of a file."""
        return cls(path.parent, path.stem, path.suffix)

    def path(self, number: int) -> Path:
        """The part of a number."""
        return self.folder / f"{self.stem}{'-' if self.stem else ''}{number:06d}{self.suffix}"

    def numbers(self) -> dict[Path, int]:
        """The number of every part that is there, of all sources, finished or not."""
        before = rf"{re.escape(self.stem)}(?:\.[^/]+)?-" if self.stem else ""
        kind = rf"{before}(\d{{6,}})(?:\.boxes)?{re.escape(self.suffix)}(?:\.partial)?"
        pattern, found = re.compile(kind), {}
        if self.folder.is_dir():
            for path in self.folder.iterdir():
                if match := pattern.fullmatch(path.name):
                    found[path] = int(match[1])
        return found


class Keeper:
    """Numbers the parts of an outlet and removes the oldest (rules N2 to N4).

    Args:
        naming: How they are called.
        rotation: How much is kept.

    Attributes:
        removed: Files, or folders of pictures, that were removed so far.
    """

    def __init__(self, naming: Naming, rotation: Rotation) -> None:
        self._naming, self._rotation = naming, rotation
        self._open: set[str] = set()
        self._last = max(naming.numbers().values(), default=0)
        self.removed = 0

    def number(self, least: int = 1) -> int:
        """A number that no part has yet."""
        self._last = max(self._last + 1, least)
        return self._last

    def begin(self, path: Path) -> None:
        """Take note of a part that is being written, and make room for it."""
        self._open.add(path.stem)
        self.make_room()

    def end(self, path: Path) -> None:
        """Take note that a part is finished."""
        self._open.discard(path.stem)

    def make_room(self) -> None:
        """Remove the oldest finished parts until those being written have their room (N3)."""
        keep_bytes, part_bytes = self._rotation.keep_bytes, self._rotation.largest_bytes
        if keep_bytes is None or part_bytes is None:
            return
        finished = [
            (number, path)
            for path, number in self._naming.numbers().items()
            if not any(path.name.startswith(stem) for stem in self._open)
        ]
        sizes = {path: _size(path) for _, path in finished}
        excess = sum(sizes.values()) + part_bytes * len(self._open) - keep_bytes
        for _, path in sorted(finished):
            if excess <= 0:
                return
            with atomic.storage_errors(path):
                _remove(path)
            excess -= sizes[path]
            self.removed += 1


class Parts:
    """The parts of one file, one after another (rules N1 to N3).

    Args:
        path: The name that was asked for.
        rotation: When a part ends.
        clock: What measures a part's age.
        keeper: Of the outlet, where several files share a limit; by default of this file alone.
    """

    def __init__(
        self, path: Path, rotation: Rotation, clock: Clock, keeper: Keeper | None = None
    ) -> None:
        self._path, self._rotation, self._clock = path, rotation, clock
        self._naming = Naming.of(path)
        self.keeper = keeper or Keeper(self._naming, rotation)
        self._count, self._begun_s = 0, 0.0

    def begin(self) -> Path:
        """The path of the next part."""
        self._count += 1
        self._begun_s = self._clock.now_s()
        if self._count == 1 and not self._rotation.numbered:
            return self._path
        path = self._naming.path(self.keeper.number(self._count))
        self.keeper.begin(path)
        return path

    def due(self, size_bytes: int) -> bool:
        """Whether the part that is being written has come to its end."""
        largest, oldest_s = self._rotation.largest_bytes, self._rotation.part_s
        if largest is not None and size_bytes >= largest:
            return True
        return oldest_s is not None and self._clock.now_s() - self._begun_s >= oldest_s


def _size(path: Path) -> int:
    """Bytes of a file, or of everything in a folder; 0 where it went meanwhile."""
    try:
        if path.is_dir():
            return sum(_size(inside) for inside in path.iterdir())
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
