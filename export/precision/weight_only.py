"""Weights in INT8 or INT4, activations as they were: for graphs that wait for their weights.

A decoder reads every weight for each token and multiplies it once, so memory traffic bounds it and
not arithmetic. What the weights take less, a token takes less, where the engine dequantises inside
its matrix product; where it does not, the file is small and the speed that of the wide graph. No
samples are needed.

Rules:
    W1  Constant weights of MatMul and Gemm alone. A convolution uses each weight many times and
        stays wide; so does a table that a Gather reads, of which a token takes one row.
    W2  INT8: symmetric, one scale per output channel, the largest magnitude over 127.
    W3  INT4: symmetric, one scale per block of BLOCK inputs and output channel, codes -7 to 7. Of
        some clipping magnitudes each block takes the one with the least squared error.
        DequantizeLinear takes blocks from opset 21 on.
    W4  Scales have the float type that the weight had, and DequantizeLinear gives that type: in a
        graph typed FP16 the product stays FP16, without a cast between.
    W5  A weight that several nodes read along one axis is stored once.
    W6  TensorRT takes INT4 blocks along the inputs only, and no zero point but 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.export.precision.fp16 import Typed, drop_unused_initializers
from jetlift.export.precision.scales import quantise_weight
from jetlift.export.precision.sites import Site, constant, find_sites
from jetlift.runtime.errors import UsageError

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnx_ir as ir

    Floats = npt.NDArray[np.float32]
    Codes = npt.NDArray[np.int8]

# Variants by name: bits of the weights. What stands behind the dash is the type of the rest.
BITS = {"int8w": 8, "int8w-fp16": 8, "int4w": 4, "int4w-fp16": 4}
# MiniLM's Spearman with blocks of 16, 32, 64 and 128 inputs: .986, .981, .975, .973. TensorRT-RTX
# 1.7 keeps blocks of 32, 64 and 128 narrow in its engines.
BLOCK = 32
LARGEST_CODE = 7
# The first with scales per channel, with FP16 scales, and with blocks of INT4.
INT8_OPSET, HALF_OPSET, INT4_OPSET = 13, 19, 21
_COMPATIBLE_OPSET = 18
_IR_VERSIONS = {HALF_OPSET: 9, INT4_OPSET: 10}  # onnx/docs/Versioning.md
_ROWS = 4096
_FLOATS = frozenset({"FLOAT", "FLOAT16"})
_CLIPS = np.linspace(1.0, 0.7, 13, dtype=np.float32)
# Operators whose meaning changes from opset 18 to 21 (onnx/docs/Changelog.md).
_CHANGED = frozenset({"DFT", "GridSample", "GroupNormalization"})


def to_weight_only(model: ir.Model, bits: int) -> Typed:
    """Store the weights of a float graph in integers (rules W1 to W6). The given one is unchanged.

    Args:
        model: A graph in FLOAT or FLOAT16.
        bits: 8 or 4.

    Raises:
        UsageError: Other bits, too old an opset, or nothing in the graph can be stored so.
    """
    import onnx_ir as ir

    if bits not in (8, 4):
        raise UsageError(f"Got weights of {bits} bits", expected="8 or 4")
    copy = model.clone(deep_copy=False)
    halved = any(value.dtype == ir.DataType.FLOAT16 for value in copy.graph.initializers.values())
    _raise_opset(copy, INT4_OPSET if bits == 4 else HALF_OPSET if halved else INT8_OPSET)
    found, kept_wide = find_sites(copy.graph, _FLOATS)
    sites = [site for site in found if not site.is_conv]
    kept_wide += [f"{site.name}: a convolution" for site in found if site.is_conv]
    writer = _Writer(copy.graph, bits)
    for site in sites:
        if bits == 4 and site.array().shape[1 - site.axis] % BLOCK:
            kept_wide.append(f"{site.name}: its inputs are no multiple of {BLOCK}")
        else:
            writer.store(site)
    if not writer.stored:
        raise UsageError(
            f"The graph has no weighted MatMul or Gemm to store in INT{bits}",
            do=f"Export it without int{bits}w",
        )
    drop_unused_initializers(copy.graph)
    return Typed(copy, tuple(kept_wide))


def int4_blocks(weight: Floats, axis: int) -> tuple[Codes, Floats]:
    """Codes and scales in blocks (rule W3).

    Args:
        weight: float [in, out] or [out, in].
        axis: Its axis of inputs; a multiple of BLOCK long.

    Returns:
        Codes -7 to 7 of the weight's shape, and scales with that axis divided by BLOCK.
    """
    rows = np.ascontiguousarray(np.moveaxis(weight, axis, -1), np.float32)
    codes = np.empty(rows.shape, np.int8)
    scales = np.empty((len(rows), rows.shape[1] // BLOCK), np.float32)
    for start in range(0, len(rows), _ROWS):  # a large vocabulary's trials would not fit at once
        part = slice(start, start + _ROWS)
        found = _best_of(rows[part].reshape(-1, scales.shape[1], BLOCK))
        codes[part], scales[part] = found[0].reshape(-1, rows.shape[1]), found[1][..., 0]
    back = [np.ascontiguousarray(np.moveaxis(item, -1, axis)) for item in (codes, scales)]
    return back[0], back[1]


def _best_of(blocks: Floats) -> tuple[Floats, Floats]:
    """Codes and scales of blocks [rows, blocks, BLOCK], by the clip that loses least."""
    largest = np.abs(blocks).max(axis=-1, keepdims=True)
    best, least = (blocks, largest), np.full_like(largest, np.inf)
    for clip in _CLIPS:
        scale = np.where(largest == 0, 1.0, largest * (clip / LARGEST_CODE)).astype(np.float32)
        codes = np.clip(np.rint(blocks / scale), -LARGEST_CODE, LARGEST_CODE)
        error = np.square(codes * scale - blocks).sum(axis=-1, keepdims=True)
        better = error < least
        best = (np.where(better, codes, best[0]), np.where(better, scale, best[1]))
        least = np.where(better, error, least)
    return best


def _raise_opset(model: ir.Model, wanted: int) -> None:
    """Declare the opset that the storage needs, where it changes nothing else in the graph.

    Raises:
        UsageError: The graph is too old, or holds an operator that changed on the way.
    """
    opset = model.opset_imports.get("", 1)
    changed = [node.op_type for node in model.graph if node.op_type in _CHANGED]
    if opset >= wanted:
        return
    if wanted == INT8_OPSET or opset < _COMPATIBLE_OPSET or changed:
        why = f", and {changed[0]} means another thing in {wanted}" if changed else ""
        raise UsageError(
            f"The graph is of opset {opset}{why}",
            expected=f"Opset {wanted} or newer, whose DequantizeLinear has what is needed",
            do="Export it again, for instance with torch.onnx.export(..., dynamo=True)",
        )
    model.opset_imports[""] = wanted
    model.ir_version = max(model.ir_version, _IR_VERSIONS[wanted])


class _Writer:
    """Puts a DequantizeLinear behind each stored weight."""

    def __init__(self, graph: ir.Graph, bits: int) -> None:
        self.graph, self.bits = graph, bits
        self.stored: dict[tuple[str, int], ir.Value] = {}

    def store(self, site: Site) -> None:
        """Let a site read its weight from integers (rules W2 to W5)."""
        key = (str(site.weight.name), site.axis)
        if key not in self.stored:
            self.stored[key] = self._dequantised(site)
        site.node.replace_input_with(1, self.stored[key])

    def _dequantised(self, site: Site) -> ir.Value:
        import onnx_ir as ir

        name, kind = f"{site.weight.name}_int{self.bits}", site.weight.dtype or ir.DataType.FLOAT
        if (str(site.weight.name), 1 - site.axis) in self.stored:
            name += f"_{site.axis}"
        if self.bits == 8:
            codes, scales = quantise_weight(site.array(), site.axis)
            attributes: dict[str, Any] = {"axis": site.axis}
        else:
            codes, scales = int4_blocks(site.array(), 1 - site.axis)
            attributes = {"axis": 1 - site.axis, "block_size": BLOCK}
        narrow = ir.DataType.INT8 if self.bits == 8 else ir.DataType.INT4
        inputs = [
            _integers(self.graph, name, codes, narrow),
            constant(self.graph, f"{name}_scale", _held(scales, kind)),
        ]
        node = ir.node("DequantizeLinear", inputs, attributes, name=f"{name}_dequantize")
        result = node.outputs[0]
        result.name, result.shape = f"{name}_dq", site.weight.shape
        result.type = ir.TensorType(kind)
        self.graph.insert_before(self.graph[0], [node])
        return result


def _held(scales: Floats, kind: ir.DataType) -> npt.NDArray[Any]:
    """Scales in the weight's own type (rule W4), none so small that it would round to zero."""
    dtype = kind.numpy()
    return np.maximum(scales, float(np.finfo(dtype).smallest_subnormal)).astype(dtype)


def _integers(graph: ir.Graph, name: str, codes: Codes, kind: ir.DataType) -> ir.Value:
    import onnx_ir as ir

    tensor = ir.tensor(codes, dtype=kind, name=name)
    value = ir.Value(
        name=name, shape=ir.Shape(codes.shape), type=ir.TensorType(kind), const_value=tensor
    )
    graph.register_initializer(value)
    return value
