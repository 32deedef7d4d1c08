"""What is known of each Jetson and of each JetPack, read from devices.toml and jetpack.toml.

Rules:
    F1  A fact stands in the TOML with its source, never in code. What no source tells is None.
    F2  Peaks are dense, of the GPU alone, at the highest clock; what marketing prints stands apart.
    F3  A Super board is the same module under other firmware: other clocks, the same engines.
"""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from jetlift.runtime import jsonform
from jetlift.runtime.errors import UnknownNameError, UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SUPER = "-super"


@dataclass(frozen=True)
class Peaks:
    """Dense peaks of the GPU at `gpu_max_mhz` (rule F2), in TFLOPS, for INT8 in TOPS."""

    fp32_tflops: float | None = None
    tf32_tflops: float | None = None
    fp16_tflops: float | None = None
    int8_tops: float | None = None
    fp8_tflops: float | None = None
    fp4_tflops: float | None = None


@dataclass(frozen=True)
class Marketing:
    """What NVIDIA prints for the whole module, with sparsity and DLAs as `scope` says (rule F2)."""

    scope: str = ""
    sparse_int8_tops: float | None = None
    dense_int8_tops: float | None = None
    sparse_fp4_tflops: float | None = None
    sparse_dla_int8_tops: float | None = None
    tensor_cores: int | None = None


@dataclass(frozen=True)
class PowerMode:
    """One mode of nvpmodel.

    Attributes:
        name: As nvpmodel prints it.
        id: Its number for `nvpmodel -m`.
        gpu_max_mhz: Highest GPU clock in it.
        sm_active: SMs that are powered in it.
        source: Where the figures come from.
        memory_mhz: Memory controller's (EMC) clock.
        memory_bandwidth_gbps: GB/s that follow from that clock.
        dla_mhz: DLA core clock.
        cpu_cores: CPU cores online.
        cpu_max_mhz: Their highest clock.
        default: Whether the board starts in it.
        notes: Conflicts between sources.
    """

    name: str
    id: int
    gpu_max_mhz: float
    sm_active: int
    source: str
    memory_mhz: float | None = None
    memory_bandwidth_gbps: float | None = None
    dla_mhz: float | None = None
    cpu_cores: int | None = None
    cpu_max_mhz: float | None = None
    default: bool = False
    notes: str = ""


@dataclass(frozen=True)
class Device:
    """One Jetson module.

    Attributes:
        name: As in `orin-nano-8gb`; the name of the target.
        product: NVIDIA's name.
        family: `Orin Nano`, `Orin NX`, `AGX Orin`, `Thor`, or an older one.
        compute_capability: As in `8.7`.
        architecture: As in `ampere`.
        sm_count: SMs of the GPU, all of them; a power mode may run fewer.
        cuda_cores: FP32 lanes.
        tensor_cores: Counted the usual way, four an SM on Orin and Thor.
        gpu_max_mhz: Highest GPU clock under this firmware.
        sparsity_2_4: Whether 2:4 sparsity doubles the tensor cores' peak.
        memory_gb: Memory that CPU and GPU share, as sold.
        memory_type: As in `LPDDR5`.
        memory_bus_bits: Width of the memory bus.
        memory_bandwidth_gbps: GB/s at the highest memory clock.
        dla_count: Deep learning accelerators.
        dense: Peaks.
        source: Where the figures come from.
        firmware: `super` for the higher clocks of JetPack 6.2's Super firmware (rule F3).
        modules: Part numbers that the device tree's `compatible` shows, as in `p3767-0003`.
        l2_kb: Level 2 cache of the GPU.
        dla_mhz: Highest DLA clock.
        dla_int8_tops: Dense peak of all DLAs together.
        marketing: What is printed for the module.
        power_modes: In the order of the firmware's table.
        derived: Figures computed from units and clock rather than printed.
        notes: What does not agree between sources.
    """

    name: str
    product: str
    family: str
    compute_capability: str
    architecture: str
    sm_count: int
    cuda_cores: int
    tensor_cores: int
    gpu_max_mhz: float
    sparsity_2_4: bool
    memory_gb: int
    memory_type: str
    memory_bus_bits: int
    memory_bandwidth_gbps: float
    dla_count: int
    dense: Peaks
    source: str
    firmware: str | None = None
    modules: tuple[str, ...] = ()
    l2_kb: int | None = None
    dla_mhz: float | None = None
    dla_int8_tops: float | None = None
    marketing: Marketing = field(default_factory=Marketing)
    power_modes: tuple[PowerMode, ...] = ()
    derived: tuple[str, ...] = ()
    notes: str = ""

    @property
    def module(self) -> str:
        """Name of the module without its firmware: boards of one module share engines (F3)."""
        return self.name.removesuffix(SUPER)

    @property
    def default_mode(self) -> PowerMode | None:
        """The mode it starts in, or None where no source tells."""
        return next((mode for mode in self.power_modes if mode.default), None)


@dataclass(frozen=True)
class LaterTensorRT:
    """A TensorRT that can be installed over the release's own."""

    tensorrt: str
    families: tuple[str, ...]
    source: str


