"""Every case that decides whether an engine loads, and that nothing that binds is passed over.

Run this file as a script to write the table of docs/passport.md anew:
python tests/runtime/test_verdict.py
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

import pytest
from helpers.verdict_cases import (
    AGX,
    CASES,
    COMPATIBLE,
    CONTENT,
    GRAPH,
    NANO,
    ON_AGX,
    ON_CPU,
    ON_RTX,
    PC,
    Case,
    built_on,
    on_board,
    table,
)
from hypothesis import given
from hypothesis import strategies as st

from jetlift.runtime import verdict_gpu
from jetlift.runtime.host import GpuState
from jetlift.runtime.verdict import judge

if TYPE_CHECKING:
    from jetlift.runtime.host import Host
    from jetlift.runtime.passport import Passport

PAGE = Path(__file__).parents[2] / "docs" / "passport.md"
BEGIN, END = "<!-- generated: python tests/runtime/test_verdict.py -->\n", "<!-- end -->\n"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("engines") / "image.int8.engine"
    path.write_bytes(CONTENT)
    return path


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_every_case_has_its_verdict(tmp_path: Path, case: Case) -> None:
    verdict = case.judged(tmp_path)
    assert verdict.action == case.action, verdict
    assert verdict.reason
    assert bool(verdict.do) == (verdict.action != "load")
    assert (verdict.library is None) == (verdict.action != "load")
    assert verdict.notices == () or verdict.action == "load"


def test_no_two_cases_are_the_same() -> None:
    assert len({case.title for case in CASES}) == len(CASES)


def test_the_table_is_what_is_said(tmp_path: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    written = text[text.index(BEGIN) + len(BEGIN) : text.index(END)]
    assert written == table(tmp_path), "write it anew with: python tests/runtime/test_verdict.py"


@pytest.mark.parametrize(
    ("title", "said"),
    [
        ("No passport", "jetlift build BUNDLE --target agx-orin-64gb"),
        ("x86-64 engine on a Jetson", "on this board with: jetlift build BUNDLE --target agx-orin"),
        ("A Jetson's engine on a PC", "jetlift build BUNDLE --target rtx-sm86"),
        ("Same SM, other GPU", "jetlift build BUNDLE --target gpu-sm86"),
        ("Same GPU, fewer SMs, as in a share of it", "82 SMs, and 40 are on here"),
        ("Other SM", "jetlift build BUNDLE --target rtx-sm89"),
        ("No GPU", "jetlift build BUNDLE --target cpu"),
        ("Its GPU is the second one", "CUDA_VISIBLE_DEVICES=1"),
        ("TensorRT not installed on a Jetson", "apt-get install python3-libnvinfer"),
        ("Newer minor version of TensorRT", "built version-compatible, it would load"),
        ("Older minor, version-compatible", "--target agx-orin-64gb --version-compatible"),
        ("Other patch of TensorRT", "the patch differs"),
        ("Other build number of TensorRT", "the build number differs"),
        ("Power mode that turns SMs off", "power mode was MAXN then and is 30W now"),
        ("Other power mode, as many SMs", "power mode MAXN and this board is in 50W"),
        ("Same power mode, other clocks", "could take 1300 MHz when it was built, 816 now"),
        ("Other Jetson Linux of the same major", "Jetson Linux 36.4.3 and this board runs 36.4.7"),
        ("Passport of another schema", "schema version 2"),
        ("Jetson Linux cannot be read", "/etc/nv_tegra_release"),
    ],
)
def test_what_a_case_says(tmp_path: Path, title: str, said: str) -> None:
    verdict = next(case for case in CASES if case.title == title).judged(tmp_path)
    assert said in " ".join((verdict.reason, verdict.do, *verdict.notices))


# What binds an engine, each as a change of the passport or the host that keeps it from loading.
_OTHER_SHA = st.sampled_from(["0" * 64, "f" * 64])
_VERSIONS = st.tuples(*[st.integers(0, 20)] * 4).map(lambda numbers: ".".join(map(str, numbers)))
_OTHER_TEXT = st.text(min_size=1, max_size=12)
BINDING: dict[str, st.SearchStrategy[tuple[Passport, Host]]] = {
    "engine hash": _OTHER_SHA.map(lambda new: (replace(ON_AGX, engine_sha256=new), AGX)),
    "engine size": st.integers(0, 2**40)
    .filter(lambda new: new != len(CONTENT))
    .map(lambda new: (replace(ON_AGX, engine_size_bytes=new), AGX)),
    "graph": _OTHER_SHA.map(lambda new: (replace(ON_AGX, onnx_sha256=new), AGX)),
    "target": _OTHER_TEXT.map(lambda new: (replace(ON_AGX, target=new + "x"), AGX)),
    "architecture": _OTHER_TEXT.map(lambda new: (ON_AGX, replace(AGX, machine=new))),
    "compute capability": st.sampled_from(["7.2", "8.0", "8.6", "8.9", "10.1", "11.0"]).map(
        lambda new: (
            ON_AGX,
            replace(
                AGX, compute_capabilities=(new,), gpu=replace(AGX.gpu, compute_capability=new)
            ),
        )
    ),
    "SM count": st.integers(1, 200)
    .filter(lambda new: new != 16)
    .map(lambda new: (ON_AGX, replace(AGX, gpu=replace(AGX.gpu, sm_count=new)))),
    "GPU": _OTHER_TEXT.map(lambda new: (ON_AGX, replace(AGX, gpu=replace(AGX.gpu, name=new)))),
    "no look at the GPU": st.just((ON_AGX, replace(AGX, gpu=None))),
    "module": st.from_regex(r"p\d{4}-\d{4}", fullmatch=True)
    .filter(lambda new: new != "p3701-0005")
    .map(lambda new: (ON_AGX, on_board(AGX, module=new))),
    "model string, no module": _OTHER_TEXT.map(
        lambda new: (ON_AGX, on_board(AGX, device=new, module=None))
    ),
    "no board": st.just((ON_AGX, replace(AGX, board=None))),
    "library": st.sampled_from([{}, {"openvino": "2026.4.1"}, {"tensorrt_rtx": "10.3.0.30"}]).map(
        lambda new: (ON_AGX, replace(AGX, libraries=new))
    ),
    "TensorRT": _VERSIONS.filter(lambda new: new != "10.3.0.30").map(
        lambda new: (ON_AGX, replace(AGX, libraries={"tensorrt": new}))
    ),
    "older or other major, version-compatible": _VERSIONS.filter(
        lambda new: not (new.startswith("10.") and [*map(int, new.split("."))] >= [10, 3, 0, 30])
    ).map(
        lambda new: (
            replace(ON_AGX, settings=COMPATIBLE),
            replace(AGX, libraries={"tensorrt": new}),
        )
    ),
    "TensorRT-RTX": _VERSIONS.filter(lambda new: new != "1.7.1.116").map(
        lambda new: (
            replace(ON_RTX, target="agx-orin-64gb"),
            replace(PC, libraries={"tensorrt_rtx": new}),
        )
    ),
    "CUDA": st.sampled_from(["11.8", "13.0", "13"]).map(
        lambda new: (ON_AGX, replace(AGX, cuda_versions={"tensorrt": new}))
    ),
    "driver": st.sampled_from(["10.2", "11.4"]).map(
        lambda new: (ON_AGX, replace(AGX, gpu=replace(AGX.gpu, driver_version=new)))
    ),
    "Jetson Linux": st.sampled_from(["32.7.6", "35.6.0", "38.4.0", "39.2.1", None]).map(
        lambda new: (ON_AGX, on_board(AGX, l4t=new))
    ),
    "its own Jetson Linux": st.just((built_on(ON_AGX, l4t=None), AGX)),
    "its own SM count": st.just((built_on(ON_AGX, sm_count=None), AGX)),
    "its own machine": st.just((replace(ON_AGX, built_on=None), AGX)),
    "DLA": st.integers(2, 9).map(
        lambda new: (replace(ON_AGX, settings=replace(COMPATIBLE, dla_core=new)), AGX)
    ),
    "weights": st.just((replace(ON_AGX, settings=replace(COMPATIBLE, stripped=True)), AGX)),
    "instruction sets": st.lists(st.sampled_from(["avx2", "avx512f", "amx_int8"]), unique=True)
    .filter(lambda new: new != ["avx2", "avx512f"])
    .map(
        lambda new: (replace(ON_CPU, target="agx-orin-64gb"), replace(PC, isa=tuple(new)))
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BINDING)
@given(data=st.data())
def test_nothing_that_binds_is_passed_over(engine: Path, what: str, data: Any) -> None:
    passport, host = data.draw(BINDING[what])
    verdict = judge(passport, host, engine, onnx_sha256=GRAPH, target="agx-orin-64gb")
    assert verdict.action != "load"
    assert verdict.reason
    assert verdict.do


@given(
    mode=st.none() | _OTHER_TEXT,
    clock=st.none() | st.floats(1, 3000),
    revision=st.integers(0, 99),
    model=_OTHER_TEXT,
    cpu=_OTHER_TEXT,
    minor=st.integers(0, 9),
)
def test_what_does_not_bind_is_no_more_than_a_notice(
    engine: Path,
    mode: str | None,
    clock: float | None,
    revision: int,
    model: str,
    cpu: str,
    minor: int,
) -> None:
    host = on_board(AGX, power_mode=mode, gpu_clock_mhz=clock, l4t=f"36.5.{revision}", device=model)
    gpu = replace(AGX.gpu, driver_version=f"13.{minor}")
    host = replace(host, cpu_name=cpu, isa=(), gpu=gpu, cuda_versions={"tensorrt": f"12.{minor}"})
    verdict = judge(ON_AGX, host, engine, onnx_sha256=GRAPH, target="agx-orin-64gb")
    assert verdict.action == "load"
    assert any("Jetson Linux" in text for text in verdict.notices)


def test_boards_of_one_product_share_an_engine(engine: Path) -> None:
    made = built_on(ON_AGX, modules=("p3767-0005", "p3767-0003"), sm_count=8)
    host = on_board(NANO, module="p3767-0003", device="Some Carrier with an Orin Nano")
    assert judge(made, host, engine).action == "load"
    assert judge(made, on_board(host, module="p3767-0000"), engine).action == "rebuild"


def test_a_build_number_that_jetpack_leaves_out_is_no_difference(engine: Path) -> None:
    made = replace(ON_AGX, library_version="10.3.0")
    assert judge(made, AGX, engine).action == "load"
    assert judge(ON_AGX, replace(AGX, libraries={"tensorrt": "10.3.0"}), engine).action == "load"
    assert judge(ON_AGX, replace(AGX, libraries={"tensorrt": "10.3"}), engine).action == "rebuild"


def test_the_lean_runtime_loads_what_only_it_can(engine: Path) -> None:
    made = replace(ON_AGX, settings=COMPATIBLE)
    lean = {"tensorrt_lean": "10.7.0.23"}
    assert judge(made, replace(AGX, libraries=lean), engine).library == "tensorrt_lean"
    both = {**lean, "tensorrt": "10.3.0.30"}
    assert judge(made, replace(AGX, libraries=both), engine).library == "tensorrt"
    asked = judge(made, replace(AGX, libraries=both), engine, library="tensorrt_lean")
    assert (asked.action, asked.library) == ("load", "tensorrt_lean")
    assert asked.notices
    absent = judge(made, AGX, engine, library="tensorrt_lean")
    assert "python3-libnvinfer-lean" in absent.do


def test_a_board_without_a_known_name_says_where_it_is_found(engine: Path) -> None:
    verdict = judge(ON_AGX, NANO, engine, bundle="dinov2")
    assert "jetlift build dinov2 --target BOARD" in verdict.do
    assert "jetlift targets" in verdict.do


def test_two_gpus_of_one_kind_are_one_type(engine: Path) -> None:
    host = replace(PC, compute_capabilities=("8.6", "8.6"), gpu=GpuState("A10", "8.6", 72, "13.0"))
    assert judge(ON_RTX, host, engine).action == "load"
    assert verdict_gpu.not_first(ON_RTX, host) == ""


if __name__ == "__main__":
    page = PAGE.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        head, tail = page[: page.index(BEGIN) + len(BEGIN)], page[page.index(END) :]
        PAGE.write_text(head + table(Path(folder)) + tail, encoding="utf-8")
