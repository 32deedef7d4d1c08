"""A tiny graph, built and run here with every engine library that is installed.

`selftest.onnx` beside this file is y = relu(x W + b) with the weights that `expected` computes
with; tests/test_selftest.py makes it anew and compares. It needs no package to be written.

Rules:
    F1  Each library works in a child process of its own: it may crash or hang without taking the
        doctor or another library along, and nothing is imported into the doctor.
    F2  What comes out is compared with numpy. `ok` says that, or in words how far it went.
    F3  A library that is not installed, or a GPU that is not there, is a choice. One that is there
        and does not compute is a problem, and the exit code says so.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from jetlift.doctor.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jetlift.doctor.finding import Status
    from jetlift.runtime.session import Session
    from jetlift.runtime.session.base import Array

GRAPH = Path(__file__).with_name("selftest.onnx")
LIBRARIES = ("onnxruntime", "openvino", "tensorrt_rtx", "tensorrt")
_TIMEOUT_S = 600  # a first build on a board loads some gigabytes of libraries
_NOT_HERE = "8.6"  # what TensorRT-RTX builds for where no GPU is
_LARGEST_BATCH = 4
_MOST_OFF = 0.02  # TF32 has ten bits for each of the products
_GPU_WAYS = ("plainly", "by a CUDA graph", "in mapped memory", "two at a time")


def selftest(
    libraries: Sequence[str] = LIBRARIES, *, timeout_s: float = _TIMEOUT_S
) -> list[Finding]:
    """Build and run the graph with each library (rules F1 to F3)."""
    return [_tried(library, timeout_s) for library in libraries]


def weights() -> tuple[Array, Array]:
    """The graph's weights [8, 4] and bias [4]: quarters, which every float type holds exactly."""
    import numpy as np

    steps = np.arange(32, dtype=np.float32).reshape(8, 4)
    return (steps * 5 % 7 - 3) / 4, np.array([0.25, -0.5, 0, 1], np.float32)


def expected(x: Array) -> Array:
    """What the graph computes, by numpy."""
    import numpy as np

    weight, bias = weights()
    result: Array = np.maximum(x @ weight + bias, 0)
    return result


def _tried(library: str, timeout_s: float) -> Finding:
    if importlib.util.find_spec(library) is None:
        return Finding("selftest", library, "missing", "not installed")
    path = os.pathsep.join(str(Path(item).absolute()) for item in sys.path if item)
    with tempfile.TemporaryDirectory(prefix="jetlift-") as folder:
        try:
            done = subprocess.run(
                [sys.executable, "-m", "jetlift.doctor.selftest", library],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return _problem(library, f"it was not done after {timeout_s:.0f} s")
    if done.returncode < 0:
        return _problem(library, f"it ended its process with signal {-done.returncode}")
    if done.returncode != 0 or not done.stdout.strip():
        last = next(reversed(done.stderr.strip().splitlines()), "it failed without a word")
        return _problem(library, last)
    return Finding("selftest", library, **json.loads(done.stdout.splitlines()[-1]))


def _problem(library: str, what: str) -> Finding:
    return Finding("selftest", library, "problem", what)


def _run(library: str, folder: Path) -> dict[str, str]:
    """What the child does and tells."""
    from jetlift.runtime.errors import JetliftError

    tests: dict[str, Callable[[Path], tuple[Status, str]]] = {
        "onnxruntime": _onnxruntime,
        "openvino": _openvino,
        "tensorrt": lambda folder: _tensorrt(folder, "tensorrt"),
        "tensorrt_rtx": lambda folder: _tensorrt(folder, "tensorrt_rtx"),
    }
    try:
        status, what = tests[library](folder)
    except JetliftError as error:
        return {"status": "problem", "what": str(error)}
    return {"status": status, "what": what}


def _onnxruntime(_folder: Path) -> tuple[Status, str]:
    from jetlift.runtime.session import open_onnx

    with open_onnx(GRAPH, library="onnxruntime") as session:
        return _compared(session, "run")


def _openvino(folder: Path) -> tuple[Status, str]:
    from jetlift.engines.openvino import build_engine
    from jetlift.runtime.session.openvino import OpenVINOSession

    build_engine(GRAPH, folder / "engine", None)
    with OpenVINOSession.from_engine(folder / "engine") as session:
        return _compared(session, "built, loaded and run")


def _tensorrt(folder: Path, library: Literal["tensorrt", "tensorrt_rtx"]) -> tuple[Status, str]:
    from jetlift.engines.trt.build import build_engine
    from jetlift.runtime.host import cuda_compute_capabilities
    from jetlift.runtime.manifest import TensorSpec
    from jetlift.runtime.session.tensorrt import TensorRTSession

    gpus = cuda_compute_capabilities()
    if not gpus and library == "tensorrt":
        return "missing", "it builds and runs on an NVIDIA GPU with its driver, and none is here"
    least, most = (1, 8), (_LARGEST_BATCH, 8)
    inputs = [TensorSpec("x", "float32", ("batch", 8), least, most, most)]
    capability = gpus[0] if gpus else _NOT_HERE
    engine = folder / "engine"
    build_engine(GRAPH, engine, None, inputs=inputs, compute_capability=capability, library=library)
    if not gpus:
        return "ok", f"built for compute capability {capability}; no GPU is here to run it"
    for name in _GPU_WAYS:
        with TensorRTSession.from_engine(
            engine,
            library=library,
            cuda_graph=name == "by a CUDA graph",
            mapped=name == "in mapped memory",
            overlap=name == "two at a time",
        ) as session:
            status, what = _compared(session, f"built for {capability}; run {name}")
        if status != "ok":
            return status, what
    return "ok", f"built for compute capability {capability}; run {', '.join(_GPU_WAYS)}"


def _compared(session: Session, done: str) -> tuple[Status, str]:
    """Run several batches and compare each with numpy (rule F2)."""
    import numpy as np

    off = []
    for batch in (1, _LARGEST_BATCH, _LARGEST_BATCH, _LARGEST_BATCH, 2):
        x = np.linspace(-2, 2, batch * 8, dtype=np.float32).reshape(batch, 8)
        off.append(np.abs(session.run({"x": x})["y"] - expected(x)).max())
    worst = float(np.max(off))
    if not worst <= _MOST_OFF:  # NaN is not
        return "problem", f"{done}, and its results are off by {worst:.3g}"
    info = session.info
    return "ok", f"{done} by {info.library} {info.version} on {info.device}, off by {worst:.1g}"


if __name__ == "__main__":
    print(json.dumps(_run(sys.argv[1], Path.cwd())))  # noqa: T201 - how the child tells its parent
