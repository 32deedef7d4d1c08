"""OpenVINO on the CPU: the embedded engine, for ONNX graphs and for engines built from them.

Rules:
    O1  The arithmetic of the wide parts is always stated to OpenVINO and read back afterwards: left
        alone, it computes float32 graphs in bfloat16 where the processor has it, and says nothing.
    O2  A typed FP16 graph run with arithmetic `f32` computes in float32 from weights rounded to
        float16. It shows what FP16 storage does, not what FP16 arithmetic does.
    O3  A symmetric Q/DQ graph computes its weighted layers in INT8, whatever the arithmetic of the
        rest (see openvino_unsigned.py). What a graph really does is in `executed_layers`.
    O4  OpenVINO's import reports usage over the network (package openvino-telemetry). jetlift
        imports it without, and changes nothing of the user's own settings.
    O5  An engine file is mapped, not read: its pages are shared and need no second copy. OpenVINO
        keeps no hold of the mapping, so the session does, until everything that reads it is gone.
    O6  There is one Core per process, and it stays. Each Core gives its thread a signal stack and
        on its way out puts back the one before; Cores that go in the order they came leave a freed
        stack, and the next Ctrl-C is a segmentation fault (2025.3 to 2026.4, `SigAltStackSetup`).
"""

from __future__ import annotations

import contextlib
import functools
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.runtime.errors import (
    EngineLibraryError,
    InputError,
    MissingPackageError,
    PassportError,
    UnknownNameError,
)
from jetlift.runtime.reuse import ReusedMemory
from jetlift.runtime.session.base import EngineInfo
from jetlift.runtime.session.common import SessionBase, check_threads, in_place, named_by
from jetlift.runtime.session.openvino_first import make_first_tensor
from jetlift.runtime.session.openvino_fusible import fusible
from jetlift.runtime.session.openvino_ports import fixed_shapes, specs_of
from jetlift.runtime.session.openvino_split import unsplit
from jetlift.runtime.session.openvino_steps import settings_for
from jetlift.runtime.session.openvino_unsigned import count_from_zero

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import ModuleType

    from jetlift.runtime.manifest import Part
    from jetlift.runtime.session.base import Array

ARITHMETIC = ("f32", "bf16", "f16")
_DEVICE = "CPU"
_REBUILD = "Build it again with: jetlift build BUNDLE --target cpu"


