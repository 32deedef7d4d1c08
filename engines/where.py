"""Whether this machine is a target, and which GPU a target means on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jetlift.jetson.facts import device_of

if TYPE_CHECKING:
    from jetlift.engines.targets import Target
    from jetlift.jetson.facts import Device
    from jetlift.runtime.host import Host


def is_here(target: Target, host: Host) -> bool:
    """Whether engines for a target are built and run on this machine.

    A CPU target always is. A board is where the machine says it is that module; the Super firmware
    changes clocks and not engines, so it makes no difference here. A GPU target is where this
    machine has such a GPU and is no board.
    """
    if target.library in ("openvino", "onnxruntime"):
        return True
    if target.device is not None:
        board = board_of(host)
        return board is not None and board.module == target.device.module
    if host.gpu is None or host.board is not None:
        return False
    return target.compute_capability in (None, host.gpu.compute_capability)


def board_of(host: Host) -> Device | None:
    """The Jetson that this machine says it is; None where it is none, or none that is known."""
    return None if host.board is None else device_of(host.board.device, host.board.module)


def capability_of(target: Target, host: Host) -> str | None:
    """Compute capability that a target's engines are for, as in `8.6`.

    Returns:
        None for a CPU, and for `gpu` where this machine has none.
    """
    if target.compute_capability is not None or target.library != "tensorrt":
        return target.compute_capability
    return host.gpu.compute_capability if host.gpu is not None else None
