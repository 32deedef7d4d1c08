"""Clocks that are fixed, and that come back: at the end, on errors, signals, and after a kill."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jetlift.jetson import restore
from jetlift.jetson.fix_clocks import FixedClocks
from jetlift.jetson.state import StateReader
from jetlift.runtime.errors import BusyError, MachineError

if TYPE_CHECKING:
    from collections.abc import Iterator

BOARDS = Path(__file__).parents[1] / "runtime" / "boards"
CHILD = Path(__file__).parents[1] / "helpers" / "fixes_clocks.py"
LIMIT_S = 60.0
GPU_MIN = "sys/class/devfreq/17000000.gpu/min_freq"
CPU_MIN = "sys/devices/system/cpu/cpufreq/policy0/scaling_min_freq"
IDLE = "sys/devices/system/cpu/cpu0/cpuidle/state1/disable"
EMC_RATE = "sys/kernel/debug/bpmp/debug/clk/emc/rate"
EMC_LOCK = "sys/kernel/debug/bpmp/debug/clk/emc/mrq_rate_locked"
LOOSE = {GPU_MIN: "306000000", CPU_MIN: "729600", IDLE: "0", EMC_RATE: "2133000000", EMC_LOCK: "0"}
FIXED = {
    GPU_MIN: "1020000000",
    CPU_MIN: "1728000",
    IDLE: "1",
    EMC_RATE: "3199000000",
    EMC_LOCK: "1",
}
# What NVIDIA's command does with the files of one clock, below a root of one's own.
VENDOR = """#!/bin/sh
gpu="$JETLIFT_BOARD_ROOT/sys/class/devfreq/17000000.gpu"
echo "$*" >> "$JETLIFT_BOARD_ROOT/calls"
case "$1" in
--store) [ -e "$2" ] && exit 1; echo "$gpu/min_freq:$(cat $gpu/min_freq)" > "$2" ;;
--restore) cut -d: -f2 "$2" > "$gpu/min_freq" ;;
"") cat "$gpu/max_freq" > "$gpu/min_freq" ;;
esac
"""


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A board whose files everybody may reach, without the vendor's command on PATH."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # noqa: PTH101, S103 - another user has to reach it
        root = Path(shutil.copytree(BOARDS / "orin-nano-super", Path(folder) / "board"))
        boot = root / "proc/sys/kernel/random/boot_id"
        boot.parent.mkdir(parents=True)
        boot.write_text("5c2f\n")
        monkeypatch.setenv("JETLIFT_BOARD_ROOT", str(root))
        yield root


@pytest.fixture
def vendor(board: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    command = board.parent / "bin" / "jetson_clocks"
    command.parent.mkdir()
    command.write_text(VENDOR)
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    return command


def told(root: Path, like: dict[str, str] = LOOSE) -> dict[str, str]:
    return {name: (root / name).read_text().strip() for name in like}


def child(root: Path, *arguments: str) -> subprocess.Popen[str]:
    """A process that has fixed the clocks."""
    command = [sys.executable, str(CHILD), str(root), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "fixed\n"
    return process


def jetlift(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jetlift", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=LIMIT_S,
        env=os.environ | {"PYTHONSAFEPATH": "1"},
    )  # fmt: skip


def doctor() -> tuple[str, str] | None:
    """What the doctor says of clocks."""
    found = json.loads(jetlift("doctor", "--json").stdout)
    return next(((it["status"], it["what"]) for it in found if it["name"] == "clocks"), None)


def test_clocks_are_fixed_and_come_back(board: Path) -> None:
    with FixedClocks(board):
        assert told(board) == FIXED
        assert StateReader(board).clocks_fixed() is True
        kept = json.loads(restore.file_of(board).read_text())
        assert kept["settings"][0] == {"file": CPU_MIN, "before": "729600", "fixed": "1728000"}
    assert told(board) == LOOSE
    assert not restore.file_of(board).exists()


@pytest.mark.parametrize("name", ["orin-nano-super", "agx-orin", "thor"])
def test_every_board_is_afterwards_as_it_was(name: str, tmp_path: Path) -> None:
    root = Path(shutil.copytree(BOARDS / name, tmp_path / "board"))
    before = tree(root)
    with FixedClocks(root):
        assert StateReader(root).clocks_fixed() is True
        assert tree(root) != before
    assert tree(root) == before


def tree(root: Path) -> dict[str, str]:
    """Every file of a board but the lock."""
    files = (path for path in root.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {str(path.relative_to(root)): path.read_text().strip() for path in files}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_they_come_back_whatever_ends_the_block(board: Path, error: type[BaseException]) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(error), FixedClocks(board):
        fail()
    assert told(board) == LOOSE


def test_the_vendor_s_command_is_used_where_it_is_installed(board: Path, vendor: Path) -> None:
    assert vendor.exists()
    stored = restore.stored_of(board)
    with FixedClocks(board):
        assert told(board)[GPU_MIN] == "1020000000"
        assert told(board)[CPU_MIN] == "729600"  # this one knows the GPU alone
    assert told(board) == LOOSE
    calls = (board / "calls").read_text().splitlines()
    assert calls == [f"--store {stored}", "", f"--restore {stored}"]
    assert not stored.exists()


@pytest.mark.parametrize("broken", ["exit 1", "echo Error: Run this script as a root user"])
def test_a_vendor_s_command_that_fails_leaves_nothing_fixed(
    board: Path, vendor: Path, broken: str
) -> None:
    vendor.write_text(VENDOR.replace('"") cat', f'"") {broken}; cat'))
    with pytest.raises(MachineError, match="The clocks were not fixed, and are back as they were"):
        FixedClocks(board).__enter__()
    assert told(board) == LOOSE
    assert not restore.file_of(board).exists()


def test_killed_with_9_it_leaves_them_fixed_and_the_next_command_puts_them_back(
    board: Path,
) -> None:
    process = child(board)
    process.kill()
    assert process.wait(LIMIT_S) == -signal.SIGKILL
    assert told(board) == FIXED
    assert doctor() == (
        "problem",
        f"process {process.pid} fixed them and was killed before it put them back",
    )
    assert told(board) == FIXED  # the doctor only shows
    done = jetlift("targets")
    assert done.returncode == 0, done.stderr
    assert f"Process {process.pid} had fixed the clocks and was killed" in done.stderr
    assert told(board) == LOOSE
    assert "had fixed the clocks" not in jetlift("targets").stderr


def test_killed_with_9_under_the_vendor_s_command_too(board: Path, vendor: Path) -> None:
    assert vendor.exists()
    process = child(board)
    process.kill()
    process.wait(LIMIT_S)
    assert told(board)[GPU_MIN] == "1020000000"
    assert "They are back as they were" in str(restore.recover(board))
    assert told(board) == LOOSE


def test_the_doctor_puts_them_back_when_asked(board: Path) -> None:
    process = child(board)
    process.kill()
    process.wait(LIMIT_S)
    assert "They are back as they were" in jetlift("doctor", "--restore-clocks").stderr
    assert told(board) == LOOSE
    assert "There are no clocks to put back" in jetlift("doctor", "--restore-clocks").stderr


def test_whoever_fixes_them_next_begins_with_what_the_killed_one_found(board: Path) -> None:
    process = child(board)
    process.kill()
    process.wait(LIMIT_S)
    with FixedClocks(board):
        assert told(board) == FIXED
    assert told(board) == LOOSE


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_put_them_back(board: Path, number: signal.Signals) -> None:
    process = child(board)
    assert told(board) == FIXED
    process.send_signal(number)
    process.wait(LIMIT_S)
    assert told(board) == LOOSE
    assert not restore.file_of(board).exists()


def test_two_at_once_are_refused_and_the_first_is_left_alone(board: Path) -> None:
    process = child(board)
    try:
        with pytest.raises(BusyError, match="Another process of jetlift holds the clocks"):
            FixedClocks(board).__enter__()
        assert restore.recover(board) is None  # its process lives
        assert told(board) == FIXED
        assert doctor() == ("ok", f"process {process.pid} holds them at their limit")
        assert "A living process holds the clocks" in jetlift("doctor", "--restore-clocks").stderr
        assert told(board) == FIXED
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(LIMIT_S)
    assert told(board) == LOOSE


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_clock_that_is_not_ours_to_write_is_named_before_anything_is_changed(
    board: Path,
) -> None:
    command = [sys.executable, str(CHILD), str(board), "65534"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    assert done.returncode == 4, done.stderr
    assert done.stdout.startswith(f"MachineError: {board / CPU_MIN} is not ours to write")
    assert "Run it as root (sudo), or fix the clocks beforehand with: sudo jetson_clocks" in (
        done.stdout
    )
    assert told(board) == LOOSE
    assert not restore.file_of(board).parent.exists()


def test_a_clock_that_refuses_in_the_middle_puts_the_others_back(board: Path) -> None:
    (board / GPU_MIN).unlink()
    (board / GPU_MIN).symlink_to("/proc/version")  # may be opened by root, and takes nothing
    with pytest.raises(MachineError, match="min_freq is not ours to write"):
        FixedClocks(board).__enter__()
    assert (board / CPU_MIN).read_text().strip() == "729600"


def test_what_cannot_be_put_back_stays_in_the_file_and_is_told(board: Path) -> None:
    fixed = FixedClocks(board)
    fixed.__enter__()
    (board / GPU_MIN).unlink()
    (board / GPU_MIN).mkdir()
    with pytest.raises(MachineError, match="sudo jetlift doctor --restore-clocks"):
        fixed.close()
    assert restore.file_of(board).exists()
    told_of = jetlift("targets")  # goes on all the same
    assert told_of.returncode == 0
    assert "The clocks could not be put back" in told_of.stderr
    assert jetlift("doctor", "--restore-clocks").returncode == 4
    (board / GPU_MIN).rmdir()
    (board / GPU_MIN).write_text("1020000000\n")
    assert "They are back" in str(restore.recover(board))
    assert told(board) == LOOSE


def test_a_machine_that_was_started_again_has_its_own_clocks(board: Path) -> None:
    process = child(board)
    process.kill()
    process.wait(LIMIT_S)
    (board / "proc/sys/kernel/random/boot_id").write_text("77aa\n")
    assert "the machine was started again since" in str(restore.recover(board))
    assert told(board) == FIXED  # nothing was written
    assert not restore.file_of(board).exists()


def test_a_memory_that_was_locked_goes_back_to_its_rate(board: Path) -> None:
    (board / EMC_LOCK).write_text("1\n")
    with FixedClocks(board):
        assert (board / EMC_RATE).read_text().strip() == "3199000000"
    assert told(board) == LOOSE | {EMC_LOCK: "1"}


def test_idle_states_alone_are_no_clock(tmp_path: Path) -> None:
    disable = tmp_path / "sys/devices/system/cpu/cpu0/cpuidle/state1/disable"
    disable.parent.mkdir(parents=True)
    disable.write_text("0\n")
    with (
        pytest.raises(MachineError, match="shows no clocks that can be set"),
        FixedClocks(tmp_path),
    ):
        pytest.fail("nothing was fixed")
    assert disable.read_text() == "0\n"


def test_a_machine_without_clocks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="This machine shows no clocks that can be set"):
        FixedClocks(tmp_path).__enter__()


def test_a_file_that_nobody_understands_is_told(board: Path) -> None:
    path = restore.file_of(board)
    path.parent.mkdir(parents=True)
    path.write_text("{")
    with pytest.raises(MachineError, match="Set the clocks by hand and remove the file"):
        restore.recover(board)


def test_a_second_close_does_nothing(board: Path) -> None:
    fixed = FixedClocks(board)
    with fixed:
        pass
    (board / CPU_MIN).write_text("1\n")
    fixed.close()
    assert (board / CPU_MIN).read_text() == "1\n"


def test_a_run_without_a_record_fixes_nothing(board: Path) -> None:
    done = jetlift("run", "nowhere", "nothing.png", "--fix-clocks")
    assert done.returncode == 2
    assert "Got --fix-clocks without --record or --budget" in done.stderr
    assert told(board) == LOOSE
