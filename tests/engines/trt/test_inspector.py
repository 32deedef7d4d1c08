"""The engine inspector's JSON, in the forms that TensorRT 8 and 10 write it.

The texts here are short ones of our own in those forms. The parser was run over the ten engines
that NVIDIA publishes with its engine explorer (NVIDIA/TensorRT@8c6d69dd); where such files lie in
shared/engine_inspector/, this goes over them again. No engine of TensorRT 10 was inspected on a
GPU by these tests: `pytest -m gpu` is for that.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jetlift.engines.receipt import Layer
from jetlift.engines.trt.inspector import layers_of, nodes_of, precision_of, rank_of

SHARED = Path(__file__).resolve().parents[3] / ".." / "shared" / "engine_inspector"
LINEAR_FP32 = "Row major linear FP32"
PACKED_INT8 = "Thirty-two wide channel vectorized row major Int8 format"


def tensor(datatype: str, key: str = "Format/Datatype") -> dict[str, Any]:
    return {"Name": "t", "Location": "Device", "Dimensions": [1, 8], key: datatype}


def layer(name: str, kind: str, read: str, written: str, **more: Any) -> dict[str, Any]:
    told = {"Name": name, "LayerType": kind, "Inputs": [tensor(read)], "Outputs": [tensor(written)]}
    return told | more


def read(*layers: Any) -> list[Layer] | None:
    return layers_of(json.dumps({"Layers": list(layers), "Bindings": ["x", "y"]}))


def test_a_convolution_of_tensorrt_10_has_its_nodes_in_the_metadata() -> None:
    told = layer(
        "conv + bn + relu", "CaskConvolution", PACKED_INT8, PACKED_INT8,
        ParameterType="Convolution", Weights={"Type": "Int8", "Count": 864},
        Metadata="[ONNX Layer: conv]\x1e[ONNX Layer: bn]\x1e[ONNX Layer: relu]",
    )  # fmt: skip
    assert read(told) == [Layer(("conv", "bn", "relu"), "int8", 0)]


def test_without_metadata_the_name_tells_its_nodes() -> None:
    told = layer("w + QuantizeLinear_8 + Conv_12 + PWN(Clip_16)", "CaskConvolution", "Half", "Half")
    assert read(told) == [Layer(("w", "QuantizeLinear_8", "Conv_12", "Clip_16"), "fp16", 0)]


def test_it_computes_in_what_it_reads_not_in_what_it_writes() -> None:
    told = layer("c", "CaskConvolution", PACKED_INT8, LINEAR_FP32, Weights={"Type": "Int8"})
    assert [item.precision for item in read(told) or ()] == ["int8"]
    weight_only = layer("c", "gemm", "Half", "Half", Weights={"Type": "Int4"})
    assert [item.precision for item in read(weight_only) or ()] == ["fp16"]


def test_masks_and_indices_are_passed_over() -> None:
    told = layer("a", "kgen", "Bool", "Half")
    told["Inputs"] += [tensor("Row major linear INT32 format"), tensor("Half")]
    assert read(told) == [Layer(("a",), "fp16", 2)]
    assert read(layer("s", "Shape", "Int64", "Int32")) == []


def test_newer_libraries_name_the_type_alone() -> None:
    told = layer("g", "gemm", "Bool", "Bool", Metadata="[ONNX Layer: g]\x1f[ONNX Layer: dq]")
    told["Inputs"] = [tensor("BFloat16", "Datatype")]
    assert read(told) == [Layer(("g", "dq"), "bf16", 0)]


def test_names_alone_are_nothing_to_weigh() -> None:
    assert read("Conv_0 + Relu_1", "MaxPool_2") is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"Layers": 3}', '{"Layers": []}', "null"])
def test_what_is_no_such_json_is_none(text: str) -> None:
    assert layers_of(text) is None


def test_control_characters_may_stand_bare() -> None:
    told = layer("c", "gemm", "Half", "Half", Metadata="[ONNX Layer: a]~[ONNX Layer: b]")
    text = json.dumps({"Layers": [told]}).replace("~", "\x1e")
    assert layers_of(text) == [Layer(("a", "b"), "fp16", 0)]


@pytest.mark.parametrize(
    ("datatype", "expected"),
    [
        (LINEAR_FP32, "fp32"),
        (PACKED_INT8, "int8"),
        ("Row major Int8 format", "int8"),
        ("Channel major FP16 format where channel % 8 == 0", "fp16"),
        ("Half", "fp16"), ("Float", "fp32"), ("BFloat16", "bf16"), ("FP8", "fp8"), ("Int4", "int4"),
        ("Bool", None), ("Int32", None), ("Int64", None), ("UInt8", None),
        ("Row major linear format", None), ("", None), ("Martian", "martian"),
    ],
)  # fmt: skip
def test_a_type_is_read_in_every_wording(datatype: str, expected: str | None) -> None:
    assert precision_of(datatype) == expected


@pytest.mark.parametrize(
    ("kind", "name", "tactic", "rank"),
    [
        ("CaskConvolution", "c", "", 0), ("CudaDepthwiseConvolution", "c", "", 0),
        ("gemm", "c", "", 0), ("MatrixMultiply", "m", "", 0), ("correlation", "c", "", 0),
        ("runtime_fusion", "f", "", 1), ("kgen", "_gemm_mha_v2_myl0_8", "", 1),
        ("Myelin", "{ForeignNode[a...b]}", "sm80_xmma_gemm_f16f16", 1),
        ("kgen", "__myl_MulAdd", "", 2), ("Reformat", "QuantizeLinear_2", "", 2),
        ("CudaPooling", "MaxPool_2", "", 2),
    ],
)  # fmt: skip
def test_how_surely_a_layer_computes_a_product(
    kind: str, name: str, tactic: str, rank: int
) -> None:
    assert rank_of(kind, name, tactic) == rank


@settings(deadline=None)
@given(st.lists(st.text(st.characters(exclude_characters="\x1e\x1f[]\n"), min_size=1), min_size=1))
def test_nodes_of_any_name_come_back(names: list[str]) -> None:
    for separator in ("", "\x1e", "\x1f"):
        text = separator.join(f"[ONNX Layer: {name}]" for name in names)
        assert nodes_of(text) == tuple(names)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["Layers", "Name", "LayerType", "Inputs", "Outputs", "Metadata", "Datatype"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(JSON)
def test_no_json_breaks_it(content: Any) -> None:
    for text in (json.dumps(content), json.dumps({"Layers": content})):
        found = layers_of(text)
        assert found is None or all(isinstance(item, Layer) for item in found)


REAL = sorted(SHARED.glob("*.json")) if SHARED.is_dir() else []


@pytest.mark.skipif(not REAL, reason="no inspector output lies in shared/engine_inspector")
@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_real_engines_are_read_whole(path: Path) -> None:
    """Every layer of a convolution or product is found, in a precision that a receipt knows."""
    told = json.loads(path.read_text(), strict=False)["Layers"]
    products = [item for item in told if item.get("ParameterType") == "Convolution"]
    found = layers_of(path.read_text())
    assert found is not None
    assert sum(item.rank == 0 for item in found) >= len(products) > 0
    assert {item.precision for item in found} <= {"fp32", "fp16", "bf16", "int8", "fp8"}