class OpenVINOSession(SessionBase):
    """An OpenVINO model in memory, made by `from_onnx` or `from_engine`."""

    def __init__(
        self,
        compiled: Any,  # noqa: ANN401 - the library ships no types
        info: EngineInfo,
        part: Part | None = None,
        content: object = None,
    ) -> None:
        inputs, outputs = named_by(part, specs_of(compiled.inputs), specs_of(compiled.outputs))
        super().__init__(info, inputs, outputs)
        # In this order, since an object that nobody closes lets go of the first first (rule O5).
        self._request = compiled.create_infer_request()
        self._memory = [ReusedMemory() for _ in outputs]
        self._fixed = fixed_shapes(compiled.outputs)
        self.compiled, self._part = compiled, part
        self._content = content

    @classmethod
    def from_onnx(
        cls,
        path: Path | str,
        *,
        arithmetic: str = "f32",
        threads: int | None = None,
        part: Part | None = None,
        streams: int = 1,
    ) -> OpenVINOSession:
        """Compile an ONNX graph in memory.

        Args:
            path: The ONNX file; external data is found beside it.
            arithmetic: What the wide parts compute in: `f32`, `bf16` or `f16` (rules O1, O2).
            threads: Threads to compute with, at most one per core; None leaves it to OpenVINO.
            part: Where the graph is a bundle's, its part (names of dynamic axes come from it).
            streams: Runs that compute at once, each with its share of the threads (`another`).

        Raises:
            MissingPackageError: OpenVINO is not installed.
            InputError: There is no such file.
            EngineLibraryError: OpenVINO cannot read or compile it, or computes in something else.
        """
        config, model = configuration(arithmetic, threads, streams), read_onnx(path)
        with failures(f"compile {path}"):
            compiled = core().compile_model(model, _DEVICE, config | settings_for(model))
        return cls(compiled, _info(compiled, arithmetic), part)

    @classmethod
    def from_engine(
        cls,
        path: Path | str,
        *,
        arithmetic: str = "f32",
        threads: int | None = None,
        part: Part | None = None,
        streams: int = 1,
    ) -> OpenVINOSession:
        """Load an engine that `jetlift build --target cpu` wrote. Its passport is not judged here.

        Raises:
            MissingPackageError: OpenVINO is not installed.
            InputError: There is no such file.
            PassportError: OpenVINO refuses it, as it does for another version or instruction set.
            EngineLibraryError: It would compute in something else than `arithmetic`.
        """
        config = configuration(arithmetic, threads, streams)
        _present(path)
        try:
            compiled, content = _import(Path(path), config)
        except _library_errors() as error:
            raise PassportError(
                f"OpenVINO refuses the engine {path}: {cause(error)}",
                expected="An engine of this OpenVINO version and this processor",
                do=_REBUILD,
            ) from error
        return cls(compiled, _info(compiled, arithmetic), part, content)

    def another(self) -> OpenVINOSession:
        """A session for another thread on the same compiled model; closed on its own."""
        return OpenVINOSession(self.compiled, self.info, self._part, self._content)

    def _compute(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        arrays = {i: in_place(feeds[spec.name]) for i, spec in enumerate(self._inputs)}
        with failures("run the graph"):
            given = self._places()
            results = self._request.infer(arrays, share_inputs=True, share_outputs=True)
        rows = enumerate(zip(self._outputs, self._memory, strict=True))
        return {
            spec.name: given[i] if i in given else memory.copy(results[i])
            for i, (spec, memory) in rows
        }

    def _places(self) -> dict[int, Array]:
        """Arrays for OpenVINO to write outputs of one known shape to, instead of copying them."""
        tensor = library().Tensor
        given: dict[int, Array] = {}
        for i, (spec, memory) in enumerate(zip(self._outputs, self._memory, strict=True)):
            if i in self._fixed:
                given[i] = memory.empty(self._fixed[i], spec.dtype)
                self._request.set_output_tensor(i, tensor(given[i], shared_memory=True))
        return given

    def _release(self) -> None:
        del self._request
        del self.compiled
        del self._content  # last: the two above read it (rule O5)


@dataclass(frozen=True)
class ExecutedLayer:
    """One layer of a compiled graph.

    Attributes:
        kind: OpenVINO's layer type, as in `FullyConnected`.
        nodes: Names of the ONNX nodes in it.
        arithmetic: What it computes in: `f32`, `bf16`, `i8`, …
    """

    kind: str
    nodes: tuple[str, ...]
    arithmetic: str


def executed_layers(compiled: Any) -> list[ExecutedLayer]:  # noqa: ANN401
    """What a compiled graph really executes, layer by layer (rule O3)."""
    layers = []
    for node in compiled.get_runtime_model().get_ops():
        told = {
            key: str(getattr(value, "value", value)) for key, value in node.get_rt_info().items()
        }
        nodes = tuple(filter(None, told["originalLayersNames"].split(",")))
        layers.append(ExecutedLayer(told["layerType"], nodes, told["runtimePrecision"]))
    return layers


def library() -> ModuleType:
    """The package `openvino`, imported without its usage reports (rule O4).

    Raises:
        MissingPackageError: It is not installed.
    """
    if "openvino" not in sys.modules:
        with _no_telemetry():
            return _imported()
    return _imported()


@functools.cache
def core() -> Any:  # noqa: ANN401
    """The process's one OpenVINO Core (rule O6).

    Raises:
        MissingPackageError: OpenVINO is not installed.
    """
    make_first_tensor(library())
    return library().Core()


def configuration(arithmetic: str, threads: int | None, streams: int = 1) -> dict[str, Any]:
    """Properties to compile and to load with (rule O1).

    Raises:
        UnknownNameError: `arithmetic` is not one of ARITHMETIC.
        UsageError: `threads` is not positive.
    """
    if arithmetic not in ARITHMETIC:
        raise UnknownNameError(
            f"Arithmetic {arithmetic!r} is unknown", expected=f"One of {', '.join(ARITHMETIC)}"
        )
    check_threads(threads)
    config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": arithmetic}
    if threads is not None:
        config["INFERENCE_NUM_THREADS"] = threads
    if streams > 1:  # one is what the hint asks for
        config["NUM_STREAMS"] = streams
    return config


def read_onnx(path: Path | str) -> Any:  # noqa: ANN401
    """Read an ONNX file into an OpenVINO model.

    The ONNX reader is asked by name: left to guess, OpenVINO tries every reader it has on a broken
    file, and TensorFlow's writes its own complaints to stderr.

    Raises:
        InputError: There is no such file.
        EngineLibraryError: It is not an ONNX graph that OpenVINO can run.
    """
    _present(path)
    with failures(f"read {path} as ONNX"):
        reader = library().frontend.FrontEndManager().load_by_framework("onnx")
        model = reader.convert(reader.load(str(path)))
    if not model.outputs:  # an empty file is a valid protobuf
        raise EngineLibraryError(f"{path} holds no graph", expected="An ONNX graph with an output")
    return unsplit(fusible(count_from_zero(model)))


@contextlib.contextmanager
def failures(doing: str) -> Iterator[None]:
    """Translate OpenVINO's exceptions: the one place for it."""
    try:
        yield
    except _library_errors() as error:
        raise EngineLibraryError(f"OpenVINO could not {doing}: {cause(error)}") from error


def cause(error: BaseException) -> str:
    """The sentence in OpenVINO's message that says what is wrong, without its source positions."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith(("Exception from", "Check "))]
    noise = [line for line in told if "FrontEnd API failed" not in line]
    return " ".join(noise[:3]) or (lines[0] if lines else type(error).__name__)


def _library_errors() -> tuple[type[BaseException], ...]:
    frontend = library().frontend
    names = (
        "GeneralFailure",
        "OpConversionFailure",
        "OpValidationFailure",
        "NotImplementedFailure",
    )
    own = [
        getattr(frontend, name)
        for name in (*names, "InitializationFailure")
        if hasattr(frontend, name)
    ]
    return (RuntimeError, MemoryError, *own)


def _imported() -> ModuleType:
    try:
        import openvino
    except ModuleNotFoundError as error:
        if error.name != "openvino":
            raise
        raise MissingPackageError(
            "openvino", extra="cpu", purpose="to run engines on the CPU"
        ) from error
    return openvino  # type: ignore[no-any-return]


@contextlib.contextmanager
def _no_telemetry() -> Iterator[None]:
    """Hide the package that reports; openvino then uses the stub it brings for its absence."""
    name = "openvino_telemetry"
    known = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment] # the import system's mark for 'not there'
    try:
        yield
    finally:
        if known is None:
            del sys.modules[name]
        else:
            sys.modules[name] = known


def _present(path: Path | str) -> None:
    if not Path(path).is_file():
        raise InputError(f"There is no file {path}", expected="An ONNX graph or an engine")


def _import(path: Path, config: dict[str, Any]) -> tuple[Any, object]:
    """Load an engine file; what it returns second must outlive what it returns first (rule O5)."""
    if path.stat().st_size == 0:
        raise PassportError(f"The engine {path} is empty", do=_REBUILD)
    # Copy on write: OpenVINO wants a writeable buffer, and the file must never change.
    mapped = library().Tensor(np.memmap(path, np.uint8, mode="c"), shared_memory=True)
    return core().import_model(mapped, _DEVICE, config), mapped


def _info(compiled: Any, arithmetic: str) -> EngineInfo:  # noqa: ANN401
    with failures("say what it computes in"):
        found = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        threads = int(compiled.get_property("INFERENCE_NUM_THREADS"))
        device = str(core().get_property(_DEVICE, "FULL_DEVICE_NAME"))
    if found != arithmetic:  # O1
        raise EngineLibraryError(
            f"OpenVINO would compute in {found}",
            expected=f"{arithmetic}, as it was told",
            do="Ask for an arithmetic that this processor has",
        )
    return EngineInfo("openvino", version(), found, threads, device)


def version() -> str:
    """OpenVINO's version without its build number, as in `2026.4.1`."""
    return str(library().get_version()).partition("-")[0]
