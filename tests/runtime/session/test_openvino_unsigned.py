"""INT8 graphs on OpenVINO against ONNX Runtime, without its optimisations, on the same file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

pytest.importorskip("openvino")
onnxruntime = pytest.importorskip("onnxruntime")

from jetlift.runtime.session import open_onnx  # noqa: E402 - after the skips

X = np.random.default_rng(0).normal(0, 1, (1, 4, 9, 9)).astype(np.float32)
BRANCH = 8


class Graph:
    """Two convolutions, joined, quantised and read by a convolution in INT8."""

    def __init__(self, zero: int = 0, kind: type = np.int8) -> None:
        self.random = np.random.default_rng(1)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.steps = (self.constant("scale", np.float32(4 / 127)), self.constant("z", kind(zero)))

    def constant(self, name: str, array: object) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def add(self, kind: str, inputs: list[str], name: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def branch(self, name: str) -> str:
        weight = self.random.normal(0, 0.3, (BRANCH, 4, 1, 1)).astype(np.float32)
        convolved = self.add("Conv", ["x", self.constant(f"{name}_w", weight)], f"{name}_conv")
        return self.add("Relu", [convolved], name)

    def quantised(self, value: str) -> str:
        narrow = self.add("QuantizeLinear", [value, *self.steps], f"{value}_int8")
        return self.add("DequantizeLinear", [narrow, *self.steps], f"{value}_dq")

    def vector(self, name: str, value: str, kind: str) -> str:
        operand = self.random.uniform(0.5, 1.5, (1, 2 * BRANCH, 1, 1)).astype(np.float32)
        return self.add(kind, [value, self.constant(f"{name}_v", operand)], name)

    def finished(self, value: str, *, narrow: bool = False) -> onnx.ModelProto:
        weight = self.random.normal(0, 0.3, (16, 2 * BRANCH, 1, 1)).astype(np.float32)
        scale = (np.abs(weight).max(axis=(1, 2, 3)) / 127).astype(np.float32)
        codes = np.rint(weight / scale[:, None, None, None]).astype(np.int8)
        zeros = np.zeros(16, np.int8)
        given = [
            self.constant(name, array)
            for name, array in (("codes", codes), ("scales", scale), ("zeros", zeros))
        ]
        self.add("Conv", [value, self.add("DequantizeLinear", given, "w", axis=0)], "y")
        outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 16, 9, 9])]
        if narrow:
            shape = [1, 2 * BRANCH, 9, 9]
            outputs.append(helper.make_tensor_value_info("joined_int8", TensorProto.INT8, shape))
        graph = helper.make_graph(
            self.nodes,
            "joined",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 9, 9])],
            outputs,
            self.constants,
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        onnx.checker.check_model(made, full_check=True)
        return made


def joined(graph: Graph) -> str:
    return graph.add("Concat", [graph.branch("a"), graph.branch("b")], "joined", axis=1)


def after_the_join(graph: Graph) -> str:
    return graph.quantised(joined(graph))


def before_the_join(graph: Graph) -> str:
    both = [graph.quantised(graph.branch(name)) for name in "ab"]
    return graph.add("Concat", both, "joined", axis=1)


def centred_and_scaled(graph: Graph) -> str:
    moved = graph.vector("moved", joined(graph), "Sub")
    return graph.quantised(graph.vector("scaled", moved, "Mul"))


def without_a_join(graph: Graph) -> str:
    weight = graph.random.normal(0, 0.3, (2 * BRANCH, 4, 1, 1)).astype(np.float32)
    return graph.quantised(graph.add("Conv", ["x", graph.constant("c_w", weight)], "c"))


def both_answers(model: onnx.ModelProto, path: Path) -> list[dict[str, np.ndarray]]:
    path.write_bytes(model.SerializeToString())
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    reference = onnxruntime.InferenceSession(str(path), options)
    names = [output.name for output in reference.get_outputs()]
    with open_onnx(path, library="openvino", threads=1) as session:
        return [dict(zip(names, reference.run(None, {"x": X}), strict=True)), session.run({"x": X})]


@pytest.mark.parametrize(
    "form", [after_the_join, before_the_join, centred_and_scaled, without_a_join]
)
@pytest.mark.parametrize(("zero", "kind"), [(0, np.int8), (-7, np.int8), (128, np.uint8)])
def test_int8_is_read_right_wherever_the_join_is(tmp_path, form, zero, kind):
    graph = Graph(zero, kind)
    wanted, got = both_answers(graph.finished(form(graph)), tmp_path / "graph.onnx")
    np.testing.assert_allclose(got["y"], wanted["y"], atol=1e-5)


def test_the_layer_still_runs_in_int8(tmp_path):
    from jetlift.runtime.session.openvino import OpenVINOSession, executed_layers

    graph = Graph()
    path = tmp_path / "graph.onnx"
    path.write_bytes(graph.finished(after_the_join(graph)).SerializeToString())
    with OpenVINOSession.from_onnx(path, threads=1) as session:
        layers = executed_layers(session.compiled)
    kinds = [layer.arithmetic for layer in layers if layer.kind == "Convolution"]
    assert sorted(kinds)[:2] == ["f32", "f32"]
    assert sorted(kinds)[2] in ("u8", "i8")


def test_int8_steps_that_are_an_output_stay_int8(tmp_path):
    graph = Graph()
    model = graph.finished(after_the_join(graph), narrow=True)
    wanted, got = both_answers(model, tmp_path / "graph.onnx")
    assert got["joined_int8"].dtype == np.int8
    np.testing.assert_array_equal(got["joined_int8"], wanted["joined_int8"])
