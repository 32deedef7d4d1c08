"""What a device without a GPU hands out beside its streams: memory, events, stamps and graphs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jetlift.runtime.session.base import Array
    from jetlift.runtime.session.device import Stamp, Stream
    from jetlift.runtime.session.fake_cuda import FakeDevice, FakeStream

_FRESH, _FREED = 0xCD, 0xDD


class Misuse(AssertionError):  # noqa: N818 - it says what its raiser did
    """A rule of jetlift.runtime.session.device was broken."""


class Op(NamedTuple):
    """Something queued: what it does and which memory it needs."""

    work: Callable[[], None]
    needs: tuple[FakeBlock, ...]
    takes_ms: float = 1.0


class FakeBlock:
    """Memory of the device or the host."""

    def __init__(self, device: FakeDevice, size_bytes: int, addresses: Sequence[int]) -> None:
        self._device, self.size_bytes, self.addresses = device, size_bytes, addresses
        self.data = np.full(max(size_bytes, 1), _FRESH, np.uint8)
        self.pending, self.freed, self.of_host = 0, False, True

    @property
    def address(self) -> int:
        """Where it begins."""
        return self.addresses[0]

    @property
    def device_address(self) -> int:
        """Where it begins for the device."""
        if len(self.addresses) < 2:
            raise Misuse("this memory is not mapped")
        return self.addresses[1]

    def view(self, dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> Array:
        """Its beginning as an array, unless work that needs it is queued (rule G2)."""
        if self.freed:
            raise Misuse("freed memory is looked at")
        if self.pending:
            raise Misuse("memory is looked at while the device may be at work on it")
        return self.array(dtype, shape)

    def array(self, dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> Array:
        """Its beginning as an array, for the device itself."""
        count = math.prod(shape) * dtype.itemsize
        if count > self.size_bytes:
            raise Misuse(f"{count} bytes are looked for in memory of {self.size_bytes}")
        return self.data[:count].view(dtype).reshape(shape)

    def free(self) -> None:
        """Give it back and spoil its content."""
        if self.pending:
            raise Misuse("memory is freed while the device may be at work on it")
        self._device.drop(self)
        self.freed = True
        self.data.fill(_FREED)


class FakeEvent:
    """A mark in a stream."""

    def __init__(self, device: FakeDevice) -> None:
        self._device = device
        self.mark: tuple[FakeStream, int] | None = None

    def record(self, stream: Stream) -> None:
        """Mark where the stream is now."""
        self._device.called("record")
        queue = self._device.stream_of(stream.handle)
        self.mark = queue, queue.issued

    def synchronize(self) -> None:
        """Do everything up to the mark."""
        self._device.called("synchronize")
        if self.mark is None:
            raise Misuse("an event that was never recorded is waited for")
        stream, mark = self.mark
        stream.run_until(mark)

    def free(self) -> None:
        """Give it back."""
        self._device.drop(self)


class FakeStamp:
    """A mark that notes the device's clock when it is passed."""

    def __init__(self, device: FakeDevice) -> None:
        self._device = device
        self.passed_ms: float | None = None

    def record(self, stream: Stream) -> None:
        """Queue the note."""
        self._device.called("record")
        self.passed_ms = None

        def work() -> None:
            self.passed_ms = self._device.now_ms

        self._device.stream_of(stream.handle).queue(Op(work, (), 0.0))

    def since_ms(self, earlier: Stamp) -> float:
        """The clock's way between both."""
        self._device.called("since_ms")
        if not isinstance(earlier, FakeStamp):
            raise Misuse("the time is asked for between marks of two devices")
        if self.passed_ms is None or earlier.passed_ms is None:
            raise Misuse("the time is asked for before both marks are passed")
        return self.passed_ms - earlier.passed_ms

    def free(self) -> None:
        """Give it back."""
        self._device.drop(self)


class FakeGraph:
    """Captured work."""

    def __init__(self, device: FakeDevice, ops: Sequence[Op]) -> None:
        self._device, self._ops = device, ops

    def launch(self, stream: Stream) -> None:
        """Queue all of it."""
        self._device.called("launch")
        for op in self._ops:
            if any(block.freed for block in op.needs):
                raise Misuse("a graph is launched on memory that is freed")
            self._device.stream_of(stream.handle).queue(op)

    def free(self) -> None:
        """Give it back."""
        self._device.drop(self)
