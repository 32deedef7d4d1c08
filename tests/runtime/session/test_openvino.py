"""What is OpenVINO's own: arithmetic, INT8, engine files, no reports over the network."""

from __future__ import annotations

import gc
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from helpers import tiny_bundle

from jetlift.runtime.errors import (
    EngineLibraryError,
    InputError,
    PassportError,
    UnknownNameError,
)
from jetlift.runtime.manifest import Part, TensorSpec
from jetlift.runtime.session import openvino as module
from jetlift.runtime.session.onnxruntime import OnnxRuntimeSession
from jetlift.runtime.session.openvino import OpenVINOSession, executed_layers

if TYPE_CHECKING:
    from collections.abc import Mapping

pytest.importorskip("openvino")

PRODUCTS = {"FullyConnected", "Convolution", "MatMul"}
ON_THIS_IMPORT_PATH = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    folder = tmp_path_factory.mktemp("graphs")
    for precision in ("fp32", "fp16", "int8"):
        onnx.save(tiny_bundle.image(precision), folder / f"{precision}.onnx")
    return {path.stem: path for path in folder.iterdir()}


@pytest.fixture(scope="module")
def engine(graphs: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("engines") / "image.fp32.engine"
    with OpenVINOSession.from_onnx(graphs["fp32"]) as session:
        content = io.BytesIO()
        session.compiled.export_model(content)
    path.write_bytes(content.getvalue())
    return path


def pictures(count: int = 2) -> dict[str, Any]:
    random = np.random.default_rng(0)
    return {"pixel_values": random.standard_normal((count, 3, 32, 32)).astype(np.float32)}


def arithmetic_of_products(session: OpenVINOSession) -> set[str]:
    layers = executed_layers(session.compiled)
    return {layer.arithmetic for layer in layers if layer.kind in PRODUCTS}


def test_an_engine_equals_the_graph_it_came_from(graphs: Mapping[str, Path], engine: Path) -> None:
    feeds = pictures()
    with (
        OpenVINOSession.from_onnx(graphs["fp32"]) as graph,
        OpenVINOSession.from_engine(engine) as loaded,
    ):
        wanted, got = graph.run(feeds), loaded.run(feeds)
        assert loaded.info == graph.info
    assert wanted.keys() == got.keys()
    for name, array in wanted.items():
        np.testing.assert_array_equal(array, got[name])


def test_float32_is_float32_in_every_layer(graphs: Mapping[str, Path], engine: Path) -> None:
    for session in (
        OpenVINOSession.from_onnx(graphs["fp32"]),
        OpenVINOSession.from_engine(engine),
    ):
        with session:
            assert session.info.arithmetic == "f32"
            layers = executed_layers(session.compiled)
            assert not {layer.arithmetic for layer in layers} & {"bf16", "f16"}


def test_an_arithmetic_that_was_not_asked_for_is_refused(graphs: Mapping[str, Path]) -> None:
    config = module.configuration("bf16", None)
    compiled = module.core().compile_model(module.read_onnx(graphs["fp32"]), "CPU", config)
    with pytest.raises(EngineLibraryError, match=r"bf16.*Expected|bf16.*f32"):
        module._info(compiled, "f32")


def test_an_unknown_arithmetic_is_refused(graphs: Mapping[str, Path]) -> None:
    with pytest.raises(UnknownNameError, match="f32, bf16, f16"):
        OpenVINOSession.from_onnx(graphs["fp32"], arithmetic="fp32")


def test_a_typed_fp16_graph_computes_in_float32(graphs: Mapping[str, Path]) -> None:
    with OpenVINOSession.from_onnx(graphs["fp16"]) as session:
        assert session.info.arithmetic == "f32"
        assert arithmetic_of_products(session) == {"f32"}


def test_a_qdq_graph_computes_its_weighted_layers_in_int8(graphs: Mapping[str, Path]) -> None:
    with OpenVINOSession.from_onnx(graphs["int8"]) as session:
        assert arithmetic_of_products(session) <= {"i8", "u8"}


def test_both_libraries_agree_on_int8(graphs: Mapping[str, Path]) -> None:
    pytest.importorskip("onnxruntime")
    feeds = pictures(4)
    with (
        OpenVINOSession.from_onnx(graphs["int8"]) as fast,
        OnnxRuntimeSession.from_onnx(graphs["int8"]) as reference,
    ):
        got, wanted = fast.run(feeds), reference.run(feeds)
    for name, array in wanted.items():
        # A value on the edge of two codes may round either way: one step of the last scale.
        assert np.abs(array - got[name]).max() < 2 * tiny_bundle.ACTIVATION_SCALE


def test_a_contiguous_feed_is_read_where_it_lies(graphs: Mapping[str, Path]) -> None:
    feeds = pictures()
    with OpenVINOSession.from_onnx(graphs["fp32"]) as session:
        session.run(feeds)
        seen = session._request.get_input_tensor(0).data
        assert np.shares_memory(seen, feeds["pixel_values"])


def test_the_parts_names_are_used_for_dynamic_axes(
    graphs: Mapping[str, Path], tmp_path: Path
) -> None:
    part = tiny_bundle.tiny_bundle(tmp_path / "b", precisions=["fp32"]).manifest.parts["image"]
    with OpenVINOSession.from_onnx(graphs["fp32"], part=part) as session:
        assert session.inputs == part.inputs
        assert session.outputs == part.outputs


def test_an_engine_of_another_part_is_refused(engine: Path) -> None:
    other = Part(
        inputs=(TensorSpec("x", "float32", ("batch", 16)),),
        outputs=(TensorSpec("y", "float32", ("batch", 4)),),
        parameters=0,
        preprocess=None,
        variants={},
    )
    with pytest.raises(PassportError, match="pixel_values"):
        OpenVINOSession.from_engine(engine, part=other)


def test_a_loaded_engine_lives_as_long_as_its_session(engine: Path, tmp_path: Path) -> None:
    """OpenVINO reads the mapped file whenever it runs, and does not keep the mapping alive."""
    path = tmp_path / "moved.engine"
    path.write_bytes(engine.read_bytes())
    feeds = pictures()
    with OpenVINOSession.from_engine(path) as session:
        path.unlink()
        gc.collect()
        clutter = [np.zeros(1 << 16, np.uint8) for _ in range(64)]
        first, again = session.run(feeds), session.run(feeds)
        np.testing.assert_array_equal(first["embedding"], again["embedding"])
        assert np.isfinite(first["embedding"]).all()
        assert clutter


@pytest.mark.parametrize(
    "damage",
    [
        lambda _content: b"",
        lambda _content: b"not an engine",
        lambda content: content[: len(content) // 2],
    ],
    ids=["empty", "garbage", "half"],
)
def test_a_damaged_engine_is_refused(engine: Path, tmp_path: Path, damage: Any) -> None:
    path = tmp_path / "damaged.engine"
    path.write_bytes(damage(engine.read_bytes()))
    with pytest.raises(PassportError, match="jetlift build"):
        OpenVINOSession.from_engine(path)


def test_an_engine_of_another_version_is_refused_by_openvino_too(
    engine: Path, tmp_path: Path
) -> None:
    """The passport refuses it first; this is for whoever calls from_engine alone."""
    content = engine.read_bytes()
    if b"ov=20" not in content[:256]:
        pytest.skip("this OpenVINO writes no version into its files (2026 does)")
    path = tmp_path / "old.engine"
    path.write_bytes(content.replace(b"ov=20", b"ov=19", 1))
    with pytest.raises(PassportError, match="jetlift build"):
        OpenVINOSession.from_engine(path)


def test_a_missing_engine_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gone"):
        OpenVINOSession.from_engine(tmp_path / "gone.engine")


def test_a_failure_while_running_is_one_sentence(tmp_path: Path) -> None:
    """A Reshape to a shape that is fed in fails only when it runs."""
    from onnx import TensorProto, helper

    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])
    shape = helper.make_tensor_value_info("shape", TensorProto.INT64, [2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["a", "b"])
    node = helper.make_node("Reshape", ["x", "shape"], ["y"])
    graph = helper.make_graph([node], "reshape", [x, shape], [y])
    opset = helper.make_opsetid("", 18)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=9), tmp_path / "r.onnx")
    with OpenVINOSession.from_onnx(tmp_path / "r.onnx") as session:
        feeds = {"x": np.zeros(6, np.float32), "shape": np.array([2, 3])}
        assert session.run(feeds)["y"].shape == (2, 3)
        with pytest.raises(EngineLibraryError, match="could not run") as caught:
            session.run({**feeds, "shape": np.array([4, 4])})
        assert "\n" not in str(caught.value)


