"""Runs in a child process with a real pycuda and the stub driver: `python real_pycuda.py NAME`.

The session is jetlift's own on jetlift's own CudaDevice; the engine behind it is the fake one,
which here reads and writes real addresses.
"""

from __future__ import annotations

import ctypes
import json
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from helpers.fake_engines import AFFINE, rows

from jetlift.runtime.errors import EngineLibraryError, JetliftError
from jetlift.runtime.session import cuda_graph
from jetlift.runtime.session.cuda import cuda_device
from jetlift.runtime.session.fake_tensorrt import FakeLibrary
from jetlift.runtime.session.tensorrt import TensorRTSession


class Block:
    """Memory at a real address."""

    def __init__(self, address: int) -> None:
        self._address = address

    def array(self, dtype: Any, shape: tuple[int, ...]) -> Any:
        count = int(np.prod(shape)) * dtype.itemsize
        raw = (ctypes.c_uint8 * count).from_address(self._address)
        return np.frombuffer(raw, dtype).reshape(shape)


class AtOnce:
    """Streams that do at once what is queued, as the stub driver does."""

    captured = None
    issued = 0

    def __init__(self, device: Any) -> None:
        self._device = device

    def noted(self, _name: str) -> None:
        pass

    def memory(self, size_bytes: int) -> Any:
        return self._device.memory(size_bytes)

    def block(self, address: int) -> Block:
        return Block(address)

    def stream_of(self, _handle: int) -> AtOnce:
        return self

    def queue(self, op: Any) -> None:
        op.work()


def stub() -> ctypes.CDLL:
    return ctypes.CDLL("libcuda.so.1")


def run(**how: bool) -> None:
    device = cuda_device()
    library = FakeLibrary(AtOnce(device), AFFINE)  # type: ignore[arg-type]
    session = TensorRTSession(library, device, AFFINE.plan, library="tensorrt", **how)
    with session:
        assert session.info.device == "Stub GPU"
        for seed, count in enumerate([2, 9, 1, 9]):
            x = rows(count, seed)
            np.testing.assert_array_equal(session.run({"x": x})["y"], 2 * x + 1)
        if how.get("overlap"):
            session.submit({"x": rows(1, 5)})
            session.submit({"x": rows(3, 6)})
            np.testing.assert_array_equal(session.collect()["y"], 2 * rows(1, 5) + 1)
            np.testing.assert_array_equal(session.collect()["y"], 2 * rows(3, 6) + 1)


def computes() -> dict[str, int]:
    for how in ({}, {"mapped": True}, {"overlap": True}):
        run(**how)
    return state()


def times() -> dict[str, Any]:
    """Runs with the GPU's clock around them; the stub says 0.25 ms between any two events."""
    device = cuda_device()
    library = FakeLibrary(AtOnce(device), AFFINE)  # type: ignore[arg-type]
    with TensorRTSession(library, device, AFFINE.plan, library="tensorrt") as session:
        told = session.run_timed({"x": rows(2)})[1]
        free = session.gpu_bytes
    return {**state(), "ms": told.compute_ms, "gpu_bytes": free}


def threads() -> dict[str, int]:
    """Opened in threads that end, closed in others; two at once."""
    problems: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(20):
                run(overlap=True)
        except BaseException as error:
            problems.append(error)
            raise

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert problems == []
    device = cuda_device()
    session = TensorRTSession(
        FakeLibrary(AtOnce(device), AFFINE),  # type: ignore[arg-type]
        device,
        AFFINE.plan,
        library="tensorrt",
    )
    session.run({"x": rows(1)})
    closer = threading.Thread(target=session.close)
    closer.start()
    closer.join()
    return state()


def captures() -> dict[str, int]:
    device = cuda_device()
    with device.current():
        stream = device.stream()
        graph = device.capture(stream, lambda: None)
        graph.launch(stream)
        graph.launch(stream)
        graph.free()

        def fails() -> None:
            raise EngineLibraryError("nothing of this can be captured")

        try:
            device.capture(stream, fails)
        except EngineLibraryError as error:
            assert "captured" in error.got  # noqa: PT017
        device.capture(stream, lambda: None).free()  # the stream can be captured from again
        try:
            cuda_graph.call("cuStreamEndCapture", stream.handle, ctypes.byref(ctypes.c_void_p()))
        except EngineLibraryError as error:
            assert error.got == "cuStreamEndCapture failed: stub error 901 (901)"  # noqa: PT017
        else:
            raise AssertionError("it ended a capture that never began")
        stream.free()
    return state()


def opens() -> dict[str, int]:
    cuda_device()
    return state()


def state() -> dict[str, int]:
    names = ("live", "depth", "retained", "launches")
    return {name: getattr(stub(), f"stub_{name}")() for name in names}


if __name__ == "__main__":
    try:
        told: Any = globals()[sys.argv[1]]()
    except JetliftError as raised:
        told = {"kind": type(raised).__name__, "text": str(raised)}
    print(json.dumps(told))  # noqa: T201
