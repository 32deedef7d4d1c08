"""Arrays in, arrays out: engines that take an ONNX graph or an OpenVINO model as it is."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Inputs = Sequence[Mapping[str, Any]]
    Arguments = Mapping[str, Any]
    Run = Callable[[int], Mapping[str, Any]]


def jetlift(inputs: Inputs, threads: int, arguments: Arguments) -> Run:
    """Jetlift's session on a bundle's variant."""
    bundle_module = importlib.import_module("jetlift.runtime.bundle")
    session_module = importlib.import_module("jetlift.runtime.session")
    bundle = bundle_module.Bundle.open(arguments["bundle"])
    session = session_module.open_session(
        bundle, arguments.get("part"), arguments["precision"],
        target=arguments.get("target", "cpu"), threads=threads,
    )  # fmt: skip
    return lambda index: dict(session.run(dict(inputs[index])))


def onnxruntime(inputs: Inputs, threads: int, arguments: Arguments) -> Run:
    """ONNX Runtime with its defaults."""
    library: Any = importlib.import_module("onnxruntime")
    options = library.SessionOptions()
    options.intra_op_num_threads = threads
    session = library.InferenceSession(
        arguments["graph"], options, providers=arguments.get("providers", ["CPUExecutionProvider"])
    )
    names = [item.name for item in session.get_outputs()]

    def run(index: int) -> Mapping[str, Any]:
        return dict(zip(names, session.run(None, dict(inputs[index])), strict=True))

    return run


def openvino(inputs: Inputs, threads: int, arguments: Arguments) -> Run:
    """OpenVINO as its guide has it: read, compile for latency, one request used again."""
    library: Any = importlib.import_module("openvino")
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": arguments.get("arithmetic", "f32"),
    }
    compiled = library.Core().compile_model(arguments["graph"], "CPU", settings)
    request = compiled.create_infer_request()

    def run(index: int) -> Mapping[str, Any]:
        results = request.infer(dict(inputs[index]), share_inputs=True, share_outputs=True)
        return {port.any_name: array for port, array in results.items()}

    return run


def ailia(inputs: Inputs, threads: int, arguments: Arguments) -> Run:
    """The ailia SDK, which needs a licence file that it fetches from its vendor."""
    library: Any = importlib.import_module("ailia")
    net = library.Net(weight=arguments["graph"], env_id=0, num_thread=threads)
    names = [net.get_blob_name(item) for item in net.get_output_blob_list()]

    def run(index: int) -> Mapping[str, Any]:
        return dict(zip(names, net.run(dict(inputs[index])), strict=True))

    return run


def ultralytics_onnx(inputs: Inputs, threads: int, arguments: Arguments) -> Run:
    """Ultralytics' runtime on a foreign ONNX graph, without its pre- and postprocessing."""
    torch: Any = importlib.import_module("torch")
    torch.set_num_threads(threads)
    backend: Any = importlib.import_module("ultralytics.nn.autobackend").AutoBackend
    model = backend(arguments["graph"], device=torch.device("cpu"), verbose=False)
    model.eval()
    (name,) = inputs[0]
    tensors = [torch.from_numpy(given[name]) for given in inputs]

    def run(index: int) -> Mapping[str, Any]:
        found = model(tensors[index])
        return {"output": (found[0] if isinstance(found, (list, tuple)) else found).numpy()}

    return run


_GPU_MS = re.compile(r"Latency: .*?median = ([0-9.]+) ms")


def trtexec(_inputs: Inputs, _threads: int, arguments: Arguments) -> Run:
    """NVIDIA's trtexec: builds once; a run loads the engine and measures by itself for a second.

    Its own median latency is the time of a run; the process takes longer.
    """
    folder = tempfile.TemporaryDirectory(prefix="jetlift-trtexec-")
    engine = Path(folder.name) / "engine"
    common = ["trtexec", f"--loadEngine={engine}", "--duration=1", "--noDataTransfers"]
    build = ["trtexec", f"--onnx={arguments['graph']}", f"--saveEngine={engine}", "--skipInference"]
    try:
        subprocess.run([*build, *arguments.get("options", [])], check=True, capture_output=True)
    except FileNotFoundError as error:
        raise ModuleNotFoundError("trtexec", name="trtexec") from error

    def run(_index: int) -> Mapping[str, Any]:
        if not Path(folder.name).is_dir():  # the closure keeps the folder
            raise FileNotFoundError(folder.name)
        told = subprocess.run(common, check=True, capture_output=True, text=True).stdout
        found = _GPU_MS.search(told)
        if found is None:
            raise RuntimeError("trtexec printed no latency")
        return {"own_ms": float(found[1])}

    return run


WAYS: dict[str, Callable[[Inputs, int, Arguments], Run]] = {
    "jetlift": jetlift,
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    "ailia": ailia,
    "ultralytics-onnx": ultralytics_onnx,
    "trtexec": trtexec,
}
os.environ.setdefault("YOLO_OFFLINE", "true")
