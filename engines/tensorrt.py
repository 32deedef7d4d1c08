"""TensorRT-RTX engines through Polygraphy. No GPU is needed to build one.

Rules:
    T1  The build runs in a child process: Polygraphy decides at import which TensorRT it drives,
        the builder takes about four times the graph's size in memory, and it may die of that.
    T2  The network is strongly typed: precision is what the graph says, nothing else.
    T3  One optimisation profile from the part's min, opt and max shapes.
    T4  The builder's log is read while it runs: what it refuses becomes one sentence that names the
        node, and its list of layers becomes the receipt.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jetlift.engines.receipt import Built, Layer, receipt
from jetlift.runtime.errors import EngineLibraryError, MissingPackageError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from jetlift.engines.ops import GraphCost
    from jetlift.runtime.manifest import TensorSpec

_MODULE = "jetlift.engines.tensorrt"
_MISSING = 66  # the child's exit status where a package is not installed
_PRECISIONS = {
    "Int8": "int8", "Half": "fp16", "Float": "fp32", "BFloat16": "bf16", "FP8": "fp8",
    "Int4": "int4", "FP4": "fp4",
}  # fmt: skip
_INDICES = (
    "Bool",
    "Int32",
    "Int64",
)  # masks, sizes and indices: no layer computes products in them
_LAYER = re.compile(r"\s*Name: (?P<name>.*?), LayerType: (?P<kind>\w+), Inputs: (?P<rest>.*)")
_DATATYPE = re.compile(r"Datatype: (\w+)")
_NODE = re.compile(r"\[ONNX Layer: (.*?)\](?=\x1f|\[ONNX Layer:|$)")
_MEMORY = re.compile(r"(?:Total (Weights|Activation)|Max (Scratch)) Memory: (\d+) bytes")
_REFUSED = re.compile(
    r"In node -?\d+ with name: (?P<node>.*?) and operator: (?P<kind>\S+) "
    r"\(.*?\): (?P<code>\w+): (?P<why>.*)"
)
_USAGE = re.compile(r"API Usage Error \((?P<why>.*?)(?:\. In \w+ at \S+)?\)\s*$")
_REASONS = {
    "UNSUPPORTED_NODE": "this operator, or this form of it, is not supported",
    "INVALID_NODE": "there is no such operator, or its inputs are not what it takes",
}
_LAST_LINES = 12
_PROVES = (
    "The log lists the fused layers of the engine with the data types they read and write. It "
    "proves what the builder fused, and in which types; TensorRT-RTX picks each layer's kernel at "
    "run time, so it does not prove which instructions a GPU runs, nor that they are faster"
)


def build_engine(
    onnx: Path,
    destination: Path,
    cost: GraphCost | None,
    *,
    inputs: Sequence[TensorSpec],
    compute_capability: str,
) -> Built:
    """Compile a typed ONNX graph for a compute capability and write the engine.

    Args:
        onnx: The graph; external data is found beside it.
        destination: Where to write the engine. The caller makes it appear atomically.
        cost: What the graph's nodes cost, for the receipt.
        inputs: The part's inputs, whose shapes make the optimisation profile.
        compute_capability: As in `8.6`.

    Raises:
        MissingPackageError: tensorrt_rtx or polygraphy is not installed.
        EngineLibraryError: The parser or the builder refuses the graph, or the builder died.
        UsageError: An input has dynamic axes and no shapes to build for.
    """
    request = {
        "onnx": str(onnx.resolve()),
        "destination": str(destination.resolve()),
        "compute_capability": [int(number) for number in compute_capability.split(".")],
        "profile": {spec.name: profile_of(spec) for spec in inputs},
    }
    status, log = _run_child(request)
    if status == _MISSING:
        raise MissingPackageError(
            log.last[-1].strip(), extra="rtx", purpose="to build TensorRT-RTX engines"
        )
    if status != 0 or not destination.is_file():
        raise EngineLibraryError(_told(status, log, onnx))
    seen = receipt(
        cost,
        log.layers or None,
        observed_by="TensorRT-RTX's detailed build log",
        proves=_PROVES,
        memory_bytes=log.memory,
    )
    return Built("as typed", seen)


def profile_of(spec: TensorSpec) -> list[list[int]]:
    """Smallest, best and largest shape of an input (rule T3).

    Raises:
        UsageError: It has dynamic axes and lacks one of them.
    """
    fixed = [axis for axis in spec.shape if isinstance(axis, int)]
    shapes = []
    for name in ("min_shape", "opt_shape", "max_shape"):
        shape = getattr(spec, name)
        if shape is None and len(fixed) == len(spec.shape):
            shape = fixed
        if shape is None:
            raise UsageError(
                f"Input {spec.name} {list(spec.shape)} has dynamic axes and no {name}",
                expected="The smallest, best and largest shape to build for",
                do="Export the graph again with a shape for it",
            )
        shapes.append(list(shape))
    return shapes


@dataclass
class BuildLog:
    """What is worth keeping of the builder's log (rule T4)."""

    layers: list[Layer] = field(default_factory=list)
    memory: dict[str, int] = field(default_factory=dict)
    refusals: list[str] = field(default_factory=list)
    last: list[str] = field(default_factory=list)

    def take(self, lines: Iterable[str]) -> None:
        """Read lines until there are no more."""
        for line in lines:
            if layer := layer_of(line):
                self.layers.append(layer)
            elif found := _MEMORY.search(line):
                use = (found[1] or found[2]).lower()
                self.memory[use] = max(self.memory.get(use, 0), int(found[3]))
            elif line.startswith(("[E]", "[!]")):
                self.refusals.append(line[3:].strip())
            if line.strip() and not line.startswith(("[X]", "[V]")):
                self.last = [*self.last[1 - _LAST_LINES :], line.rstrip()]


