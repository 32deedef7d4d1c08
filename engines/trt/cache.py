"""The timing cache: what the builder measured of its kernels, kept between builds.

Rules:
    K1  One file per library, its full version, compute capability and device: timings of another
        are no timings (docs.nvidia.com/deeplearning/tensorrt, timing cache).
    K2  The file is the library's own and plain: trtexec --timingCacheFile takes it. Its SHA-256
        lies beside it.
    K3  It is written aside and renamed, then the hash. A cache that is not what its hash says is
        set aside with a notice, and the build starts with none.
    K4  The user's cache folder is what the system's conventions say; XDG_CACHE_HOME comes first.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jetlift.runtime import atomic

if TYPE_CHECKING:
    from collections.abc import Mapping

_HASH = ".sha256"
_DAMAGED = ".damaged"


@dataclass(frozen=True)
class TimingCache:
    """A timing cache as a build finds it.

    Attributes:
        path: Where it lies, or will lie.
        sha256: Hash of what is there and will be used; None where there is nothing.
        notice: What the user should read of it; empty where nothing is amiss.
    """

    path: Path
    sha256: str | None
    notice: str


def user_folder(environment: Mapping[str, str] | None = None, platform: str | None = None) -> Path:
    """Where timing caches lie unless a folder is named (rule K4).

    Args:
        environment: Variables; this process's if not given.
        platform: As in sys.platform; this one if not given.
    """
    variables = os.environ if environment is None else environment
    system = sys.platform if platform is None else platform
    home = Path(variables.get("HOME") or variables.get("USERPROFILE") or Path.home())
    if variables.get("XDG_CACHE_HOME"):  # an empty one counts as unset, as the convention says
        base = Path(variables["XDG_CACHE_HOME"])
    elif system == "darwin":
        base = home / "Library" / "Caches"
    elif system == "win32":
        base = Path(variables.get("LOCALAPPDATA") or home / "AppData" / "Local")
    else:
        base = home / ".cache"
    return base / "jetlift" / "timing"


def name_of(library: str, version: str, compute_capability: str, device: str) -> str:
    """File name of a cache (rule K1).

    Args:
        library: As in `tensorrt`.
        version: Its full version.
        compute_capability: As in `8.7`.
        device: The board, or the GPU's name; caches of other devices are other files.
    """
    parts = (library, version, f"sm{compute_capability.replace('.', '')}", device)
    return "_".join(re.sub(r"[^A-Za-z0-9.]+", "-", part).strip("-").lower() for part in parts)


def find(folder: Path, name: str) -> TimingCache:
    """Look at a cache and set it aside where it is damaged (rule K3).

    Raises:
        StorageError: A damaged one cannot be moved.
    """
    path = folder / f"{name}.cache"
    if not path.is_file():
        return TimingCache(path, None, "")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    record = _hash_path(path)
    expected = (
        record.read_text(encoding="utf-8", errors="replace").strip() if record.is_file() else found
    )
    if found == expected:
        return TimingCache(path, found, "")
    aside = set_aside(path)
    return TimingCache(
        path,
        None,
        f"The timing cache {path.name} is damaged and was set aside as {aside.name}; "
        "this build times every kernel anew",
    )


def set_aside(path: Path) -> Path:
    """Move a cache that is no use out of the way, over an older one like it.

    Raises:
        StorageError: The folder may not be written to.
    """
    aside = path.with_name(path.name + _DAMAGED)
    with atomic.storage_errors(path):
        path.replace(aside)
        _hash_path(path).unlink(missing_ok=True)
    return aside


def keep(path: Path, content: bytes) -> str:
    """Write a cache and its hash (rule K3).

    Returns:
        The hash of it.

    Raises:
        StorageError: The disk is full or not writable.
    """
    digest = hashlib.sha256(content).hexdigest()
    # Killed between the two, the old hash does not fit: the cache is set aside, never trusted.
    atomic.write_bytes(path, content)
    atomic.write_bytes(_hash_path(path), f"{digest}\n".encode())
    return digest


def _hash_path(path: Path) -> Path:
    return path.with_name(path.name + _HASH)
