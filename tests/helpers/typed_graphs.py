"""The smallest graph of each variant name: x float32 [batch, 16] -> one product -> y [batch, 8].

`typed_product("int8-fp16")` is a Q/DQ product whose rest is FP16, as export writes it. Weights are
seeded; no figure of such a graph says anything about a model.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

WIDE = {
    "fp32": TensorProto.FLOAT,
    "fp16": TensorProto.FLOAT16,
    "bf16": TensorProto.BFLOAT16,
    "fp8": TensorProto.FLOAT,
    "int8": TensorProto.FLOAT,
    "int8-fp16": TensorProto.FLOAT16,
}
NARROW = {"int8": TensorProto.INT8, "int8-fp16": TensorProto.INT8, "fp8": TensorProto.FLOAT8E4M3FN}


def typed_product(variant: str) -> onnx.ModelProto:
    wide, narrow = WIDE[variant], NARROW.get(variant)
    values = np.random.default_rng(0).uniform(-1, 1, (16, 8))
    nodes = [helper.make_node("Cast", ["x"], ["x_wide"], name="in", to=wide)]
    if narrow is None:
        constants = [helper.make_tensor("w", wide, (16, 8), values.ravel().tolist())]
        product = ["x_wide", "w"]
    else:
        codes = np.rint(values * 100).astype(int)
        constants = [
            helper.make_tensor("w_codes", narrow, (16, 8), codes.ravel().tolist()),
            helper.make_tensor("scale", wide, (), [0.01]),
            helper.make_tensor("zero", narrow, (), [0]),
        ]
        nodes += [
            helper.make_node("QuantizeLinear", ["x_wide", "scale", "zero"], ["x_codes"], name="q"),
            helper.make_node("DequantizeLinear", ["x_codes", "scale", "zero"], ["x_dq"], name="dq"),
            helper.make_node(
                "DequantizeLinear", ["w_codes", "scale", "zero"], ["w_dq"], name="w_dq_node"
            ),
        ]
        product = ["x_dq", "w_dq"]
    nodes += [
        helper.make_node("MatMul", product, ["y_wide"], name="product"),
        helper.make_node("Cast", ["y_wide"], ["y"], name="out", to=TensorProto.FLOAT),
    ]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 16])
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 8])
    graph = helper.make_graph(nodes, "typed", [given], [made], constants)
    # Scales in FP16 and results in BF16 need opset 19 and newer.
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
