"""ONNX Runtime on the CPU: the reference, and the fallback where OpenVINO is not installed.

It runs symmetric Q/DQ graphs right but no faster than float32, and typed FP16 graphs in float32
with float16 weights and casts. Use it for what comes out, not for how fast.
"""

from __future__ import annotations

import contextlib
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jetlift.runtime.errors import EngineLibraryError, InputError, MissingPackageError
from jetlift.runtime.manifest import TensorSpec
from jetlift.runtime.session.base import EngineInfo
from jetlift.runtime.session.common import SessionBase, check_threads, in_place, named_by

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import ModuleType

    from jetlift.runtime.manifest import Part
    from jetlift.runtime.session.base import Array

_PROVIDER = "CPUExecutionProvider"
_ERRORS_AND_FATALS = 3  # the library's log level that leaves out its warnings
_DTYPES = {
    "tensor(float)": "float32", "tensor(float16)": "float16", "tensor(int64)": "int64",
    "tensor(int32)": "int32", "tensor(int8)": "int8", "tensor(uint8)": "uint8",
    "tensor(bool)": "bool",
}  # fmt: skip


class OnnxRuntimeSession(SessionBase):
    """An ONNX graph in ONNX Runtime's memory."""

    def __init__(self, session: Any, info: EngineInfo, part: Part | None = None) -> None:  # noqa: ANN401 - the library ships no types
        inputs, outputs = named_by(
            part, _specs(session.get_inputs()), _specs(session.get_outputs())
        )
        super().__init__(info, inputs, outputs)
        self._session = session
        self._names = [spec.name for spec in outputs]

    @classmethod
    def from_onnx(
        cls, path: Path | str, *, threads: int | None = None, part: Part | None = None
    ) -> OnnxRuntimeSession:
        """Load an ONNX graph.

        Args:
            path: The ONNX file; external data is found beside it.
            threads: Threads within an operator; None leaves it to ONNX Runtime (one per core).
            part: Where the graph is a bundle's, its part.

        Raises:
            MissingPackageError: ONNX Runtime is not installed.
            InputError: There is no such file.
            EngineLibraryError: ONNX Runtime cannot load it.
        """
        check_threads(threads)
        if not Path(path).is_file():
            raise InputError(f"There is no file {path}", expected="An ONNX graph")
        ort = library()
        options = ort.SessionOptions()
        options.log_severity_level = _ERRORS_AND_FATALS
        options.intra_op_num_threads = threads or 0
        options.inter_op_num_threads = 1
        with failures(f"load {path}"):
            session = ort.InferenceSession(str(path), sess_options=options, providers=[_PROVIDER])
        info = EngineInfo(
            "onnxruntime", ort.__version__, _arithmetic(), threads, platform.machine()
        )
        return cls(session, info, part)

    def _compute(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        arrays = {spec.name: in_place(feeds[spec.name]) for spec in self._inputs}
        with failures("run the graph"):
            results = self._session.run(self._names, arrays)
        return dict(zip(self._names, results, strict=True))

    def _release(self) -> None:
        del self._session


def _arithmetic() -> str:
    """What float nodes compute in: on x86 float32 alone, on ARM in places float16."""
    return "f32" if platform.machine() in ("x86_64", "AMD64") else "as typed"


def library() -> ModuleType:
    """The package `onnxruntime`.

    Raises:
        MissingPackageError: It is not installed.
    """
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        if error.name != "onnxruntime":
            raise
        raise MissingPackageError(
            "onnxruntime", extra="cpu", purpose="to run graphs on the CPU"
        ) from error
    return onnxruntime  # type: ignore[no-any-return]


@contextlib.contextmanager
def failures(doing: str) -> Iterator[None]:
    """Translate ONNX Runtime's exceptions: the one place for it.

    Its own exceptions have no common base but stand in one module.
    """
    from onnxruntime.capi import onnxruntime_pybind11_state as native

    own = [item for item in vars(native).values() if _is_exception(item)]
    try:
        yield
    except (RuntimeError, ValueError, MemoryError, *own) as error:
        told = " ".join(str(error).split()).removeprefix("[ONNXRuntimeError] : ")
        raise EngineLibraryError(f"ONNX Runtime could not {doing}: {told}") from error


def _is_exception(item: object) -> bool:
    return isinstance(item, type) and issubclass(item, Exception)


def _specs(ports: Any) -> list[TensorSpec]:  # noqa: ANN401
    return [_spec(port) for port in ports]


def _spec(port: Any) -> TensorSpec:  # noqa: ANN401
    if port.type not in _DTYPES:
        raise EngineLibraryError(
            f"Tensor {port.name} is {port.type}", expected=f"One of {', '.join(_DTYPES)}"
        )
    axes = tuple(
        axis if isinstance(axis, int) else str(axis or f"{port.name}_axis_{i}")
        for i, axis in enumerate(port.shape)
    )
    return TensorSpec(name=port.name, dtype=_DTYPES[port.type], shape=axes)  # type: ignore[arg-type]
