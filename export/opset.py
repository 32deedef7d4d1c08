"""Older graphs brought to an opset that has what explicit INT8 needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jetlift.runtime.errors import InputError

if TYPE_CHECKING:
    import onnx_ir as ir

LEAST = 13  # the first with a scale per channel in DequantizeLinear
_PROTOBUF_LIMIT_BYTES = 2**31 - 1


def brought_up(model: ir.Model) -> ir.Model:
    """The graph at opset LEAST where it is older, unchanged where it is not.

    Raises:
        InputError: It holds an operator that ONNX's own converter cannot bring up, or is too big
            for it.
    """
    import onnx_ir as ir
    from onnx import version_converter

    opset = model.opset_imports.get("", LEAST)
    if opset >= LEAST:
        return model
    proto = ir.to_proto(model)
    if proto.ByteSize() > _PROTOBUF_LIMIT_BYTES:
        raise _too_old(opset, "it is over 2 GB")
    try:
        return ir.from_proto(version_converter.convert_version(proto, LEAST))
    except (RuntimeError, version_converter.ConvertError) as error:
        raise _too_old(opset, str(error).strip().splitlines()[0]) from error


def _too_old(opset: int, why: str) -> InputError:
    return InputError(
        f"The graph is of opset {opset} and cannot be converted: {why}",
        expected=f"Opset {LEAST} or newer",
        do="Export it again, for instance with torch.onnx.export(..., dynamo=True)",
    )
