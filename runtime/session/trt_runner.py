"""One execution context of a TensorRT engine: what is bound to it, and the graph captured from it.

Rules:
    X1  Shapes and addresses are told to TensorRT when they change, and only then.
    X2  An output whose shape depends on the data gets its memory during the run, from the slot. Its
        allocator is set once per context: the bindings keep a reference for each time it is set
        (`py::keep_alive` in NVIDIA/TensorRT@v10.3.0:python/src/infer/pyCore.cpp).
    X3  A graph is captured at the second run with the same shapes and addresses: TensorRT brings
        its own state up to date in the first, which is an ordinary one.
    X4  A context that a graph was captured from serves these shapes and addresses alone. Others
        get a context of their own, since a captured graph reads what its context holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jetlift.runtime.errors import EngineLibraryError, UsageError
from jetlift.runtime.session.trt_library import failed, failures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jetlift.runtime.session.device import Device, Graph, Stream
    from jetlift.runtime.session.trt_ports import Port
    from jetlift.runtime.session.trt_slot import Slot

GUARDED = {
    "IExecutionContext.is_stream_capturable": "TensorRT-RTX since 1.2; elsewhere the capture tells",
}

Key = tuple[tuple[tuple[int, ...], bytes], ...]


class Runner:
    """An execution context.

    Args:
        trt: The library.
        context: An IExecutionContext of the engine's, which is closed with the runner.
        ports: The engine's inputs and outputs.
        device: What computes.
        captures: Whether to capture a graph (rules X3, X4).
    """

    def __init__(
        self,
        trt: Any,  # noqa: ANN401 - the libraries ship no types
        context: Any,  # noqa: ANN401
        ports: Sequence[Port],
        device: Device,
        *,
        captures: bool,
    ) -> None:
        self._trt, self._device, self._captures = trt, device, captures
        self._inputs = [port for port in ports if port.is_input]
        self._outputs = [port for port in ports if not port.is_input]
        self._context = context
        self._bound: tuple[int, int, Key] | None = None
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._late: dict[str, Any] = {}
        self._warm = False
        self._graph: Graph | None = None

    def bind(self, slot: Slot, key: Key, profile: int, stream: Stream) -> None:
        """Tell TensorRT profile, input shapes and all addresses (rule X1).

        Args:
            slot: Its inputs are reserved and written.
            key: Shapes of the inputs, with the values of those that shapes follow from.
            profile: The engine's optimisation profile for them.
            stream: What the computation is going to be queued on.

        Raises:
            EngineLibraryError: TensorRT refuses the shapes together, or memory is full.
            UsageError: A graph is wanted and cannot be, since a shape depends on the data.
        """
        if self._bound == (id(slot), slot.generation, key):
            slot.shapes.update(self._shapes)
            return
        self._bound, self._warm = None, False
        self._drop_graph()
        with failures(self._trt, "take these shapes"):
            if self._context.active_optimization_profile != profile:
                taken = self._context.set_optimization_profile_async(profile, stream.handle)
                self._take(taken, f"change to profile {profile}")
            for port in self._inputs:
                name = port.spec.name
                shape = slot.shapes[name]
                self._take(self._context.set_input_shape(name, shape), f"take {name}{list(shape)}")
                self._address(port, slot.reserve(port, shape))
            missing = self._context.infer_shapes()
            if missing:
                raise failed(self._trt, f"infer shapes without {', '.join(missing)}")
            self._shapes = {port.spec.name: self._place(port, slot) for port in self._outputs}
        self._bound = (id(slot), slot.generation, key)

    def _place(self, port: Port, slot: Slot) -> tuple[int, ...]:
        """Memory for an output, now or during the run (rule X2)."""
        name = port.spec.name
        shape = tuple(int(axis) for axis in self._context.get_tensor_shape(name))
        if -1 not in shape or port.on_host:
            self._address(port, slot.reserve(port, shape))
            return shape
        if self._captures:
            raise UsageError(
                f"The shape of output {name} depends on the data, so no CUDA graph can be captured",
                do="Open the session without CUDA graphs",
            )
        if name not in self._late:
            self._late[name] = _late_output(self._trt, port)
            taken = self._context.set_output_allocator(name, self._late[name])
            self._take(taken, f"take an allocator for {name}")
        return shape

    def count_layers(self, profiler: Any) -> None:  # noqa: ANN401
        """Have each run report its layers' times to an IProfiler (rules L1, L2 of trt_layers.py).

        Raises:
            EngineLibraryError: TensorRT refuses it.
        """
        with failures(self._trt, "count layers"):
            self._context.profiler = profiler

    def enqueue(self, slot: Slot, stream: Stream) -> None:
        """Queue the computation, as a graph from the second time on where wanted (rule X3).

        Raises:
            EngineLibraryError: TensorRT, or the allocation of a late output, failed.
        """
        for late in self._late.values():
            late.slot, late.error = slot, None
        if self._captures and self._warm and self._graph is None:
            self._check_capturable(stream)
            self._graph = self._device.capture(stream, lambda: self._execute(stream))
        if self._graph is not None:
            self._graph.launch(stream)
        else:
            self._execute(stream)
            self._warm = True

    def _execute(self, stream: Stream) -> None:
        with failures(self._trt, "run the engine"):
            queued = self._context.execute_async_v3(stream.handle)
        for late in self._late.values():
            if late.error is not None:
                raise late.error
        self._take(queued, "run the engine")

    def _check_capturable(self, stream: Stream) -> None:
        """TensorRT-RTX can tell; of the others the capture itself does."""
        if hasattr(self._context, "is_stream_capturable") and not (
            self._context.is_stream_capturable(stream.handle)
        ):
            raise EngineLibraryError(
                "TensorRT-RTX cannot run this engine in a CUDA graph",
                do="Open the session without CUDA graphs",
            )

    def _address(self, port: Port, address: int) -> None:
        name = port.spec.name
        taken = self._context.set_tensor_address(name, address)
        self._take(taken, f"take the address of {name}")

    def _take(self, answer: bool, doing: str) -> None:  # noqa: FBT001 - TensorRT's own answer
        if not answer:
            raise failed(self._trt, doing)

    def _drop_graph(self) -> None:
        graph, self._graph = self._graph, None
        if graph is not None:
            graph.free()

    def close(self) -> None:
        """Give back graph and context, once nothing is under way."""
        self._bound = None
        try:
            self._drop_graph()
        finally:
            self._late = {}
            self._context = None


def _late_output(trt: Any, port: Port) -> Any:  # noqa: ANN401
    """An allocator for an output whose shape depends on the data (rule X2).

    TensorRT calls it before `execute_async_v3` returns (`IOutputAllocator::notifyShape` in
    NVIDIA/TensorRT@v10.3.0:include/NvInferRuntime.h). What it raised would be printed, so errors
    are kept for `Runner`.
    """

    class Late(trt.IOutputAllocator):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IOutputAllocator.__init__(self)
            self.slot: Slot | None = None
            self.error: EngineLibraryError | None = None

        def reallocate_output_async(
            self,
            tensor_name: str,  # noqa: ARG002
            memory: int,  # noqa: ARG002
            size: int,
            alignment: int,  # noqa: ARG002 - device memory is aligned for every type (rule G4)
            stream: int,  # noqa: ARG002
        ) -> int:
            try:
                return 0 if self.slot is None else self.slot.reserve_on_device(port, size)
            except EngineLibraryError as error:
                self.error = error
                return 0

        def notify_shape(self, tensor_name: str, shape: Any) -> None:  # noqa: ANN401
            if self.slot is not None:
                self.slot.shapes[tensor_name] = tuple(int(axis) for axis in shape)

    return Late()
