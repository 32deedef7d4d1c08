"""A GPU by way of pycuda: context, pinned memory, streams, events.

Rules, with the facts of inducer/pycuda@v2026.1:src/cpp/cuda.hpp behind them:
    C1  The primary context is retained once per process and stays, as the CUDA runtime's own hold
        on it does; so TensorRT, PyTorch and every thread share one. A second retained context
        would be of no use: memory can be freed only under the context object it was taken under
        (`scoped_context_activation` compares the objects).
    C2  It is pushed before each use and popped after, in the thread that uses it. A thread that
        ends with a context still pushed aborts the process (`~context_stack`).
    C3  Memory is freed by its own `free` under the context, in whatever thread. Left to garbage
        collection without it, pycuda gives a warning and keeps the memory.
    C4  Streams are non-blocking: they do not wait for the legacy default stream, on which other
        users of the device may work.
    C5  Before the process ends the context is detached. Left to its destructor, pycuda calls
        cuCtxDetach on it, which is not for primary contexts, and complains on stderr.
    C6  pycuda's errors become EngineLibraryError in `failures`, and nowhere else.
"""

from __future__ import annotations

import atexit
import contextlib
import math
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.runtime.errors import EngineLibraryError, MissingPackageError
from jetlift.runtime.session import cuda_graph

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from jetlift.runtime.session.base import Array
    from jetlift.runtime.session.device import (
        Device,
        Event,
        Graph,
        HostMemory,
        Memory,
        Stamp,
        Stream,
    )

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING (rule C4)
_lock = threading.Lock()
_devices: dict[int, CudaDevice] = {}


def cuda_device(ordinal: int = 0) -> Device:
    """The GPU of an ordinal, the same object at each call (rule C1).

    Args:
        ordinal: As CUDA counts; CUDA_VISIBLE_DEVICES decides which GPUs it counts.

    Raises:
        MissingPackageError: pycuda is not installed.
        EngineLibraryError: pycuda cannot load the driver, or there is no such GPU.
    """
    with _lock:
        if ordinal not in _devices:
            driver = pycuda_driver()
            with failures("start CUDA", do="See: jetlift doctor"):
                driver.init()
                found = driver.Device(ordinal)
                device = CudaDevice(found.name(), found.retain_primary_context())
            atexit.register(device.leave)
            _devices[ordinal] = device
        return _devices[ordinal]


def pycuda_driver() -> ModuleType:
    """The module `pycuda.driver`.

    Raises:
        MissingPackageError: pycuda is not installed.
        EngineLibraryError: It is, and cannot load CUDA's driver, which it is linked to.
    """
    try:
        import pycuda.driver
    except ModuleNotFoundError as error:
        if error.name not in ("pycuda", "pycuda.driver"):
            raise
        raise MissingPackageError(
            "pycuda", extra="cuda", purpose="to run engines on an NVIDIA GPU"
        ) from error
    except ImportError as error:
        raise EngineLibraryError(
            f"pycuda is installed and cannot load CUDA's driver: {error}",
            expected="libcuda.so.1 of NVIDIA's driver, no older than the CUDA that built pycuda",
            do="Install the driver (a Jetson has it from JetPack), or give the container the GPU "
            "with: docker run --gpus all, on a Jetson --runtime nvidia",
        ) from error
    return pycuda.driver  # type: ignore[no-any-return]


@contextlib.contextmanager
def failures(doing: str, *, do: str = "") -> Iterator[None]:
    """Translate pycuda's exceptions: the one place for it (rule C6)."""
    driver = pycuda_driver()
    try:
        yield
    except driver.MemoryError as error:
        raise EngineLibraryError(
            f"The GPU's memory is full: could not {doing}: {error}",
            do="Close other users of the GPU, or build for smaller shapes",
        ) from error
    except driver.Error as error:
        raise EngineLibraryError(f"CUDA could not {doing}: {error}", do=do) from error


