from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from helpers import graphs
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import helper

from jetlift.export.fidelity import VectorMetric, parse_budget
from jetlift.export.precision.calibrate import observe
from jetlift.export.precision.evaluate import Evaluator
from jetlift.export.precision.fp16 import Typed
from jetlift.export.precision.int8 import Quantised, SearchOptions, to_int8
from jetlift.export.precision.scales import quantise_weight, scale_of
from jetlift.export.precision.sites import constant, find_sites
from jetlift.runtime.errors import FidelityError, InputError, UsageError

RANDOM = np.random.default_rng(3)
MLP_SAMPLES = [{"x": RANDOM.standard_normal((1, 16)).astype(np.float32)} for _ in range(16)]
CONV_SAMPLES = [{"x": RANDOM.standard_normal((1, 3, 16, 16)).astype(np.float32)} for _ in range(8)]


def quantise(source: ir.Model, samples, budget: str = "", **options) -> Quantised:
    """Calibrate on all samples but the last two, search on these."""
    lines = parse_budget(budget) if budget else ()
    evaluator = Evaluator(source, samples[-2:], VectorMetric(), lines)
    operations = {str(node.name): 10.0 for node in source.graph}
    return to_int8(source, samples[:-2], evaluator, operations, options=SearchOptions(**options))


def typed_int8(source: ir.Model, samples) -> Typed:
    return quantise(source, samples).typed


floats = st.floats(-1e6, 1e6, width=32)


@given(
    hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=4, max_side=6), elements=floats),
    st.data(),
)
@settings(max_examples=200, deadline=None)
def test_weight_codes_are_within_half_a_scale_of_the_weight(weight, data):
    axis = data.draw(st.integers(0, weight.ndim - 1))
    codes, scale = quantise_weight(weight, axis)
    assert codes.dtype == np.int8
    assert codes.min() >= -127
    assert scale.shape == (weight.shape[axis],)
    assert (scale > 0).all()
    shape = [1] * weight.ndim
    shape[axis] = -1
    wide = scale.astype(np.float64).reshape(shape)
    error = np.abs(codes * wide - weight)
    assert (error <= wide * 0.5 * (1 + 1e-6)).all()


@given(
    hnp.arrays(
        np.float32,
        st.integers(1, 20),
        elements=st.floats(0, float(np.finfo(np.float32).max), width=32),
    )
)
def test_scale_is_positive_and_reaches_the_largest(magnitudes):
    scale = scale_of(magnitudes)
    assert (scale > 0).all()
    assert np.isfinite(scale).all()
    nonzero = magnitudes > 1e-30
    reached = scale[nonzero].astype(np.float64) * 127
    np.testing.assert_allclose(reached, magnitudes[nonzero], rtol=1e-5)


def test_a_channel_of_almost_no_weight_keeps_its_bias_as_an_integer():
    """Rule Q5: engines that count a bias in units of both scales must not leave int32."""
    source = graphs.conv_net()
    convolution = next(
        node for node in source.graph if node.op_type == "Conv" and not is_first(node)
    )
    weight = convolution.inputs[1].const_value.numpy().copy()
    weight[0] = 1e-12
    bias = np.full(weight.shape[0], 3.0, np.float32)
    name = str(convolution.name)
    convolution.replace_input_with(1, constant(source.graph, f"{name}_small", weight))
    convolution.resize_inputs(3)
    convolution.replace_input_with(2, constant(source.graph, f"{name}_high", bias))
    made = quantise(source, CONV_SAMPLES).typed.model
    arrays = {str(v.name): v.const_value.numpy() for v in made.graph.initializers.values()}
    node = next(node for node in made.graph if node.name == name)
    up, down = node.inputs[0].producer(), node.inputs[1].producer()
    scales = [np.abs(arrays[str(item.inputs[1].name)]) for item in (up, down)]
    typed_bias = arrays[str(node.inputs[2].name)]
    assert (np.abs(typed_bias) / (scales[0] * scales[1]) < 2**31).all()
    feeds = CONV_SAMPLES[0]
    for wanted, got in zip(graphs.run(source, feeds), graphs.run(made, feeds), strict=True):
        assert np.abs(wanted - got).max() < 0.1 * np.abs(wanted).max()


