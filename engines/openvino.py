"""Engines for the CPU: an OpenVINO model, compiled and exported to a file."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from jetlift.engines.receipt import Built, Layer, receipt
from jetlift.runtime.session.openvino import OpenVINOSession, executed_layers, failures
from jetlift.runtime.session.openvino_split import declared

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from jetlift.engines.ops import GraphCost
    from jetlift.runtime.session.openvino import ExecutedLayer

ARITHMETIC = "f32"
_PRECISIONS = {"i8": "int8", "u8": "int8", "f32": "fp32", "f16": "fp16", "bf16": "bf16"}
_PROVES = (
    "The compiled model lists each layer with the precision of the kernel chosen for this "
    "processor, so that is what runs here"
)
# What OpenVINO appends to a node's name when it takes its bias or its scale apart from it, or makes
# it anew in INT8, in the order in which they come off.
_SUFFIXES = ("/DequantizationMultiply", "/WithoutBiases", "_original")
# Layers that compute a product, surest first; a Subgraph is generated code, attention for one.
_RANKS = {
    "FullyConnected": 0, "Convolution": 0, "GroupConvolution": 0, "Deconvolution": 0, "MatMul": 0,
    "ScaledDotProductAttention": 1, "MHA": 1, "RNNSeq": 1, "RNNCell": 1, "Subgraph": 2,
}  # fmt: skip


def build_engine(onnx: Path, destination: Path, cost: GraphCost | None) -> Built:
    """Compile an ONNX graph for this machine's CPU and write the engine.

    Args:
        onnx: The graph; external data is found beside it.
        destination: Where to write the engine. The caller makes it appear atomically.
        cost: What the graph's nodes cost, for the receipt.

    Raises:
        MissingPackageError: OpenVINO is not installed.
        EngineLibraryError: OpenVINO cannot compile the graph.
    """
    with OpenVINOSession.from_onnx(onnx, arithmetic=ARITHMETIC) as session:
        content = io.BytesIO()  # the only kind of stream that OpenVINO writes to
        with failures("export the compiled graph"):
            session.compiled.export_model(content)
        destination.write_bytes(content.getbuffer())
        executed = executed_layers(session.compiled)
        seen = receipt(
            cost,
            _products(executed) if executed else None,
            observed_by="OpenVINO's runtime model",
            proves=_PROVES,
        )
        return Built(session.info.arithmetic, seen)


def _products(executed: Iterable[ExecutedLayer]) -> Iterator[Layer]:
    """The layers that may hold a product."""
    for layer in executed:
        if layer.kind in _RANKS:
            precision = _PRECISIONS.get(layer.arithmetic, layer.arithmetic)
            names = (*layer.nodes, *map(_plain, layer.nodes))
            yield Layer(tuple(dict.fromkeys(names)), precision, _RANKS[layer.kind])


def _plain(name: str) -> str:
    """A node's name as the ONNX graph has it."""
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    return declared(name)
