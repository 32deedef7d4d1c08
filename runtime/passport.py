"""The passport beside an engine: where it comes from, what it is for, whether it may load here.

Rules:
    P1  An engine is judged before a library sees a byte of it.
    P2  Whoever cannot say where an engine comes from does not load it: without a passport, or with
        one that does not fit its bytes, it is refused.
    P3  What was right once and is not any more (the graph, the library's version, the processor) is
        a matter of building again, and the verdict says how.
    P4  The passport is written after the engine and names its hash, so an interrupted build leaves
        no engine that would load.
The published schema is docs/schemas/passport.schema.json, generated from these classes.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import importlib.metadata
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from jetlift.runtime import atomic, jsonform
from jetlift.runtime.bundle import sha256_of
from jetlift.runtime.errors import PassportError
from jetlift.runtime.jsonform import field
from jetlift.runtime.manifest import NAME, SHA256
from jetlift.runtime.receipt import Receipt, Speed  # noqa: TC001 - jsonform reads the hints

if TYPE_CHECKING:
    from jetlift.runtime.bundle import Bundle

SCHEMA_VERSION = 2
SUFFIX = ".passport.json"
_MAX_BYTES = 4 * 2**20
_UTC = r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z"
# Instruction sets that change which kernels a CPU engine library picks, oldest first.
_ISA_FLAGS = (
    "sse4_2", "avx", "avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16",
    "amx_int8", "amx_bf16", "amx_fp16", "avx10_2",
    "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "svei8mm", "svebf16", "sme",
)  # fmt: skip
_EXTRAS = {"openvino": "cpu", "tensorrt_rtx": "rtx", "tensorrt": "tensorrt"}
_CUDA_MAJOR, _CUDA_MINOR = 75, 76  # cuDeviceGetAttribute: compute capability


@dataclass(frozen=True)
class Passport:
    """The whole of `<engine>.passport.json`."""

    schema_version: int = field(doc="Version of this schema")
    engine_sha256: str = field(doc="SHA-256 of the engine file", pattern=SHA256)
    engine_size_bytes: int = field(doc="Size of the engine file in bytes")
    onnx_sha256: str = field(
        doc="SHA-256 of the ONNX file, or over it and its data files' where there are any",
        pattern=SHA256,
    )
    bundle_sha256: str = field(doc="SHA-256 of the bundle's bundle.json", pattern=SHA256)
    model: str = field(doc="Model of the bundle", pattern=NAME)
    part: str = field(doc="Part of the model")
    variant: str = field(doc="Variant of the part, as in fp32, fp16, int8")
    target: str = field(doc="What the engine was built for")
    library: Literal["openvino", "tensorrt", "tensorrt_rtx"] = field(doc="Engine library")
    library_version: str = field(doc="Its version")
    arithmetic: str = field(doc="What the wide parts compute in, or `as typed`")
    machine: str = field(doc="Processor architecture the engine is for, as in x86_64, aarch64")
    cpu_name: str | None = field(doc="Processor it was built on, where it is bound to it")
    isa: tuple[str, ...] = field(doc="Instruction sets it is bound to; empty where to none")
    compute_capability: str | None = field(doc="CUDA compute capability, as in 8.6; null for a CPU")
    receipt: Receipt = field(doc="What really runs in which precision")
    speed: Speed = field(doc="Whether it is faster than fp32 on the target; INT8 has to be")
    jetlift: str = field(doc="Version of jetlift that built it")
    built_at: str = field(doc="Time of the build in UTC, ISO 8601", pattern=_UTC)


@dataclass(frozen=True)
class Host:
    """The machine that is to load an engine.

    Attributes:
        machine: Processor architecture, as in `x86_64`.
        cpu_name: Name of the processor, or `unknown`.
        isa: Its instruction sets, as far as engine libraries care.
        libraries: Version per installed engine library.
        compute_capabilities: Of its CUDA devices, as in `8.6`; None where nobody looked.
    """

    machine: str
    cpu_name: str
    isa: tuple[str, ...]
    libraries: dict[str, str]
    compute_capabilities: tuple[str, ...] | None


@dataclass(frozen=True)
class Verdict:
    """What is to be done with an engine.

    Attributes:
        action: `load` it; `rebuild` it, since it was right once; or `refuse` it.
        reason: Why, as a clause that can follow the engine's name.
        do: The next step for the reader.
    """

    action: Literal["load", "rebuild", "refuse"]
    reason: str
    do: str


def passport_path(engine_path: Path) -> Path:
    """Where the passport of an engine lies."""
    return engine_path.with_name(engine_path.name + SUFFIX)


def read_passport(engine_path: Path) -> Passport | None:
    """Read the passport of an engine.

    Returns:
        None where there is none.

    Raises:
        PassportError: It is there and not of the published form, or of another schema version.
    """
    path = passport_path(engine_path)
    if not path.is_file():
        return None
    again = "Build the engine again with: jetlift build"
    if path.stat().st_size > _MAX_BYTES:
        raise PassportError(f"{path} is larger than any passport", do=again)
    try:
        data = jsonform.parse(path.read_bytes())
        _check_version(path, data)  # first, since another version may well have another form
        return jsonform.read(Passport, data)
    except jsonform.FormError as error:
        raise PassportError(
            f"{path} is refused at {error.where or 'its start'}: got {error.got}",
            expected=f"Expected {error.expected}",
            do=again,
        ) from error


def _check_version(path: Path, data: object) -> None:
    version = data.get("schema_version") if isinstance(data, dict) else None
    if isinstance(data, dict) and isinstance(version, int) and version != SCHEMA_VERSION:
        raise PassportError(
            f"{path} has schema version {version}",
            expected=f"This jetlift reads version {SCHEMA_VERSION}",
            do=f"Build the engine again with: jetlift build, or use jetlift {data.get('jetlift')}",
        )


def write_passport(passport: Passport, engine_path: Path) -> None:
    """Write the passport of an engine that is already there (rule P4).

    Raises:
        StorageError: The disk is full or not writable.
    """
    atomic.write_bytes(passport_path(engine_path), jsonform.dumps(passport).encode())


def onnx_sha256(bundle: Bundle, part: str, precision: str) -> str:
    """Hash of a variant's graph: of its ONNX file, or over the hashes of it and its data files.

    Raises:
        UnknownNameError: The bundle has no such part or variant.
    """
    variant = bundle.variant(part, precision)
    listed = {entry.path: entry.sha256 for entry in bundle.manifest.files}
    hashes = [listed[name] for name in (variant.file, *variant.data_files)]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def judge(
    passport: Passport | None,
    host: Host,
    engine_path: Path,
    *,
    onnx_sha256: str | None = None,
    target: str | None = None,
) -> Verdict:
    """Decide whether an engine may load here, without loading it (rules P1 to P3).

    Args:
        passport: Its passport, or None where there is none.
        host: The machine that is to load it.
        engine_path: The engine file; it is hashed.
        onnx_sha256: Hash of the graph in the bundle it lies in; None where it lies in none.
        target: What it has to be built for; None where that is all one.
    """
    if passport is None:
        return _refuse("it has no passport, so nothing says what it is", _again(None))
    if problem := _altered(passport, engine_path):
        return _refuse(problem, _again(passport))
    if target is not None and passport.target != target:
        return _refuse(f"it was built for target {passport.target}, not {target}", _again(passport))
    if problem := _wrong_gpu(passport, host):
        return _refuse(problem, "Run it on such a machine, or build for another target")
    if passport.library not in host.libraries:
        return _refuse(
            f"it needs {passport.library} {passport.library_version}, which is not installed",
            f"Install it with: pip install 'jetlift[{_EXTRAS[passport.library]}]'",
        )
    outdated = _outdated(passport, host, onnx_sha256)
    if outdated:
        return Verdict("rebuild", outdated, _again(passport))
    return Verdict("load", "it was built from this graph, by this library, for this machine", "")


def _outdated(passport: Passport, host: Host, onnx_sha256: str | None) -> str:
    """What was right when the engine was built and is not any more (rule P3)."""
    if onnx_sha256 is not None and passport.onnx_sha256 != onnx_sha256:
        return "it was built from another graph than the bundle now holds"
    if passport.machine != host.machine:
        return f"it was built for {passport.machine} and this machine is {host.machine}"
    version = host.libraries[passport.library]
    if version != passport.library_version:
        return f"{passport.library} {passport.library_version} built it and {version} is installed"
    if passport.isa and passport.isa != host.isa:
        difference = " ".join(sorted(set(passport.isa) ^ set(host.isa)))
        return f"it was built on {passport.cpu_name}; this processor differs in {difference}"
    return ""


def _refuse(reason: str, do: str) -> Verdict:
    return Verdict("refuse", reason, do)


def here(*, gpu: bool = True) -> Host:
    """Describe this machine. No engine library is imported.

    Args:
        gpu: Whether to ask the CUDA driver, which takes a moment where there is one.
    """
    cpu_name, isa = _processor(Path("/proc/cpuinfo"))
    libraries = {}
    for name in _EXTRAS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            libraries[name] = importlib.metadata.version(name)
    return Host(
        machine=platform.machine(),
        cpu_name=cpu_name,
        isa=isa,
        libraries=libraries,
        compute_capabilities=cuda_compute_capabilities() if gpu else None,
    )


def cuda_compute_capabilities() -> tuple[str, ...]:
    """Compute capability of each CUDA device, asked of the driver; empty without one.

    https://docs.nvidia.com/cuda/cuda-driver-api/group__CUDA__DEVICE.html
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return ()
    count = ctypes.c_int()
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return ()
    found = []
    for index in range(count.value):
        version = []
        for attribute in (_CUDA_MAJOR, _CUDA_MINOR):
            value = ctypes.c_int()
            if driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, index) == 0:
                version.append(str(value.value))
        if len(version) == 2:
            found.append(".".join(version))
    return tuple(found)


