"""What a Jetson can do under a JetPack release: each a yes or a no, with the reason and a source.

Rules:
    A1  A yes is said of the hardware, the release's TensorRT and the pair of them.
    A2  Where hardware and TensorRT's documents disagree, the documents decide, and the reason says
        so: an engine is built by TensorRT, not by the data sheet.
    A3  Nothing here was tried on a board; each answer is as good as its source.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jetlift.jetson.facts import numbers

if TYPE_CHECKING:
    from jetlift.jetson.facts import Device, LaterTensorRT, Release

_DOCS = "https://docs.nvidia.com/deeplearning/tensorrt"
# As it stood in 2025 for 10.8 to 10.10, read in public copies of it.
_MATRIX = f"{_DOCS}/latest/getting-started/support-matrix.html#hardware-precision-matrix"
_MIGRATION = f"{_DOCS}/11.4.1/api/migration/tensorrt-10x-to-11x-jetson.html"
_DLA = f"{_DOCS}/11.4.1/inference-library/work-with-dla.html"
_TYPED = f"{_DOCS}/11.4.1/inference-library/dla-strongly-typed-networks.html"
_THOR = (
    "https://developer.nvidia.com/docs/drive/drive-os/7.0.3/public/"
    "drive-os-tensorrt-release-notes/release-properties.html"
)
_MODELOPT = "https://nvidia.github.io/Model-Optimizer/guides/0_support_matrix.html"
_NO_SM87 = "https://github.com/NVIDIA-ISAAC-ROS/isaac-ros-cli/issues/22"
_LAST_DLA_OF_10 = (10, 7)
_WITHOUT_SM87 = (10, 13, 3)
PRECISIONS = ("fp32", "fp16", "bf16", "int8", "int4w", "fp8", "fp4")


@dataclass(frozen=True)
class Ability:
    """One thing that a board can do, or cannot.

    Attributes:
        able: Whether it can.
        reason: Why, as a clause.
        source: Where that is said.
    """

    able: bool
    reason: str
    source: str


def abilities(device: Device, release: Release) -> dict[str, Ability]:
    """What a device can do under a release.

    Returns:
        `tensorrt` (whether jetlift builds there at all), one entry per name in `PRECISIONS`, then
        `strong_typing`, `dla` and `tensorrt_11`.
    """
    return {
        "tensorrt": _tensorrt(device, release),
        **{name: precision(name, device.compute_capability) for name in PRECISIONS},
        "strong_typing": _yes(
            "every network is strongly typed: the graph says the precision, no builder flag does",
            _MIGRATION,
        ),
        "dla": _dla(device, release),
        "tensorrt_11": _tensorrt_11(device, release),
    }


def precision(name: str, capability: str) -> Ability:
    """Whether TensorRT computes a precision on GPUs of a compute capability, as in `8.7`."""
    sm = numbers_of(capability)
    if name == "bf16" and sm == (8, 7):
        # Told and not refused: copies of the matrix disagree with the hardware's own abilities, and
        # the builder on the board knows.
        return _yes(
            "its tensor cores have it; copies of TensorRT's support matrix of 2025 list none for "
            "SM 8.7, so the builder on the board decides",
            _MATRIX,
        )
    at_least, words, source = _FLOORS[name]
    if sm >= at_least:
        return _yes(words, _THOR if sm == (11, 0) and name in _SAID_OF_THOR else source)
    least = ".".join(map(str, at_least))
    wanted = f"{name.upper()} needs SM {least} or newer, and this GPU is SM {capability}"
    return _no(wanted, source)


# Per precision: the first compute capability that has it, what is worth saying, the source.
_FLOORS: dict[str, tuple[tuple[int, int], str, str]] = {
    "fp32": ((7, 5), "runs; from SM 8.0 on products may run in TF32", _MATRIX),
    "fp16": ((7, 5), "runs on the tensor cores", _MATRIX),
    "bf16": ((8, 0), "runs on the tensor cores", _MATRIX),
    "int8": ((7, 5), "runs on the tensor cores, from explicit Q/DQ", _MATRIX),
    "int4w": ((8, 0), "weights alone are INT4; products run in the rest's precision", _MODELOPT),
    "fp8": ((8, 9), "runs on the tensor cores", _MODELOPT),
    "fp4": ((10, 0), "runs on the tensor cores", _MODELOPT),
}
_SAID_OF_THOR = ("fp32", "fp16", "bf16", "int8", "fp8")


def numbers_of(capability: str) -> tuple[int, int]:
    """A compute capability as two numbers."""
    major, _, minor = capability.partition(".")
    return int(major), int(minor or 0)


def later_tensorrt(device: Device, release: Release) -> LaterTensorRT | None:
    """The newest TensorRT that can be installed over the release's own on a device, or None."""
    return next((item for item in release.tensorrt_later if device.family in item.families), None)


def _yes(reason: str, source: str) -> Ability:
    return Ability(able=True, reason=reason, source=source)


def _no(reason: str, source: str) -> Ability:
    return Ability(able=False, reason=reason, source=source)


def _tensorrt(device: Device, release: Release) -> Ability:
    """Whether jetlift builds for a device under a release at all."""
    if release.refused:
        return _no(release.refused, release.source)
    if device.compute_capability == "8.7" and numbers(release.tensorrt) == _WITHOUT_SM87:
        return _no(f"its TensorRT {release.tensorrt} has no kernels for SM 8.7", _NO_SM87)
    if device.family not in release.families:
        boards = ", ".join(release.families)
        return _no(f"it runs on {boards} alone", release.source)
    if not release.runs_on(device):
        came = "the Super firmware came" if device.firmware else f"{device.product} came"
        return _no(f"{came} with a later release", release.source)
    return _yes(f"it brings TensorRT {release.tensorrt}", release.source)


def _dla(device: Device, release: Release) -> Ability:
    if device.dla_count == 0:
        source = _DLA if device.family == "Thor" else device.source
        return _no(f"{device.product} has no DLA", source)
    if numbers(release.tensorrt)[:2] <= _LAST_DLA_OF_10:
        told = f"{device.dla_count} DLA; fixed shapes, FP16 or INT8, other layers run on the GPU"
        return _yes(told, _DLA)
    later = later_tensorrt(device, release)
    if later is not None:
        told = f"with TensorRT {later.tensorrt} installed; {release.tensorrt} has no DLA"
        return _yes(told, _TYPED)
    told = f"TensorRT {release.tensorrt} has no DLA: 10.7 was the last of 10, and 11.4.1 has it on "
    return _no(told + "AGX Orin alone", _DLA)


def _tensorrt_11(device: Device, release: Release) -> Ability:
    later = later_tensorrt(device, release)
    if later is not None:
        return _yes(f"TensorRT {later.tensorrt} can be installed", later.source)
    told = "TensorRT 11 needs JetPack 7.2.2 or newer on AGX Orin or Thor"
    return _no(told, _MIGRATION)
