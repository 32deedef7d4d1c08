from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from helpers import graphs
from onnx import helper

from jetlift.export import graph
from jetlift.export.own_graph import describe_inputs
from jetlift.runtime.errors import InputError, UsageError
from jetlift.runtime.manifest import TensorSpec

RANDOM = np.random.default_rng(11)
SPEC = TensorSpec(
    name="x",
    dtype="float32",
    shape=("batch", 6),
    min_shape=(1, 6),
    opt_shape=(1, 6),
    max_shape=(8, 6),
)


class Twins(torch.nn.Module):
    """Two outputs, one of them named as a function that torch names an inner value after."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = torch.nn.Embedding(10, 6)
        self.linear = torch.nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        inner = self.table((x.abs() * 3).long().clamp(0, 9)).sum(1)
        return self.linear(x + inner), inner


class Sum(torch.nn.Module):
    """One named argument, and as many others as there are inputs."""

    def forward(self, x: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        return x + sum(others)


@pytest.mark.parametrize("count", [1, 3])
def test_arguments_without_names_are_inputs_with_dynamic_axes(count):
    specs = [replace(SPEC, name=name) for name in ("x", "y_0", "y_1", "y_2")[: 1 + count]]
    model = graph.from_torch(Sum().eval(), specs, ["total"])
    assert [value.name for value in model.graph.inputs] == [spec.name for spec in specs]
    assert {graph.axes_of(value) for value in model.graph.inputs} == {("batch", 6)}
    x = RANDOM.standard_normal((3, 6)).astype(np.float32)
    (got,) = graphs.run(model, {spec.name: x for spec in specs})
    np.testing.assert_allclose(got, (1 + count) * x, rtol=1e-6)


def test_torch_module_becomes_a_checked_graph_with_its_own_names():
    module = Twins().eval()
    model = graph.from_torch(module, [SPEC], ["embedding", "linear"])
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    assert [value.name for value in model.graph.outputs] == ["embedding", "linear"]
    assert graph.axes_of(model.graph.inputs[0]) == ("batch", 6)
    assert all(v.dtype is not None for node in model.graph for v in node.outputs)
    for batch in (1, 2, 5):
        x = RANDOM.standard_normal((batch, 6)).astype(np.float32)
        with torch.no_grad():
            wanted = module(torch.from_numpy(x))
        for a, b in zip(graphs.run(model, {"x": x}), wanted, strict=True):
            np.testing.assert_allclose(a, b.numpy(), atol=1e-5)


def test_wrong_number_of_output_names_is_refused():
    with pytest.raises(UsageError, match="returns 2 tensors"):
        graph.from_torch(Twins().eval(), [SPEC], ["only"])


def test_large_weights_stay_outside_from_end_to_end(tmp_path, monkeypatch):
    # The limits stand for protobuf's 2 GB; the long form of this test has a graph beyond it.
    monkeypatch.setattr(graph, "SIMPLIFY_LIMIT_BYTES", 5_000)
    monkeypatch.setattr(graph, "EXTERNAL_LIMIT_BYTES", 5_000)
    _check_external(tmp_path, graphs.mlp(width=64), width=64)


@pytest.mark.long
def test_graph_over_two_gigabytes_stays_outside_from_end_to_end(tmp_path):
    width = 23_200  # two square float32 matrices of 2.15 GB each
    weights = {
        "a": np.full((width, width), 1 / width, np.float32),
        "b": np.eye(width, dtype=np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"], name="a"),
        helper.make_node("MatMul", ["h", "b"], ["y"], name="b"),
    ]
    proto = helper.make_graph(
        nodes,
        "big",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", width])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["batch", width])],
    )
    model = ir.from_proto(
        helper.make_model(proto, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    )
    _give_weights(model, weights)
    _check_external(tmp_path, model, width=width)


def _give_weights(model: ir.Model, weights: dict[str, np.ndarray]) -> None:
    free = {v.name: v for node in model.graph for v in node.inputs if v is not None}
    for name, array in weights.items():
        tensor = ir.tensor(array, name=name)
        free[name].const_value = tensor
        free[name].type, free[name].shape = ir.TensorType(tensor.dtype), tensor.shape
        model.graph.register_initializer(free[name])


def _check_external(tmp_path, source: ir.Model, *, width: int) -> None:
    ir.save(source, tmp_path / "in.onnx", external_data="in.onnx.data")
    model = graph.from_file(tmp_path / "in.onnx")
    assert graph.save(model, tmp_path / "out.onnx") == ("out.onnx.data",)
    assert (tmp_path / "out.onnx").stat().st_size < 20_000
    onnx.checker.check_model(str(tmp_path / "out.onnx"))
    import onnxruntime

    x = RANDOM.standard_normal((2, width)).astype(np.float32)
    answers = []
    for name in ("in.onnx", "out.onnx"):
        session = onnxruntime.InferenceSession(
            str(tmp_path / name), providers=["CPUExecutionProvider"]
        )
        answers.append(session.run(None, {"x": x})[0])
        del session
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-5)


@pytest.mark.parametrize("content", [b"", b"not a graph", b"\x08\x07", bytes(range(256))])
def test_file_that_is_no_graph_is_refused(tmp_path, content):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is not an ONNX model"):
        graph.from_file(path)


def test_cut_file_is_refused(tmp_path):
    path = tmp_path / "model.onnx"
    ir.save(graphs.mlp(), path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="is not an ONNX model"):
        graph.from_file(path)


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="There is no file"):
        graph.from_file(tmp_path / "nope.onnx")


def test_own_graph_inputs_get_a_default_batch():
    (spec,) = describe_inputs(graphs.conv_net(), {})
    assert spec.shape == ("batch", 3, 16, 16)
    assert (spec.min_shape, spec.opt_shape) == ((1, 3, 16, 16), (1, 3, 16, 16))
    assert spec.max_shape == (8, 3, 16, 16)


def test_own_graph_with_other_dynamic_axes_needs_a_shape():
    node = helper.make_node("Relu", ["x"], ["y"], name="relu")
    axes = {"x": ["batch", "length"]}
    model = graphs.model([node], {}, inputs=axes, outputs={"y": ["batch", "length"]})
    with pytest.raises(UsageError, match="--shape x=1x"):
        describe_inputs(model, {})
    (spec,) = describe_inputs(model, {"x": (2, 40)})
    assert (spec.min_shape, spec.opt_shape, spec.max_shape) == ((1, 1), (2, 40), (8, 40))
    for wrong in ({"x": (2,)}, {"z": (1, 2)}):
        with pytest.raises(UsageError, match="--shape"):
            describe_inputs(model, wrong)
    with pytest.raises(UsageError, match="--shape gives x"):
        describe_inputs(graphs.conv_net(), {"x": (1, 4, 16, 16)})
