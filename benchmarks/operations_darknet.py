"""Networks that Darknet's configuration files describe, as far as YOLOv3 and YOLOv4 use them.

The files are not part of jetlift: https://github.com/pjreddie/darknet/tree/master/cfg. A section is
a layer of the one before it; `route` and `shortcut` name layers by distance or number. What a layer
does: https://pjreddie.com/darknet/yolo/ and the files themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jetlift.runtime.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    Section = dict[str, str]

_KNOWN = frozenset({"convolutional", "maxpool", "route", "shortcut", "upsample", "yolo"})


def sections(path: Path) -> list[Section]:
    """Sections in order, each with its kind under `kind`; the first describes the training.

    Raises:
        InputError: There is no such file, or a section has no rule here.
    """
    if not path.is_file():
        raise InputError(f"There is no file {path}", expected="A configuration file of Darknet")
    found: list[Section] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if text.startswith("["):
            found.append({"kind": text.strip("[]")})
        elif "=" in text:
            key, _, value = text.partition("=")
            found[-1][key.strip()] = value.strip()
    if unknown := {section["kind"] for section in found[1:]} - _KNOWN:
        raise InputError(f"{path} has a section {min(unknown)}", expected=", ".join(sorted(_KNOWN)))
    return found[1:]


def network(path: Path) -> torch.nn.Module:
    """The network of a file, in eval mode: a picture to the raw maps of every `yolo` section.

    Raises:
        InputError: There is no such file, or a section has no rule here.
    """
    import torch

    layers = sections(path)

    class Darknet(torch.nn.Module):
        """[batch, 3, height, width] -> one map per head."""

        def __init__(self) -> None:
            super().__init__()
            self.steps = torch.nn.ModuleList(_modules(layers))

        def forward(self, picture: torch.Tensor) -> tuple[torch.Tensor, ...]:
            made: list[torch.Tensor] = []
            heads = []
            for layer, step in zip(layers, self.steps, strict=True):
                before = made[-1] if made else picture
                if layer["kind"] == "route":
                    made.append(_routed(layer, made))
                elif layer["kind"] == "shortcut":
                    made.append(before + made[_place(layer["from"], len(made))])
                else:
                    made.append(step(before))
                if layer["kind"] == "yolo":
                    heads.append(before)
            return tuple(heads)

    return Darknet().eval()


def _place(number: str, here: int) -> int:
    """The layer that a number names: from the first, or where below zero from here."""
    return int(number) if int(number) >= 0 else here + int(number)


def _routed(layer: Section, made: list[torch.Tensor]) -> torch.Tensor:
    import torch

    parts = [made[_place(number, len(made))] for number in layer["layers"].split(",")]
    groups, group = int(layer.get("groups", "1")), int(layer.get("group_id", "0"))
    return torch.cat([part.chunk(groups, dim=1)[group] for part in parts], dim=1)


def _modules(layers: list[Section]) -> list[torch.nn.Module]:
    """One module per layer, with channels followed from the picture's three."""
    import torch

    modules: list[torch.nn.Module] = []
    channels: list[int] = []
    for number, layer in enumerate(layers):
        before = channels[-1] if channels else 3
        module: torch.nn.Module = torch.nn.Identity()
        after = before
        if layer["kind"] == "convolutional":
            after = int(layer["filters"])
            module = _convolution(layer, before, after)
        elif layer["kind"] == "maxpool":
            module = _pool(int(layer["size"]), int(layer["stride"]))
        elif layer["kind"] == "upsample":
            module = torch.nn.Upsample(scale_factor=int(layer["stride"]), mode="nearest")
        elif layer["kind"] == "route":
            named = (channels[_place(item, number)] for item in layer["layers"].split(","))
            after = sum(count // int(layer.get("groups", "1")) for count in named)
        modules.append(module)
        channels.append(after)
    return modules


def _convolution(layer: Section, before: int, after: int) -> torch.nn.Module:
    """Convolution, norm where asked, activation."""
    import torch

    size, normed = int(layer["size"]), layer.get("batch_normalize") == "1"
    padding = size // 2 if layer.get("pad") == "1" else int(layer.get("padding", "0"))
    steps: list[torch.nn.Module] = [
        torch.nn.Conv2d(before, after, size, int(layer["stride"]), padding, bias=not normed)
    ]
    if normed:
        steps.append(torch.nn.BatchNorm2d(after))
    activations = {"leaky": torch.nn.LeakyReLU(0.1), "mish": torch.nn.Mish()}
    if layer["activation"] in activations:
        steps.append(activations[layer["activation"]])
    return torch.nn.Sequential(*steps)


def _pool(size: int, stride: int) -> torch.nn.Module:
    """A pool that keeps the size where its stride is one: Darknet pads at the far edges first."""
    import torch

    near = (size - 1) // 2
    pad = torch.nn.ZeroPad2d((near, size - 1 - near, near, size - 1 - near))
    return torch.nn.Sequential(pad, torch.nn.MaxPool2d(size, stride))
