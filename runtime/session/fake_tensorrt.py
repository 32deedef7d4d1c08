"""TensorRT without TensorRT: engines whose work is a function of numpy arrays.

It has the names that jetlift's session uses of the real library, and no other; its answers are the
real ones: None or False with a message in the log where TensorRT refuses, work queued on the
device's stream where it accepts. Memory is looked at when the work is done, not when it is queued.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from jetlift.runtime.errors import EngineLibraryError
from jetlift.runtime.session.fake_cuda import Misuse, Op
from jetlift.runtime.session.fake_model import (
    DataType,
    ILogger,
    IOutputAllocator,
    IProfiler,
    TensorIOMode,
    TensorLocation,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jetlift.runtime.session.base import Array
    from jetlift.runtime.session.fake_cuda import FakeBlock, FakeDevice, FakeStream
    from jetlift.runtime.session.fake_model import FakeModel, Shape


_T = TypeVar("_T")
_SCRATCH_BYTES = 1024


class FakeLibrary:
    """What `import tensorrt` gives: names of classes, and behind them one model on one device.

    Args:
        device: What the engine's work is queued on.
        model: The engine.
        version: As `__version__` tells it.

    Attributes:
        refuses: Called with the name of each call; whether it is refused with a message.
    """

    __name__ = "fake_tensorrt"
    ILogger, IOutputAllocator, IProfiler = ILogger, IOutputAllocator, IProfiler
    DataType, TensorLocation, TensorIOMode = DataType, TensorLocation, TensorIOMode

    def __init__(self, device: FakeDevice, model: FakeModel, *, version: str = "0") -> None:
        self.device, self.model, self.__version__ = device, model, version
        self.refuses: Callable[[str], bool] = lambda _: False
        self.logger: Any = None

    def Runtime(self, logger: Any) -> Runtime:  # noqa: ANN401, N802 - TensorRT's name
        """A runtime."""
        self.logger = logger
        return Runtime(self)

    def refused(self, name: str) -> bool:
        """Whether a call is refused; it is then told to the log."""
        self.device.noted(name)
        return self.refuses(name) and self.say(f"{name} was refused")

    def made(self, make: Callable[[], _T]) -> _T | None:
        """Something that takes memory of its own, or None where there is none."""
        try:
            return make()
        except EngineLibraryError:
            self.say("out of memory")
            return None

    def say(self, text: str) -> bool:
        """Tell an error."""
        told = f"IFake::say: Error Code 1: Fake ({text})"
        self.logger.log(ILogger.ERROR, told)
        return True


class Held:
    """Memory that TensorRT takes for an object of its own, until the object goes."""

    def __init__(self, library: FakeLibrary, size_bytes: int) -> None:
        self._memory = library.device.memory(size_bytes)

    def __del__(self) -> None:
        if hasattr(self, "_memory"):
            with contextlib.suppress(EngineLibraryError):  # a destructor tells nobody
                self._memory.free()


class Runtime:
    """`tensorrt.Runtime`."""

    def __init__(self, library: FakeLibrary) -> None:
        self._library = library
        self.engine_host_code_allowed = False

    def deserialize_cuda_engine(self, content: Any) -> ICudaEngine | None:  # noqa: ANN401
        """The engine, or None where the content is not the model's plan."""
        library = self._library
        if library.refused("deserialize_cuda_engine"):
            return None
        if bytes(content) != library.model.plan:
            library.say("magic tag failed")
            return None
        return library.made(lambda: ICudaEngine(library, self))


