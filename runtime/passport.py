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

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from jetlift.runtime import atomic, jsonform
from jetlift.runtime.errors import PassportError
from jetlift.runtime.host import BoardState, Host, cuda_compute_capabilities, here
from jetlift.runtime.jsonform import field
from jetlift.runtime.manifest import MODEL, SHA256
from jetlift.runtime.receipt import Receipt, Speed  # noqa: TC001 - jsonform reads the hints
from jetlift.runtime.verdict import Verdict, judge

if TYPE_CHECKING:
    from pathlib import Path

    from jetlift.runtime.bundle import Bundle

SCHEMA_VERSION = 3
SUFFIX = ".passport.json"
_MAX_BYTES = 4 * 2**20
_UTC = r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z"


@dataclass(frozen=True)
class Profile:
    """Shapes of one input between which an engine runs."""

    min: tuple[int, ...] = field(doc="Smallest shape")
    opt: tuple[int, ...] = field(doc="Shape that tactics were timed at")
    max: tuple[int, ...] = field(doc="Largest shape")


@dataclass(frozen=True)
class BuildSettings:
    """What a GPU engine was built with, beyond its graph."""

    profile: dict[str, Profile] = field(doc="Shapes per input")
    optimization_level: int = field(doc="Optimisation level of the builder, 0 to 5")
    workspace_bytes: int | None = field(doc="Limit of scratch memory; null where none was set")
    version_compatible: bool = field(doc="Whether newer TensorRT of the same major loads it")
    refittable: bool = field(doc="Whether its weights can be replaced")
    stripped: bool = field(doc="Whether its weights were left out and have to be given first")
    dla_core: int | None = field(doc="DLA core it runs on; null where on the GPU alone")
    dla_fallback: tuple[str, ...] = field(doc="Layers that the DLA left to the GPU")
    plugins: tuple[str, ...] = field(doc="Plugins it needs")
    timing_cache_sha256: str | None = field(
        doc="SHA-256 of the timing cache it was built with, as it was before; null without one",
        pattern=SHA256,
    )
    attempts: tuple[str, ...] = field(doc="Builds that failed before this one, and why")


@dataclass(frozen=True)
class BuiltOn:
    """The machine with the GPU that an engine was built on. What it did not tell is null."""

    device: str | None = field(doc="Model string of the board's device tree, unchanged")
    l4t: str | None = field(doc="Release of Jetson Linux, as in 36.4.3")
    gpu_name: str | None = field(doc="GPU, as its driver names it")
    sm_count: int | None = field(doc="Streaming multiprocessors that were on")
    power_mode: str | None = field(doc="Name of the board's power mode")
    gpu_clock_mhz: float | None = field(doc="Highest clock that the GPU could take")
    memory_clock_mhz: float | None = field(doc="Clock of the memory")
    modules: tuple[str, ...] = field(
        doc="Part numbers of the modules that are this device, the board's own first", default=()
    )


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
    model: str = field(doc="Model of the bundle", pattern=MODEL)
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
    cuda_version: str | None = field(
        doc="CUDA that the library computes with, as in 12.6; null for a CPU or where not told"
    )
    built_on: BuiltOn | None = field(
        doc="Machine with the GPU it was built on; null for a CPU or where nothing of it is known"
    )
    settings: BuildSettings | None = field(doc="What it was built with; null for a CPU")
    receipt: Receipt = field(doc="What really runs in which precision")
    speed: Speed = field(doc="Whether it is faster than fp32 on the target; INT8 has to be")
    jetlift: str = field(doc="Version of jetlift that built it")
    built_at: str = field(doc="Time of the build in UTC, ISO 8601", pattern=_UTC)


__all__ = [
    "SCHEMA_VERSION", "BuildSettings", "BuiltOn", "Host", "Passport", "Profile", "Verdict",
    "built_on", "cuda_compute_capabilities", "here", "judge", "onnx_sha256", "passport_path",
    "read_passport", "write_passport",
]  # fmt: skip


def built_on(host: Host, modules: tuple[str, ...] = ()) -> BuiltOn | None:
    """What a passport says of the machine that builds, or None where it has no GPU to tell of.

    Args:
        host: The machine that builds.
        modules: Part numbers of the modules that are the same device as its board.
    """
    board, gpu = host.board, host.gpu
    if board is None and gpu is None:
        return None
    board = board or BoardState(None, None, None, None, None)
    own = () if board.module is None else (board.module,)
    return BuiltOn(
        device=board.device,
        l4t=board.l4t,
        gpu_name=None if gpu is None else gpu.name,
        sm_count=None if gpu is None else gpu.sm_count,
        power_mode=board.power_mode,
        gpu_clock_mhz=board.gpu_clock_mhz,
        memory_clock_mhz=board.memory_clock_mhz,
        modules=tuple(dict.fromkeys((*own, *modules))),
    )


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
    with jsonform.refusing(path, PassportError, do=again):
        data = jsonform.parse(path.read_bytes())
        _check_version(path, data)  # first, since another version may well have another form
        return jsonform.read(Passport, data)


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
