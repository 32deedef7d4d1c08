"""Where an engine can be built for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from jetlift.runtime.errors import UnknownNameError

# TensorRT-RTX 1.7 compiles for these without a GPU; it refuses 8.7 (Orin) and 11.0 (Thor).
_RTX_CAPABILITIES = {
    "7.5": "Turing: RTX 20, T4",
    "8.0": "Ampere: A100",
    "8.6": "Ampere: RTX 30, A10",
    "8.9": "Ada: RTX 40, L4",
    "12.0": "Blackwell: RTX 50",
    "12.1": "Blackwell: GB10",
}
_BOARD = re.compile(r"(?:agx|orin|thor|xavier|jetson|nano|tx\d|nx)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Target:
    """Where engines are to run.

    Attributes:
        name: As the command line takes it.
        library: What compiles and runs them; `onnxruntime` compiles nothing.
        compute_capability: CUDA compute capability, as in `8.6`; None for a CPU.
        description: One line for people.
    """

    name: str
    library: Literal["openvino", "onnxruntime", "tensorrt_rtx"]
    compute_capability: str | None
    description: str


def _rtx(capability: str, cards: str) -> Target:
    name = f"rtx-sm{capability.replace('.', '')}"
    return Target(name, "tensorrt_rtx", capability, f"TensorRT-RTX, {cards}; builds without a GPU")


TARGETS: dict[str, Target] = {
    item.name: item
    for item in (
        Target("cpu", "openvino", None, "OpenVINO on this machine's CPU"),
        Target(
            "cpu-onnxruntime", "onnxruntime", None, "ONNX Runtime, the reference; nothing to build"
        ),
        *(_rtx(capability, cards) for capability, cards in _RTX_CAPABILITIES.items()),
    )
}


def target(name: str) -> Target:
    """The target of a name.

    Raises:
        UnknownNameError: There is none.
    """
    if name in TARGETS:
        return TARGETS[name]
    names = ", ".join(TARGETS)
    if _BOARD.search(name):
        raise UnknownNameError(
            f"Target {name!r} looks like a Jetson; builds for boards are not in this version",
            expected=f"One of {names}",
            do="An rtx target shows whether NVIDIA's compiler takes the graphs, on no board though",
        )
    raise UnknownNameError(f"Target {name!r} is unknown", expected=f"One of {names}")