class ICudaEngine:
    """`tensorrt.ICudaEngine`."""

    def __init__(self, library: FakeLibrary, runtime: Runtime) -> None:
        self._library, self._runtime = library, runtime
        self._tensors = {item.name: item for item in library.model.inputs + library.model.outputs}
        self._weights = Held(library, 4096)

    @property
    def num_io_tensors(self) -> int:
        """How many inputs and outputs."""
        return len(self._tensors)

    def get_tensor_name(self, index: int) -> str:
        """Name of the nth."""
        return list(self._tensors)[index]

    def get_tensor_shape(self, name: str) -> Shape:
        """Shape with -1 for dynamic axes."""
        return self._tensors[name].shape

    def get_tensor_dtype(self, name: str) -> DataType:
        """Its type."""
        return DataType[self._tensors[name].dtype]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        """Whether it is an input."""
        made = self._tensors[name] in self._library.model.outputs
        return TensorIOMode["OUTPUT" if made else "INPUT"]

    def get_tensor_location(self, name: str) -> TensorLocation:
        """Where it lies."""
        return TensorLocation["HOST" if self._tensors[name].values else "DEVICE"]

    def get_tensor_vectorized_dim(self, name: str) -> int:  # noqa: ARG002
        """-1: elements lie one behind the other."""
        return -1

    def get_tensor_format_desc(self, name: str) -> str:  # noqa: ARG002
        """The form in words."""
        return "Row-major linear format"

    def is_shape_inference_io(self, name: str) -> bool:
        """Whether shapes follow from its values."""
        return self._tensors[name].values is not None

    @property
    def device_memory_size_v2(self) -> int:
        """Bytes of scratch memory that a context takes."""
        return _SCRATCH_BYTES

    @property
    def num_optimization_profiles(self) -> int:
        """How many profiles."""
        return max([1, *(len(item.profiles) for item in self._library.model.inputs)])

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Shape]:
        """Smallest, best and largest shape."""
        fixed = self._tensors[name].shape
        low, high = (self._tensors[name].profiles or [(fixed, fixed)] * (profile_index + 1))[
            profile_index
        ]
        return [low, high, high]

    def get_tensor_profile_values(self, number: int, name: str) -> list[list[int]]:  # noqa: ARG002
        """Smallest, best and largest values; in the bindings' order of arguments."""
        least, most = self._tensors[name].values or ((), ())
        return [list(least), list(most), list(most)]

    def create_execution_context(self) -> IExecutionContext | None:
        """A context, or None."""
        if self._library.refused("create_execution_context"):
            return None
        return self._library.made(lambda: IExecutionContext(self._library, self))


@dataclass
class _Bound:
    """What was told to a context."""

    shapes: dict[str, Shape] = field(default_factory=dict)
    addresses: dict[str, int] = field(default_factory=dict)
    allocators: dict[str, Any] = field(default_factory=dict)