def is_first(node: ir.Node) -> bool:
    return node.inputs[0].is_graph_input()


def test_quantised_graph_has_the_form_tensorrt_takes():
    typed = typed_int8(graphs.mlp(), MLP_SAMPLES)
    proto = ir.to_proto(typed.model)
    onnx.checker.check_model(proto, full_check=True)
    arrays = {i.name: onnx.numpy_helper.to_array(i) for i in proto.graph.initializer}
    kinds = [node.op_type for node in proto.graph.node]
    assert kinds.count("QuantizeLinear") == 2
    assert kinds.count("DequantizeLinear") == 4
    for node in proto.graph.node:
        if node.op_type.endswith("quantizeLinear") or node.op_type.endswith("QuantizeLinear"):
            zero = arrays[node.input[2]]
            assert zero.dtype == np.int8
            assert not zero.any()
    dequantised = {
        node.output[0] for node in proto.graph.node if node.op_type == "DequantizeLinear"
    }
    for node in proto.graph.node:
        if node.op_type in ("Gemm", "MatMul"):
            assert set(node.input[:2]) <= dequantised
    biases = [node.input[2] for node in proto.graph.node if node.op_type == "Gemm"]
    assert [arrays[name].dtype for name in biases] == [np.float32]  # biases stay float
    assert "w1" not in arrays  # the float weight is gone
    makers = {node.output[0]: node for node in proto.graph.node}
    for node, channels in (
        (makers["h"], 32),
        (makers["m"], 8),
    ):  # output channels, transposed or not
        codes, scale, _ = (arrays[name] for name in makers[node.input[1]].input)
        assert codes.dtype == np.int8
        assert scale.shape == (channels,)


def test_quantised_answer_is_near_the_float_answer():
    source = graphs.mlp()
    typed = typed_int8(source, MLP_SAMPLES).model
    for sample in MLP_SAMPLES:
        wanted, got = graphs.run(source, sample)[0], graphs.run(typed, sample)[0]
        assert np.abs(wanted - got).max() < 0.05 * np.abs(wanted).max()
        assert (wanted != got).any()


def test_convolution_of_the_input_stays_wide_and_is_told():
    typed = typed_int8(graphs.conv_net(), CONV_SAMPLES)
    assert typed.kept_wide == ("stem: convolution of the input",)
    by_name = {node.name: node for node in typed.model.graph}
    assert by_name["stem"].inputs[1].producer() is None
    dequantized = by_name["depthwise"].inputs[1].producer()
    assert dequantized.op_type == "DequantizeLinear"
    assert dequantized.inputs[1].const_value.numpy().shape == (8,)


