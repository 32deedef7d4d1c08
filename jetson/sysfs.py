"""Small files of /sys and /proc, read without a fuss.

Rules:
    Y1  A file that is absent, not ours to read, or that the driver will not answer for (a part
        whose supply is switched off) is None. What that means is for whoever asked to say.
    Y2  Everything lies below a root: `/`, or what JETLIFT_BOARD_ROOT names, as in a container that
        sees the board's own /sys elsewhere. Tests give a folder of text files.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

RESTORE_FILE = "var/lib/jetlift/clocks.json"  # jetlift.jetson.restore
ROOT_VARIABLE = "JETLIFT_BOARD_ROOT"
_INTEGER = re.compile(r"-?\d+")


def board_root() -> Path:
    """Where the board's /sys, /proc, /etc and /var lie (rule Y2)."""
    return Path(os.environ.get(ROOT_VARIABLE) or "/")


def text_of(path: Path) -> str | None:
    """A file's text without what surrounds it, or None (rule Y1)."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \n\t")
    except OSError:  # absent, not permitted, or the driver says EAGAIN or ENODATA
        return None


def number_of(path: Path) -> int | None:
    """A file's whole number, or None (rule Y1)."""
    found = _INTEGER.fullmatch(text_of(path) or "")
    return None if found is None else int(found[0])


def numbered(folder: Path, pattern: str) -> list[Path]:
    """Entries of a folder by the numbers in their names: hwmon2 before hwmon10."""
    return sorted(folder.glob(pattern), key=lambda path: (_numbers(path.name), path.name))


def first_existing(root: Path, names: tuple[str, ...]) -> Path | None:
    """The first of several files that is there, read or not."""
    return next((root / name for name in names if (root / name).exists()), None)


def _numbers(name: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", name))
