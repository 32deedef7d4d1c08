"""Rules A1 to A5 of runtime/atomic.py, against a real disk that fills and a real process killed."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from jetlift.runtime import atomic
from jetlift.runtime.errors import InputError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator

SRC = Path(__file__).parents[2] / "src"
DEAD_PID = 2**22 + 1  # above the kernel's largest pid_max


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole_and_alone(tmp_path: Path) -> None:
    destination = tmp_path / "deep" / "er" / "record.json"
    with atomic.file_aside(destination) as aside:
        assert aside.parent == destination.parent  # A1
        aside.write_text("half")
        assert not destination.exists()
        aside.write_text("whole")
    assert destination.read_text() == "whole"
    assert _names(destination.parent) == ["record.json"]


def test_an_existing_file_is_replaced(tmp_path: Path) -> None:
    atomic.write_bytes(tmp_path / "a", b"old")
    atomic.write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"


def test_a_folder_appears_whole_and_alone(tmp_path: Path) -> None:
    destination = tmp_path / "bundle"
    with atomic.folder_aside(destination) as aside:
        (aside / "assets").mkdir()
        (aside / "assets" / "labels.txt").write_text("cat")
        assert not destination.exists()
    assert (destination / "assets" / "labels.txt").read_text() == "cat"
    assert _names(tmp_path) == ["bundle"]


@pytest.mark.parametrize("kind", ["folder", "empty folder", "file", "dangling link"])
def test_a_folder_never_replaces_what_is_there(tmp_path: Path, kind: str) -> None:
    destination = tmp_path / "bundle"
    if "folder" in kind:
        destination.mkdir()
        if kind == "folder":
            (destination / "mine").write_text("keep")
    elif kind == "file":
        destination.write_text("keep")
    else:
        destination.symlink_to(tmp_path / "nowhere")
    with (
        pytest.raises(InputError, match="exists already"),
        atomic.folder_aside(destination),
    ):
        pytest.fail("nothing may be made for a name that is taken")
    assert _names(tmp_path) == ["bundle"]


def test_a_folder_made_meanwhile_by_somebody_else_is_left_alone(tmp_path: Path) -> None:
    destination = tmp_path / "bundle"
    with (
        pytest.raises(InputError, match="exists already"),
        atomic.folder_aside(destination) as aside,
    ):
        (aside / "x").write_text("ours")
        destination.mkdir()
        (destination / "x").write_text("theirs")
    assert (destination / "x").read_text() == "theirs"
    assert _names(tmp_path) == ["bundle"]


@pytest.mark.parametrize("trouble", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("aside_of", [atomic.file_aside, atomic.folder_aside])
def test_any_exception_leaves_nothing_and_passes(
    tmp_path: Path, trouble: type[BaseException], aside_of: Any
) -> None:
    destination = tmp_path / "out"
    with pytest.raises(trouble), aside_of(destination) as aside:
        inner = aside / "part" if aside.is_dir() else aside
        inner.write_text("half")
        raise trouble
    assert _names(tmp_path) == []


def test_a_failed_replacement_keeps_the_old_file(tmp_path: Path) -> None:
    destination = tmp_path / "record.json"
    destination.write_text("old")
    with pytest.raises(ValueError, match="stop"), atomic.file_aside(destination) as aside:
        aside.write_text("half of the new")
        raise ValueError("stop")
    assert destination.read_text() == "old"
    assert _names(tmp_path) == ["record.json"]


def _killed_while_writing(destination: Path, kind: str) -> int:
    """Start a real process, kill it with SIGKILL in the middle of its write, return its pid."""
    script = f"""
        import sys, time
        from pathlib import Path
        from jetlift.runtime import atomic
        with atomic.{kind}_aside(Path({str(destination)!r})) as aside:
            (aside / "part" if {kind!r} == "folder" else aside).write_bytes(b"x" * 4096)
            print("in the middle", flush=True)
            time.sleep(600)
    """
    environment = {**os.environ, "PYTHONPATH": str(SRC)}
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        env=environment,
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"in the middle\n"
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    return child.pid


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_killed_process_leaves_nothing_that_looks_finished(tmp_path: Path, kind: str) -> None:
    destination = tmp_path / "out"
    pid = _killed_while_writing(destination, kind)
    assert _names(tmp_path) == [f".out.partial-{pid}"]

    write = atomic.file_aside if kind == "file" else atomic.folder_aside
    with write(destination) as aside:  # A4: the next write sweeps
        (aside / "part" if kind == "folder" else aside).write_text("whole")
    assert _names(tmp_path) == ["out"]


def test_sweeping_takes_the_dead_of_this_name_only(tmp_path: Path) -> None:
    kept = [
        f".other.partial-{DEAD_PID}",  # of another destination
        f".out.partial-{os.getppid()}",  # of a living process
        ".out.partial-notes",  # no process at all
        ".out",
    ]
    for name in [*kept, f".out.partial-{DEAD_PID}"]:
        (tmp_path / name).write_text("x")
    (tmp_path / f".out.partial-{DEAD_PID + 1}").mkdir()
    atomic.write_bytes(tmp_path / "out", b"new")
    assert _names(tmp_path) == sorted([*kept, "out"])


def test_a_leftover_of_a_dead_process_with_ones_own_number_is_swept(tmp_path: Path) -> None:
    leftover = tmp_path / f".out.partial-{os.getpid()}"
    leftover.mkdir()
    (leftover / "half").write_text("x")
    with atomic.folder_aside(tmp_path / "out") as aside:
        (aside / "whole").write_text("x")
    assert _names(tmp_path / "out") == ["whole"]


def test_names_with_glob_characters_are_taken_literally(tmp_path: Path) -> None:
    (tmp_path / f".ab.partial-{DEAD_PID}").write_text("x")
    atomic.write_bytes(tmp_path / "a[b]*?", b"new")
    (tmp_path / f".a[b]*?.partial-{DEAD_PID}").write_text("x")
    atomic.write_bytes(tmp_path / "a[b]*?", b"new")
    assert _names(tmp_path) == [f".ab.partial-{DEAD_PID}", "a[b]*?"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real filesystem of one mebibyte."""
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if mount is None or umount is None:
        pytest.skip("this machine has no mount command, so no small disk can be made")
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        pytest.skip(f"mounting a small disk is not permitted here: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run([umount, str(folder)], check=True)


def test_a_full_disk_while_writing_a_file(small_disk: Path) -> None:
    destination = small_disk / "engine"
    destination.write_bytes(b"old")
    with pytest.raises(StorageError, match="No space left on device") as caught:
        atomic.write_bytes(destination, b"x" * 2**21)
    assert caught.value.exit_code == 4
    assert str(destination) in str(caught.value)
    assert destination.read_bytes() == b"old"
    assert _names(small_disk) == ["engine"]


def test_a_full_disk_while_filling_a_folder(small_disk: Path) -> None:
    with (
        pytest.raises(StorageError, match="No space left on device"),
        atomic.folder_aside(small_disk / "bundle") as aside,
    ):
        for number in range(64):
            (aside / f"{number}.onnx").write_bytes(b"x" * 2**16)
    assert _names(small_disk) == []


def test_a_parent_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "report").write_text("a file")
    with pytest.raises(StorageError, match=r"File exists|Not a directory"):
        atomic.write_bytes(tmp_path / "report" / "record.json", b"{}")
    assert (tmp_path / "report").read_text() == "a file"


def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "record.json").mkdir()
    with pytest.raises(StorageError, match="Is a directory"):
        atomic.write_bytes(tmp_path / "record.json", b"{}")
    assert _names(tmp_path) == ["record.json"]


def test_a_refusal_by_another_file_is_not_blamed_on_the_destination(tmp_path: Path) -> None:
    elsewhere = PermissionError(errno.EACCES, "Permission denied", "/elsewhere/weights")
    with pytest.raises(PermissionError), atomic.file_aside(tmp_path / "out" / "x"):
        raise elsewhere
    assert _names(tmp_path / "out") == []


def test_other_faults_of_the_operating_system_pass_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic.storage_errors(tmp_path / "x"):
        (tmp_path / "missing").read_bytes()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot be made: Not a directory"):
        atomic.make_folder(tmp_path / "file" / "deep")
    atomic.make_folder(tmp_path / "a" / "b")
    atomic.make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc here")
def test_a_file_system_that_makes_no_folders_is_told() -> None:
    with pytest.raises(StorageError, match="/proc/nowhere cannot be made"):
        atomic.make_folder(Path("/proc/nowhere"))
