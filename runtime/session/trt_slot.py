"""The memory of one run under way.

Rules:
    M1  A tensor's memory holds the largest size seen so far, and smaller ones use its beginning: a
        model of fixed shapes takes memory once, one of many shapes never more than its largest.
    M2  Whenever an address changes, `generation` does: what was bound or captured before is void.
    M3  Without `mapped` a tensor has pinned memory of the host and memory of the device; with it
        the device uses the pinned memory where it lies, and nothing is copied. That pays where
        both are one memory, as on a Jetson; behind a PCIe bus it does not.
"""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from jetlift.runtime.errors import EngineLibraryError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jetlift.runtime.session.base import Array
    from jetlift.runtime.session.device import Device, Event, HostMemory, Memory, Stream
    from jetlift.runtime.session.trt_ports import Port


class Slot:
    """Memory for one run at a time, and the event that says when it is done.

    Args:
        device: Whose memory it takes.
        mapped: Whether the device uses the host's memory (rule M3).
    """

    def __init__(self, device: Device, *, mapped: bool) -> None:
        self._device, self._mapped = device, mapped
        self._host: dict[str, HostMemory] = {}
        self._memory: dict[str, Memory] = {}
        self._retired: list[Memory | HostMemory] = []
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.generation = 0
        events: list[Event] = take_all([device.event] * 3)
        self.moved, self.computed, self.done = events

    def reserve(self, port: Port, shape: tuple[int, ...]) -> int:
        """Have memory for a tensor (rule M1) and note its shape.

        Returns:
            Its address, of the kind the engine wants it in.

        Raises:
            EngineLibraryError: There is no memory left.
        """
        name, size_bytes = port.spec.name, size_of(port, shape)
        self.shapes[name] = shape
        self._reserve_host(name, size_bytes, mapped=self._mapped and not port.on_host)
        if port.on_host:
            return self._host[name].address
        return self._reserve_device(name, size_bytes)

    def reserve_on_device(self, port: Port, size_bytes: int) -> int:
        """Have memory of the device for an output whose shape TensorRT does not tell yet.

        It is called while earlier work may still use the old memory, which is kept until `release`.

        Raises:
            EngineLibraryError: There is no memory left.
        """
        if self._mapped:
            self._reserve_host(port.spec.name, size_bytes, mapped=True)
        return self._reserve_device(port.spec.name, size_bytes)

    def _reserve_host(self, name: str, size_bytes: int, *, mapped: bool) -> None:
        if name not in self._host or self._host[name].size_bytes < size_bytes:
            new = self._device.host_memory(size_bytes, mapped=mapped)
            self._replace(self._host.get(name))
            self._host[name] = new

    def _reserve_device(self, name: str, size_bytes: int) -> int:
        if self._mapped:
            return self._host[name].device_address
        if name not in self._memory or self._memory[name].size_bytes < size_bytes:
            new = self._device.memory(size_bytes)
            self._replace(self._memory.get(name))
            self._memory[name] = new
        return self._memory[name].address

    def _replace(self, old: Memory | HostMemory | None) -> None:
        self.generation += 1  # M2
        if old is not None:
            self._retired.append(old)

    def write(self, port: Port, array: Array) -> None:
        """Put a feed into the host's memory; any layout of it will do."""
        np.copyto(self._host[port.spec.name].view(array.dtype, array.shape), array)

    def copy_in(self, port: Port, stream: Stream) -> None:
        """Queue the way to the device, where there is one."""
        name = port.spec.name
        if name in self._memory:
            size_bytes = size_of(port, self.shapes[name])
            self._device.copy_in(self._memory[name], self._host[name], size_bytes, stream)

    def copy_out(self, port: Port, stream: Stream) -> None:
        """Queue the way back to the host, where there is one."""
        name = port.spec.name
        size_bytes = size_of(port, self.shapes[name])
        self._reserve_host(name, size_bytes, mapped=self._mapped)
        if name in self._memory:
            self._device.copy_out(self._host[name], self._memory[name], size_bytes, stream)

    def read(self, port: Port) -> Array:
        """A copy of an output that belongs to the caller, once the run is done."""
        name = port.spec.name
        array: Array = self._host[name].view(np.dtype(port.spec.dtype), self.shapes[name]).copy()
        return array

    def release(self) -> None:
        """Free what was replaced, once nothing is under way."""
        while self._retired:
            self._retired.pop().free()

    def close(self) -> None:
        """Free everything, once nothing is under way. One failure keeps nothing else from it."""
        events = [self.moved, self.computed, self.done]
        held: list[_Freed] = [*events, *self._retired, *self._memory.values(), *self._host.values()]
        self._retired, self._memory, self._host = [], {}, {}
        with contextlib.ExitStack() as stack:
            for item in held:
                stack.callback(item.free)


class _Freed(Protocol):
    def free(self) -> None: ...


_Freeable = TypeVar("_Freeable", bound=_Freed)


def take_all(makers: Sequence[Callable[[], _Freeable]]) -> list[_Freeable]:
    """Take several things or none: where one cannot be had, those before it are given back."""
    taken: list[_Freeable] = []
    with contextlib.ExitStack() as stack:
        for make in makers:
            taken.append(make())
            stack.callback(taken[-1].free)
        stack.pop_all()
    return taken


def size_of(port: Port, shape: tuple[int, ...]) -> int:
    """Bytes of a tensor.

    Raises:
        EngineLibraryError: The shape is not known to its end.
    """
    if any(axis < 0 for axis in shape):
        raise EngineLibraryError(
            f"TensorRT told {list(shape)} as the shape of {port.spec.name}",
            expected="A number for every axis",
        )
    return math.prod(shape) * np.dtype(port.spec.dtype).itemsize
