"""What builds where: from the facts, into docs/targets.md, and tried where it can be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import pytest
from helpers.house import ROOT
from helpers.typed_graphs import typed_product

from jetlift.engines import openvino
from jetlift.engines.compatibility import VARIANTS, Cell, cells, cells_of
from jetlift.engines.targets import TARGETS, target
from jetlift.engines.targets_page import COMMAND, page
from jetlift.jetson.facts import releases
from jetlift.runtime.errors import EngineLibraryError
from jetlift.runtime.manifest import TensorSpec

if TYPE_CHECKING:
    from pathlib import Path

X = TensorSpec("x", "float32", ("batch", 16), (1, 16), (1, 16), (4, 16))
PAGE = ROOT / "docs" / "targets.md"


def row(name: str, jetpack: str | None = None) -> dict[str, Cell]:
    return {cell.variant: cell for cell in cells_of(target(name)) if cell.jetpack == jetpack}


def test_the_page_is_what_the_facts_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), f"write it anew: {COMMAND} > docs/targets.md"


def test_every_target_answers_for_every_variant() -> None:
    nothing_of_its_own = {"cpu-onnxruntime", "gpu"}
    found = {(cell.target, cell.jetpack, cell.variant) for cell in cells()}
    assert len(found) == len(cells())
    for item in TARGETS.values():
        versions = [release.version for release in releases()] if item.device else [None]
        for version in versions:
            for variant in VARIANTS:
                known = (item.name, version, variant) in found
                assert known == (item.name not in nothing_of_its_own)


def test_a_refusal_has_a_reason_and_every_cell_a_source() -> None:
    for cell in cells():
        assert cell.source
        assert cell.builds or cell.reason


def test_boards_rest_on_documents() -> None:
    assert {cell.basis for cell in cells() if cell.jetpack} == {"documented"}


def test_some_cells() -> None:
    nano = row("orin-nano-8gb", "6.2")
    assert [name for name, cell in nano.items() if cell.builds] == [
        "fp32", "fp16", "bf16", "int8", "int8-fp16",
    ]  # fmt: skip
    assert nano["fp32"].tensorrt == "10.3"
    assert all(cell.builds for cell in row("thor-t5000", "7.2").values())
    assert not any(cell.builds for cell in row("thor-t5000", "6.2").values())
    assert not any(cell.builds for cell in row("agx-orin-64gb", "7.1").values())
    assert [name for name, cell in row("rtx-sm75").items() if cell.builds] == ["fp16", "int8-fp16"]
    assert "in FP32" in row("cpu")["fp16"].reason


# Tried for real, one product a graph.


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_cpu_builds_what_the_table_says(tmp_path: Path, variant: str) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed (pip install 'jetlift[cpu]')")
    onnx.save(typed_product(variant), tmp_path / "graph.onnx")
    openvino.build_engine(tmp_path / "graph.onnx", tmp_path / "graph.engine", None)
    assert row("cpu")[variant].builds


RTX = [item.name for item in TARGETS.values() if item.library == "tensorrt_rtx"]
# A build takes a second or two: in short, the cells that differ and one that does not.
SHORT = {("rtx-sm75", "fp32"), ("rtx-sm75", "int8-fp16"), ("rtx-sm86", "bf16")}


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        pytest.param(name, variant, marks=[] if (name, variant) in SHORT else [pytest.mark.long])
        for name in RTX
        for variant in VARIANTS
    ],
)
def test_tensorrt_rtx_takes_what_the_table_says(tmp_path: Path, name: str, variant: str) -> None:
    reason = "TensorRT-RTX is not installed (pip install 'jetlift[rtx]')"
    pytest.importorskip("tensorrt_rtx", reason=reason)
    pytest.importorskip("polygraphy", reason=reason)
    onnx.save(typed_product(variant), tmp_path / "graph.onnx")
    assert _compiles(tmp_path, str(target(name).compute_capability)) == row(name)[variant].builds


def _compiles(folder: Path, capability: str) -> bool:
    from jetlift.engines.trt.build import build_engine

    engine = folder / "graph.engine"
    try:
        build_engine(folder / "graph.onnx", engine, None, inputs=[X], compute_capability=capability)
    except EngineLibraryError:
        return False
    return engine.stat().st_size > 1000