def _altered(passport: Passport, engine_path: Path) -> str:
    if not engine_path.is_file():
        return "there is no such file"
    size = engine_path.stat().st_size
    if size != passport.engine_size_bytes:
        return f"it has {size} bytes where its passport says {passport.engine_size_bytes}"
    if sha256_of(engine_path) != passport.engine_sha256:
        return "its content is not what its passport says: it was altered or damaged"
    return ""


def _wrong_gpu(passport: Passport, host: Host) -> str:
    wanted = passport.compute_capability
    if wanted is None:
        return ""
    if not host.compute_capabilities:
        return (
            f"it needs an NVIDIA GPU of compute capability {wanted}; none with a driver was found"
        )
    if wanted not in host.compute_capabilities:
        found = ", ".join(host.compute_capabilities)
        return f"it needs a GPU of compute capability {wanted}, and this machine has {found}"
    return ""


def _again(passport: Passport | None) -> str:
    target = "TARGET" if passport is None else passport.target
    return f"Build it again with: jetlift build BUNDLE --target {target}"


def _processor(cpuinfo: Path) -> tuple[str, tuple[str, ...]]:
    """Name and instruction sets as Linux tells them; x86 says `flags`, ARM `Features`."""
    text = cpuinfo.read_text(errors="replace") if cpuinfo.is_file() else ""
    name = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    found = set(flags[1].split()) if flags else set()
    isa = tuple(flag for flag in _ISA_FLAGS if flag in found)
    return (name[1].strip() if name else "unknown"), isa
