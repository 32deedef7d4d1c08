"""What every session promises, whatever library computes."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from helpers import tiny_bundle
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from jetlift.runtime.errors import (
    EngineLibraryError,
    InputError,
    MissingPackageError,
    UnknownNameError,
    UsageError,
)
from jetlift.runtime.session import open_onnx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from jetlift.runtime.session import Session

    Open = Callable[..., Session]

LIBRARIES = ("openvino", "onnxruntime")


@pytest.fixture(params=LIBRARIES)
def open_graph(request: pytest.FixtureRequest) -> Open:
    pytest.importorskip(request.param)
    return partial(open_onnx, library=request.param)


@pytest.fixture(scope="module")
def mlp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graphs") / "mlp.onnx"
    onnx.save(tiny_bundle.mlp(), path)
    return path


@pytest.fixture(scope="module", params=LIBRARIES)
def session(request: pytest.FixtureRequest, mlp: Path) -> Iterator[Session]:
    pytest.importorskip(request.param)
    with open_onnx(mlp, library=request.param) as opened:
        yield opened


def computed_by_numpy(path: Path, x: Any) -> Any:
    model = onnx.load(path)
    weights = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    hidden = np.maximum(x @ weights["fc1_w"] + weights["fc1_bias"], 0)
    return hidden @ weights["fc2_w"]


def drawn(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_it_computes_the_graph(session: Session, mlp: Path) -> None:
    x = drawn(3, 16)
    np.testing.assert_allclose(session.run({"x": x})["y"], computed_by_numpy(mlp, x), atol=1e-5)


def test_it_describes_its_tensors(session: Session) -> None:
    (x,), (y,) = session.inputs, session.outputs
    assert (x.name, x.dtype, x.shape[1]) == ("x", "float32", 16)
    assert (y.name, y.dtype, y.shape[1]) == ("y", "float32", 4)
    assert isinstance(x.shape[0], str)


def test_it_describes_its_engine(session: Session) -> None:
    assert session.info.library in LIBRARIES
    assert session.info.version[0].isdigit()
    assert session.info.device


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch=st.integers(1, 9), seed=st.integers(0, 2**16))
def test_a_batch_is_its_rows(session: Session, batch: int, seed: int) -> None:
    x = drawn(batch, 16, seed=seed)
    whole = session.run({"x": x})["y"]
    rows = np.concatenate([session.run({"x": row[None]})["y"] for row in x])
    np.testing.assert_allclose(whole, rows, atol=1e-5)


def test_outputs_belong_to_the_caller(session: Session) -> None:
    first = session.run({"x": drawn(2, 16, seed=1)})["y"]
    kept = first.copy()
    second = session.run({"x": drawn(2, 16, seed=2)})["y"]
    np.testing.assert_array_equal(first, kept)
    assert not np.shares_memory(first, second)
    second[:] = 0
    np.testing.assert_array_equal(session.run({"x": drawn(2, 16, seed=1)})["y"], kept)


def test_an_output_that_is_an_input_is_a_copy_of_it(open_graph: Open, tmp_path: Path) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "same", [x], [y])
    opset = helper.make_opsetid("", 18)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=9), tmp_path / "same.onnx")
    with open_graph(tmp_path / "same.onnx") as session:
        given_array = drawn(2, 4)
        answer = session.run({"x": given_array})["y"]
        np.testing.assert_array_equal(answer, given_array)
        assert not np.shares_memory(answer, given_array)


def test_outputs_bear_the_names_that_the_graph_gives_them(open_graph: Open, tmp_path: Path) -> None:
    """Optimisers drop Identity, and then one tensor goes by several names."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in "zy"]
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Identity", ["a"], ["z"]),
        helper.make_node("Identity", ["a"], ["y"]),
    ]
    opset = helper.make_opsetid("", 18)
    graph = helper.make_graph(nodes, "twice", [x], made)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=9), tmp_path / "t.onnx")
    with open_graph(tmp_path / "t.onnx") as session:
        assert [spec.name for spec in session.outputs] == ["z", "y"]
        answer = session.run({"x": drawn(2, 4)})
        np.testing.assert_array_equal(answer["z"], np.maximum(drawn(2, 4), 0))
        np.testing.assert_array_equal(answer["y"], answer["z"])
        assert not np.shares_memory(answer["y"], answer["z"])


