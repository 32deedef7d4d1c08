from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from helpers import detectors
from onnx import TensorProto, helper

from jetlift.export import graph, opset
from jetlift.runtime.errors import InputError
from jetlift.runtime.session import open_onnx


def test_an_older_graph_is_brought_up_and_answers_the_same(tmp_path):
    old = tmp_path / "old.onnx"
    onnx.save(detectors.detector(opset=11), old)
    model = graph.from_file(old)
    assert model.opset_imports[""] == opset.LEAST
    graph.save(model, tmp_path / "new.onnx")
    feeds = {"images": detectors.picture((16, 16, "red")).transpose(2, 0, 1)[None].astype("f4")}
    answers = []
    for path in (old, tmp_path / "new.onnx"):
        with open_onnx(path, library="onnxruntime") as session:
            answers.append(session.run(feeds)["output"])
    np.testing.assert_allclose(*answers, atol=1e-6)


def test_a_newer_graph_stays_as_it_is():
    model = ir.from_proto(detectors.detector(opset=18))
    assert opset.brought_up(model) is model


def test_what_cannot_be_brought_up_is_refused(tmp_path):
    # An experimental operator of ONNX's first days, which no newer opset has.
    node = helper.make_node("ScaledTanh", ["x"], ["y"], name="old", alpha=1.0, beta=1.0)
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 3]) for n in ("x", "y")]
    made = helper.make_graph([node], "old", [info[0]], [info[1]])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 9)], ir_version=4)
    path = tmp_path / "old.onnx"
    onnx.save(model, path)
    with pytest.raises(InputError, match="opset 9"):
        graph.from_file(path)
