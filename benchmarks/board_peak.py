"""What a board's GPU reaches at best in the power mode and at the clocks it was measured at.

Rules:
    D1  The peak is dense, of the GPU alone: operations per SM and clock, which follow from the
        dense peak, all SMs and the highest clock of jetson/devices.toml, times the SMs that the
        power mode runs, times the clock that was seen. What marketing prints, with sparsity, is
        never used.
    D2  The clock is the highest that was seen while measuring; where nobody looked, the highest
        that the mode allows. So a share of the peak is rather too small than too large.
    D3  TensorRT may compute FP32 products in TF32 (it is left on), so FP32 is held to that peak.
    D4  Memory moves what the mode's memory clock allows: bits of the bus times clock, as the facts
        have it. No program reaches all of it.
    D5  A board without a known name or power mode has no peak, with the reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jetlift.jetson import facts
from jetlift.jetson.state import GPU
from jetlift.runtime.record import ComputePeak, Figure, Peak

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from jetlift.jetson.facts import Device, PowerMode
    from jetlift.runtime.power_form import Conditions

_NO_BOARD = "the peak of this GPU is in no table; only a Jetson's is"


def present_peak(
    device_name: str | None, power_mode: str | None, seen: Iterable[Conditions | None]
) -> tuple[Peak | None, str]:
    """The peak of a board as it was measured at, or None with the reason (rules D1 to D5).

    Args:
        device_name: As 'jetlift targets' has it; None where this is no board that is known.
        power_mode: As nvpmodel names it.
        seen: The board's state while each variant was measured.
    """
    if device_name is None:
        return None, _NO_BOARD
    device = facts.device(device_name)
    states = [state for state in seen if state is not None]
    named = power_mode or next((item.power_mode for item in states if item.power_mode), None)
    mode = next((item for item in device.power_modes if item.name == named), None)
    if mode is None:
        told = "is not told" if named is None else f"{named!r} is in no table"
        return None, f"the power mode of {device.product} {told}, so its active SMs are not known"
    clocks = [
        clock.max_mhz.value
        for state in states
        for clock in state.clocks
        if clock.name == GPU and clock.max_mhz.value
    ]
    mhz = max(clocks) if clocks else mode.gpu_max_mhz
    return peak_at(device, mode, mhz, seen=bool(clocks)), ""


def peak_at(device: Device, mode: PowerMode, gpu_mhz: float, *, seen: bool) -> Peak:
    """The dense peak of a device in a power mode at a GPU clock (rules D1 to D4).

    Args:
        device: The board.
        mode: Its power mode.
        gpu_mhz: The GPU's clock.
        seen: Whether that clock was seen, or is the highest that the mode allows.
    """
    share = mode.sm_active * gpu_mhz / (device.sm_count * device.gpu_max_mhz)
    where = "seen" if seen else "the mode's highest"
    how = f"{mode.sm_active} of {device.sm_count} SMs at {gpu_mhz:.0f} MHz ({where}), dense"
    rate = mode.memory_bandwidth_gbps or device.memory_bandwidth_gbps
    return Peak(
        compute={
            name: ComputePeak(Figure(round(tops * share, 5)), how + extra)
            for name, tops, extra in _dense(device)
        },
        memory_gb_per_s=Figure(rate),
        memory_how=f"{device.memory_type}, {device.memory_bus_bits} bits, at {mode.name}'s clock",
        library="facts of the board",
        version=f"{device.product}, mode {mode.name}",
        threads=None,
        basis="facts",
    )


def _dense(device: Device) -> Iterator[tuple[str, float, str]]:
    """Dense peaks at the highest clock of all SMs, in TOPS."""
    peaks = device.dense
    wide, note = peaks.tf32_tflops, ", in TF32"  # D3
    if wide is None:
        wide, note = peaks.fp32_tflops, ""
    for name, tops, extra in (
        ("fp32", wide, note),
        ("fp16", peaks.fp16_tflops, ""),
        ("bf16", peaks.fp16_tflops, ""),
        ("int8", peaks.int8_tops, ""),
    ):
        if tops is not None:
            yield name, tops, extra
