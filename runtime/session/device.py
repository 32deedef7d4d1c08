"""What a TensorRT session needs of a GPU: memory, streams, events and graphs.

`jetlift.runtime.session.cuda` does it with pycuda, `jetlift.runtime.session.fake_cuda` with numpy,
which keeps account of every call. Nothing else is asked of either.

Rules:
    G1  Everything here is called within `Device.current()`, in whatever thread.
    G2  Copies and launches are queued and return at once. Until an event that was recorded after
        them is over, nobody touches or frees the memory they read and write.
    G3  What is taken is given back by `free`, once. Nothing waits for garbage collection, which
        may come in a thread without the GPU's context.
    G4  Addresses are multiples of 256 bytes, as TensorRT asks (`setTensorAddress` in
        NVIDIA/TensorRT@v10.3.0:include/NvInferRuntime.h).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    import numpy as np

    from jetlift.runtime.session.base import Array


class Memory(Protocol):
    """Memory of the device."""

    @property
    def address(self) -> int:
        """Where it begins, as the device counts."""

    @property
    def size_bytes(self) -> int:
        """How much it holds."""

    def free(self) -> None:
        """Give it back (rules G2, G3)."""


class HostMemory(Protocol):
    """Pinned memory of the host, which the device copies from and to without the processor."""

    @property
    def address(self) -> int:
        """Where it begins, as the processor counts."""

    @property
    def device_address(self) -> int:
        """Where it begins, as the device counts; only of memory taken with `mapped`."""

    @property
    def size_bytes(self) -> int:
        """How much it holds."""

    def view(self, dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> Array:
        """Its beginning as an array, for use at once (rule G2)."""

    def free(self) -> None:
        """Give it back (rules G2, G3)."""


class Stream(Protocol):
    """A queue of work for the device."""

    @property
    def handle(self) -> int:
        """The CUstream, as a number."""

    def wait(self, event: Event) -> None:
        """Let what is queued from now on begin after an event, without stopping the host."""

    def synchronize(self) -> None:
        """Wait until everything queued is done."""

    def free(self) -> None:
        """Give it back. What is queued is done first."""


class Event(Protocol):
    """A mark in a stream."""

    def record(self, stream: Stream) -> None:
        """Put the mark behind everything queued so far; an earlier mark is forgotten."""

    def synchronize(self) -> None:
        """Wait until the stream reaches the mark."""

    def free(self) -> None:
        """Give it back."""


class Stamp(Protocol):
    """A mark in a stream that notes when the device passed it."""

    def record(self, stream: Stream) -> None:
        """Put the mark behind everything queued so far; an earlier mark is forgotten."""

    def since_ms(self, earlier: Stamp) -> float:
        """Milliseconds from an earlier mark of this device, once both are passed."""

    def free(self) -> None:
        """Give it back."""


class Graph(Protocol):
    """Work that was captured, to be launched again and again with the same addresses."""

    def launch(self, stream: Stream) -> None:
        """Queue it."""

    def free(self) -> None:
        """Give it back (rule G2)."""


class Device(Protocol):
    """One GPU.

    Every method raises EngineLibraryError where the device refuses.
    """

    @property
    def name(self) -> str:
        """As its driver names it."""

    def current(self) -> AbstractContextManager[None]:
        """Make its context the thread's own for as long as the block lasts (rule G1)."""

    def stream(self) -> Stream:
        """A stream that waits for no other user of the device."""

    def event(self) -> Event:
        """An event."""

    def stamp(self) -> Stamp:
        """An event that takes the time."""

    def free_bytes(self) -> int:
        """Memory that no user of the device holds now."""

    def memory(self, size_bytes: int) -> Memory:
        """Take memory of the device, at least one byte."""

    def host_memory(self, size_bytes: int, *, mapped: bool) -> HostMemory:
        """Take pinned memory of the host, at least one byte.

        Args:
            size_bytes: How much.
            mapped: Whether the device is to read and write it where it lies.
        """

    def copy_in(self, target: Memory, source: HostMemory, size_bytes: int, stream: Stream) -> None:
        """Queue a copy of the first bytes from the host to the device."""

    def copy_out(self, target: HostMemory, source: Memory, size_bytes: int, stream: Stream) -> None:
        """Queue a copy of the first bytes from the device to the host."""

    def capture(self, stream: Stream, work: Callable[[], None]) -> Graph:
        """Note what `work` queues on a stream instead of doing it.

        What `work` raises ends the capture and is raised.
        """
