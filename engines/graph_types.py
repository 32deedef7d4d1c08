"""Which element types a graph computes with, read from the ONNX file itself.

A variant's name is a promise; what a builder meets are the types of constants, casts and
quantisers. A board without FP8 refuses an FP8 graph whatever it is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jetlift.engines.shapes import onnx_library

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Element types of ONNX (onnx.TensorProto.DataType) that not every GPU computes with, in the words
# of jetson/abilities.py: https://onnx.ai/onnx/api/classes.html#tensorproto
_DEMANDING = {
    "BFLOAT16": "bf16",
    "FLOAT8E4M3FN": "fp8",
    "FLOAT8E4M3FNUZ": "fp8",
    "FLOAT8E5M2": "fp8",
    "FLOAT8E5M2FNUZ": "fp8",
    "FLOAT4E2M1": "fp4",
    "INT4": "int4w",
    "UINT4": "int4w",
}


def demanding_types(path: Path) -> dict[str, str]:
    """Precisions beyond FP32, FP16 and INT8 that a graph holds.

    Args:
        path: The ONNX file; external data is not read.

    Returns:
        For each, as in `fp8`, the name of the first constant or node that has it.

    Raises:
        MissingPackageError: onnx is not installed.
        EngineLibraryError: The file is no ONNX graph.
    """
    onnx = onnx_library()
    from google.protobuf.message import DecodeError

    from jetlift.runtime.errors import EngineLibraryError

    try:
        model = onnx.load(str(path), load_external_data=False)
    except DecodeError as error:
        raise EngineLibraryError(
            f"{path.name} is no ONNX graph: {error}", do="Export the bundle again"
        ) from error
    names = {number: name for name, number in onnx.TensorProto.DataType.items()}
    found: dict[str, str] = {}
    for where, number in _types(model.graph):
        word = _DEMANDING.get(names.get(number, ""))
        if word is not None:
            found.setdefault(word, where)
    return found


def _types(graph: Any) -> Iterator[tuple[str, int]]:  # noqa: ANN401 - onnx is not imported here
    """Every type that is written down in a graph and in the graphs within its nodes."""
    for tensor in graph.initializer:
        yield tensor.name, tensor.data_type
    for value in (*graph.input, *graph.output, *graph.value_info):
        yield value.name, value.type.tensor_type.elem_type
    for node in graph.node:
        where = node.name or node.op_type
        for attribute in node.attribute:
            if attribute.name in ("to", "output_dtype", "dtype"):
                yield where, attribute.i
            if attribute.HasField("t"):
                yield where, attribute.t.data_type
            if attribute.HasField("g"):
                yield from _types(attribute.g)
