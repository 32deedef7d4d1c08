"""Why a build failed: what is memory, what is not, and whose word it is."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from jetlift.engines.trt.diagnosis import Diagnosis, diagnose
from jetlift.engines.trt.log import BuildLog, message
from jetlift.engines.trt.memory import MIB
from jetlift.engines.trt.options import BuildOptions
from jetlift.engines.trt.watch import Watched

GRAPH = Path("image.int8.onnx")
KILLED = Watched(4711, -signal.SIGKILL, "", 12.0, 3000 * MIB, None)


def told(seen: Watched, *lines: str, root: Path = Path("/none"), **options: int) -> Diagnosis:
    log = BuildLog()
    log.take(f"{line}\n" for line in lines)
    return diagnose(seen, log, GRAPH, "tensorrt", BuildOptions(**options), root)  # type: ignore[arg-type]


def failed(status: int = 1) -> Watched:
    return Watched(4711, status, "", 12.0, 0, None)


# As TensorRT (ultralytics#22271), C++, Python and Linux say it.
MEMORY_LINES = [
    "[W] Tactic Device request: 600MB Available: 302MB. Device memory is insufficient to use it.",
    "[E] Error Code 2: OutOfMemory (Requested size was 629145600 bytes.)",
    "terminate called after throwing an instance of 'std::bad_alloc'",
    "MemoryError",
    "[E] 1: [defaultAllocator.cpp::allocate::31] Error Code 1: Cuda Runtime (out of memory)",
    "OSError: [Errno 12] Cannot allocate memory",
]


@pytest.mark.parametrize("line", MEMORY_LINES)
def test_words_of_memory_are_memory(line: str) -> None:
    got = told(failed(), line)
    assert got.is_memory
    assert got.got.startswith("The TensorRT builder ran out of memory on image.int8.onnx: ")
    assert "add swap" in got.do


def test_a_kill_without_another_cause_says_that_it_guesses() -> None:
    got = told(KILLED)
    assert got.is_memory
    assert "signal 9 ended it, which without another cause" in got.got
    assert got.got.endswith("; it held 3000 MiB")


def test_the_kernels_log_is_believed(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/kmsg").write_text(
        "6,1,2,-;Booting\n3,2,3,-;Out of memory: Killed process 4711 (python3) total-vm:1kB\n"
    )
    assert "the kernel killed it, as its log says" in told(KILLED, root=tmp_path).got
    other = Watched(471, -signal.SIGKILL, "", 12.0, 0, None)
    assert "without another cause" in told(other, root=tmp_path).got


def test_the_control_group_is_believed_first() -> None:
    seen = Watched(1, -signal.SIGKILL, "", 1.0, 0, ("/docker/abc", 512 * MIB))
    assert "for its control group /docker/abc, which may hold 512 MiB" in told(seen).got
    seen = Watched(1, -signal.SIGKILL, "", 1.0, 0, ("/docker/abc", None))
    assert told(seen).got.endswith("for its control group /docker/abc")


def test_time_that_is_up_is_no_want_of_memory() -> None:
    got = told(Watched(1, -signal.SIGKILL, "time", 600.0, 9, None), MEMORY_LINES[0])
    assert not got.is_memory
    assert "its time was up after 600 s" in got.got
    assert "--time-limit-s" in got.do


def test_a_refused_graph_is_no_want_of_memory() -> None:
    got = told(
        failed(),
        MEMORY_LINES[0],
        "[E] In node 3 with name: uniq and operator: Unique (parseNode): UNSUPPORTED_NODE: No",
    )
    assert not got.is_memory
    assert got.got.startswith("TensorRT does not take node uniq (Unique) of image.int8.onnx: this")


def test_too_little_workspace_is_told_apart() -> None:
    got = told(
        failed(),
        "[E] Error Code 1: Myelin ([tactic.cpp:1676: enumerate_tactics] Tactic Selection: no "
        "tactics to implement the operation within workspace limit. Consider increase the allowed "
        "workspace size if applicable.",
    )
    assert (got.is_memory, got.wants_workspace) == (False, True)
    assert "--workspace" in got.do


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT])
def test_a_crash_is_memory_only_where_the_address_space_is_limited(number: int) -> None:
    got = told(failed(-number))
    assert not got.is_memory
    assert f"signal {int(number)} ({signal.Signals(number).name})" in got.got
    limited = told(failed(-number), address_space_bytes=512 * MIB)
    assert limited.is_memory
    assert "limited to 512 MiB" in limited.got


def test_threads_that_cannot_start_are_memory_only_within_a_limit() -> None:
    line = "[E] Error Code 1: Myelin (Unexpected exception Resource temporarily unavailable)"
    assert not told(failed(), line).is_memory
    assert told(failed(), line, address_space_bytes=MIB).is_memory


def test_a_board_without_such_a_dla_core_is_told() -> None:
    got = told(failed(), message({"dla_cores": 0, "asked_core": 1}))
    assert "asked for DLA core 1 and this machine has 0 DLA cores" in got.got


def test_anything_else_has_the_librarys_own_words() -> None:
    got = told(failed(), "[V] chatter", "[I] working", "[E] it broke")
    assert (
        got.got == "The TensorRT builder could not build image.int8.onnx (exit status 1): it broke"
    )
    assert not got.is_memory
    got = told(failed(), "Traceback", "ValueError: bad")
    assert got.got.endswith(": Traceback / ValueError: bad")
