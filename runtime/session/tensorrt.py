"""TensorRT on an NVIDIA GPU, driven with pycuda: engines built for workstations and boards.

Not run on a GPU so far. Its order of calls, lifetimes and errors are proven against
`jetlift.runtime.session.fake_tensorrt`, its names against the real bindings of TensorRT 10.3 to
11.4 and TensorRT-RTX 1.7; `pytest -m gpu` is what proves it on a GPU.

Rules:
    R1  The engine's passport is judged before this file sees the engine (session/__init__.py).
    R2  One stream per session. Feeds go into pinned memory, from there to the GPU, and results the
        same way back; memory is taken once and used again (trt_slot.py).
    R3  With `overlap` there are two slots and two more streams, which only copy: while one run
        computes, the next one's inputs and the last one's outputs are on their way. `submit` and
        `collect` are the two halves of `run`. Results come in the order of submission.
    R4  One thread may submit while another collects. Otherwise a session is one thread's at a time,
        whichever that is.
    R5  A run that fails leaves the session as it was, unless the GPU itself is in error: then every
        later run is refused, since CUDA's errors of that kind last as long as the process.
    R6  `run_timed` is `run` with the GPU's own clock around it (trt_clock.py).
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict, deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.runtime.errors import EngineLibraryError, InputError, PassportError, UsageError
from jetlift.runtime.session.base import EngineInfo
from jetlift.runtime.session.common import SessionBase, named_by
from jetlift.runtime.session.trt_clock import BEGUN, COMPUTED, FED, RETURNED, GpuClock
from jetlift.runtime.session.trt_library import (
    deserialised,
    failed,
    failures,
    forget_frames,
    import_library,
)
from jetlift.runtime.session.trt_ports import ports_of, profile_for
from jetlift.runtime.session.trt_runner import Runner
from jetlift.runtime.session.trt_slot import Slot, take_all

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jetlift.runtime.manifest import Part
    from jetlift.runtime.session.base import Array
    from jetlift.runtime.session.device import Device, Stream
    from jetlift.runtime.session.trt_clock import GpuRun, Mark
    from jetlift.runtime.session.trt_library import Library
    from jetlift.runtime.session.trt_runner import Key

_GRAPHS_PER_SLOT = 4  # each keeps an execution context, so it is not free


class TensorRTSession(SessionBase):
    """A TensorRT engine in memory, made by `from_engine`.

    Args:
        trt: The library: the package, or `fake_tensorrt.FakeLibrary`.
        device: The GPU: `cuda.cuda_device()`, or `fake_cuda.FakeDevice`.
        engine: The engine file's content.
        library: Name of the library.
        part: Where the engine is of a bundle, its part.
        cuda_graph: Whether to capture a CUDA graph per shape, from the second run on.
        mapped: Whether the GPU uses pinned memory in place, without copies (rule M3).
        overlap: Whether a second run may be submitted while one is under way (rule R3).
        host_code: Whether the engine may bring code that runs on the host, as version-compatible
            ones do; right only for an engine whose origin is known.

    Raises:
        PassportError: TensorRT refuses the engine, or its tensors are not the part's.
        EngineLibraryError: The GPU or TensorRT failed, or the engine has a type numpy lacks.
    """

    def __init__(
        self,
        trt: Any,  # noqa: ANN401 - the libraries ship no types
        device: Device,
        engine: Any,  # noqa: ANN401 - anything with the buffer protocol
        *,
        library: Library,
        part: Part | None = None,
        cuda_graph: bool = False,
        mapped: bool = False,
        overlap: bool = False,
        host_code: bool = False,
    ) -> None:
        self._trt, self._device = trt, device
        self._captures, self._mapped, self._overlap = cuda_graph, mapped, overlap
        self._slots: list[Slot] = []
        self._streams: list[Stream] = []
        self._runners: list[OrderedDict[Key, Runner]] = []
        self._under_way: deque[Slot] = deque()
        self._broken: EngineLibraryError | None = None
        self._clock: GpuClock | None = None
        with device.current():
            self._free_before = device.free_bytes()
            self._runtime, self._engine = deserialised(trt, engine, host_code=host_code)
            try:
                self._ports = ports_of(trt, self._engine)
                inputs, outputs = named_by(
                    part,
                    [port.spec for port in self._ports if port.is_input],
                    [port.spec for port in self._ports if not port.is_input],
                )
                info = EngineInfo(library, trt.__version__, "as typed", None, device.name)
                super().__init__(info, inputs, outputs)
                self._take_means()
            except BaseException as error:  # it goes on its way once nothing is held
                forget_frames(error)
                self._give_back()
                raise

    @classmethod
    def from_engine(
        cls,
        path: Path | str,
        *,
        library: Library,
        part: Part | None = None,
        cuda_graph: bool = False,
        mapped: bool = False,
        overlap: bool = False,
        host_code: bool = False,
    ) -> TensorRTSession:
        """Load an engine file. Its passport is not judged here (rule R1).

        The arguments are those of the class, with TensorRT and the GPU being this machine's.

        Raises:
            MissingPackageError: The library or pycuda is not installed.
            InputError: There is no such file.
            PassportError: TensorRT refuses the engine, or its tensors are not the part's.
            EngineLibraryError: The driver, the GPU or TensorRT failed.
        """
        if not Path(path).is_file():
            raise InputError(f"There is no file {path}", expected="An engine")
        if Path(path).stat().st_size == 0:
            raise PassportError(f"The engine {path} is empty", do="Build it again: jetlift build")
        from jetlift.runtime.session.cuda import cuda_device

        trt, device = import_library(library), cuda_device()
        return cls(
            trt, device, np.memmap(path, np.uint8, mode="r"), library=library, part=part,
            cuda_graph=cuda_graph, mapped=mapped, overlap=overlap, host_code=host_code,
        )  # fmt: skip

    @property
    def activation_bytes(self) -> int:
        """Memory of the device for intermediate tensors, of one execution context."""
        with failures(self._trt, "say what memory it needs"):
            return int(self._engine.device_memory_size_v2)

    @property
    def gpu_bytes(self) -> int:
        """Fall of the device's free memory since before the engine; others' use is in it."""
        with self._device.current():
            return self._free_before - self._device.free_bytes()

    def run_timed(self, feeds: Mapping[str, Array]) -> tuple[dict[str, Array], GpuRun]:
        """Run once, and tell what the GPU's own clock says of it (rule R6).

        Raises:
            UsageError: The feeds do not fit, as in `run`.
            EngineLibraryError: The library failed (rule R5).
        """
        self._check(feeds)
        with self._device.current():
            clock = self._clock = GpuClock(self._device)
        try:
            outputs = self._compute(feeds)
            with self._device.current():
                return outputs, clock.read()
        finally:
            self._clock = None
            with self._device.current(), contextlib.ExitStack() as stack:
                if self._broken is not None:
                    stack.enter_context(contextlib.suppress(EngineLibraryError))
                clock.free()

    def submit(self, feeds: Mapping[str, Array]) -> None:
        """Begin a run and come back while it computes (rule R3). The feeds are free at once.

        Raises:
            UsageError: The feeds do not fit, as in `run`; or as many runs are under way as fit.
            EngineLibraryError: The library failed, now or in an earlier run (rule R5).
        """
        self._check(feeds)
        self._submit(feeds)

    def collect(self) -> dict[str, Array]:
        """Wait for the oldest run under way and return its outputs, which are the caller's.

        Raises:
            UsageError: Nothing is under way, or the session is closed.
            EngineLibraryError: The run failed (rule R5).
        """
        if not self._under_way:
            raise UsageError("No run is under way", expected="A submit before each collect")
        slot = self._under_way[0]
        with self._device.current():
            try:
                slot.done.synchronize()
            except EngineLibraryError as error:
                self._broken = error
                self._under_way.popleft()
                raise
            outputs = {port.spec.name: slot.read(port) for port in self._ports if not port.is_input}
            slot.release()
        self._under_way.popleft()
        return outputs

    def _compute(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        if self._under_way:
            raise UsageError(
                f"{len(self._under_way)} submitted runs are under way",
                expected="None, for run",
                do="Collect them first",
            )
        self._submit(feeds)
        try:
            return self.collect()
        except BaseException:  # Ctrl-C while waiting: the run must not be the next one's result
            with self._device.current():
                self._settle()
            self._under_way.clear()
            raise

    def _submit(self, feeds: Mapping[str, Array]) -> None:
        if self._broken is not None:
            raise EngineLibraryError(
                f"The GPU failed in an earlier run: {self._broken.got}",
                do="Start the program again; the GPU's state does not outlast it",
            )
        profile = profile_for(self._ports, feeds)
        free = [slot for slot in self._slots if slot not in self._under_way]
        if not free:
            raise UsageError(
                f"{len(self._slots)} runs are under way, which is as many as fit",
                do="Collect one first, or open the session with overlap",
            )
        with self._device.current():
            try:
                self._start(free[0], feeds, profile)
            except BaseException:
                self._settle()
                raise
        self._under_way.append(free[0])

    def _start(self, slot: Slot, feeds: Mapping[str, Array], profile: int) -> None:
        """Queue a run on the streams, which are one without `overlap` (rules R2, R3)."""
        inward, compute, outward = self._streams * (1 if self._overlap else 3)
        key = []
        for port in self._ports:
            if port.is_input:
                array = feeds[port.spec.name]
                slot.reserve(port, array.shape)
                slot.write(port, array)
                key.append((array.shape, array.tobytes() if port.on_host else b""))
        runner = self._runner(slot, tuple(key))
        runner.bind(slot, tuple(key), profile, compute)
        self._mark(BEGUN, inward)
        for port in self._ports:
            if port.is_input:
                slot.copy_in(port, inward)
        if self._overlap:
            slot.moved.record(inward)
            compute.wait(slot.moved)
        self._mark(FED, compute)
        runner.enqueue(slot, compute)
        self._mark(COMPUTED, compute)
        if self._overlap:
            slot.computed.record(compute)
            outward.wait(slot.computed)
        for port in self._ports:
            if not port.is_input:
                slot.copy_out(port, outward)
        self._mark(RETURNED, outward)
        slot.done.record(outward)

    def _mark(self, mark: Mark, stream: Stream) -> None:
        if self._clock is not None:
            self._clock.mark(mark, stream)

    def _runner(self, slot: Slot, key: Key) -> Runner:
        """The context for these shapes: one for all, or one per slot and shape with graphs."""
        if not self._captures:
            return self._runners[0][()]
        runners = self._runners[self._slots.index(slot)]
        if key in runners:
            runners.move_to_end(key)
        else:
            if len(runners) == _GRAPHS_PER_SLOT:
                runners.popitem(last=False)[1].close()
            runners[key] = self._new_runner()
        return runners[key]

    def _new_runner(self) -> Runner:
        with failures(self._trt, "make an execution context"):
            context = self._engine.create_execution_context()
        if context is None:
            raise failed(self._trt, "make an execution context", do="Close other users of the GPU")
        return Runner(self._trt, context, self._ports, self._device, captures=self._captures)

    def _take_means(self) -> None:
        """Streams, slots and, without graphs, the one context."""
        self._streams = take_all([self._device.stream] * (3 if self._overlap else 1))
        for _ in range(2 if self._overlap else 1):
            self._slots.append(Slot(self._device, mapped=self._mapped))
            self._runners.append(OrderedDict())
        if not self._captures:
            self._runners[0][()] = self._new_runner()

    def _settle(self) -> None:
        """Wait for whatever is queued, so that its memory is free for use (rule R5)."""
        try:
            for stream in self._streams:
                stream.synchronize()
            for slot in self._slots:
                if slot not in self._under_way:
                    slot.release()
        except EngineLibraryError as error:
            self._broken = self._broken or error

    def _release(self) -> None:
        with self._device.current():
            self._settle()
            self._under_way.clear()
            self._give_back()

    def _give_back(self) -> None:
        """Free everything, what leans on something before that; each is tried."""
        runners = [runner for each in self._runners for runner in each.values()]
        try:
            with contextlib.ExitStack() as stack:  # the last one entered goes first
                if self._broken is not None:  # the GPU refuses this too, and the reason is told
                    stack.enter_context(contextlib.suppress(EngineLibraryError))
                for stream in self._streams:
                    stack.callback(stream.free)
                for slot in self._slots:
                    stack.callback(slot.close)
                for runner in runners:
                    stack.callback(runner.close)
        finally:
            self._streams, self._slots, self._runners = [], [], []
            self._engine = self._runtime = None
