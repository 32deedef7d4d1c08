from __future__ import annotations

import pytest

from jetlift.engines.targets import TARGETS, target
from jetlift.engines.where import board_of, capability_of, is_here
from jetlift.runtime.host import BoardState, GpuState, Host

PLAIN = Host("x86_64", "a processor", (), {}, ())


def board(model: str | None, module: str | None) -> Host:
    state = BoardState(model, "36.4.3", "15W", 624.75, 2133.0, module=module)
    gpu = GpuState("Orin", "8.7", 8, "12.6")
    return Host("aarch64", "ARM", (), {"tensorrt": "10.3.0"}, ("8.7",), board=state, gpu=gpu)


def workstation(capability: str) -> Host:
    gpu = GpuState("a card", capability, 84, "13.0")
    return Host("x86_64", "a processor", (), {}, (capability,), gpu=gpu)


NANO = board("NVIDIA Jetson Orin Nano Developer Kit", "p3767-0005")
NANO_SUPER = board(
    "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super", "p3767-0005"
)


NX = board("orin-nx-16gb", None)


def here(host: Host) -> list[str]:
    return [item.name for item in TARGETS.values() if is_here(item, host)]


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (PLAIN, ["cpu", "cpu-onnxruntime"]),
        (NANO, ["cpu", "cpu-onnxruntime", "orin-nano-8gb", "orin-nano-8gb-super"]),
        (NANO_SUPER, ["cpu", "cpu-onnxruntime", "orin-nano-8gb", "orin-nano-8gb-super"]),
        (NX, ["cpu", "cpu-onnxruntime", "orin-nx-16gb", "orin-nx-16gb-super"]),
        (board("a board of somebody's", None), ["cpu", "cpu-onnxruntime"]),
        (workstation("8.6"), ["cpu", "cpu-onnxruntime", "gpu", "gpu-sm86", "rtx-sm86"]),
        (workstation("9.0"), ["cpu", "cpu-onnxruntime", "gpu", "gpu-sm90"]),
        (workstation("6.1"), ["cpu", "cpu-onnxruntime", "gpu"]),
    ],
)  # fmt: skip
def test_what_is_here(host: Host, expected: list[str]) -> None:
    assert here(host) == expected


def test_a_board_is_known_with_its_firmware() -> None:
    assert board_of(PLAIN) is None
    found, faster = board_of(NANO), board_of(NANO_SUPER)
    assert found is not None
    assert faster is not None
    assert (found.name, faster.name) == ("orin-nano-8gb", "orin-nano-8gb-super")


def test_gpu_means_the_one_that_is_here() -> None:
    assert capability_of(target("gpu"), workstation("8.9")) == "8.9"
    assert capability_of(target("gpu"), PLAIN) is None
    assert capability_of(target("cpu"), workstation("8.9")) is None
    assert capability_of(target("orin-nano-8gb"), PLAIN) == "8.7"
