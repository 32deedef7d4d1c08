"""The library's own list of an engine's layers, read into what a receipt weighs.

The engine inspector of TensorRT gives JSON: `Layers`, each with `Name`, `LayerType`, `Inputs` and
`Outputs`, and in `Metadata` the ONNX nodes it was made of, between control characters. Engines
built without detailed profiling list names alone. The build log of TensorRT-RTX has the same in
lines. Facts: NVIDIA/TensorRT@8fe05393:tools/experimental/trt-engine-explorer/tests/inputs/
mobilenet.qat.onnx.engine.graph.json (TensorRT 8), NVIDIA/TensorRT#4020 (TensorRT 10).

Rules:
    I1  A layer computes in the type of its first input that holds numbers. Weights may be stored
        narrower than that, and outputs may be wider.
    I2  Masks, sizes and indices are no numbers to compute products in.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from jetlift.engines.receipt import Layer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_PRECISIONS = {
    "int8": "int8", "half": "fp16", "fp16": "fp16", "float": "fp32", "fp32": "fp32",
    "bfloat16": "bf16", "bf16": "bf16", "fp8": "fp8", "int4": "int4", "fp4": "fp4",
}  # fmt: skip
_INDICES = {"bool", "int32", "int64", "uint8"}
_KNOWN = re.compile(rf"\b({'|'.join([*_PRECISIONS, *_INDICES])})\b", re.IGNORECASE)
_PRODUCT = re.compile(r"conv|gemm|correlation|matrixmultiply|matmul|fullyconnected", re.IGNORECASE)
_FUSED = re.compile(r"gemm|mha|fusion", re.IGNORECASE)
_NODE = re.compile(r"\[ONNX Layer: (.*?)\](?=[\x1e\x1f]|\[ONNX Layer:|$)")
_NAME_PART = re.compile(r"PWN\((.*)\)$")


def layers_of(text: str) -> list[Layer] | None:
    """Read the engine inspector's JSON.

    Returns:
        The layers that may hold products; None where the engine tells names alone, or the text is
        no such JSON.
    """
    try:
        told = json.loads(text, strict=False)  # control characters stand bare in some versions
    except ValueError:
        return None
    layers = told.get("Layers") if isinstance(told, dict) else None
    if not isinstance(layers, list) or not any(isinstance(item, dict) for item in layers):
        return None
    found = [_layer(item) for item in layers if isinstance(item, dict)]
    return [layer for layer in found if layer is not None]


def precision_of(datatype: str) -> str | None:
    """Precision that a type stands for, as in `Half` or `Row major linear FP16 format` (rule I2).

    Returns:
        None where it holds no numbers to compute products in; an unknown word as it is.
    """
    found = _KNOWN.search(datatype)
    if found is None:
        words = datatype.split()
        return words[0].lower() if len(words) == 1 else None
    return _PRECISIONS.get(found[1].lower())


def nodes_of(metadata: str) -> tuple[str, ...]:
    """Names of the ONNX nodes that a layer's metadata tells of."""
    return tuple(_NODE.findall(metadata.rstrip("\n")))


def rank_of(kind: str, name: str, tactic: str = "") -> int:
    """How surely a layer computes the product among its nodes; 0 is surest."""
    if kind in ("kgen", "Reformat"):  # generated code, which may hold a gemm of its own
        return 1 if _FUSED.search(name) else 2
    if _PRODUCT.search(kind):
        return 0
    return 1 if any(_FUSED.search(word) for word in (kind, name, tactic)) else 2


def _layer(told: Mapping[str, Any]) -> Layer | None:
    tensors = [*_listed(told, "Inputs"), *_listed(told, "Constants"), *_listed(told, "Outputs")]
    precision = next(filter(None, map(_precision_of_tensor, tensors)), None)  # I1
    if precision is None:
        return None
    kind, name = str(told.get("LayerType", "")), str(told.get("Name", ""))
    rank = rank_of(kind, name, str(told.get("TacticName", "")))
    if rank and _PRODUCT.search(str(told.get("ParameterType", ""))):
        rank = 0
    nodes = nodes_of(str(told.get("Metadata", ""))) or _named(name)
    return Layer(nodes, precision, rank)


def _listed(told: Mapping[str, Any], key: str) -> Iterable[Mapping[str, Any]]:
    listed = told.get(key)
    return [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []


def _precision_of_tensor(tensor: Mapping[str, Any]) -> str | None:
    return precision_of(str(tensor.get("Datatype") or tensor.get("Format/Datatype") or "Bool"))


def _named(name: str) -> tuple[str, ...]:
    """ONNX nodes by a layer's name, where it has no metadata: `a + b + PWN(c)`."""
    parts = name.split(" + ")
    return tuple(found[1] if (found := _NAME_PART.match(part)) else part for part in parts)
