"""Which target builds which variant, and why not: the table of docs/targets.md.

Rules:
    C1  Every cell follows from facts: of a board from jetson/, of a GPU from its compute
        capability, of TensorRT-RTX from what its compiler took when it was asked.
    C2  A cell says what it rests on: `tried` where the builder was run without the device,
        `documented` where NVIDIA's documents are all there is.
Written anew with: python tests/engines/test_compatibility.py
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from jetlift.engines.targets import TARGETS, Target
from jetlift.jetson.abilities import Ability, abilities, numbers_of, precision
from jetlift.jetson.facts import releases

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jetlift.jetson.facts import Release

# A variant's name to the precisions that a graph of it holds.
VARIANTS: dict[str, tuple[str, ...]] = {
    "fp32": ("fp32",),
    "fp16": ("fp16",),
    "bf16": ("bf16",),
    "int8": ("int8", "fp32"),
    "int8-fp16": ("int8", "fp16"),
}
# TensorRT-RTX 1.7.1 compiles no FP32 product for Turing; every other cell of it was built, one
# product a graph (tests/engines/test_compatibility.py does it again).
_TURING = Ability(
    able=False,
    reason="TensorRT-RTX 1.7 compiles no FP32 products for Turing",
    source="its compiler's refusal",
)
_OPENVINO = "OpenVINO computes FP16 and BF16 in FP32 here"


@dataclass(frozen=True)
class Cell:
    """One target, one JetPack release, one variant.

    Attributes:
        target: Name of the target.
        jetpack: Version of the release; None where the target is no board.
        tensorrt: Version of TensorRT that builds it; None where another library does.
        variant: Name of the variant.
        builds: Whether an engine can be built.
        reason: Why not, or what is worth knowing; may be empty where it builds.
        basis: What it rests on (rule C2).
        source: Where that is said.
    """

    target: str
    jetpack: str | None
    tensorrt: str | None
    variant: str
    builds: bool
    reason: str
    basis: Literal["tried", "documented"]
    source: str


def cells() -> tuple[Cell, ...]:
    """The whole table, targets in their order, releases newest first."""
    return tuple(cell for target in TARGETS.values() for cell in cells_of(target))


def cells_of(target: Target) -> Iterator[Cell]:
    """The rows of one target. `gpu` has none of its own: it is one of the gpu-sm targets."""
    if target.device is not None:
        for release in releases():
            yield from (_board(target, release, variant) for variant in VARIANTS)
    elif target.compute_capability is not None:
        yield from (_gpu(target, target.compute_capability, variant) for variant in VARIANTS)
    elif target.library == "openvino":
        yield from (_cpu(target, variant) for variant in VARIANTS)


def _board(target: Target, release: Release, variant: str) -> Cell:
    if target.device is None:
        raise ValueError(target.name)
    able = abilities(target.device, release)
    wanted = [able["tensorrt"], *(able[name] for name in VARIANTS[variant])]
    missing = next((item for item in wanted if not item.able), None)
    return Cell(
        target=target.name,
        jetpack=release.version,
        tensorrt=release.tensorrt,
        variant=variant,
        builds=missing is None,
        reason=missing.reason if missing else "",
        basis="documented",
        source=(missing or wanted[1]).source,
    )


def _gpu(target: Target, capability: str, variant: str) -> Cell:
    wanted = [precision(name, capability) for name in VARIANTS[variant]]
    tried = target.library == "tensorrt_rtx"
    if tried and numbers_of(capability) == (7, 5) and "fp32" in VARIANTS[variant]:
        wanted.insert(0, _TURING)
    missing = next((item for item in wanted if not item.able), None)
    return Cell(
        target=target.name,
        jetpack=None,
        tensorrt=None,
        variant=variant,
        builds=missing is None,
        reason=missing.reason if missing else "",
        basis="tried" if tried else "documented",
        source=(missing or wanted[0]).source,
    )


def _cpu(target: Target, variant: str) -> Cell:
    widened = {"fp16", "bf16"} & set(VARIANTS[variant])
    reason = _OPENVINO if widened else ""
    return Cell(target.name, None, None, variant, True, reason, "tried", "engines/build.py")  # noqa: FBT003
