"""YOLOX's weights out of a published ONNX file, whose normalisation is folded into convolutions.

Rules:
    F1  A file exported by the repository (tools/export_onnx.py) lists its convolutions in the order
        in which they run, as our module runs them (yolox_modules.py, rule Y3). They are paired in
        that order and must agree in shape, stride and groups.
    F2  A convolution that was folded has a bias. The normalisation beside it becomes the identity:
        weight 1, the bias, mean 0, variance 1 - epsilon.
    F3  Order and shapes do not prove that two graphs are the same. So the module must answer as
        the file does on a picture of noise, to TOLERANCE of its largest value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.runtime.errors import ArtefactError, InputError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt
    import torch

    from jetlift.export.recipes.yolox_modules import Yolox

TOLERANCE = 1e-4
_EXPECTED = "The ONNX file of that size from YOLOX's release, boxes not decoded inside"


@dataclass(frozen=True, eq=False)
class _Convolution:
    """One convolution of a file."""

    weight: npt.NDArray[Any]
    bias: npt.NDArray[Any]
    stride: int
    groups: int


def load_folded(module: Yolox, file: Path, side_px: int, title: str) -> None:
    """Fill a module with the weights of an ONNX file.

    Args:
        module: The module, in eval mode.
        file: The file.
        side_px: Side of its input.
        title: The model's name, for messages.

    Raises:
        InputError: The file cannot be read.
        ArtefactError: It is another graph.
    """
    found, wanted = _convolutions(file), _in_order(module, side_px)
    if len(found) != len(wanted):
        raise ArtefactError(
            f"{file} has {len(found)} convolutions with a bias, {title} has {len(wanted)}",
            expected=_EXPECTED,
        )
    for place, ((name, conv), theirs) in enumerate(zip(wanted, found, strict=True)):
        ours = (tuple(conv.weight.shape), conv.stride[0], conv.groups)
        got = (theirs.weight.shape, theirs.stride, theirs.groups)
        if ours != got:
            raise ArtefactError(
                f"Convolution {place} of {file} has shape, stride and groups {got}",
                expected=f"{ours}, as {name} of {title} has",
            )
        _fill(module, name, conv, theirs)
    _check_answer(module, file, side_px)


def _convolutions(file: Path) -> list[_Convolution]:
    """The file's convolutions, in its order (rule F1)."""
    import onnx
    from google.protobuf.message import DecodeError
    from onnx import numpy_helper

    try:
        graph = onnx.load(file).graph
    except (DecodeError, OSError) as error:
        raise InputError(f"{file} cannot be read: {error}", expected="An ONNX file") from error
    stored = {item.name: item for item in graph.initializer}
    found = []
    for node in graph.node:
        if node.op_type == "Conv" and all(name in stored for name in node.input[1:]):
            if len(node.input) != 3:
                raise ArtefactError(
                    f"Convolution {node.name!r} of {file} has no bias",
                    expected="Normalisation folded into the convolutions, as in the release",
                )
            weight, bias = (numpy_helper.to_array(stored[name]) for name in node.input[1:])
            facts = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
            stride, groups = int(facts.get("strides", [1])[0]), int(facts.get("group", 1))
            found.append(_Convolution(weight, bias, stride, groups))
    return found


def _in_order(module: Yolox, side_px: int) -> list[tuple[str, torch.nn.Conv2d]]:
    """The module's convolutions by name, in the order in which they run."""
    import torch

    ran: list[tuple[str, torch.nn.Conv2d]] = []
    hooks = [
        item.register_forward_hook(lambda ran_now, *_, name=name: ran.append((name, ran_now)))
        for name, item in module.named_modules()
        if isinstance(item, torch.nn.Conv2d)
    ]
    try:
        with torch.no_grad():
            module(torch.zeros(1, 3, side_px, side_px))
    finally:
        for hook in hooks:
            hook.remove()
    return ran


def _fill(module: Yolox, name: str, conv: torch.nn.Conv2d, theirs: _Convolution) -> None:
    """Give a convolution, and the normalisation behind it, a file's weights (rule F2)."""
    import torch

    bias = torch.from_numpy(np.array(theirs.bias, np.float32))
    with torch.no_grad():
        conv.weight.copy_(torch.from_numpy(np.array(theirs.weight, np.float32)))
        if conv.bias is not None:
            conv.bias.copy_(bias)
            return
        norm: Any = module.get_submodule(name.removesuffix("conv") + "bn")
        norm.weight.fill_(1.0)
        norm.bias.copy_(bias)
        norm.running_mean.zero_()
        norm.running_var.fill_(1.0 - norm.eps)


def _check_answer(module: Yolox, file: Path, side_px: int) -> None:
    """Hold the module to the file's own answer (rule F3)."""
    import torch

    from jetlift.export.judging import difference_of, reference

    noise = np.random.default_rng(0).integers(0, 256, (1, 3, side_px, side_px))
    images = noise.astype(np.float32)
    with reference(file) as session:
        if [item.name for item in session.inputs] == []:
            raise ArtefactError(f"{file} takes no input", expected=_EXPECTED)
        (theirs,) = session.run({session.inputs[0].name: images}).values()
    with torch.no_grad():
        ours = module(torch.from_numpy(images)).numpy()
    difference = difference_of(ours, theirs)
    if not difference <= TOLERANCE:
        raise ArtefactError(
            f"{file} answers otherwise than the model of its weights, by {difference:.2e}",
            expected=_EXPECTED,
        )
