"""TensorRT-RTX engines, built for real where the builder is installed. It needs no GPU."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from helpers.tiny_bundle import image, mlp, tiny_bundle
from onnx import TensorProto, helper, numpy_helper

from jetlift.engines import tensorrt
from jetlift.engines.build import build
from jetlift.engines.receipt import Layer
from jetlift.engines.tensorrt import BuildLog, build_engine, layer_of, profile_of
from jetlift.runtime.errors import (
    EngineLibraryError,
    MissingPackageError,
    PassportError,
    UsageError,
)
from jetlift.runtime.manifest import TensorSpec
from jetlift.runtime.passport import cuda_compute_capabilities
from jetlift.runtime.session import open_session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jetlift.engines.receipt import Built

X = TensorSpec("x", "float32", ("batch", 16), (1, 16), (1, 16), (4, 16))
# A line of the builder's log as TensorRT-RTX 1.7.1 prints it, shortened where "..." stands.
GEMM = (
    "    Name: Gemm_3_myl0_14, LayerType: gemm, Inputs: [ { Name: __mye172993_q8_myl0, Dimensions: "
    "[-1,384], Strides: [384,1], Datatype: Int8, Format: (Linear) Row major linear format }], "
    "Constants: [ { Name: val_98, Datatype: Float, ... }], Outputs: [ { Name: a, ... }], "
    "TacticName: __myelin_CASK_STUB, StreamId: 0, Metadata: [ONNX Layer: Gemm_3]\x1f"
    "[ONNX Layer: val_98_dequantize]\n"
)


@pytest.fixture(scope="module", autouse=True)
def _builder() -> None:
    reason = "TensorRT-RTX is not installed (pip install 'jetlift[rtx]')"
    pytest.importorskip("tensorrt_rtx", reason=reason)
    pytest.importorskip("polygraphy", reason=reason)


def compile_graph(
    model: onnx.ModelProto, folder: Path, inputs: Sequence[TensorSpec] = (X,)
) -> tuple[Built, Path]:
    onnx.save(model, folder / "graph.onnx")
    engine = folder / "graph.engine"
    built = build_engine(
        folder / "graph.onnx", engine, None, inputs=inputs, compute_capability="8.6"
    )
    return built, engine


def graph_of(nodes: Sequence[Any], **constants: Any) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 16])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    stored = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    graph = helper.make_graph(nodes, "g", [x], [y], stored)
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def test_a_bundle_becomes_engines_with_receipts(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "tiny")
    results = build(bundle, "rtx-sm86")
    assert len(results) == 6
    for result in results:
        assert (result.action, result.shortfall) == ("built", "")
        assert result.engine_path.stat().st_size == result.passport.engine_size_bytes > 1000
        assert result.passport.compute_capability == "8.6"
        assert (result.passport.arithmetic, result.passport.isa) == ("as typed", ())
        receipt = result.passport.receipt
        assert receipt.outcome == "as asked"
        assert receipt.operations_share == {result.precision: 1.0}
        assert receipt.seen == receipt.asked
        assert "does not prove which instructions" in receipt.proves
        products = {"mlp": 2, "image": 3}[result.part]
        assert receipt.int8_layers == (products if result.precision == "int8" else 0)
        if result.precision == "int8":
            assert result.passport.speed.verdict == "not measured"
            assert "rtx-sm86 is not this machine" in result.passport.speed.note
        assert receipt.memory_bytes["weights"] > 0
    assert {result.action for result in build(bundle, "rtx-sm86")} == {"kept"}


@pytest.mark.skipif("8.6" in cuda_compute_capabilities(), reason="this machine has such a GPU")
def test_an_engine_is_refused_where_its_gpu_is_not(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "tiny", precisions=["fp32"])
    build(bundle, "rtx-sm86")
    with pytest.raises(PassportError, match=r"compute capability 8\.6"):
        open_session(bundle, "mlp", "fp32", target="rtx-sm86")


def test_a_convolution_in_a_folder_with_a_space_builds(tmp_path: Path) -> None:
    (tmp_path / "a folder").mkdir()
    shape = (1, 3, 32, 32)
    pixels = TensorSpec("pixel_values", "float32", ("batch", *shape[1:]), shape, shape, shape)
    built, engine = compile_graph(image("int8"), tmp_path / "a folder", [pixels])
    assert engine.stat().st_size > 1000
    assert "onnx is not installed" in built.receipt.observed_by


REFUSED = [
    (
        graph_of([helper.make_node("Mystery", ["x"], ["y"], name="strange", domain="own")]),
        "node strange (Mystery)",
        "no such operator",
    ),
    (
        graph_of([helper.make_node("Unique", ["x"], ["y"], name="uniq")]),
        "node uniq (Unique)",
        "not supported",
    ),
    (
        graph_of(
            [
                helper.make_node("DequantizeLinear", ["b", "s", "z"], ["bd"], name="bias_dq"),
                helper.make_node("Add", ["x", "bd"], ["y"], name="add"),
            ],
            b=np.ones(16, np.int32),
            s=np.float32(0.1),
            z=np.int32(0),
        ),
        "node bias_dq (DequantizeLinear)",
        "must have type FP8, FP4, Int4, Int8, or UInt8",
    ),
    (
        graph_of(
            [helper.make_node("MatMul", ["x", "w"], ["y"], name="mixed")],
            w=np.ones((16, 4), np.float16),
        ),
        "node mixed (MatMul)",
        "same input types",
    ),
]


@pytest.mark.parametrize(("model", "node", "why"), REFUSED, ids=[item[1] for item in REFUSED])
def test_what_the_parser_refuses_is_one_sentence_that_names_the_node(
    model: onnx.ModelProto, node: str, why: str, tmp_path: Path
) -> None:
    with pytest.raises(EngineLibraryError) as caught:
        compile_graph(model, tmp_path)
    told = str(caught.value)
    assert node in told
    assert why in told
    assert "graph.onnx" in told
    assert "\n" not in told
    assert not (tmp_path / "graph.engine").exists()


def test_a_capability_that_the_builder_does_not_know_is_told(tmp_path: Path) -> None:
    onnx.save(mlp(), tmp_path / "graph.onnx")
    with pytest.raises(EngineLibraryError, match=r"8\.7"):
        build_engine(
            tmp_path / "graph.onnx", tmp_path / "e", None, inputs=[X], compute_capability="8.7"
        )


def test_a_file_that_is_no_graph_is_told(tmp_path: Path) -> None:
    (tmp_path / "notes.onnx").write_text("these are notes\n" * 50)
    with pytest.raises(EngineLibraryError, match=r"notes\.onnx"):
        build_engine(
            tmp_path / "notes.onnx", tmp_path / "e", None, inputs=[X], compute_capability="8.6"
        )


def test_a_missing_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of that name that raises, first on the child's path, stands for its absence."""
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    absent = "raise ModuleNotFoundError('No module named polygraphy', name='polygraphy')\n"
    (blocked / "polygraphy.py").write_text(absent)
    monkeypatch.syspath_prepend(str(blocked))
    with pytest.raises(MissingPackageError, match=r"'polygraphy'.*jetlift\[rtx\]"):
        compile_graph(mlp(), tmp_path)