class IExecutionContext:
    """`tensorrt.IExecutionContext`."""

    def __init__(self, library: FakeLibrary, engine: ICudaEngine) -> None:
        self._library, self._engine, self._model = library, engine, library.model
        self.active_optimization_profile = 0
        self.profiler: Any = None
        self._bound = _Bound()
        self._settled = False
        self._scratch = Held(library, _SCRATCH_BYTES)

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        """Change to another profile, after which all shapes have to be set again."""
        if self._library.refused("set_optimization_profile_async"):
            return False
        self._library.device.stream_of(stream_handle)
        self.active_optimization_profile = profile_index
        self._bound.shapes.clear()
        self._settled = False
        return True

    def set_input_shape(self, name: str, shape: Shape) -> bool:
        """Take a shape within the profile."""
        if self._library.refused("set_input_shape"):
            return False
        profile = self.active_optimization_profile
        low, _, high = self._engine.get_tensor_profile_shape(name, profile)
        if len(shape) != len(low) or not all(
            a <= b <= c for a, b, c in zip(low, shape, high, strict=True)
        ):
            return not self._library.say(f"{name} {shape} is outside the profile")
        if self._bound.shapes.get(name) != shape:
            self._settled = False
        self._bound.shapes[name] = shape
        return True

    def set_tensor_address(self, name: str, memory: int) -> bool:
        """Take an address."""
        if self._library.refused("set_tensor_address"):
            return False
        if memory == 0 or memory % 256:
            return not self._library.say(f"the address {memory:#x} of {name} is not aligned")
        self._bound.addresses[name] = memory
        return True

    def set_output_allocator(self, name: str, output_allocator: Any) -> bool:  # noqa: ANN401
        """Take an allocator."""
        if self._library.refused("set_output_allocator"):
            return False
        if name in self._bound.allocators:
            raise Misuse("an allocator is set again, and the bindings keep every one")
        self._bound.allocators[name] = output_allocator
        return True

    def infer_shapes(self) -> list[str]:
        """Names of inputs that are not complete."""
        if self._library.refused("infer_shapes"):
            del self  # the bindings have no frame that would keep it with the error
            raise RuntimeError("infer_shapes error code: -1")
        return [item.name for item in self._model.inputs if item.name not in self._bound.shapes]

    def get_tensor_shape(self, name: str) -> Shape:
        """Shape of a tensor for the inputs' shapes, with -1 where it depends on the data."""
        if name in self._bound.shapes:
            return self._bound.shapes[name]
        try:
            shapes = self._model.shapes(self._bound.shapes, self._host_values())
        except ValueError as error:
            raise RuntimeError(str(error)) from error
        return shapes[name]

    def execute_async_v3(self, stream_handle: int) -> bool:
        """Queue the computation."""
        device = self._library.device
        if self._library.refused("execute_async_v3"):
            return False
        stream = device.stream_of(stream_handle)
        if stream.captured is not None and not self._settled:
            raise Misuse("a graph is captured before an ordinary run with the same shapes")
        self._settled = True
        late = [item.name for item in self._model.outputs if item.late]
        wanted = [item.name for item in self._model.inputs + self._model.outputs]
        missing = [n for n in wanted if n not in self._bound.addresses and n not in late]
        if missing:
            return not self._library.say(f"no address for {', '.join(missing)}")
        if late and not self._place(stream):
            return False
        self._queue(stream)
        if self.profiler is not None:  # enqueue_emits_profile is on unless it is turned off
            stream.run_until(stream.issued)
            for name, time_ms in self._model.layers:
                self.profiler.report_layer_time(name, time_ms)
        return True

    def _queue(self, stream: FakeStream) -> None:
        device = self._library.device
        model, shapes, addresses = self._model, dict(self._bound.shapes), self._bound.addresses
        blocks = {name: device.block(address) for name, address in addresses.items()}

        def work() -> None:
            for name, array in _computed(model, blocks, shapes).items():
                blocks[name].array(array.dtype, array.shape)[...] = array

        stream.queue(Op(work, tuple(blocks.values())))

    def _place(self, stream: FakeStream) -> bool:
        """Ask the allocators for memory, which TensorRT can only once the shape is computed."""
        if stream.captured is not None:
            raise Misuse("a graph is captured of an engine whose shapes depend on the data")
        stream.run_until(stream.issued)
        inputs = {item.name for item in self._model.inputs}
        blocks = {
            name: self._library.device.block(address)
            for name, address in self._bound.addresses.items()
            if name in inputs
        }
        results = _computed(self._model, blocks, self._bound.shapes)
        for name, allocator in self._bound.allocators.items():
            size, old = results[name].nbytes, self._bound.addresses.get(name, 0)
            address = allocator.reallocate_output_async(name, old, size, 256, stream.handle)
            if address == 0:
                return not self._library.say(f"no memory for {name}")
            self._bound.addresses[name] = address
            allocator.notify_shape(name, results[name].shape)
        return True

    def _host_values(self) -> dict[str, Array]:
        device, bound = self._library.device, self._bound
        return {
            item.name: device.block(bound.addresses[item.name]).view(
                item.numpy_dtype, bound.shapes[item.name]
            )
            for item in self._model.inputs
            if item.values is not None
        }


def _computed(
    model: FakeModel, blocks: Mapping[str, FakeBlock], shapes: Mapping[str, Shape]
) -> dict[str, Array]:
    inputs = {
        item.name: blocks[item.name].array(item.numpy_dtype, shapes[item.name])
        for item in model.inputs
    }
    results = model.compute(inputs)
    return {item.name: np.asarray(results[item.name], item.numpy_dtype) for item in model.outputs}
