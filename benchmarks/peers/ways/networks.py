"""PyTorch on pixels: transformers' DINOv2 and open_clip, eager or compiled."""

from __future__ import annotations

import contextlib
import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Inputs = Sequence[Mapping[str, Any]]
    Arguments = Mapping[str, Any]
    Run = Callable[[int], Mapping[str, Any]]


def dinov2(inputs: Inputs, threads: int, arguments: Arguments) -> Run:
    """Transformers' Dinov2Model from a folder of the very weights."""
    torch = _torch(threads)
    library: Any = importlib.import_module("transformers")
    model = library.Dinov2Model.from_pretrained(arguments["folder"], local_files_only=True)
    forward = _ready(torch, model, arguments)
    tensors = _tensors(torch, inputs, "pixel_values", arguments)

    def run(index: int) -> Mapping[str, Any]:
        with torch.inference_mode(), _narrow(torch, arguments):
            hidden = forward(tensors[index]).last_hidden_state
            return _arrays(embedding=hidden[:, 0], patch_tokens=hidden[:, 1:])

    return run


def open_clip_picture(inputs: Inputs, threads: int, arguments: Arguments) -> Run:
    """The picture tower of open_clip's ViT-B-32, weights drawn at random."""
    torch = _torch(threads)
    library: Any = importlib.import_module("open_clip")
    model = library.create_model("ViT-B-32-quickgelu")
    forward = _ready(torch, model.visual, arguments)
    tensors = _tensors(torch, inputs, "pixel_values", arguments)

    def run(index: int) -> Mapping[str, Any]:
        with torch.inference_mode():
            found = forward(tensors[index])
            return _arrays(embedding=found / found.norm(dim=1, keepdim=True))

    return run


def optimum_pictures(inputs: Inputs, threads: int, arguments: Arguments) -> Run:
    """optimum-onnx on a folder with the fp32 graph, called with a tensor as its users do."""
    torch = _torch(threads)
    ort: Any = importlib.import_module("onnxruntime")
    library: Any = importlib.import_module("optimum.onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    model = library.ORTModelForCustomTasks.from_pretrained(
        arguments["folder"], session_options=options, local_files_only=True
    )
    tensors = [torch.from_numpy(given["pixel_values"]) for given in inputs]

    def run(index: int) -> Mapping[str, Any]:
        return {name: value.numpy() for name, value in model(pixel_values=tensors[index]).items()}

    return run


def _torch(threads: int) -> Any:  # noqa: ANN401 - torch is not there in every Python that reads this
    torch = importlib.import_module("torch")
    torch.set_num_threads(threads)
    return torch


def _ready(torch: Any, model: Any, arguments: Arguments) -> Any:  # noqa: ANN401
    model = model.eval().to(arguments.get("device", "cpu"))
    backend = arguments.get("compile")
    if backend is None:
        return model
    if backend == "torch_tensorrt":
        importlib.import_module("torch_tensorrt")
    return torch.compile(model, backend=backend)


def _tensors(torch: Any, inputs: Inputs, name: str, arguments: Arguments) -> list[Any]:  # noqa: ANN401
    device = arguments.get("device", "cpu")
    return [torch.from_numpy(given[name]).to(device) for given in inputs]


def _narrow(torch: Any, arguments: Arguments) -> contextlib.AbstractContextManager[Any]:  # noqa: ANN401
    if arguments.get("arithmetic") != "bf16":
        return contextlib.nullcontext()
    narrow: contextlib.AbstractContextManager[Any] = torch.autocast(
        arguments.get("device", "cpu"), dtype=torch.bfloat16
    )
    return narrow


def _arrays(**tensors: Any) -> dict[str, Any]:  # noqa: ANN401
    return {name: tensor.float().cpu().numpy() for name, tensor in tensors.items()}


WAYS: dict[str, Callable[[Inputs, int, Arguments], Run]] = {
    "dinov2": dinov2,
    "open-clip": open_clip_picture,
    "optimum": optimum_pictures,
}
