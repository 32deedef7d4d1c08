"""A device without a GPU, which computes with numpy and holds its user to the rules of device.py.

Its addresses are numbers that are never used twice, so every use after free is seen. What is
queued is done as late as it can be, or at once, or at times drawn by chance: whoever reads a result
before it is there, or writes over an input before it was read, gets `Misuse` or a wrong number.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Literal, TypeVar

from jetlift.runtime.session.fake_marks import (
    FakeBlock,
    FakeEvent,
    FakeGraph,
    FakeStamp,
    Misuse,
    Op,
)

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

    from jetlift.runtime.session.device import Event, Graph, HostMemory, Memory, Stamp, Stream

__all__ = ["FakeBlock", "FakeDevice", "FakeStream", "Misuse", "Op"]

_ALIGNMENT = 256
_LOGGED_CALLS = 1000
_TOTAL_BYTES = 2**30
_T = TypeVar("_T")


class FakeDevice:
    """`jetlift.runtime.session.device.Device` in numpy.

    Args:
        pace: `lazy`: work is done when somebody waits for it; `eager`: as soon as it is queued; or
            a generator that draws when.
        delay_s: How long each piece of work takes.

    Attributes:
        before_call: Called with the name of each call of the device; what it raises, that raises.
        live: Everything taken and not given back: memory, streams, events, graphs.
        log: Names of the latest calls, oldest first.
        taken: How often each kind of thing was taken.
        done: Pieces of work done so far.
        now_ms: Its clock, which each piece of work moves on by what it takes.
    """

    name = "fake GPU"

    def __init__(
        self, *, pace: Literal["lazy", "eager"] | random.Random = "lazy", delay_s: float = 0.0
    ) -> None:
        self.pace, self.delay_s = pace, delay_s
        self.before_call: Callable[[str], None] = lambda _: None
        self.live: list[object] = []
        self.log: deque[str] = deque(maxlen=_LOGGED_CALLS)
        self.taken: Counter[str] = Counter()
        self.done, self.now_ms = 0, 0.0
        self.lock = threading.RLock()
        self._blocks: dict[int, FakeBlock] = {}
        self._next = _ALIGNMENT
        self._streams: dict[int, FakeStream] = {}
        self._entered = threading.local()

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """Count how deep the thread is in."""
        self._entered.depth = getattr(self._entered, "depth", 0) + 1
        try:
            yield
        finally:
            self._entered.depth -= 1

    def called(self, name: str) -> None:
        """Note a call of the device's own."""
        self.noted(name)
        self.before_call(name)

    def noted(self, name: str) -> None:
        """Note a call, which has to be within `current()` (rule G1)."""
        if getattr(self._entered, "depth", 0) == 0:
            raise Misuse(f"{name} outside current()")
        with self.lock:
            self.log.append(name)

    def stream(self) -> Stream:
        """A queue."""
        self.called("stream")
        stream = FakeStream(self, self._address(1))
        self._streams[stream.handle] = stream
        return self._keep("stream", stream)

    def event(self) -> Event:
        """An event."""
        self.called("event")
        return self._keep("event", FakeEvent(self))

    def stamp(self) -> Stamp:
        """An event that notes `now_ms`."""
        self.called("stamp")
        return self._keep("stamp", FakeStamp(self))

    def free_bytes(self) -> int:
        """A GiB less what is taken of the device's memory."""
        self.called("free_bytes")
        return _TOTAL_BYTES - sum(
            thing.size_bytes
            for thing in self.live
            if isinstance(thing, FakeBlock) and not thing.of_host
        )

    def memory(self, size_bytes: int) -> Memory:
        """Memory of the device, filled with nonsense."""
        self.called("memory")
        return self._keep("memory", self._block(size_bytes, mapped=False, of_host=False))

    def host_memory(self, size_bytes: int, *, mapped: bool) -> HostMemory:
        """Memory of the host, filled with nonsense."""
        self.called("host_memory")
        return self._keep("host_memory", self._block(size_bytes, mapped=mapped))

    def copy_in(self, target: Memory, source: HostMemory, size_bytes: int, stream: Stream) -> None:
        """Queue a copy."""
        self.called("copy_in")
        self._copy(self.block(target.address), self.block(source.address), size_bytes, stream)

    def copy_out(self, target: HostMemory, source: Memory, size_bytes: int, stream: Stream) -> None:
        """Queue a copy."""
        self.called("copy_out")
        self._copy(self.block(target.address), self.block(source.address), size_bytes, stream)

    def capture(self, stream: Stream, work: Callable[[], None]) -> Graph:
        """Collect what `work` queues."""
        self.called("capture")
        queue = self.stream_of(stream.handle)
        queue.captured = []
        try:
            work()
            return self._keep("graph", FakeGraph(self, queue.captured))
        finally:
            queue.captured = None

    def block(self, address: int) -> FakeBlock:
        """The live memory that begins at an address, of the host or the device."""
        found = self._blocks.get(address)
        if found is None or found.freed:
            raise Misuse(f"no memory begins at {address:#x}: it was freed, or never was")
        return found

    def stream_of(self, handle: int) -> FakeStream:
        """The live stream of a handle."""
        if handle not in self._streams:
            raise Misuse(f"there is no stream {handle:#x}")
        return self._streams[handle]

    def progress(self) -> None:
        """Do what the device's pace says."""
        with self.lock:
            streams = list(self._streams.values())
            if self.pace == "eager":
                for stream in streams:
                    stream.run_until(stream.issued)
            elif self.pace != "lazy":
                for stream in self.pace.sample(streams, len(streams)):
                    ahead = self.pace.randint(0, stream.issued - stream.finished)
                    stream.run_until(stream.finished + ahead)

    def drop(self, thing: object) -> None:
        """Note that something was given back (rule G3)."""
        self.called("free")
        with self.lock:
            if thing not in self.live:
                raise Misuse(f"{type(thing).__name__} was given back twice")
            self.live.remove(thing)
            if isinstance(thing, FakeStream):
                thing.run_until(thing.issued)
                del self._streams[thing.handle]
            if isinstance(thing, FakeBlock):  # its addresses are never used again
                for address in thing.addresses:
                    del self._blocks[address]

    def _copy(self, to: FakeBlock, of: FakeBlock, size_bytes: int, stream: Stream) -> None:
        if size_bytes > min(to.size_bytes, of.size_bytes):
            raise Misuse(f"a copy of {size_bytes} bytes is larger than its memory")

        def work() -> None:
            to.data[:size_bytes] = of.data[:size_bytes]

        self.stream_of(stream.handle).queue(Op(work, (to, of)))

    def _block(self, size_bytes: int, *, mapped: bool, of_host: bool = True) -> FakeBlock:
        addresses = [self._address(size_bytes) for _ in range(2 if mapped else 1)]
        block = FakeBlock(self, size_bytes, addresses)
        block.of_host = of_host
        self._blocks.update(dict.fromkeys(addresses, block))
        return block

    def _address(self, size_bytes: int) -> int:
        with self.lock:
            address = self._next
            self._next += -(-max(size_bytes, 1) // _ALIGNMENT) * _ALIGNMENT
        return address

    def _keep(self, kind: str, thing: _T) -> _T:
        with self.lock:
            self.taken[kind] += 1
            self.live.append(thing)
        return thing


class FakeStream:
    """A queue of work."""

    def __init__(self, device: FakeDevice, handle: int) -> None:
        self._device, self.handle = device, handle
        self.captured: list[Op] | None = None
        self._queued: deque[Op] = deque()
        self.issued = self.finished = 0

    def queue(self, op: Op) -> None:
        """Queue work, or collect it where a graph is captured."""
        if self.captured is not None:
            self.captured.append(op)
            return
        with self._device.lock:
            for block in op.needs:
                block.pending += 1
            self._queued.append(op)
            self.issued += 1
        self._device.progress()

    def run_until(self, mark: int) -> None:
        """Do everything up to a mark."""
        with self._device.lock:
            while self.finished < mark:
                work, needs, takes_ms = self._queued.popleft()
                self.finished += 1
                if self._device.delay_s:
                    time.sleep(self._device.delay_s)
                for block in needs:
                    block.pending -= 1
                    if block.freed:
                        raise Misuse("work was queued on memory that is freed")
                self._device.now_ms += takes_ms
                work()
                self._device.done += 1

    def wait(self, event: Event) -> None:
        """Queue a wait for an event."""
        self._device.called("wait")
        if not isinstance(event, FakeEvent) or event.mark is None:
            raise Misuse("a wait for an event that was never recorded")
        stream, mark = event.mark
        self.queue(Op(lambda: stream.run_until(mark), (), 0.0))

    def synchronize(self) -> None:
        """Do everything queued."""
        self._device.called("synchronize")
        if self.captured is not None:
            raise Misuse("a stream is waited for while a graph is captured from it")
        self.run_until(self.issued)

    def free(self) -> None:
        """Give it back."""
        self._device.drop(self)
