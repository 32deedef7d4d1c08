"""Children that end well, fail, are slow, take too much, and are really killed; and their watchdog.

The children are real processes. Where a control group can be made, one is really killed in it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from jetlift.engines.trt import memory, watch
from jetlift.engines.trt.diagnosis import diagnose
from jetlift.engines.trt.log import BuildLog
from jetlift.engines.trt.options import BuildOptions
from jetlift.engines.trt.watch import Watched

MIB = memory.MIB
FAR_S = 60.0


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if "watchdog" in thread.name}


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    yield
    assert threads() == set()
    assert not watch._RUNNING


def run(code: str, limit_s: float = FAR_S, **more: object) -> tuple[Watched, list[str]]:
    lines: list[str] = []
    seen = watch.run(
        [sys.executable, "-c", code], lines.extend,
        environment=dict(os.environ), time_limit_s=limit_s, **more,  # type: ignore[arg-type]
    )  # fmt: skip
    return seen, [line.strip() for line in lines]


def gone(pid: int) -> bool:
    """Whether a process is over, a zombie counting as that."""
    status = Path(f"/proc/{pid}/status")
    return not status.exists() or "State:\tZ" in status.read_text()


def until_gone(pid: int) -> None:
    for _ in range(500):
        if gone(pid):
            return
        time.sleep(0.01)
    pytest.fail(f"process {pid} goes on")


def test_what_a_child_says_and_how_it_ends_is_told() -> None:
    seen, lines = run("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)")
    assert sorted(lines) == ["err", "out"]
    assert (seen.status, seen.stopped, seen.oom_group) == (3, "", None)


def test_the_peak_is_what_it_held() -> None:
    code = "import time; held = bytearray(200 * 2**20); time.sleep(1)"
    seen, _ = run(code)
    assert 200 * MIB < seen.peak_bytes < 400 * MIB


def test_it_works_in_an_empty_folder_that_goes_away() -> None:
    _, (folder, content) = run("import os; print(os.getcwd()); print(os.listdir())")
    assert content == "[]"
    assert not Path(folder).exists()


def test_one_that_is_slow_is_ended_with_all_it_started() -> None:
    code = (
        "import subprocess, sys, time\n"
        "other = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(other.pid, flush=True); time.sleep(600)"
    )
    seen, (pid,) = run(code, limit_s=1.0)
    assert (seen.status, seen.stopped) == (-signal.SIGKILL, "time")
    until_gone(int(pid))


def test_one_that_closes_its_output_and_goes_on_is_ended_too() -> None:
    seen, _ = run("import os, time; os.close(1); os.close(2); time.sleep(600)", limit_s=1.0)
    assert seen.stopped == "time"


def test_one_is_ended_before_the_machine_has_nothing_left() -> None:
    """The floor lies above what any machine has, so it is met at once."""
    seen, _ = run("import time; time.sleep(600)", floor_bytes=2**60)
    assert (seen.status, seen.stopped) == (-signal.SIGKILL, "memory")
    got = diagnose(seen, BuildLog(), Path("g.onnx"), "tensorrt", BuildOptions())
    assert got.is_memory
    assert "next to none left" in got.got


def test_one_that_is_over_is_not_said_to_be_stopped() -> None:
    seen, _ = run("print('done')", floor_bytes=1)
    assert (seen.status, seen.stopped) == (0, "")


def test_whatever_ends_the_wait_ends_the_child() -> None:
    found: list[int] = []

    def interrupted(lines: Iterable[str]) -> None:
        found.append(int(next(iter(lines))))
        raise KeyboardInterrupt

    code = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    with pytest.raises(KeyboardInterrupt):
        watch.run(
            [sys.executable, "-c", code], interrupted,
            environment=dict(os.environ), time_limit_s=FAR_S,
        )  # fmt: skip
    until_gone(found[0])


def test_ctrl_c_for_many_ends_what_other_threads_wait_for() -> None:
    ended: list[Watched] = []
    code = "import time; print('here', flush=True); time.sleep(600)"
    waiting = threading.Thread(target=lambda: ended.append(run(code)[0]))
    waiting.start()
    while not watch._RUNNING:
        time.sleep(0.01)
    watch.end_all()
    waiting.join()
    assert ended[0].status == -signal.SIGKILL


def test_a_watchdog_that_fails_ends_the_child_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_root: Path) -> None:
        raise ValueError("the kernel says something new")

    monkeypatch.setattr(watch.memory, "room", broken)
    with pytest.raises(ValueError, match="something new"):
        run("import time; time.sleep(600)")


def test_a_command_that_is_not_there_leaves_no_thread() -> None:
    with pytest.raises(FileNotFoundError):
        watch.run(["/no/such/program"], list, environment={}, time_limit_s=FAR_S)


ADDRESS_SPACE = (
    "import resource; resource.setrlimit(resource.RLIMIT_AS, (300 * 2**20,) * 2)\n"
    "held = [bytearray(50 * 2**20) for _ in range(100)]"
)


def test_a_child_that_its_address_space_really_ends_is_diagnosed() -> None:
    log = BuildLog()
    seen = watch.run(
        [sys.executable, "-c", ADDRESS_SPACE], log.take,
        environment=dict(os.environ), time_limit_s=FAR_S,
    )  # fmt: skip
    assert seen.status == 1
    got = diagnose(seen, log, Path("g.onnx"), "tensorrt", BuildOptions())
    assert got.is_memory
    assert "ran out of memory on g.onnx: MemoryError" in got.got
    assert "Killed" not in got.got


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group of its own that may hold 100 MiB, of whichever version there is."""
    base = Path("/sys/fs/cgroup")
    one = (base / "memory").is_dir()
    folder = (base / "memory" if one else base) / f"jetlift-test-{os.getpid()}"
    try:
        folder.mkdir()
        limits = ("memory.limit_in_bytes",) if one else ("memory.max", "memory.swap.max")
        (folder / limits[0]).write_text(str(100 * MIB))
    except OSError as error:
        if folder.is_dir():
            folder.rmdir()
        pytest.skip(f"no control group can be made here: {error.strerror}")
    yield folder
    for _ in range(200):  # the kernel needs a moment to see that the last process is gone
        try:
            folder.rmdir()
        except OSError:
            time.sleep(0.02)
        else:
            return


def test_a_child_that_the_kernel_really_kills_in_its_group_is_diagnosed(group: Path) -> None:
    code = (
        f"import os, time; open({str(group / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))\n"
        "time.sleep(0.5)  # the watchdog sees which group it is in\n"
        "held = [bytearray(10 * 2**20) for _ in range(100)]; print('survived')"
    )
    seen, lines = run(code, floor_bytes=1)
    assert (lines, seen.status, seen.stopped) == ([], -signal.SIGKILL, "")
    assert seen.oom_group == (f"/{group.name}", 100 * MIB)
    got = diagnose(seen, BuildLog(), Path("g.onnx"), "tensorrt", BuildOptions())
    assert got.is_memory
    assert f"the kernel killed it for its control group /{group.name}, which may hold 100 MiB" in (
        got.got
    )
    assert "it held " in got.got
