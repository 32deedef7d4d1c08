"""Time per layer of a TensorRT engine, by a session that does nothing else.

Not run on a GPU so far (see tensorrt.py). The class that is derived from and its method:
https://docs.nvidia.com/deeplearning/tensorrt/api/python_api/infer/Core/Profiler.html

Rules:
    L1  The profiler is attached to a context as it is made, and never taken off: the bindings keep
        a reference for each time one is set (`py::keep_alive` of `profiler` in
        NVIDIA/TensorRT@v10.3.0:python/src/infer/pyCore.cpp).
    L2  With a profiler attached, `execute_async_v3` waits for the run and reports each layer before
        it returns, unless that is turned off, which it is not here (`setEnqueueEmitsProfile` in
        NVIDIA/TensorRT@v10.3.0:include/NvInferRuntime.h). So runs are slower than others, and no
        other figure may come from them.
    L3  There is no CUDA graph: what is captured cannot wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jetlift.runtime.errors import UsageError
from jetlift.runtime.session.tensorrt import TensorRTSession

if TYPE_CHECKING:
    from jetlift.runtime.session.trt_runner import Runner


class LayerSession(TensorRTSession):
    """A TensorRT session that counts its layers; arguments and errors are those of its base.

    Raises:
        UsageError: A CUDA graph is wanted as well (rule L3).
    """

    _told: Any = None

    def _take_means(self) -> None:
        if self._captures:
            raise UsageError(
                "Layers are to be timed, and a CUDA graph is wanted as well",
                expected="One of the two",
                do="Open the session without a CUDA graph",
            )
        self._told = _profiler(self._trt)
        super()._take_means()

    def _new_runner(self) -> Runner:
        runner = super()._new_runner()
        runner.count_layers(self._told)  # L1
        return runner

    def take_layers(self) -> dict[str, list[float]]:
        """Milliseconds per layer and run, in the engine's order, since this was last asked."""
        times: dict[str, list[float]] = {}
        for name, time_ms in self._told.told:
            times.setdefault(name, []).append(time_ms)
        self._told.told.clear()
        return times


def _profiler(trt: Any) -> Any:  # noqa: ANN401 - the libraries ship no types
    class LayerClock(trt.IProfiler):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)
            self.told: list[tuple[str, float]] = []

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.told.append((layer_name, ms))

    return LayerClock()