@dataclass(frozen=True)
class Release:
    """One JetPack release.

    Attributes:
        version: As in `6.2.1`.
        tensorrt: What it brings, as in `10.3`.
        cuda: As in `12.6`.
        python: The system's Python.
        ubuntu: The root filesystem.
        families: Families of boards it runs on.
        source: Where that is said.
        l4t: Jetson Linux release, as in `36.4.4`; None where no source at hand tells.
        without: Devices of those families that it does not know.
        tensorrt_later: What can be installed over it.
        refused: Why jetlift builds for no board under it; None where it does.
        notes: What is uncertain.
    """

    version: str
    tensorrt: str
    cuda: str
    python: str
    ubuntu: str
    families: tuple[str, ...]
    source: str
    l4t: str | None = None
    without: tuple[str, ...] = ()
    tensorrt_later: tuple[LaterTensorRT, ...] = ()
    refused: str | None = None
    notes: str = ""

    def runs_on(self, device: Device) -> bool:
        """Whether it can be installed on a device."""
        return device.family in self.families and device.name not in self.without


@functools.cache
def devices() -> dict[str, Device]:
    """Every Jetson by its name, boards that jetlift refuses among them."""
    return {
        name: jsonform.read(Device, {"name": name, **entry}, name)
        for name, entry in _toml("devices.toml").items()
    }


@functools.cache
def releases() -> tuple[Release, ...]:
    """Every JetPack release, newest first, refused ones among them."""
    entries = _toml("jetpack.toml")["release"]
    return tuple(jsonform.read(Release, entry, f"release[{i}]") for i, entry in enumerate(entries))


def device(name: str) -> Device:
    """The device of a name.

    Raises:
        UnknownNameError: There is none.
    """
    if name not in devices():
        raise UnknownNameError(
            f"Jetson {name!r} is unknown", expected=f"One of {', '.join(devices())}"
        )
    return devices()[name]


def releases_for(device: Device) -> tuple[Release, ...]:
    """JetPack releases that a device runs and jetlift builds under, newest first."""
    return tuple(item for item in releases() if item.runs_on(device) and not item.refused)


def default_release(device: Device) -> Release:
    """The newest release for a device of which everything is known.

    Raises:
        UsageError: jetlift builds nothing for the device.
    """
    known = releases_for(device)
    if not known:
        raise UsageError(f"No engine can be built for {device.name}: {refusal(device)}")
    return next((item for item in known if item.l4t), known[0])


def refusal(device: Device) -> str | None:
    """Why jetlift builds nothing for a device; None where it does."""
    if releases_for(device):
        return None
    newest = next((item for item in releases() if item.runs_on(device)), None)
    if newest is None:
        return f"no JetPack release for {device.product} is known"
    return f"JetPack {newest.version} is the last line for {device.product}: {newest.refused}"


def release(version: str) -> Release:
    """The release of a version, as in `6.2`.

    Raises:
        UnknownNameError: There is none.
    """
    for item in releases():
        if numbers(item.version) == numbers(version):
            return item
    known = ", ".join(item.version for item in releases())
    raise UnknownNameError(f"JetPack {version!r} is unknown", expected=f"One of {known}")


def release_of_l4t(l4t: str) -> Release | None:
    """The JetPack of a Jetson Linux release, as in `36.4.3`.

    A release between two known ones of the same major version (a security update, as 36.4.7) is
    told as the earlier; one newer than every known one, or of no known major version, is None.
    """
    wanted = numbers(l4t)
    line = [item for item in releases() if item.l4t and numbers(item.l4t)[:1] == wanted[:1]]
    if not line or wanted > numbers(line[0].l4t or ""):
        # Lines that are refused as a whole are listed by their first release alone.
        return line[0] if line and line[0].refused else None
    return next((item for item in line if numbers(item.l4t or "") <= wanted), None)


def device_of(model: str | None, module: str | None) -> Device | None:
    """The device that a board says it is, or None where it names none that is known.

    Args:
        model: Model string of its device tree, or the name of a device. Under the Super firmware
            the string, as the device tree's `compatible`, has `super` in it.
        module: Part number of its module, as in `p3767-0005`. NVIDIA's nvautoflash.sh of Jetson
            Linux 39.2 lists which is which; the model string alone does not tell 4 from 8 GB.
    """
    if model in devices():
        return devices()[model]
    found = next((item for item in devices().values() if module in item.modules), None)
    if found is None or "super" not in (model or "").lower():
        return found
    return devices().get(found.module + SUPER, found)


def numbers(version: str) -> tuple[int, ...]:
    """A version as numbers to compare, without zeros at its end: `36.4.0` is `36.4`."""
    found = [int(part) for part in version.split(".") if part.isdigit()]
    while found and found[-1] == 0:
        found.pop()
    return tuple(found)


def _toml(name: str) -> dict[str, Any]:
    text = resources.files("jetlift.jetson").joinpath(name).read_text(encoding="utf-8")
    data: dict[str, Any] = tomllib.loads(text)
    return data