class CudaDevice:
    """`jetlift.runtime.session.device.Device` with pycuda."""

    def __init__(self, name: str, context: Any) -> None:  # noqa: ANN401 - pycuda ships no types
        self._name, self._context, self._driver = name, context, pycuda_driver()

    @property
    def name(self) -> str:
        """As its driver names it."""
        return self._name

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """Push the context, and pop it at the end (rule C2)."""
        with failures("make the GPU's context current"):
            self._context.push()
        try:
            yield
        finally:
            self._context.pop()

    def leave(self) -> None:
        """Let go of the context for good, when the process ends (rule C5)."""
        with contextlib.suppress(self._driver.Error):  # a GPU in error: nothing is left to do
            self._context.push()
            self._context.detach()

    def stream(self) -> Stream:
        """A non-blocking stream (rule C4)."""
        with failures("make a stream"):
            return _Stream(self._driver.Stream(_NON_BLOCKING))

    def event(self) -> Event:
        """An event that takes no time of day."""
        with failures("make an event"):
            return _Event(self._driver.Event(self._driver.event_flags.DISABLE_TIMING))

    def stamp(self) -> Stamp:
        """An event that takes the time of day."""
        with failures("make an event"):
            return _Stamp(self._driver.Event())

    def free_bytes(self) -> int:
        """What cuMemGetInfo tells as free."""
        with failures("say how much memory is free"):
            return int(self._driver.mem_get_info()[0])

    def memory(self, size_bytes: int) -> Memory:
        """Take memory of the GPU; the driver aligns it to at least 256 bytes."""
        with failures(f"take {size_bytes} bytes of the GPU's memory"):
            return _Memory(self._driver.mem_alloc(max(size_bytes, 1)), size_bytes)

    def host_memory(self, size_bytes: int, *, mapped: bool) -> HostMemory:
        """Take pinned memory of the host, in whole pages."""
        flags = self._driver.host_alloc_flags.DEVICEMAP if mapped else 0
        with failures(f"pin {size_bytes} bytes of memory"):
            array = self._driver.pagelocked_empty(max(size_bytes, 1), np.uint8, mem_flags=flags)
        return _HostMemory(array, size_bytes)

    def copy_in(self, target: Memory, source: HostMemory, size_bytes: int, stream: Stream) -> None:
        """Queue a copy from the host to the GPU."""
        if size_bytes:
            with failures("copy to the GPU"):
                self._driver.memcpy_htod_async(
                    target.address, source.view(_BYTE, (size_bytes,)), _inner(stream)
                )

    def copy_out(self, target: HostMemory, source: Memory, size_bytes: int, stream: Stream) -> None:
        """Queue a copy from the GPU to the host."""
        if size_bytes:
            with failures("copy from the GPU"):
                self._driver.memcpy_dtoh_async(
                    target.view(_BYTE, (size_bytes,)), source.address, _inner(stream)
                )

    def capture(self, stream: Stream, work: Callable[[], None]) -> Graph:
        """Capture a graph, which pycuda cannot (cuda_graph.py)."""
        return cuda_graph.capture(stream, work)


_BYTE = np.dtype(np.uint8)


def _inner(stream: Stream) -> Any:  # noqa: ANN401
    if not isinstance(stream, _Stream):
        raise TypeError(f"not a stream of this device: {stream!r}")
    return stream.inner


class _Stream:
    def __init__(self, inner: Any) -> None:  # noqa: ANN401
        self.inner = inner
        self.handle: int = inner.handle

    def wait(self, event: Event) -> None:
        if not isinstance(event, _Event):
            raise TypeError(f"not an event of this device: {event!r}")
        with failures("queue a wait"):
            self.inner.wait_for_event(event.inner)

    def synchronize(self) -> None:
        with failures("finish what was queued"):
            self.inner.synchronize()

    def free(self) -> None:
        self.inner = None  # the last reference: pycuda destroys it here, under the context


class _Event:
    def __init__(self, inner: Any) -> None:  # noqa: ANN401
        self.inner = inner

    def record(self, stream: Stream) -> None:
        with failures("record an event"):
            self.inner.record(_inner(stream))

    def synchronize(self) -> None:
        with failures("finish a run"):
            self.inner.synchronize()

    def free(self) -> None:
        self.inner = None  # as with a stream


class _Stamp:
    def __init__(self, inner: Any) -> None:  # noqa: ANN401
        self.inner = inner

    def record(self, stream: Stream) -> None:
        with failures("record an event"):
            self.inner.record(_inner(stream))

    def since_ms(self, earlier: Stamp) -> float:
        if not isinstance(earlier, _Stamp):
            raise TypeError(f"not a stamp of this device: {earlier!r}")
        with failures("tell the time between events"):
            return float(self.inner.time_since(earlier.inner))

    def free(self) -> None:
        self.inner = None  # as with a stream


class _Memory:
    def __init__(self, allocation: Any, size_bytes: int) -> None:  # noqa: ANN401
        self._allocation, self.size_bytes, self.address = allocation, size_bytes, int(allocation)

    def free(self) -> None:
        with failures("give memory of the GPU back"):
            self._allocation.free()


class _HostMemory:
    def __init__(self, array: Any, size_bytes: int) -> None:  # noqa: ANN401
        self._array, self.size_bytes = array, size_bytes
        self.address: int = array.ctypes.data

    @property
    def device_address(self) -> int:
        with failures("map pinned memory"):
            return int(self._array.base.get_device_pointer())

    def view(self, dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> Array:
        count = math.prod(shape) * dtype.itemsize
        array: Array = self._array[:count]
        return array.view(dtype).reshape(shape)

    def free(self) -> None:
        allocation, self._array = self._array.base, None
        with failures("give pinned memory back"):
            allocation.free()