def test_importing_openvino_reports_nothing(tmp_path: Path) -> None:
    code = (
        "import sys; from jetlift.runtime.session.openvino import library; library().Core();"
        "assert 'openvino_telemetry' not in sys.modules, 'hidden for the import only';"
        "assert not [name for name in sys.modules if name.startswith('openvino_telemetry.')]"
    )
    environment = {**ON_THIS_IMPORT_PATH, "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_is_an_interrupt_after_sessions_have_come_and_gone(
    graphs: Mapping[str, Path],
) -> None:
    """Two OpenVINO Cores that go in the order they came turn it into a segmentation fault."""
    code = (
        "import os, signal, sys\n"
        "from jetlift.runtime.session.openvino import OpenVINOSession\n"
        "first = OpenVINOSession.from_onnx(sys.argv[1])\n"
        "second = OpenVINOSession.from_onnx(sys.argv[1])\n"
        "first.close(); second.close(); del first, second\n"
        "try:\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    signal.pause()\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit(42)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(graphs["fp32"])], env=ON_THIS_IMPORT_PATH, check=False
    )
    assert done.returncode == 42


def test_the_session_module_imports_no_library() -> None:
    code = (
        "import sys, jetlift.runtime.session.openvino, jetlift.runtime.session.onnxruntime;"
        "assert not {'openvino', 'onnxruntime', 'onnx'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], env=ON_THIS_IMPORT_PATH, check=True)
