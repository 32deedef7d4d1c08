"""The builder's log, line by line."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jetlift.engines.receipt import Layer
from jetlift.engines.trt.log import BuildLog, layer_of, message, refusal, usage

# A line of the builder's log as TensorRT-RTX 1.7.1 prints it, shortened where "..." stands.
GEMM = (
    "    Name: Gemm_3_myl0_14, LayerType: gemm, Inputs: [ { Name: __mye172993_q8_myl0, Dimensions: "
    "[-1,384], Strides: [384,1], Datatype: Int8, Format: (Linear) Row major linear format }], "
    "Constants: [ { Name: val_98, Datatype: Float, ... }], Outputs: [ { Name: a, ... }], "
    "TacticName: __myelin_CASK_STUB, StreamId: 0, Metadata: [ONNX Layer: Gemm_3]\x1f"
    "[ONNX Layer: val_98_dequantize]\n"
)
# The same as TensorRT 10.10 prints it (NVIDIA/TensorRT#4397), in words of our own.
GEMM_10 = (
    "Name: mm_myl0_7, LayerType: gemm, Inputs: [ { Name: a, Dimensions: [1,40], Format/Datatype: "
    "Half }], Outputs: [ { Name: b, Dimensions: [1,40], Format/Datatype: Float }], TacticName: "
    "sm80_xmma_gemm, StreamId: 0, Metadata: [ONNX Layer: mm][ONNX Layer: add]\n"
)


def read(*lines: str) -> BuildLog:
    log = BuildLog()
    log.take(f"{line}\n" for line in lines)
    return log


def test_a_layer_is_read_from_the_log() -> None:
    assert layer_of(GEMM) == Layer(("Gemm_3", "val_98_dequantize"), "int8", 0)
    assert layer_of(GEMM_10) == Layer(("mm", "add"), "fp16", 0)
    log = read(GEMM.rstrip("\n"))
    assert (len(log.layers), log.lines) == (1, [GEMM.strip()])


def test_a_layer_that_holds_the_cast_of_a_cache_is_of_neither_precision() -> None:
    """As TensorRT-RTX 1.7.1 lists attention that reads an FP32 cache in an FP16 graph."""
    line = (
        "    Name: _gemv_mha_v1_myl0_16, LayerType: kgen, Inputs: [ { Name: cross_value_0, "
        "Datatype: Float, Format: x }, { Name: query, Datatype: Half, Format: x }], Outputs: [ "
        "{ Name: a, Datatype: Half, Format: x }], TacticName: g, Metadata: "
        "[ONNX Layer: node_matmul_3]\n"
    )
    assert layer_of(line) == Layer(("node_matmul_3",), "mixed", 1)
    only_fp32 = line.replace("query, Datatype: Half", "query, Datatype: Float")
    assert layer_of(only_fp32) == Layer(("node_matmul_3",), "fp32", 1)


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
        (("Datatype: Int8", "Format/Datatype: Row major linear FP16 format"), 0, "fp16"),
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
    log = read(
        "[V] Max Scratch Memory: 40 bytes", "[V] Total Activation Memory: 41 bytes",
        "[V] Total Weights Memory: 7 bytes", "[V] Total Weights Memory: 5 bytes",
    )  # fmt: skip
    assert log.memory == {"scratch": 40, "activation": 41, "weights": 7}


def test_messages_of_the_child_are_told_and_never_taken_for_the_librarys() -> None:
    told: list[tuple[str, float]] = []
    log = BuildLog(lambda doing, share: told.append((doing, share)))
    log.take([message({"phase": "Building engine", "share": 0.5}) + "\n"])
    log.take([message({"dla_fallback": ["a", "b"]}) + "\n"])
    assert told == [("Building engine", 0.5)]
    assert log.told["dla_fallback"] == ["a", "b"]
    assert (log.last, log.refusals, log.memory_signs) == ([], [], [])


@pytest.mark.parametrize("cut", ['\x1e{"phase": "Buil', "\x1e", "\x1e[1]", "\x1enull"])
def test_a_message_that_a_signal_cut_is_a_line_like_any_other(cut: str) -> None:
    assert read(cut).told == {}


# Three wordings of TensorRT: NVIDIA/TensorRT#2318, jetson_dla_tutorial#3, tensorflow-onnx#1632.
FALLBACK = [
    "[W] Default DLA is enabled but layer act_1 is not supported on DLA, falling back to GPU.",
    "[W] Default DLA is enabled but layer act_1 is not running on DLA, falling back to GPU.",
    "[W] Layer 'act_1' (ACTIVATION): Unsupported on DLA. Switching this layer's device to GPU.",
    "[W] DLA only supports FP16 and Int8 precision type. Switching act_1 device type to GPU.",
]


@pytest.mark.parametrize("line", FALLBACK)
def test_what_a_dla_leaves_to_the_gpu_is_named_once(line: str) -> None:
    assert read(line, line, "[W] other").dla_fallback == ["act_1"]


def test_a_refusal_names_the_node_with_the_librarys_reason() -> None:
    log = read(
        "[E] In node 4 with name: bias_dq and operator: DequantizeLinear (importDQ): "
        "INVALID_NODE: Assertion failed",
        "[E] ITensor: Error Code 3: API Usage Error (bias_dq: input must have type Int8. "
        "In validate at /_src/x.cpp:12)",
    )
    assert usage(log) == "bias_dq: input must have type Int8"
    told = refusal(log, "g.onnx", "TensorRT")
    assert told == (
        "TensorRT does not take node bias_dq (DequantizeLinear) of g.onnx: "
        "bias_dq: input must have type Int8"
    )
    assert refusal(read("[E] it broke"), "g.onnx", "TensorRT") == ""


@settings(deadline=None)
@given(st.lists(st.text(max_size=40), max_size=20))
def test_no_log_breaks_it(lines: list[str]) -> None:
    log = read(*lines)
    assert len(log.last) <= 12