def test_what_cannot_be_quantised_is_named():
    weights = {"w": RANDOM.standard_normal((16, 4)), "v": RANDOM.standard_normal((2, 4, 3))}
    nodes = [
        helper.make_node("Relu", ["x"], ["r"], name="relu"),
        helper.make_node("Transpose", ["r"], ["t"], name="turned", perm=[1, 0]),
        helper.make_node("Gemm", ["t", "w"], ["a"], name="turning", transA=1),
        helper.make_node("Gemm", ["r", "w"], ["b"], name="scaling", alpha=0.5),
        helper.make_node("MatMul", ["a", "v"], ["c"], name="stacked"),
        helper.make_node("MatMul", ["r", "w"], ["d"], name="plain"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 16])],
        [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in ("b", "c", "d")],
        [onnx.numpy_helper.from_array(w.astype(np.float32), n) for n, w in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    sites, kept_wide = find_sites(ir.from_proto(model).graph)
    assert [site.name for site in sites] == ["plain"]
    assert kept_wide == [
        "turning: its activation is transposed",
        "scaling: its product is scaled",
        "stacked: a weight of rank 3",
    ]


def test_one_pair_serves_all_consumers_of_a_tensor():
    weights = {name: RANDOM.standard_normal((16, 4)) for name in ("q", "k")}
    nodes = [helper.make_node("Relu", ["x"], ["r"], name="relu")] + [
        helper.make_node("MatMul", ["r", name], [f"{name}_out"], name=name) for name in weights
    ]
    outputs = {"q_out": ["batch", 4], "k_out": ["batch", 4]}
    source = graphs.model(nodes, weights, inputs={"x": ["batch", 16]}, outputs=outputs)
    kinds = [node.op_type for node in typed_int8(source, MLP_SAMPLES).model.graph]
    assert kinds.count("QuantizeLinear") == 1


def test_products_of_two_activations_stay_wide():
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], name="t", perm=[1, 0]),
        helper.make_node("MatMul", ["t", "x"], ["y"], name="product"),
    ]
    source = graphs.model(nodes, {}, inputs={"x": ["batch", 16]}, outputs={"y": [16, 16]})
    with pytest.raises(UsageError, match="no weighted MatMul, Gemm or Conv"):
        typed_int8(source, MLP_SAMPLES)


def test_source_graph_is_not_changed():
    source = graphs.mlp()
    before = ir.to_proto(source).SerializeToString(deterministic=True)
    typed_int8(source, MLP_SAMPLES)
    assert ir.to_proto(source).SerializeToString(deterministic=True) == before


def test_old_opset_is_refused():
    source = graphs.mlp()
    source.opset_imports[""] = 12
    with pytest.raises(UsageError, match="opset 12"):
        typed_int8(source, MLP_SAMPLES)


def test_calibration_sees_channels_of_inputs_and_inner_tensors():
    source = graphs.mlp()
    shares: list[float] = []
    seen = observe(source, {"x": 1, "r": 1, "y": 1}, MLP_SAMPLES, progress=shares.append)
    inputs = np.concatenate([sample["x"] for sample in MLP_SAMPLES])
    np.testing.assert_array_equal(seen["x"].low, inputs.min(axis=0))
    np.testing.assert_array_equal(seen["x"].high, inputs.max(axis=0))
    np.testing.assert_array_equal(seen["x"].rows, inputs)
    answers = np.concatenate([graphs.run(source, sample)[0] for sample in MLP_SAMPLES])
    largest = np.abs(answers).max(axis=0)
    np.testing.assert_allclose(seen["y"].largest, largest, rtol=1e-5)
    assert shares[-1] == 1.0


def test_no_samples_and_nan_are_refused():
    with pytest.raises(InputError, match="no calibration samples"):
        typed_int8(graphs.mlp(), MLP_SAMPLES[:2])
    broken = {"x": np.full((1, 16), np.nan, np.float32)}
    with pytest.raises(InputError, match="NaN or infinity on calibration sample 2"):
        typed_int8(graphs.mlp(), [MLP_SAMPLES[0], broken, *MLP_SAMPLES[:2]])


def test_told_is_what_the_graph_has():
    told = quantise(graphs.mlp(), MLP_SAMPLES).quantisation
    assert told.int8_share == 0.4  # two of the five nodes, which all count alike here
    assert told.weights_share == {"int8": 1.0}
    assert [block.nodes for block in told.blocks] == [("fc1",), ("fc2",)]
    assert {block.precision for block in told.blocks} == {"int8"}
    assert sum(told.calibrators.values()) == 2
    assert told.evaluations > 0
    assert told.finished


def test_budget_that_nothing_meets_says_how_near_it_came():
    with pytest.raises(FidelityError, match=r"The nearest: y.cosine_mean is .*, asked >= 1.5"):
        quantise(graphs.mlp(), MLP_SAMPLES, "cosine_mean>=1.5")
    kept = quantise(graphs.mlp(), MLP_SAMPLES, "cosine_mean>=1.5", keep=True)
    assert kept.quantisation.int8_share == 0.4
