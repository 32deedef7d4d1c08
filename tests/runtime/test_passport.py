"""The passport: its form on disk, and what it lets load."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny_bundle import tiny_bundle
from helpers.verdict_cases import AGX, ON_AGX, ON_CPU
from hypothesis import given, settings
from hypothesis import strategies as st

from jetlift.runtime import host as host_module
from jetlift.runtime import jsonform
from jetlift.runtime.bundle import sha256_of
from jetlift.runtime.errors import PassportError, UnknownNameError
from jetlift.runtime.passport import (
    BuildSettings,
    BuiltOn,
    Host,
    Passport,
    Profile,
    built_on,
    here,
    judge,
    onnx_sha256,
    passport_path,
    read_passport,
    write_passport,
)
from jetlift.runtime.receipt import Receipt, Shares, Speed, WideNode

GOLDEN = Path(__file__).parent / "golden" / "passport.json"
GOLDEN_BOARD = Path(__file__).parent / "golden" / "passport_board.json"
CONTENT = b"the bytes of an engine"
ONNX = "1" * 64
HOST = Host(
    machine="x86_64",
    cpu_name="Some Processor",
    isa=("avx2", "avx512f"),
    libraries={"openvino": "2026.4.1", "tensorrt_rtx": "1.7.1.116"},
    compute_capabilities=("8.6",),
)


RECEIPT = Receipt(
    observed_by="OpenVINO's runtime model",
    proves="what runs on this processor",
    outcome="as asked",
    operations_share={"fp32": 0.06, "int8": 0.89},
    unobserved_share=0.05,
    asked=Shares({"fp32": 0.03, "int8": 0.97}, {"fp32": 1.0}, {"fp32": 0.01, "int8": 0.99}),
    seen=Shares({"fp32": 0.03, "int8": 0.97}, {"fp32": 0.5}, {"fp32": 0.01, "int8": 0.99}),
    int8_layers=48,
    wider=(WideNode("fc1", "int8", "fp32", 0.004),),
    memory_bytes={},
)
SPEED = Speed("faster", "interleaved", 22.1, 65.3, 0.338, 0.331, 0.346, 0.99, 151, "Some Processor")


def a_passport(**changes: Any) -> Passport:
    made = replace(
        ON_CPU,
        engine_sha256="6bb9a3d0a48c8f5f5a8b6cf5a4c0ff8d2f6b6f5d7a9bfbb5a4b35d1a2c3d4e5f",
        engine_size_bytes=len(CONTENT),
        onnx_sha256=ONNX,
        receipt=RECEIPT,
        speed=SPEED,
    )
    return replace(made, **changes)


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    path = tmp_path / "image.int8.engine"
    path.write_bytes(CONTENT)
    return path


def of(engine: Path, **changes: Any) -> Passport:
    return a_passport(engine_sha256=sha256_of(engine), **changes)


def for_rtx(engine: Path, capability: str = "8.6") -> Passport:
    return of(
        engine,
        target="rtx-sm86",
        library="tensorrt_rtx",
        library_version="1.7.1.116",
        isa=(),
        cpu_name=None,
        compute_capability=capability,
    )


def test_its_form_on_disk_is_the_golden_one() -> None:
    assert jsonform.dumps(a_passport()) == GOLDEN.read_text(encoding="utf-8")


def test_a_board_s_form_on_disk_is_the_golden_one() -> None:
    assert jsonform.dumps(ON_AGX) == GOLDEN_BOARD.read_text(encoding="utf-8")
    assert jsonform.loads(Passport, GOLDEN_BOARD.read_bytes()) == ON_AGX


def test_what_a_machine_is_goes_into_the_passport() -> None:
    assert built_on(AGX) == ON_AGX.built_on
    both = built_on(AGX, ("p3701-0005", "p3701-0008"))
    assert both is not None
    assert both.modules == ("p3701-0005", "p3701-0008")  # its own first, each once
    graphics = built_on(replace(AGX, board=None))
    assert graphics is not None
    assert (graphics.device, graphics.gpu_name, graphics.modules) == (None, "Orin", ())
    assert built_on(replace(AGX, board=None, gpu=None)) is None


def test_it_is_read_as_it_was_written(engine: Path) -> None:
    write_passport(of(engine), engine)
    assert read_passport(engine) == of(engine)
    assert passport_path(engine).name == "image.int8.engine.passport.json"


def test_without_a_file_there_is_none(engine: Path) -> None:
    assert read_passport(engine) is None


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"engine_sha256": "short"}, "engine_sha256"),
        ({"engine_size_bytes": "many"}, "engine_size_bytes"),
        ({"library": "caffe"}, "library"),
        ({"built_at": "yesterday"}, "built_at"),
        ({"receipt": {}}, "receipt"),
        ({"speed": "not measured"}, "speed"),
        ({"schema_version": 99}, "version 99"),
        ({"schema_version": 1, "speed": "not measured"}, "schema version 1"),
        ({"extra": 1}, "extra"),
    ],
)
def test_another_form_is_refused(engine: Path, change: dict[str, Any], where: str) -> None:
    data = {**jsonform.to_data(a_passport()), **change}
    passport_path(engine).write_text(json.dumps(data))
    with pytest.raises(PassportError, match=where):
        read_passport(engine)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"{}" + b" " * (5 * 2**20)])
def test_what_is_no_passport_is_refused(engine: Path, content: bytes) -> None:
    passport_path(engine).write_bytes(content)
    with pytest.raises(PassportError, match="jetlift build"):
        read_passport(engine)


def test_an_engine_of_this_machine_loads(engine: Path) -> None:
    assert judge(of(engine), HOST, engine, onnx_sha256=ONNX, target="cpu").action == "load"


def test_an_rtx_engine_loads_beside_its_gpu_whatever_the_processor(engine: Path) -> None:
    host = replace(HOST, isa=("avx2",), compute_capabilities=("7.5", "8.6"))
    assert judge(for_rtx(engine), host, engine).action == "load"


@pytest.mark.parametrize(
    ("changes", "action", "reason"),
    [
        ({"engine_size_bytes": 5}, "refuse", "22 bytes where its passport says 5"),
        ({"engine_sha256": "0" * 64}, "refuse", "altered"),
        ({"target": "rtx-sm86"}, "refuse", "target rtx-sm86, not cpu"),
        ({"library": "tensorrt"}, "refuse", "not installed"),
        ({"compute_capability": "8.9"}, "refuse", "8.9, and this machine has 8.6"),
        ({"onnx_sha256": "3" * 64}, "rebuild", "another graph"),
        ({"machine": "aarch64"}, "rebuild", "aarch64 and this machine is x86_64"),
        ({"library_version": "2026.3.0"}, "rebuild", "2026.3.0 built it and 2026.4.1"),
        ({"isa": ("avx2",)}, "rebuild", "differs in avx512f"),
    ],
)
def test_what_does_not_fit_is_not_loaded(
    engine: Path, changes: dict[str, Any], action: str, reason: str
) -> None:
    changed = replace(of(engine), **changes)
    verdict = judge(changed, HOST, engine, onnx_sha256=ONNX, target="cpu")
    assert (verdict.action, reason in verdict.reason) == (action, True), verdict
    assert verdict.do


def test_without_a_passport_it_is_refused(engine: Path) -> None:
    verdict = judge(None, HOST, engine)
    assert verdict.action == "refuse"
    assert "jetlift build" in verdict.do


@pytest.mark.parametrize("capabilities", [(), None])
def test_an_rtx_engine_needs_a_gpu(engine: Path, capabilities: Any) -> None:
    host = replace(HOST, compute_capabilities=capabilities)
    verdict = judge(for_rtx(engine), host, engine)
    assert verdict.action == "refuse"
    assert "NVIDIA GPU of compute capability 8.6" in verdict.reason


def test_a_missing_library_says_how_to_get_it(engine: Path) -> None:
    verdict = judge(of(engine), replace(HOST, libraries={}), engine)
    assert verdict.action == "refuse"
    assert "jetlift[cpu]" in verdict.do


def test_an_engine_that_is_gone_is_refused(engine: Path) -> None:
    made = of(engine)
    engine.unlink()
    assert judge(made, HOST, engine).action == "refuse"


@settings(max_examples=60)
@given(position=st.integers(0, len(CONTENT) - 1), flip=st.integers(1, 255))
def test_one_changed_byte_is_enough(
    tmp_path_factory: pytest.TempPathFactory, position: int, flip: int
) -> None:
    path = tmp_path_factory.mktemp("engines") / "engine"
    path.write_bytes(CONTENT)
    made = of(path)
    content = bytearray(CONTENT)
    content[position] ^= flip
    path.write_bytes(content)
    assert judge(made, HOST, path).action == "refuse"


def test_every_field_of_a_passport_says_what_it_means() -> None:
    forms = (Passport, BuiltOn, BuildSettings, Profile, Receipt, Shares, Speed)
    for item in (item for form in forms for item in fields(form)):
        assert item.metadata["doc"], item.name


def test_the_hash_of_a_graph_covers_its_data_files(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "b", precisions=["fp32"])
    file = bundle.path("mlp.fp32.onnx")
    assert onnx_sha256(bundle, "mlp", "fp32") == sha256_of(file)
    part = bundle.manifest.parts["mlp"]
    other = bundle.manifest.parts["image"].variants["fp32"].file
    variant = replace(part.variants["fp32"], data_files=(other,))
    parts = {**bundle.manifest.parts, "mlp": replace(part, variants={"fp32": variant})}
    changed = replace(bundle, manifest=replace(bundle.manifest, parts=parts))
    assert onnx_sha256(changed, "mlp", "fp32") != onnx_sha256(bundle, "mlp", "fp32")
    with pytest.raises(UnknownNameError):
        onnx_sha256(bundle, "mlp", "int4w")


INTEL = """processor\t: 0
model name\t: Intel(R) Core(TM) i7-9750H CPU @ 2.60GHz
flags\t\t: fpu vme sse4_2 avx avx2 rdseed
"""
ORIN = """processor\t: 0
model name\t: ARMv8 Processor rev 1 (v8l)
Features\t: fp asimd evtstrm aes atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
"""


@pytest.mark.parametrize(
    ("text", "name", "isa"),
    [
        (INTEL, "Intel(R) Core(TM) i7-9750H CPU @ 2.60GHz", ("sse4_2", "avx", "avx2")),
        (ORIN, "ARMv8 Processor rev 1 (v8l)", ("asimd", "asimdhp", "asimddp")),
        ("", "unknown", ()),
    ],
)
def test_a_processor_is_read_from_what_linux_says(
    tmp_path: Path, text: str, name: str, isa: tuple[str, ...]
) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert host_module._processor(tmp_path / "cpuinfo") == (name, isa)


def test_a_machine_without_proc_is_unknown(tmp_path: Path) -> None:
    assert host_module._processor(tmp_path / "none") == ("unknown", ())


def test_describing_this_machine_imports_no_engine_library() -> None:
    code = (
        "import sys; from jetlift.runtime.passport import here; host = here();"
        "assert not {'openvino', 'tensorrt_rtx', 'tensorrt', 'onnxruntime'} & set(sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def test_nobody_looks_for_a_gpu_where_none_is_needed() -> None:
    assert here(gpu=False).compute_capabilities is None
    assert here().compute_capabilities is not None
    assert here().machine