def layer_of(line: str) -> Layer | None:
    """Read one line of the builder's list of layers, or None where it is not one."""
    found = _LAYER.match(line)
    if found is None:
        return None
    read, _, other = found["rest"].partition("Constants: ")
    kinds = _DATATYPE.findall(read) + _DATATYPE.findall(other)
    numbers = [kind for kind in kinds if kind not in _INDICES]
    if not numbers:
        return None
    nodes = _NODE.findall(line.rpartition("Metadata: ")[2].rstrip("\n"))
    rank = 1 if found["kind"] == "runtime_fusion" or re.search("gemm|mha", found["name"]) else 2
    if found["kind"] in ("gemm", "correlation", "convolution", "deconvolution"):
        rank = 0
    return Layer(tuple(nodes), _PRECISIONS.get(numbers[0], numbers[0].lower()), rank)


def _run_child(request: Mapping[str, Any]) -> tuple[int, BuildLog]:
    """Build in a child process (rule T1) and read its log while it runs."""
    log = BuildLog()
    # An empty working folder, since `-m` puts the working folder on the child's import path.
    with (
        tempfile.TemporaryDirectory(prefix="jetlift-") as folder,
        subprocess.Popen(
            [sys.executable, "-m", _MODULE, json.dumps(request)],
            cwd=folder,
            env={**os.environ, "POLYGRAPHY_USE_TENSORRT_RTX": "1", "PYTHONPATH": _import_path()},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as child,
    ):
        try:
            if child.stdout is not None:
                log.take(child.stdout)
        except BaseException:
            child.kill()
            raise
    return child.returncode, log


def _import_path() -> str:
    """The parent's import path, so that the child finds this package wherever it was found."""
    return os.pathsep.join(str(Path(path).absolute()) for path in sys.path if path)


def _told(status: int, log: BuildLog, onnx: Path) -> str:
    """One sentence from the log of a build that failed."""
    if status < 0:
        size_mib = onnx.stat().st_size / 2**20
        return (
            f"The TensorRT-RTX builder was stopped by signal {-status} on {onnx.name}; without "
            "another cause that is the system running out of memory, of which the builder takes "
            f"about four times the graph's {size_mib:.0f} MiB"
        )
    why = next(filter(None, map(_usage, log.refusals)), "")
    for line in log.refusals:
        if found := _REFUSED.search(line):
            reason = why or _REASONS.get(found["code"], found["why"].strip())
            where = f"node {found['node']} ({found['kind']}) of {onnx.name}"
            return f"TensorRT-RTX does not take {where}: {reason}"
    said = why or next(iter(log.refusals[:1]), "") or " / ".join(log.last[-2:])
    return f"TensorRT-RTX could not build {onnx.name} (exit status {status}): {said}"


def _usage(line: str) -> str:
    found = _USAGE.search(line)
    return found["why"] if found else ""


def _child(request: Mapping[str, Any]) -> int:
    """Build one engine. Runs in the child process, with Polygraphy told to drive TensorRT-RTX."""
    try:
        import tensorrt_rtx
        from polygraphy.backend.tensorrt_rtx import CreateConfigRTX
        from polygraphy.backend.trt import EngineBytesFromNetwork, NetworkFromOnnxPath, Profile
        from polygraphy.exception import PolygraphyException
        from polygraphy.logger import G_LOGGER
    except ModuleNotFoundError as error:
        print(error.name, flush=True)  # noqa: T201 - how the child tells its parent
        return _MISSING
    G_LOGGER.module_severity = G_LOGGER.EXTRA_VERBOSE
    profile = Profile()
    for name, (smallest, best, largest) in request["profile"].items():
        profile.add(name, smallest, best, largest)
    config = CreateConfigRTX(
        compute_capabilities=[tuple(request["compute_capability"])],
        profiles=[profile],
        profiling_verbosity=tensorrt_rtx.ProfilingVerbosity.DETAILED,
    )
    network = NetworkFromOnnxPath(request["onnx"], strongly_typed=True)  # T2
    try:
        engine = EngineBytesFromNetwork(network, config=config)()
    except PolygraphyException:
        return 1  # it has logged why
    with open(request["destination"], "wb") as file:  # noqa: PTH123
        file.write(engine)
    return 0


if __name__ == "__main__":
    sys.exit(_child(json.loads(sys.argv[1])))
