"""The restore file: what a board's clocks were before jetlift fixed them.

Rules:
    R1  It is on the disk, flushed with its folder, before the first clock is changed, and goes when
        the last one is back. So a process that was killed leaves it, and the next command of
        jetlift puts the clocks back and says so.
    R2  Whoever fixes clocks holds the lock as long as they are fixed; a lock ends with its process,
        however that ends. A restore file under a free lock is that of a dead process.
    R3  A machine that was started again has its own clocks: the file is then only removed.
    R4  What could not be put back stays in the file, and the refusal says how to do it by hand.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from jetlift.jetson.clock_settings import Setting  # noqa: TC001 - jsonform reads it at run time
from jetlift.jetson.sysfs import RESTORE_FILE, text_of
from jetlift.runtime import atomic, jsonform
from jetlift.runtime.errors import MachineError
from jetlift.runtime.jsonform import field

if TYPE_CHECKING:
    from pathlib import Path

VENDOR = "jetson_clocks"
_LOCK_NAME, _STORED_NAME = "clocks.lock", "clocks.stored"
_BOOT_ID = "proc/sys/kernel/random/boot_id"
VENDOR_LIMIT_S = 60.0
RESTORE_COMMAND = "jetlift doctor --restore-clocks"


@dataclass(frozen=True)
class Restore:
    """What the file says."""

    pid: int = field(doc="Process that fixed the clocks")
    boot_id: str | None = field(doc="Start of the machine, as Linux names it; null if unknown")
    vendor: bool = field(doc="Whether jetson_clocks stored its own settings beside this file")
    settings: tuple[Setting, ...] = field(doc="What was there, in the order it was changed")


def file_of(root: Path) -> Path:
    """Where the restore file lies."""
    return root / RESTORE_FILE


def stored_of(root: Path) -> Path:
    """Where the vendor's command stores its settings."""
    return file_of(root).with_name(_STORED_NAME)


def boot_id(root: Path) -> str | None:
    """Name of this start of the machine, or None."""
    return text_of(root / _BOOT_ID) or None


def lock(root: Path) -> IO[bytes] | None:
    """Take the lock (rule R2); None where another process holds it.

    Raises:
        StorageError: Its folder is not ours to write.
    """
    path = file_of(root).with_name(_LOCK_NAME)
    atomic.make_folder(path.parent)
    with atomic.storage_errors(path):
        handle = path.open("ab")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        return None
    return handle


def is_held(root: Path) -> bool:
    """Whether a living process holds the clocks; asks nothing that only root may."""
    try:
        with file_of(root).with_name(_LOCK_NAME).open("rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # there is no lock file
        return False
    return False


def write(root: Path, restore: Restore) -> None:
    """Put the file on the disk, and its folder's entry as well (rule R1).

    Raises:
        StorageError: The disk is full or not writable.
    """
    path = file_of(root)
    atomic.write_bytes(path, jsonform.dumps(restore).encode())
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read(root: Path) -> Restore | None:
    """What the file says; None where there is none.

    Raises:
        MachineError: It cannot be read.
    """
    path = file_of(root)
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise MachineError(
            f"{path} cannot be read: {error.strerror}", do=f"Try: sudo {RESTORE_COMMAND}"
        ) from error
    with jsonform.refusing(path, MachineError, do="Set the clocks by hand and remove the file"):
        return jsonform.loads(Restore, text)


def put_back(root: Path, restore: Restore) -> None:
    """Put the clocks back and remove the file; whoever calls holds the lock (rules R1 to R4).

    Raises:
        MachineError: Some could not be put back.
    """
    failed = _vendor_puts_back(root) if restore.vendor else ""
    for setting in reversed(restore.settings):
        path = root / setting.file
        if text_of(path) != setting.before:
            failed = _written(path, setting.before) or failed
    if failed:
        raise MachineError(
            f"The clocks could not be put back: {failed}",
            expected="The right to set clocks, which root has",
            do=f"Put them back with: sudo {RESTORE_COMMAND}",
        )
    file_of(root).unlink(missing_ok=True)
    stored_of(root).unlink(missing_ok=True)


def recover(root: Path) -> str | None:
    """Put back what a dead process left fixed (rules R1 to R3).

    Returns:
        What was done, as a sentence; None where there was nothing to do.

    Raises:
        MachineError: It could not be done.
    """
    if not file_of(root).exists():
        return None
    held = lock(root)
    if held is None:
        return None  # its process lives
    with held:
        restore = read(root)
        if restore is None:
            return None
        started = boot_id(root)
        if restore.boot_id is not None and started is not None and restore.boot_id != started:
            file_of(root).unlink(missing_ok=True)
            stored_of(root).unlink(missing_ok=True)
            return (
                f"Process {restore.pid} had fixed the clocks and was killed; the machine was "
                "started again since, which put them back."
            )
        put_back(root, restore)
        return (
            f"Process {restore.pid} had fixed the clocks and was killed before it put them back. "
            "They are back as they were."
        )


def run_vendor(*arguments: str) -> str:
    """Run the vendor's command.

    Returns:
        What went wrong, as a clause; empty where nothing did.
    """
    named = " ".join((VENDOR, *arguments))
    try:
        done = subprocess.run(
            [VENDOR, *arguments], stdin=subprocess.DEVNULL, capture_output=True, check=False,
            timeout=VENDOR_LIMIT_S, start_new_session=True,  # Ctrl-C is not for it
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"'{named}' failed: {error}"
    said = b" ".join((done.stdout, done.stderr)).decode(errors="replace").split()
    if done.returncode != 0 or "Error:" in said:
        return f"'{named}' ended with code {done.returncode}: {' '.join(said)[-200:]}"
    return ""


def _vendor_puts_back(root: Path) -> str:
    stored = stored_of(root)
    return run_vendor("--restore", str(stored)) if stored.exists() else f"{stored} is gone"


def _written(path: Path, text: str) -> str:
    """Write a setting; what went wrong, as a clause, or empty."""
    try:
        # Not atomic.write_bytes: the kernel's files take no rename.
        with path.open("w", encoding="utf-8") as handle:
            handle.write(f"{text}\n")
    except OSError as error:
        return f"{path} is not ours to write ({error.strerror})"
    return ""


def set_fixed(root: Path, setting: Setting) -> str:
    """Fix one clock; what went wrong, as a clause, or empty."""
    return _written(root / setting.file, setting.fixed)
