"""What stands between the session and TensorRT's packages; with the real TensorRT-RTX where it is.

TensorRT-RTX's package imports and refuses engines without a GPU, which proves the logger, the
errors and the allocator on NVIDIA's own bindings.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.fake_engines import AFFINE

from jetlift.runtime.errors import EngineLibraryError, MissingPackageError, PassportError
from jetlift.runtime.manifest import TensorSpec
from jetlift.runtime.session import trt_library, trt_ports, trt_runner
from jetlift.runtime.session.fake_cuda import FakeDevice
from jetlift.runtime.session.fake_tensorrt import FakeLibrary


@pytest.fixture(scope="module")
def rtx() -> Any:
    return pytest.importorskip("tensorrt_rtx")


def refused(rtx: Any, content: bytes) -> str:
    with pytest.raises((PassportError, EngineLibraryError)) as caught:
        trt_library.deserialised(rtx, np.frombuffer(content, np.uint8), host_code=False)
    return str(caught.value)


def test_the_real_library_refuses_a_file_and_its_reason_is_told(
    rtx: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    told = refused(rtx, b"no engine" * 100)
    assert "TensorRT could not load the engine" in told
    assert "Error Code" in told
    assert "\n" not in told
    assert capfd.readouterr() == ("", "")


def test_the_real_allocator_takes_our_methods(rtx: Any) -> None:
    port = trt_ports.Port(TensorSpec("y", "float32", ("n",)), on_host=False)
    late = trt_runner._late_output(rtx, port)
    assert isinstance(late, rtx.IOutputAllocator)
    assert late.reallocate_output_async("y", 0, 4, 256, 1) == 0  # no slot: no memory
    late.notify_shape("y", rtx.Dims((2, 3)))


def test_one_logger_per_library(rtx: Any) -> None:
    assert trt_library.logger(rtx)[0] is trt_library.logger(rtx)[0]


@pytest.mark.parametrize(
    ("library", "extra"),
    [("tensorrt", "tensorrt"), ("tensorrt_lean", "lean"), ("tensorrt_rtx", "rtx")],
)
def test_a_missing_library_names_its_extra(
    library: Any, extra: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(trt_library, "_JETSON", tmp_path / "no-jetson")
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingPackageError, match=rf"jetlift\[{extra}\]"):
        trt_library.import_library(library)


def test_on_a_jetson_tensorrt_is_no_matter_of_pip(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    release = tmp_path / "nv_tegra_release"
    release.touch()
    monkeypatch.setattr(trt_library, "_JETSON", release)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(EngineLibraryError, match="apt-get install python3-libnvinfer"):
        trt_library.import_library("tensorrt")


def test_a_library_that_cannot_load_its_own_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "tensorrt_lean.py").write_text(
        "raise ImportError('libnvinfer_lean.so.10: cannot open shared object file')"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt_lean", raising=False)
    with pytest.raises(EngineLibraryError, match=r"cannot be loaded: libnvinfer_lean\.so\.10"):
        trt_library.import_library("tensorrt_lean")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Cuda Runtime (CUDA driver version is insufficient for CUDA)", EngineLibraryError),
        ("Error Code 1: Cuda Runtime (out of memory)", EngineLibraryError),
        ("Serialization assertion magicTag failed", PassportError),
    ],
)
def test_what_is_not_the_engines_fault_is_not_called_so(
    text: str, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = FakeDevice()
    library = FakeLibrary(device, AFFINE)

    monkeypatch.setattr(library, "refused", lambda _: library.say(text))
    with device.current(), pytest.raises(kind):
        trt_library.deserialised(library, AFFINE.plan, host_code=True)


def test_messages_of_other_threads_do_not_get_in_the_way() -> None:
    messages = trt_library.Messages()
    messages.add("mine,\n  over two lines")
    messages.add("and its effect")
    other = threading.Thread(target=messages.add, args=("another's",))
    other.start()
    other.join()
    assert messages.told() == "mine, over two lines / and its effect"
    messages.clear()
    assert messages.told() == "another's"  # better than nothing: TensorRT has threads of its own
    assert trt_library.Messages().told() == ""


def test_messages_do_not_pile_up() -> None:
    messages = trt_library.Messages()
    for number in range(10_000):
        messages.add(str(number))
    assert messages.told().endswith("9970")
    assert len(messages._said) < 100


def test_an_engine_that_may_bring_code_for_the_host_is_told_so() -> None:
    device = FakeDevice()
    library = FakeLibrary(device, AFFINE)
    with device.current():
        runtime, engine = trt_library.deserialised(library, AFFINE.plan, host_code=True)
        assert runtime.engine_host_code_allowed
        assert engine.num_io_tensors == 2
        del runtime, engine