def children() -> list[int]:
    """Processes of this one that build an engine."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        for pid in (task / "children").read_text().split():
            command = Path(f"/proc/{pid}/cmdline")
            if command.exists() and b"jetlift.engines.tensorrt" in command.read_bytes():
                found.append(int(pid))
    return found


def test_a_builder_that_the_system_kills_is_told(tmp_path: Path) -> None:
    """What the kernel does when memory runs out, done to the child as soon as it is there."""
    stop = threading.Event()

    def kill() -> None:
        while not stop.is_set():
            for pid in children():
                os.kill(pid, signal.SIGKILL)
                return
            time.sleep(0.01)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        with pytest.raises(EngineLibraryError, match=r"signal 9.*out of memory"):
            compile_graph(mlp(), tmp_path)
    finally:
        stop.set()
        killer.join()
    assert not (tmp_path / "graph.engine").exists()


def test_ctrl_c_takes_the_builder_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_self: BuildLog, lines: Any) -> None:
        next(iter(lines))
        assert children()
        raise KeyboardInterrupt

    monkeypatch.setattr(tensorrt.BuildLog, "take", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compile_graph(mlp(), tmp_path)
    assert children() == []
    assert not (tmp_path / "graph.engine").exists()


def test_a_layer_is_read_from_the_log() -> None:
    assert layer_of(GEMM) == Layer(("Gemm_3", "val_98_dequantize"), "int8", 0)


def test_a_mask_is_not_what_a_layer_computes_in() -> None:
    masked = GEMM.replace("Inputs: [ ", "Inputs: [ { Name: mask, Datatype: Bool }, ")
    assert layer_of(masked) == layer_of(GEMM)


@pytest.mark.parametrize(
    ("change", "rank", "precision"),
    [
        (("LayerType: gemm", "LayerType: runtime_fusion"), 1, "int8"),
        (("Gemm_3_myl0_14, LayerType: gemm", "_gemm_mha_v2_myl0_8, LayerType: kgen"), 1, "int8"),
        (("Gemm_3_myl0_14, LayerType: gemm", "__myl_Mul_5, LayerType: kgen"), 2, "int8"),
        (("Datatype: Int8", "Datatype: Half"), 0, "fp16"),
        (("Datatype: Int8", "Datatype: Float"), 0, "fp32"),
        (("Datatype: Int8", "Datatype: Martian"), 0, "martian"),
    ],
)
def test_how_sure_and_how_wide_a_layer_is(
    change: tuple[str, str], rank: int, precision: str
) -> None:
    layer = layer_of(GEMM.replace(*change, 1))
    assert layer is not None
    assert (layer.rank, layer.precision) == (rank, precision)


@pytest.mark.parametrize(
    "line",
    ["", "[V] Total Weights Memory: 12 bytes", "    Name: x, LayerType: shape_call, Inputs: []"],
)
def test_other_lines_are_no_layers(line: str) -> None:
    assert layer_of(line) is None


def test_memory_is_the_largest_of_each_use() -> None:
    log = BuildLog()
    log.take(
        [
            "[V] Max Scratch Memory: 40 bytes\n",
            "[V] Total Activation Memory: 41 bytes\n",
            "[V] Total Weights Memory: 7 bytes\n",
            "[V] Total Weights Memory: 5 bytes\n",
        ]
    )
    assert log.memory == {"scratch": 40, "activation": 41, "weights": 7}


def test_a_profile_is_the_parts_shapes() -> None:
    assert profile_of(X) == [[1, 16], [1, 16], [4, 16]]
    assert profile_of(TensorSpec("x", "float32", (1, 16))) == [[1, 16]] * 3


def test_a_dynamic_input_needs_shapes_to_build_for() -> None:
    with pytest.raises(UsageError, match="dynamic axes and no min_shape"):
        profile_of(TensorSpec("x", "float32", ("batch", 16)))
