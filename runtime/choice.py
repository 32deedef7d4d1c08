"""Which variant runs where nobody names one.

Rules:
    C1  fp32, unless another variant has earned its place on this machine: its engine is built from
        the bundle's graph, was measured faster than fp32 on this processor, and met its fidelity
        budget. Of several, the one that takes the least of fp32's time.
    C2  A passport that cannot be read proves nothing, so its engine is not chosen. Whether the
        chosen engine may load is judged when it is opened, as ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jetlift.runtime.errors import PassportError
from jetlift.runtime.passport import here, onnx_sha256, read_passport

if TYPE_CHECKING:
    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.passport import Host

REFERENCE = "fp32"
CPU = "cpu"


def choose_precision(bundle: Bundle, part: str, target: str) -> str:
    """The variant of a part to run on a target of this machine (rules C1 and C2).

    Args:
        bundle: A verified bundle.
        part: Name of the part.
        target: As in `cpu`.

    Raises:
        UnknownNameError: No such part.
    """
    host = here(gpu=not target.startswith(CPU))
    ratios = {
        name: ratio
        for name in bundle.part(part)[1].variants
        if (ratio := _earned(bundle, part, name, target, host)) is not None
    }
    return min(ratios, key=ratios.__getitem__, default=REFERENCE)


def processor(host: Host, target: str) -> str:
    """What a speed on a target of this machine was measured on: its processor, board or GPU."""
    if target.startswith(CPU):
        return host.cpu_name
    if host.board is not None:
        mode = host.board.power_mode or "unknown power mode"
        return f"{host.board.device or host.board.module or 'unknown board'}, {mode}"
    return host.gpu.name if host.gpu is not None else "no GPU"


def _earned(bundle: Bundle, part: str, name: str, target: str, host: Host) -> float | None:
    """What share of fp32's time a variant takes, once it has earned its place (rule C1)."""
    fidelity = bundle.variant(part, name).fidelity
    if fidelity is None or not fidelity.met:
        return None
    try:
        passport = read_passport(bundle.engine_path(target, part, name))
    except PassportError:
        return None
    if passport is None or passport.onnx_sha256 != onnx_sha256(bundle, part, name):
        return None
    speed = passport.speed
    here_too = speed.verdict == "faster" and speed.processor == processor(host, target)
    return speed.ratio if here_too else None
