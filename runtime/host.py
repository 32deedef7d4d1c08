"""The machine that loads an engine, as its system, its driver and its packages tell it.

Rules:
    H1  No engine library is imported: packages tell their versions, the driver tells of its GPU.
    H2  What a machine does not tell is None, never a guess.
    H3  The system is read below a root that tests replace by a folder of text files.
What a Jetson tells of itself is in jetlift.runtime.board.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jetlift.runtime import jsonform
from jetlift.runtime.board import BoardState, read_board
from jetlift.runtime.errors import InputError
from jetlift.runtime.jsonform import field

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "BoardState", "GpuState", "Host", "HostFile", "cuda_compute_capabilities", "cuda_devices",
    "describe", "here", "read_host",
]  # fmt: skip

HOST_SCHEMA_VERSION = 1
# Instruction sets that change which kernels a CPU engine library picks, oldest first.
_ISA_FLAGS = (
    "sse4_2", "avx", "avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16",
    "amx_int8", "amx_bf16", "amx_fp16", "avx10_2",
    "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "svei8mm", "svebf16", "sme",
)  # fmt: skip
# Packages that bring each engine library. Those that name a CUDA major tell its CUDA too; the plain
# ones are what an installer is asked for, or JetPack's own.
_LIBRARIES = ("openvino", "tensorrt", "tensorrt_lean", "tensorrt_rtx")
_SUFFIXES = ("", "_cu13", "_cu12")
# Debian's CUDA toolkit, JetPack's among them, says so here.
_CUDA_TOOLKIT = "usr/local/cuda/version.json"
# cuDeviceGetAttribute: multiprocessors, and the two halves of the compute capability.
_SM_COUNT, _CUDA_MAJOR, _CUDA_MINOR = 16, 75, 76
_NAME_BYTES = 256


@dataclass(frozen=True)
class GpuState:
    """A CUDA device, as its driver tells it."""

    name: str = field(doc="GPU, as the driver names it; every Orin calls itself Orin")
    compute_capability: str = field(doc="CUDA compute capability, as in 8.7")
    sm_count: int = field(
        doc="Streaming multiprocessors that are on; a Jetson's power mode may gate some"
    )
    driver_version: str = field(doc="Newest CUDA that the driver can serve, as in 12.6")


@dataclass(frozen=True)
class Host:
    """The machine that is to load an engine."""

    machine: str = field(doc="Processor architecture, as in x86_64")
    cpu_name: str = field(doc="Name of the processor, or unknown")
    isa: tuple[str, ...] = field(doc="Its instruction sets, as far as engine libraries care")
    libraries: dict[str, str] = field(doc="Version per installed engine library")
    compute_capabilities: tuple[str, ...] | None = field(
        doc="Of its CUDA devices, as in 8.6; null where nobody looked"
    )
    board: BoardState | None = field(doc="The Jetson it is; null where it is none", default=None)
    gpu: GpuState | None = field(
        doc="Its first CUDA device, which sessions use; null where there is none or nobody looked",
        default=None,
    )
    cuda_versions: dict[str, str] | None = field(
        doc="CUDA that each engine library computes with, as in 12.6, or its major alone, where "
        "that is told",
        default=None,
    )

    def cuda_of(self, library: str) -> str | None:
        """CUDA that an engine library computes with; None where that is not told."""
        return (self.cuda_versions or {}).get(library)


@dataclass(frozen=True)
class HostFile:
    """The whole of a file that describes a machine to another one."""

    schema_version: int = field(doc="Version of this schema")
    jetlift: str = field(doc="Version of jetlift that described it")
    host: Host = field(doc="The machine")


def here(*, gpu: bool = True, root: Path = Path("/")) -> Host:
    """Describe this machine. No engine library is imported (rule H1).

    Args:
        gpu: Whether to ask the CUDA driver, which takes a moment where there is one.
        root: Where /proc, /sys, /etc and /usr lie (rule H3).
    """
    cpu_name, isa = _processor(root / "proc/cpuinfo")
    devices = cuda_devices() if gpu else ()
    libraries = _installed()
    return Host(
        machine=platform.machine(),
        cpu_name=cpu_name,
        isa=isa,
        libraries=libraries,
        compute_capabilities=tuple(item.compute_capability for item in devices) if gpu else None,
        board=read_board(root),
        gpu=devices[0] if devices else None,
        cuda_versions=_cuda_versions(libraries, root),
    )


def describe(host: Host) -> HostFile:
    """A machine in the form that `read_host` reads elsewhere."""
    return HostFile(HOST_SCHEMA_VERSION, importlib.metadata.version("jetlift"), host)


def read_host(path: Path) -> Host:
    """Read what another machine says of itself.

    Raises:
        InputError: There is no such file, or it is not of this form.
    """
    again = "Make it on that machine with: jetlift doctor --host"
    if not path.is_file():
        raise InputError(f"There is no file {path} that describes a machine", do=again)
    with jsonform.refusing(path, InputError, do=again):
        found = jsonform.loads(HostFile, path.read_bytes())
    if found.schema_version != HOST_SCHEMA_VERSION:
        raise InputError(
            f"{path} has schema version {found.schema_version}",
            expected=f"This jetlift reads version {HOST_SCHEMA_VERSION}",
            do=again,
        )
    return found.host


def cuda_compute_capabilities() -> tuple[str, ...]:
    """Compute capability of each CUDA device, asked of the driver; empty without one."""
    return tuple(item.compute_capability for item in cuda_devices())


def cuda_devices(library: str = "libcuda.so.1") -> tuple[GpuState, ...]:
    """The CUDA devices that the driver tells of, in its order; empty without a driver.

    https://docs.nvidia.com/cuda/cuda-driver-api/group__CUDA__DEVICE.html

    Args:
        library: The driver's library.
    """
    try:
        driver = ctypes.CDLL(library)
    except OSError:
        return ()
    if driver.cuInit(0) != 0:  # as without a device, or with a driver of another version
        return ()
    count, version = ctypes.c_int(), ctypes.c_int()
    if driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return ()
    if driver.cuDriverGetVersion(ctypes.byref(version)) != 0:
        return ()
    told = f"{version.value // 1000}.{version.value % 1000 // 10}"  # 12060 is CUDA 12.6
    return tuple(_devices(driver, count.value, told))


def _devices(driver: ctypes.CDLL, count: int, version: str) -> Iterator[GpuState]:
    """Each device that answers every question."""
    for index in range(count):
        device, name = ctypes.c_int(), ctypes.create_string_buffer(_NAME_BYTES)
        if driver.cuDeviceGet(ctypes.byref(device), index) != 0:
            continue
        asked = (_CUDA_MAJOR, _CUDA_MINOR, _SM_COUNT)
        major, minor, sms = (_attribute(driver, device, attribute) for attribute in asked)
        named = driver.cuDeviceGetName(name, _NAME_BYTES, device) == 0
        if named and major is not None and minor is not None and sms is not None:
            yield GpuState(name.value.decode(errors="replace"), f"{major}.{minor}", sms, version)


def _attribute(driver: ctypes.CDLL, device: ctypes.c_int, attribute: int) -> int | None:
    value = ctypes.c_int()
    failed = driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device) != 0
    return None if failed else value.value


def _installed() -> dict[str, str]:
    """Version per engine library, as its package tells it."""
    found: dict[str, str] = {}
    for name in _LIBRARIES:
        for suffix in _SUFFIXES if name != "openvino" else _SUFFIXES[:1]:
            version = _version(name + suffix)
            if version is not None:
                found.setdefault(name, version)
    return found


def _cuda_versions(libraries: dict[str, str], root: Path) -> dict[str, str]:
    """CUDA per library: the major its packages are made for, else the system's toolkit."""
    toolkit = _toolkit(root / _CUDA_TOOLKIT)
    found: dict[str, str] = {}
    for name in libraries:
        if name == "openvino":
            continue
        majors = [suffix for suffix in _SUFFIXES[1:] if _version(f"{name}{suffix}_libs")]
        if len(majors) == 1:
            found[name] = majors[0].removeprefix("_cu")
        elif not majors and toolkit is not None:
            found[name] = toolkit
    return found


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _toolkit(path: Path) -> str | None:
    """CUDA toolkit's major and minor version; None where it is not told (rule H2)."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    told = re.search(r'"cuda"\s*:\s*\{[^}]*"version"\s*:\s*"(\d+\.\d+)', text)
    return told[1] if told else None


def _processor(cpuinfo: Path) -> tuple[str, tuple[str, ...]]:
    """Name and instruction sets as Linux tells them; x86 says `flags`, ARM `Features`."""
    text = cpuinfo.read_text(errors="replace") if cpuinfo.is_file() else ""
    name = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    found = set(flags[1].split()) if flags else set()
    isa = tuple(flag for flag in _ISA_FLAGS if flag in found)
    return (name[1].strip() if name else "unknown"), isa
