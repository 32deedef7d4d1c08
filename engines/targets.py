"""Where an engine can be built for: a CPU, a workstation's GPU, or a Jetson."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from jetlift.jetson.facts import devices, refusal
from jetlift.runtime.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from jetlift.jetson.facts import Device

Library = Literal["openvino", "onnxruntime", "tensorrt", "tensorrt_rtx"]

# TensorRT-RTX 1.7 compiles for these without a GPU; it refuses 8.7 (Orin) and 11.0 (Thor).
_RTX_CAPABILITIES = {
    "7.5": "Turing: RTX 20, T4",
    "8.0": "Ampere: A100",
    "8.6": "Ampere: RTX 30, A10",
    "8.9": "Ada: RTX 40, L4",
    "12.0": "Blackwell: RTX 50",
    "12.1": "Blackwell: GB10",
}
# GPUs that TensorRT 10.16.2 brings builder resources for, besides Thor:
# https://github.com/OE4T/meta-tegra/issues/2240
_GPU_CAPABILITIES = {
    "7.5": "Turing: RTX 20, T4",
    "8.0": "Ampere: A100",
    "8.6": "Ampere: RTX 30, A10",
    "8.9": "Ada: RTX 40, L4",
    "9.0": "Hopper: H100, H200",
    "10.0": "Blackwell: B200",
    "12.0": "Blackwell: RTX 50",
}
_BOARD = re.compile(r"(?:agx|orin|thor|xavier|jetson|nano|tx\d|nx)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Target:
    """Where engines are to run.

    Attributes:
        name: As the command line takes it, and the folder of its engines in a bundle.
        library: What compiles and runs them; `onnxruntime` compiles nothing.
        compute_capability: CUDA compute capability, as in `8.6`; None for a CPU, and for `gpu`,
            which is whatever GPU this machine has.
        description: One line for people.
        device: The Jetson it is; None where it is none.
    """

    name: str
    library: Library
    compute_capability: str | None
    description: str
    device: Device | None = None


def _rtx(capability: str, cards: str) -> Target:
    name = f"rtx-sm{capability.replace('.', '')}"
    return Target(name, "tensorrt_rtx", capability, f"TensorRT-RTX, {cards}; builds without a GPU")


def _gpu(capability: str, cards: str) -> Target:
    name = f"gpu-sm{capability.replace('.', '')}"
    return Target(name, "tensorrt", capability, f"TensorRT, {cards}; builds on such a GPU")


def _board(device: Device) -> Target:
    what = f"{device.product}, {device.sm_count} SMs, {device.memory_gb} GB; builds on the board"
    return Target(device.name, "tensorrt", device.compute_capability, what, device)


TARGETS: dict[str, Target] = {
    item.name: item
    for item in (
        Target("cpu", "openvino", None, "OpenVINO on this machine's CPU"),
        Target(
            "cpu-onnxruntime", "onnxruntime", None, "ONNX Runtime, the reference; nothing to build"
        ),
        Target("gpu", "tensorrt", None, "TensorRT on this machine's GPU, whatever it is"),
        *(_gpu(capability, cards) for capability, cards in _GPU_CAPABILITIES.items()),
        *(_rtx(capability, cards) for capability, cards in _RTX_CAPABILITIES.items()),
        *(_board(device) for device in devices().values() if refusal(device) is None),
    )
}


def target(name: str) -> Target:
    """The target of a name.

    Raises:
        UsageError: It is a Jetson that no supported JetPack runs on.
        UnknownNameError: There is none of that name.
    """
    if name in TARGETS:
        return TARGETS[name]
    old = devices().get(name)
    if old is not None:
        raise UsageError(
            f"No engine can be built for {name}: {refusal(old)}",
            expected="A board with JetPack 6.1 or newer, which are Orin and Thor",
            do="See them with: jetlift targets",
        )
    raise UnknownNameError(
        f"Target {name!r} is unknown",
        expected=_expected(name),
        do="See every target with: jetlift targets",
    )


def close_names(name: str) -> list[str]:
    """Targets whose names are like a name that is none, the most alike first."""
    wanted = re.sub(r"[\s_]+", "-", name.lower().strip()).removeprefix("jetson-")
    known = [*TARGETS, *(item for item in devices() if item not in TARGETS)]
    within = [item for item in known if wanted and (wanted in item or item in wanted)]
    alike = difflib.get_close_matches(wanted, known, n=4, cutoff=0.6)
    by_word = [item for item in known if difflib.get_close_matches(wanted, item.split("-"))]
    return list(dict.fromkeys([*within, *alike, *by_word]))[:6]


def _expected(name: str) -> str:
    close = close_names(name)
    if not close and _BOARD.search(name):
        close = [item.name for item in TARGETS.values() if item.device]
    return f"Perhaps {', '.join(close)}" if close else f"One of {', '.join(TARGETS)}"
