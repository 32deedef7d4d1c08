"""Real builds that are killed, crash, run out of memory, or lose whoever asked for them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import onnx
import pytest
from helpers.raced import deep
from helpers.tiny_bundle import mlp
from helpers.trt_builds import children, compile_graph, need_builder

from jetlift.engines.trt import build as trt_build
from jetlift.engines.trt.log import BuildLog
from jetlift.engines.trt.options import BuildOptions
from jetlift.runtime.errors import EngineLibraryError


@pytest.fixture(scope="module", autouse=True)
def _builder() -> None:
    need_builder()


@contextmanager
def signalled(number: int) -> Iterator[None]:
    """A signal to every builder as soon as it is there, for as long as this lasts."""
    stop = threading.Event()

    def send() -> None:
        while not stop.is_set():
            for pid in children():
                with suppress(ProcessLookupError):  # it went between the listing and the signal
                    os.kill(pid, number)
            time.sleep(0.01)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_a_builder_that_the_system_kills_is_tried_smaller_and_told(tmp_path: Path) -> None:
    """What the kernel does when memory runs out, done to every child as soon as it is there."""
    notes: list[str] = []
    with signalled(signal.SIGKILL), pytest.raises(EngineLibraryError) as caught:
        compile_graph(mlp(), tmp_path, notify=notes.append)
    told = str(caught.value)
    assert "ran out of memory on graph.onnx: signal 9" in told
    assert "4 settings were tried (as asked: " in told
    assert "add swap" in told
    assert ["Trying again with" in note for note in notes] == [True] * 3
    assert not (tmp_path / "graph.engine").exists()


def test_a_builder_that_crashes_is_no_want_of_memory(tmp_path: Path) -> None:
    with (
        signalled(signal.SIGSEGV),
        pytest.raises(EngineLibraryError, match=r"signal 11 \(SIGSEGV\)"),
    ):
        compile_graph(mlp(), tmp_path)


def test_ctrl_c_takes_the_builder_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_self: BuildLog, lines: Any) -> None:
        next(iter(lines))
        assert children()
        raise KeyboardInterrupt

    monkeypatch.setattr(trt_build.BuildLog, "take", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compile_graph(mlp(), tmp_path)
    assert children() == []
    assert not (tmp_path / "graph.engine").exists()


def test_real_memory_that_runs_out_is_told_as_such(tmp_path: Path) -> None:
    """The builder within an address space that is too small for it."""
    options = BuildOptions(address_space_bytes=340 * 2**20)
    with pytest.raises(EngineLibraryError, match="ran out of memory") as caught:
        compile_graph(mlp(), tmp_path, options=options)
    assert "4 settings were tried" in str(caught.value)


def test_a_killed_parent_takes_the_builder_along(tmp_path: Path) -> None:
    """The builder leads a session of its own, so nothing but its own care ends it."""
    onnx.save(deep("fp32"), tmp_path / "graph.onnx")
    code = (
        "from pathlib import Path\n"
        "from jetlift.engines.trt.build import build_engine\n"
        "from jetlift.runtime.manifest import TensorSpec\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "x = TensorSpec('x', 'float32', (64, 512))\n"
        "build_engine(folder / 'graph.onnx', folder / 'engine', None, inputs=[x], "
        "compute_capability='8.6')"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", code], env=environment) as parent:
        while not (found := children(parent.pid)):
            assert parent.poll() is None
            time.sleep(0.01)
        parent.kill()
    for _ in range(1000):
        if not Path(f"/proc/{found[0]}/cmdline").exists():
            return
        time.sleep(0.01)
    pytest.fail("the builder goes on without its parent")