def _fortran(x: Any) -> Any:
    return np.asfortranarray(x)


def _strided(x: Any) -> Any:
    wide = np.zeros((x.shape[0], 2 * x.shape[1]), np.float32)
    wide[:, ::2] = x
    return wide[:, ::2]


def _read_only(x: Any) -> Any:
    frozen = x.copy()
    frozen.flags.writeable = False
    return frozen


def _unaligned(x: Any) -> Any:
    raw = np.zeros(x.nbytes + 1, np.uint8)
    raw[1:] = x.view(np.uint8).ravel()
    return raw[1:].view(np.float32).reshape(x.shape)


@pytest.mark.parametrize("form", [_fortran, _strided, _read_only, _unaligned])
def test_the_layout_of_a_feed_does_not_matter(session: Session, form: Callable[[Any], Any]) -> None:
    x = drawn(3, 16)
    np.testing.assert_array_equal(session.run({"x": form(x)})["y"], session.run({"x": x})["y"])


@pytest.mark.parametrize(
    ("feeds", "told"),
    [
        ({}, "nothing"),
        ({"z": drawn(1, 16)}, "z"),
        ({"x": drawn(1, 16), "z": drawn(1, 16)}, "x, z"),
        ({"x": drawn(1, 16).astype(np.float64)}, "float64"),
        ({"x": drawn(1, 15)}, "[1, 15]"),
        ({"x": drawn(16)}, "[16]"),
    ],
)
def test_feeds_that_do_not_fit_are_refused(session: Session, feeds: Any, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        session.run(feeds)
    assert told in caught.value.got
    assert "x" in caught.value.expected


def test_closing_is_final_and_may_be_repeated(open_graph: Open, mlp: Path) -> None:
    with open_graph(mlp) as session:
        session.run({"x": drawn(1, 16)})
    session.close()
    with pytest.raises(UsageError, match="closed"):
        session.run({"x": drawn(1, 16)})


def test_threads_are_what_was_asked(open_graph: Open, mlp: Path) -> None:
    with open_graph(mlp, threads=1) as session:
        assert session.info.threads == 1


@pytest.mark.parametrize("threads", [0, -2])
def test_a_thread_count_that_makes_no_sense_is_refused(
    open_graph: Open, mlp: Path, threads: int
) -> None:
    with pytest.raises(UsageError, match="threads"):
        open_graph(mlp, threads=threads)


def test_a_text_file_is_not_a_graph(
    open_graph: Open, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "notes.onnx"
    path.write_text("these are notes\n" * 50)
    with pytest.raises(EngineLibraryError) as caught:
        open_graph(path)
    assert str(path) in caught.value.got
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_half_a_graph_is_not_a_graph(open_graph: Open, mlp: Path, tmp_path: Path) -> None:
    path = tmp_path / "half.onnx"
    path.write_bytes(mlp.read_bytes()[: mlp.stat().st_size // 2])
    with pytest.raises(EngineLibraryError):
        open_graph(path)


def test_an_empty_file_is_not_a_graph(open_graph: Open, tmp_path: Path) -> None:
    path = tmp_path / "empty.onnx"
    path.touch()
    with pytest.raises(EngineLibraryError, match=r"empty\.onnx"):
        open_graph(path)


def test_a_missing_file_is_named(open_graph: Open, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gone"):
        open_graph(tmp_path / "gone.onnx")


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_missing_library_names_the_extra(
    library: Any, mlp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingPackageError, match=r"jetlift\[cpu\]"):
        open_onnx(mlp, library=library)


def test_an_unknown_library_is_refused(mlp: Path) -> None:
    with pytest.raises(UnknownNameError, match="openvino or onnxruntime"):
        open_onnx(mlp, library="torch")  # type: ignore[arg-type]
