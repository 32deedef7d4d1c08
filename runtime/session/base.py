"""The seam between jetlift and the engine libraries: arrays in, arrays out.

Everything above this file knows `Session` alone; each library stands behind it in a file of its
own, and `jetlift.runtime.session.fake` is the one that needs no library.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from jetlift.runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    import numpy.typing as npt
    from typing_extensions import Self

    from jetlift.runtime.manifest import TensorSpec
    from jetlift.runtime.session.trt_clock import GpuRun

    Array = npt.NDArray[Any]


@dataclass(frozen=True)
class EngineInfo:
    """What a session says of the engine behind it.

    Attributes:
        library: `openvino`, `onnxruntime`, `tensorrt`, `tensorrt_lean`, `tensorrt_rtx` or `fake`.
        version: The library's version.
        arithmetic: What the wide parts compute in, as the library reports it: `f32`, `bf16`, …; or
            `as typed` where the graph alone says it.
        threads: Threads it computes with, or None where the library decides per call or it is a
            GPU that computes.
        device: Name of the processor, as the library gives it.
    """

    library: str
    version: str
    arithmetic: str
    threads: int | None
    device: str


@dataclass(frozen=True)
class GpuOptions:
    """How an engine is run on a GPU. Which of them pays is measured, not assumed.

    Attributes:
        cuda_graph: Capture a CUDA graph per shape, so that a run is launched as one.
        mapped: Let the GPU use the host's memory in place, without copies; meant for boards, where
            both are one memory.
        overlap: Let a second run be submitted while one is under way, at twice the memory.
        layers: Time each layer, which makes runs slower: a `LayerSession` (trt_layers.py).
    """

    cuda_graph: bool = False
    mapped: bool = False
    overlap: bool = False
    layers: bool = False


class Session(Protocol):
    """An engine in memory. Not for use by two threads at once; open one session per thread."""

    @property
    def info(self) -> EngineInfo:
        """What the engine says of itself."""

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        """Inputs in the engine's order; a dynamic axis is a name."""

    @property
    def outputs(self) -> Sequence[TensorSpec]:
        """Outputs in the engine's order."""

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Compute once.

        Args:
            feeds: One array per input, of its dtype and of a shape that fits its spec.

        Returns:
            One array per output. They belong to the caller: a later run never changes them.

        Raises:
            UsageError: A feed is missing, unknown, of another dtype, or of a shape that cannot fit.
            EngineLibraryError: The library failed.
        """

    def close(self) -> None:
        """Give back the engine's memory. A second call does nothing."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


@runtime_checkable
class GpuSession(Protocol):
    """What a session can tell besides where a GPU computes."""

    @property
    def activation_bytes(self) -> int:
        """Memory of the device for intermediate tensors, as the library says."""

    @property
    def gpu_bytes(self) -> int:
        """Fall of the device's free memory since before the engine; others' use is in it."""

    def run_timed(self, feeds: Mapping[str, Array]) -> tuple[dict[str, Array], GpuRun]:
        """As `Session.run`, with the GPU's own clock around it."""


def check_feeds(inputs: Sequence[TensorSpec], feeds: Mapping[str, Array]) -> None:
    """Refuse feeds that do not fit the inputs, before a library says so in its own words.

    Raises:
        UsageError: A feed is missing, unknown, of another dtype, or of a shape that cannot fit.
    """
    if len(feeds) != len(inputs) or any(spec.name not in feeds for spec in inputs):
        names = ", ".join(spec.name for spec in inputs)
        raise UsageError(
            f"Got feeds for {', '.join(feeds) or 'nothing'}", expected=f"Feeds for {names}"
        )
    for spec in inputs:
        array = feeds[spec.name]
        if array.dtype != np.dtype(spec.dtype) or not _fits(array.shape, spec.shape):
            raise UsageError(
                f"Input {spec.name} got {array.dtype}{list(array.shape)}",
                expected=f"Expected {spec.dtype}{list(spec.shape)}",
            )


def _fits(shape: tuple[int, ...], wanted: tuple[int | str, ...]) -> bool:
    return len(shape) == len(wanted) and all(
        isinstance(axis, str) or axis == size for size, axis in zip(shape, wanted, strict=True)
    )
