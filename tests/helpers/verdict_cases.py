"""Passports, hosts, and every case that `judge` tells apart, for its tests and docs/passport.md."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from jetlift.runtime.host import BoardState, GpuState, Host
from jetlift.runtime.passport import (
    SCHEMA_VERSION,
    BuildSettings,
    BuiltOn,
    Passport,
    Profile,
    passport_path,
    write_passport,
)
from jetlift.runtime.receipt import UNOBSERVED, Receipt, Speed
from jetlift.runtime.verdict import Verdict, judge_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CONTENT = b"the bytes of an engine"
GRAPH = "1" * 64
_RECEIPT = Receipt(UNOBSERVED, "nothing", "not observed", {}, 1.0, None, None, 0, (), {})

SETTINGS = BuildSettings(
    profile={"x": Profile((1, 3, 224, 224), (1, 3, 224, 224), (8, 3, 224, 224))},
    optimization_level=3,
    workspace_bytes=None,
    version_compatible=False,
    refittable=False,
    stripped=False,
    dla_core=None,
    dla_fallback=(),
    plugins=(),
    timing_cache_sha256="4" * 64,
    attempts=(),
)
COMPATIBLE = replace(SETTINGS, version_compatible=True)

PC = Host(
    machine="x86_64",
    cpu_name="Some Processor",
    isa=("avx2", "avx512f"),
    libraries={"openvino": "2026.4.1", "tensorrt_rtx": "1.7.1.116"},
    compute_capabilities=("8.6",),
    gpu=GpuState("NVIDIA GeForce RTX 3090", "8.6", 82, "13.0"),
    cuda_versions={"tensorrt_rtx": "13"},
)
AGX_BOARD = BoardState(
    "NVIDIA Jetson AGX Orin Developer Kit", "36.4.3", "MAXN", 1300.5, 3199.0, "p3701-0005", 2
)
AGX = Host(
    machine="aarch64",
    cpu_name="ARMv8 Processor rev 1 (v8l)",
    isa=("asimd", "asimdhp", "asimddp"),
    libraries={"tensorrt": "10.3.0.30"},
    compute_capabilities=("8.7",),
    board=AGX_BOARD,
    gpu=GpuState("Orin", "8.7", 16, "12.6"),
    cuda_versions={"tensorrt": "12.6"},
)
NANO = replace(
    AGX,
    board=BoardState(
        "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
        "36.4.3", "MAXN_SUPER", 1020.0, 3199.0, "p3767-0005", 0,
    ),
    gpu=GpuState("Orin", "8.7", 8, "12.6"),
)  # fmt: skip

ON_CPU = Passport(
    schema_version=SCHEMA_VERSION,
    engine_sha256=hashlib.sha256(CONTENT).hexdigest(),
    engine_size_bytes=len(CONTENT),
    onnx_sha256=GRAPH,
    bundle_sha256="2" * 64,
    model="dinov2-small",
    part="image",
    variant="int8",
    target="cpu",
    library="openvino",
    library_version="2026.4.1",
    arithmetic="f32",
    machine="x86_64",
    cpu_name="Some Processor",
    isa=("avx2", "avx512f"),
    compute_capability=None,
    cuda_version=None,
    built_on=None,
    settings=None,
    receipt=_RECEIPT,
    speed=Speed.not_measured("a test"),
    jetlift="0.1.0",
    built_at="2026-11-24T06:53:18Z",
)
ON_RTX = replace(
    ON_CPU,
    target="rtx-sm86", library="tensorrt_rtx", library_version="1.7.1.116", arithmetic="as typed",
    cpu_name=None, isa=(), compute_capability="8.6", cuda_version="13", settings=SETTINGS,
)  # fmt: skip
ON_AGX = replace(
    ON_RTX,
    target="agx-orin-64gb", library="tensorrt", library_version="10.3.0.30", machine="aarch64",
    compute_capability="8.7", cuda_version="12.6",
    built_on=BuiltOn(
        device="NVIDIA Jetson AGX Orin Developer Kit", l4t="36.4.3", gpu_name="Orin", sm_count=16,
        power_mode="MAXN", gpu_clock_mhz=1300.5, memory_clock_mhz=3199.0, modules=("p3701-0005",),
    ),
)  # fmt: skip


def on_board(host: Host, **changes: Any) -> Host:
    """A host whose board differs."""
    return replace(host, board=replace(host.board, **changes))


def built_on(passport: Passport, **changes: Any) -> Passport:
    """A passport whose machine differs."""
    return replace(passport, built_on=replace(passport.built_on, **changes))


def _alter(engine: Path) -> None:
    engine.write_bytes(CONTENT.replace(b"bytes", b"bites"))


def _cut(engine: Path) -> None:
    engine.write_bytes(CONTENT[:-5])


def _no_passport(engine: Path) -> None:
    passport_path(engine).unlink()


def _older_schema(engine: Path) -> None:
    path = passport_path(engine)
    text = path.read_text().replace(f'"schema_version": {SCHEMA_VERSION}', '"schema_version": 2')
    path.write_text(text)


@dataclass(frozen=True)
class Case:
    """One case of the table.

    Attributes:
        title: What differs, for readers.
        passport: Of the engine.
        host: That is to load it.
        action: What the verdict has to be.
        asked: Further arguments of `judge`.
        spoil: What is done to the files first.
    """

    title: str
    passport: Passport
    host: Host
    action: str
    asked: dict[str, Any] = field(default_factory=dict)
    spoil: Callable[[Path], None] = lambda engine: None  # noqa: ARG005

    def judged(self, folder: Path) -> Verdict:
        """The verdict on such an engine, which is written into a folder."""
        engine = folder / "image.int8.engine"
        engine.write_bytes(CONTENT)
        write_passport(self.passport, engine)
        self.spoil(engine)
        asked = {"onnx_sha256": GRAPH, **self.asked}
        return judge_file(engine, self.host, **asked)[1]


_RTX_MIX = replace(ON_RTX, compute_capability="8.6 8.9")
_TENSORRT_PC = replace(PC, libraries={"tensorrt": "10.16.1.11"}, cuda_versions={"tensorrt": "13"})
_ON_PC = replace(
    ON_AGX,
    target="gpu-sm86", library_version="10.16.1.11", machine="x86_64", compute_capability="8.6",
    cuda_version="13",
    built_on=BuiltOn(None, None, "NVIDIA GeForce RTX 3090", 82, None, None, None),
)  # fmt: skip
_RTX_3060 = replace(_TENSORRT_PC, gpu=GpuState("NVIDIA GeForce RTX 3060", "8.6", 28, "13.0"))
_DLA = replace(ON_AGX, settings=replace(SETTINGS, dla_core=0))
_NEWER = {"tensorrt": "10.7.0.23"}
_ARM_PC = replace(PC, machine="aarch64", isa=("asimd",))
_LEAN = {"libraries": {"tensorrt_lean": "10.3.0.30"}, "cuda_versions": {"tensorrt_lean": "12.6"}}

CASES = (
    Case("Nothing: a CPU engine where it was built", ON_CPU, PC, "load"),
    Case("Nothing: a TensorRT engine where it was built", ON_AGX, AGX, "load"),
    Case("Nothing: a TensorRT-RTX engine for two GPUs, one of them here", _RTX_MIX, PC, "load"),
    Case("No passport", ON_AGX, AGX, "refuse", {"target": "agx-orin-64gb"}, _no_passport),
    Case("Passport of another schema", ON_AGX, AGX, "refuse", spoil=_older_schema),
    Case("Content altered", ON_AGX, AGX, "refuse", spoil=_alter),
    Case("File cut short", ON_AGX, AGX, "refuse", spoil=_cut),
    Case("Another target than asked for", ON_AGX, AGX, "refuse", {"target": "orin-nano-8gb"}),
    Case("TensorRT-RTX's engine asked of TensorRT", ON_RTX, PC, "refuse", {"library": "tensorrt"}),
    Case("TensorRT's engine asked of TensorRT-RTX", ON_AGX, AGX, "refuse",
         {"library": "tensorrt_rtx"}),
    Case("Weights left out", replace(ON_AGX, settings=replace(SETTINGS, stripped=True)), AGX,
         "refuse"),
    Case("x86-64 engine on a Jetson", _ON_PC, AGX, "rebuild", {"own_target": "agx-orin-64gb"}),
    Case("A Jetson's engine on a PC", ON_AGX, PC, "rebuild"),
    Case("x86-64 CPU engine on an Arm PC", ON_CPU, _ARM_PC, "rebuild"),
    Case("No GPU", ON_RTX, replace(PC, gpu=None, compute_capabilities=()), "refuse"),
    Case("Other SM", ON_RTX,
         replace(PC, compute_capabilities=("8.9",), gpu=replace(PC.gpu, compute_capability="8.9")),
         "refuse"),
    Case("TensorRT-RTX engine for two SMs, neither here", _RTX_MIX,
         replace(PC, compute_capabilities=("12.0",),
                 gpu=GpuState("NVIDIA GeForce RTX 5090", "12.0", 170, "13.0")), "refuse"),
    Case("Its GPU is the second one", ON_RTX,
         replace(PC, compute_capabilities=("7.5", "8.6"), gpu=GpuState("T4", "7.5", 40, "13.0")),
         "refuse"),
    Case("DLA engine, no DLA", built_on(_DLA, modules=("p3767-0005",), sm_count=8), NANO,
         "refuse", {"own_target": "orin-nano-8gb"}),
    Case("Library not installed", ON_RTX, replace(PC, libraries={}), "refuse"),
    Case("TensorRT not installed on a Jetson", ON_AGX, replace(AGX, libraries={}), "refuse"),
    Case("Jetson Linux cannot be read", ON_AGX, on_board(AGX, l4t=None), "refuse"),
    Case("Driver older than the engine's CUDA", replace(_ON_PC, cuda_version="13"),
         replace(_TENSORRT_PC, gpu=replace(PC.gpu, driver_version="12.6")), "refuse"),
    Case("Other graph than the bundle's", ON_AGX, AGX, "rebuild", {"onnx_sha256": "3" * 64}),
    Case("Other build number of TensorRT", ON_AGX,
         replace(AGX, libraries={"tensorrt": "10.3.0.26"}), "rebuild"),
    Case("Other patch of TensorRT", ON_AGX, replace(AGX, libraries={"tensorrt": "10.3.1.1"}),
         "rebuild"),
    Case("Newer minor version of TensorRT", ON_AGX, replace(AGX, libraries=_NEWER), "rebuild"),
    Case("Newer minor, version-compatible", replace(ON_AGX, settings=COMPATIBLE),
         replace(AGX, libraries=_NEWER), "load"),
    Case("Older minor, version-compatible", replace(ON_AGX, settings=COMPATIBLE),
         replace(AGX, libraries={"tensorrt": "10.0.1.6"}), "rebuild"),
    Case("Newer major of TensorRT, version-compatible", replace(ON_AGX, settings=COMPATIBLE),
         replace(AGX, libraries={"tensorrt": "11.4.0.106"}), "rebuild"),
    Case("Lean runtime alone, version-compatible", replace(ON_AGX, settings=COMPATIBLE),
         replace(AGX, **_LEAN), "load"),
    Case("Lean runtime asked, not version-compatible", ON_AGX, replace(AGX, **_LEAN), "refuse",
         {"library": "tensorrt_lean"}),
    Case("Other release of TensorRT-RTX", ON_RTX,
         replace(PC, libraries={"tensorrt_rtx": "1.8.0.1"}), "rebuild"),
    Case("Other version of OpenVINO", ON_CPU, replace(PC, libraries={"openvino": "2026.3.0"}),
         "rebuild"),
    Case("Other CUDA major", ON_AGX,
         replace(AGX, cuda_versions={"tensorrt": "13.0"}, gpu=GpuState("Orin", "8.7", 16, "13.0")),
         "rebuild"),
    Case("Other major of Jetson Linux", ON_AGX, on_board(AGX, l4t="39.2.1"), "rebuild"),
    Case("Other Jetson Linux of the same major", ON_AGX, on_board(AGX, l4t="36.4.7"), "load"),
    Case("Same SM, other board: AGX Orin to Orin Nano", ON_AGX, NANO, "rebuild",
         {"own_target": "orin-nano-8gb"}),
    Case("Same SM, other GPU", _ON_PC, _RTX_3060, "rebuild"),
    Case("Same GPU, fewer SMs, as in a share of it", _ON_PC,
         replace(_TENSORRT_PC, gpu=replace(PC.gpu, sm_count=40)), "rebuild"),
    Case("Power mode that turns SMs off", ON_AGX,
         replace(on_board(AGX, power_mode="30W"), gpu=GpuState("Orin", "8.7", 8, "12.6")),
         "rebuild", {"own_target": "agx-orin-64gb"}),
    Case("Other power mode, as many SMs", ON_AGX,
         on_board(AGX, power_mode="50W", gpu_clock_mhz=816.0), "load"),
    Case("Same power mode, other clocks", ON_AGX, on_board(AGX, gpu_clock_mhz=816.0), "load"),
    Case("Nothing said of the GPU it was built on", replace(ON_AGX, built_on=None), AGX,
         "rebuild"),
    Case("Plugins", replace(ON_AGX, settings=replace(SETTINGS, plugins=("acme_nms",))), AGX,
         "load"),
    Case("Other instruction sets", ON_CPU, replace(PC, isa=("avx2",)), "rebuild"),
)  # fmt: skip


def table(folder: Path) -> str:
    """Every case with its verdict, in Markdown."""
    lines = ["| what differs | verdict | what is said | what to do |", "|---|---|---|---|"]
    for number, case in enumerate(CASES):
        own = folder / str(number)
        own.mkdir()
        verdict = case.judged(own)
        said = " ".join((f"{verdict.reason}.", *verdict.notices)).replace(str(own), "engines")
        lines.append(f"| {case.title} | {verdict.action} | {said} | {verdict.do} |")
    return "\n".join(lines) + "\n"
