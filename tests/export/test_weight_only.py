"""Weights in INT8 and INT4: what is stored, how near it is, and which engines keep it narrow."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from helpers.trt_builds import need_builder
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import TensorProto, helper, numpy_helper

from jetlift.benchmarks.sentences import sentences
from jetlift.engines import ops
from jetlift.engines.trt.build import build_engine
from jetlift.export import fidelity, graph
from jetlift.export.make import PRECISIONS, Request
from jetlift.export.precision.fp16 import to_fp16
from jetlift.export.precision.weight_only import (
    BITS,
    BLOCK,
    LARGEST_CODE,
    int4_blocks,
    to_weight_only,
)
from jetlift.runtime.errors import UsageError
from jetlift.runtime.manifest import TensorSpec
from jetlift.runtime.session import open_onnx
from jetlift.runtime.text import TextPreparer

WIDTH, INNER = 2 * BLOCK, 8 * BLOCK
X = TensorSpec("x", "float32", ("batch", WIDTH), (1, WIDTH), (1, WIDTH), (8, WIDTH))


def layers(*, inner: int = INNER, opset: int = 18, **weights) -> ir.Model:
    """x -> MatMul, Relu, Gemm with its weight as [out, in], which is looked up in too -> y."""
    random = np.random.default_rng(0)
    table = (random.standard_normal((inner, inner)) / 16).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["h"], name="first"),
        helper.make_node("Relu", ["h"], ["r"], name="relu"),
        helper.make_node("Gather", ["w2", "row"], ["looked_up"], name="lookup"),
        helper.make_node("Add", ["r", "looked_up"], ["s"], name="sum"),
        helper.make_node("Gemm", ["s", "w2"], ["y"], name="second", transB=1),
    ]
    stored = {
        "w1": (random.standard_normal((WIDTH, inner)) / 16).astype(np.float32),
        "w2": table,
        "row": np.int64(3),
    } | weights
    proto = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", inner])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in stored.items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    return graph.infer(ir.from_proto(helper.make_model(proto, opset_imports=opsets, ir_version=8)))


def answers(model: ir.Model, folder, feeds) -> np.ndarray:
    path = folder / "graph.onnx"
    graph.save(graph.infer(model), path)
    onnx.checker.check_model(str(path), full_check=True)
    with open_onnx(path, library="onnxruntime") as session:
        return session.run(feeds)["y"]


@pytest.mark.parametrize(("bits", "error"), [(8, 0.01), (4, 0.16)])
@pytest.mark.parametrize("halved", [False, True])
def test_results_stay_near_and_weights_are_narrow(tmp_path, bits, error, halved):
    feeds = {"x": np.random.default_rng(1).standard_normal((4, WIDTH)).astype(np.float32)}
    model = layers()
    wanted = answers(model, tmp_path, feeds)
    wide = to_fp16(model).model if halved else model
    stored = to_weight_only(wide, bits)
    got = answers(stored.model, tmp_path, feeds)
    assert np.linalg.norm(got - wanted) <= error * np.linalg.norm(wanted)
    assert stored.kept_wide == ()
    proto = onnx.load(tmp_path / "graph.onnx")
    cost = ops.count(proto, {"x": (1, WIDTH)}).cost
    elements = WIDTH * INNER + INNER * INNER
    assert cost.weight_elements_by_precision == {f"int{bits}": elements}
    dequantised = [node for node in proto.graph.node if node.op_type == "DequantizeLinear"]
    assert len(dequantised) == 2
    kinds = {item.name: item.type.tensor_type.elem_type for item in proto.graph.value_info}
    expected = TensorProto.FLOAT16 if halved else TensorProto.FLOAT
    assert {kinds[node.output[0]] for node in dequantised} == {expected}
    # The looked-up table is there as it was, since a Gather reads it.
    assert any(
        item.data_type == expected and len(item.dims) == 2 for item in proto.graph.initializer
    )


def test_the_given_graph_is_not_changed():
    model = layers()
    before = ir.to_proto(model).SerializeToString()
    to_weight_only(to_fp16(model).model, 4)
    assert ir.to_proto(model).SerializeToString() == before


FINITE = st.floats(-1e4, 1e4, width=32)


@settings(deadline=None, max_examples=60)
@given(arrays(np.float32, (3, 2 * BLOCK), elements=FINITE), st.booleans())
def test_blocks_lose_no_more_than_plain_rounding(weight, first_axis):
    array, axis = (weight.T, 0) if first_axis else (weight, 1)
    codes, scales = int4_blocks(np.ascontiguousarray(array), axis)
    assert np.abs(codes).max() <= LARGEST_CODE
    assert codes.shape == array.shape
    assert scales.shape[axis] == 2
    restored = np.moveaxis(codes * np.repeat(scales, BLOCK, axis=axis), axis, -1)
    blocks = weight.reshape(3, 2, BLOCK).astype(np.float64)
    plain = np.abs(blocks).max(axis=-1, keepdims=True) / LARGEST_CODE
    rounded = np.rint(blocks / np.where(plain == 0, 1, plain)) * plain
    lost = np.square(restored.reshape(3, 2, BLOCK) - blocks).sum(axis=-1)
    room = 1e-12 * np.square(blocks).sum(axis=-1)  # codes times scales are float32
    assert (lost <= np.square(rounded - blocks).sum(axis=-1) * (1 + 1e-4) + room).all()


def test_a_block_of_zeros_stays_zero():
    codes, scales = int4_blocks(np.zeros((2, BLOCK), np.float32), 1)
    assert not codes.any()
    assert (scales > 0).all()


def test_what_cannot_be_stored_is_named_or_refused():
    odd = layers(inner=BLOCK + 3)
    stored = to_weight_only(odd, 4)
    assert stored.kept_wide == (f"second: its inputs are no multiple of {BLOCK}",)
    with pytest.raises(UsageError, match="8 or 4"):
        to_weight_only(odd, 2)
    with pytest.raises(UsageError, match=r"opset 17.*Opset 21"):
        to_weight_only(layers(opset=17), 4)
    to_weight_only(layers(opset=17), 8)
    changed = layers()
    changed.graph.append(ir.node("GroupNormalization", [changed.graph.inputs[0]] * 3, name="gn"))
    with pytest.raises(UsageError, match="GroupNormalization means another thing"):
        to_weight_only(changed, 4)
    bare = ir.from_proto(
        onnx.parser.parse_model(
            '<ir_version: 8, opset_import: ["" : 18]> g (float[2] x) => (float[2] y) {y = Relu(x)}'
        )
    )
    with pytest.raises(UsageError, match="no weighted MatMul or Gemm"):
        to_weight_only(bare, 8)


def test_the_variants_are_offered_without_samples(tmp_path):
    assert set(BITS) <= set(PRECISIONS)
    request = Request(tmp_path / "out", ("fp32", *BITS))
    request.check()
    assert request.narrow == ()


@pytest.mark.parametrize("halved", [False, True])
@pytest.mark.parametrize("bits", [8, 4])
def test_tensorrt_rtx_keeps_the_weights_narrow(tmp_path, bits, halved):
    need_builder()
    inner = 1024
    model = layers(inner=inner)
    wide = to_fp16(model).model if halved else model
    graph.save(graph.infer(to_weight_only(wide, bits).model), tmp_path / "graph.onnx")
    engine = tmp_path / "graph.engine"
    build_engine(tmp_path / "graph.onnx", engine, None, inputs=(X,), compute_capability="8.6")
    # What the two products read, and the table that is looked up as it was; code and the like are
    # some 0.3 MB more.
    wide_bytes = 2 if halved else 4
    scales = 0 if bits == 8 else wide_bytes / BLOCK
    products = (WIDTH * inner + inner**2) * (bits / 8 + scales)
    assert engine.stat().st_size < products + inner**2 * wide_bytes + 350_000


@pytest.mark.parametrize(("bits", "least"), [(8, 0.999), (4, 0.975)])
def test_minilm_ranks_unseen_sentences_alike(minilm_bundle, tmp_path, bits, least):
    part = minilm_bundle.part("text")[1]
    preparer = TextPreparer(part.preprocess, minilm_bundle.path(part.preprocess.tokenizer))
    texts = sentences(500)[400:]

    def embeddings(path):
        with open_onnx(path, library="onnxruntime") as session:
            return {"embedding": [session.run(preparer([t]))["embedding"] for t in texts]}

    fp32 = minilm_bundle.path("text.fp32.onnx")
    graph.save(to_weight_only(ir.load(fp32), bits).model, tmp_path / "narrow.onnx")
    figures = fidelity.compare(embeddings(fp32), embeddings(tmp_path / "narrow.onnx"))
    assert figures["embedding.spearman"] >= least
