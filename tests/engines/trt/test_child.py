"""The child's way with TensorRT itself, walked with TensorRT-RTX's library under its name.

TensorRT needs a GPU to build; TensorRT-RTX has the same names and needs none. So a module named
`tensorrt` that hands out TensorRT-RTX, with a version of TensorRT, proves that the way through
Polygraphy's CreateConfig and the child is whole for each major that Polygraphy tells apart. It
proves nothing of what TensorRT itself does.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.tiny_bundle import mlp
from helpers.trt_builds import compile_graph, need_builder

from jetlift.engines.trt.options import BuildOptions
from jetlift.runtime.errors import EngineLibraryError

SHIM = """
import tensorrt_rtx
globals().update({name: item for name, item in vars(tensorrt_rtx).items() if name[:2] != "__"})
__version__ = "VERSION"
"""
VERSIONS = ["10.3.0", "10.13.3.9", "11.4.0.106"]


@pytest.fixture(params=VERSIONS)
def _tensorrt(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_builder()
    package = tmp_path / "shim/tensorrt"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(SHIM.replace("VERSION", request.param))
    monkeypatch.syspath_prepend(str(package.parent))


@pytest.mark.usefixtures("_tensorrt")
def test_the_way_is_whole_and_the_log_stands_in_where_no_gpu_inspects(tmp_path: Path) -> None:
    options = BuildOptions(timing_cache=tmp_path / "timing", workspace_bytes=2**30)
    built, engine = compile_graph(
        mlp("int8"), tmp_path, library="tensorrt", options=options, costed=True
    )
    assert engine.stat().st_size > 1000
    assert built.receipt.observed_by == "TensorRT's detailed build log"
    assert (built.receipt.outcome, built.receipt.operations_share) == ("as asked", {"int8": 1.0})
    assert built.layers is not None
    assert len(json.loads(built.layers)["Layers"]) >= 2
    assert [path.suffix for path in (tmp_path / "timing").iterdir() if "sha" not in path.name] == [
        ".cache"
    ]


@pytest.mark.usefixtures("_tensorrt")
def test_a_dla_core_that_is_not_there_is_told(tmp_path: Path) -> None:
    options = BuildOptions(dla_core=1, keep_timing_cache=False)
    with pytest.raises(EngineLibraryError, match="asked for DLA core 1 and this machine has 0 DLA"):
        compile_graph(mlp("fp16"), tmp_path, library="tensorrt", options=options)
    assert not (tmp_path / "graph.engine").exists()
