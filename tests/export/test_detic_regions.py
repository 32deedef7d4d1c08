"""Features of regions and moved boxes, against ONNX's own operator and plain loops."""

from __future__ import annotations

import math

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from jetlift.export.recipes import detic_roi_modules as roi

SIZE_WH = (352, 224)


def onnx_roi_align(feature, boxes_xyxy, stride, bins):
    """ONNX's RoiAlign, half_pixel, with as many samples as there are pixels."""
    node = helper.make_node(
        "RoiAlign", ["x", "b", "i"], ["y"], output_height=bins, output_width=bins,
        sampling_ratio=0, spatial_scale=1 / stride, mode="avg",
        coordinate_transformation_mode="half_pixel",
    )  # fmt: skip
    kind = TensorProto.FLOAT
    inputs = [
        helper.make_tensor_value_info("x", kind, list(feature.shape)),
        helper.make_tensor_value_info("b", kind, ["k", 4]),
        helper.make_tensor_value_info("i", TensorProto.INT64, ["k"]),
    ]
    outputs = [helper.make_tensor_value_info("y", kind, None)]
    graph = helper.make_graph([node], "g", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    feeds = {"x": feature, "b": boxes_xyxy, "i": np.zeros(len(boxes_xyxy), np.int64)}
    return session.run(None, feeds)[0]


def level_of(box) -> int:
    area = (box[2] - box[0]) * (box[3] - box[1])
    return min(5, max(3, math.floor(4 + math.log2(math.sqrt(area) / 224 + 1e-8)))) - 3


def boxes_of_all_kinds() -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = rng.uniform(-40, 380, (150, 2))
    sides = np.exp(rng.uniform(-2, 6.8, (150, 2)))
    drawn = np.concatenate([centres - sides / 2, centres + sides / 2], axis=1)
    special = [
        [10, 10, 10, 50], [0, 0, *SIZE_WH], [8, 8, 64, 64], [-20, -20, -9, -9],
        [340, 200, 700, 500], [4, 4, 228, 228], [0, 100, 900, 104], [-500, -500, 900, 900],
    ]  # fmt: skip
    return np.concatenate([drawn, special]).astype(np.float32)


@pytest.mark.parametrize("bins", [7, 14])
def test_regions_are_pooled_as_the_operator_does(bins):
    rng = np.random.default_rng(1)
    features = [
        rng.standard_normal((1, 3, SIZE_WH[1] // stride, SIZE_WH[0] // stride)).astype(np.float32)
        for stride in roi.STRIDES
    ]
    boxes = boxes_of_all_kinds()
    got = roi.pool([torch.from_numpy(f) for f in features], torch.from_numpy(boxes), bins).numpy()
    levels = np.array([level_of(box) for box in boxes])
    assert {0, 1, 2} == set(levels)
    for level, stride in enumerate(roi.STRIDES):
        chosen = levels == level
        wanted = onnx_roi_align(features[level], boxes[chosen], stride, bins)
        np.testing.assert_allclose(got[chosen], wanted, atol=5e-5)


def one_axis(start, length, bins, size) -> np.ndarray:
    """torchvision's samples one by one (roi_align_common.h, pre_calc_for_bilinear_interpolate)."""
    weights = np.zeros((bins, size))
    samples = max(0, math.ceil(length / bins))
    for place in range(bins):
        for sample in range(samples):
            at = start + place * length / bins + (sample + 0.5) * length / bins / samples
            if not -1 <= at <= size:
                continue
            at = max(at, 0)
            low = min(int(at), size - 1)
            if low >= size - 1:
                weights[place, size - 1] += 1 / samples
            else:
                weights[place, low] += (1 - (at - low)) / samples
                weights[place, low + 1] += (at - low) / samples
    return weights


@settings(deadline=None)
@given(
    st.floats(-30, 40, width=32), st.floats(-3, 90, width=32), st.integers(1, 14),
    st.integers(1, 24),
)  # fmt: skip
def test_weights_of_an_axis_are_those_of_samples_one_by_one(start, length, bins, size):
    given = (torch.tensor([[start]]), torch.tensor([[length]]))
    alone = roi.axis_weights(*given, bins, [size])[0, 0].numpy()
    beside = roi.axis_weights(*(axis.expand(2, 1) for axis in given), bins, [size, 30])
    got = beside[0, 0, :, :size].numpy()
    np.testing.assert_array_equal(got, alone)
    assert not beside[0, 0, :, size:].any()
    wanted = one_axis(start, length, bins, size)
    assert np.isfinite(got).all()
    # A sample that lies on the very edge of what counts may fall on either side of it.
    edges = np.array([-1, size])
    samples = max(1, math.ceil(length / bins))
    at = start + (np.arange(bins * samples) + 0.5) * length / bins / samples
    if np.abs(at[:, None] - edges).min() > 1e-4:
        np.testing.assert_allclose(got, wanted, atol=2e-4)


def test_any_boxes_give_finite_features():
    features = [torch.randn(1, 2, 28 // k, 44 // k) for k in (1, 2, 4)]
    boxes = torch.tensor([[5.0, 5, -3, -9], [0, 0, 0, 0], [1e5, 1e5, 2e5, 2e5], [0, 0, 1e6, 1e6]])
    assert torch.isfinite(roi.pool(features, boxes, 7)).all()


def test_boxes_move_by_their_deltas():
    boxes = torch.tensor([[10.0, 20, 30, 60]])
    deltas = torch.tensor([[1.0, -2, 5 * math.log(2), 100]])
    got = roi.moved(boxes, deltas, (10.0, 5.0))[0].tolist()
    width, height = 40, 40 * 1000 / 16  # twice as wide; held to the largest growth
    centre = (20 + 0.1 * 20, 40 - 0.2 * 40)
    wanted = [
        centre[0] - width / 2, centre[1] - height / 2, centre[0] + width / 2, centre[1] + height / 2
    ]  # fmt: skip
    assert got == pytest.approx(wanted, rel=1e-5)


def test_classes_are_cosines_times_fifty():
    classifier = roi.Classifier(6, 4)
    hidden, words = torch.randn(3, 6), torch.nn.functional.normalize(torch.randn(5, 4), dim=1)
    with torch.no_grad():
        got = classifier(hidden, words).numpy()
        rows = classifier.linear(hidden).numpy()
    cosines = rows @ words.numpy().T / np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(got, 50 * cosines, rtol=1e-5)
