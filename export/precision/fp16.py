"""A typed FP16 graph: what every strongly typed TensorRT builds as it stands.

Rules:
    F1  Graph inputs and outputs keep their type; one Cast stands at each border.
    F2  A node is narrow (all its float tensors FP16) or wide (all FP32); casts stand between.
    F3  Wide are: nodes asked for, nodes with a constant beyond FP16's range, nodes with a subgraph
        and whatever feeds one, and operators whose float inputs the standard fixes to FP32.
    F4  Constants of +-1e30 and beyond are masks, not numbers: they become FP16's own extremes,
        which mask as well. This is the only value that changes by more than rounding.
    F5  Casts to FLOAT inside the narrow region become casts to FLOAT16.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jetlift.runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection

    import onnx_ir as ir

MASK_FROM = 1e30
FP16_MAX = 65504.0

# Inputs that stay float32 whatever the node computes in: https://onnx.ai/onnx/operators/
FIXED_INPUTS = {"Resize": {1, 2}, "Upsample": {1}}
# Operators whose float results have one type by the standard, or that no engine runs in FP16.
WIDE_OPERATORS = {
    "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "RandomNormal",
    "RandomUniform", "RandomNormalLike", "RandomUniformLike", "NonMaxSuppression",
    "Range", "EyeLike", "Multinomial", "Bernoulli", "StringNormalizer",
}  # fmt: skip


@dataclass(frozen=True)
class Typed:
    """A typed graph and the nodes that were kept wide, as 'name: reason'."""

    model: ir.Model
    kept_wide: tuple[str, ...]


def to_fp16(model: ir.Model, *, wide: Collection[str] = ()) -> Typed:
    """Type a float32 graph as FP16 (rules F1 to F5). The model given is not changed.

    Args:
        model: A float32 graph whose values all have types.
        wide: Names of nodes to keep in FP32.

    Raises:
        UsageError: A value has no type, or a name in `wide` is no node.
    """
    copy = model.clone(deep_copy=False)
    return _Retyper(copy, set(wide)).run()


class _Retyper:
    """One pass over a graph; lives as long as the pass."""

    def __init__(self, model: ir.Model, asked: set[str]) -> None:
        self.model, self.graph = model, model.graph
        self.reasons = self._wide_nodes(asked)
        self.casts: dict[tuple[int, ir.DataType], ir.Value] = {}
        self.constants: dict[int, ir.Value] = {}

    def run(self) -> Typed:
        import onnx_ir as ir

        nodes = list(self.graph)
        for node in nodes:
            if node.name in self.reasons:
                self._feed(node, ir.DataType.FLOAT)
            else:
                self._narrow(node)
                self._feed(node, ir.DataType.FLOAT16)
        self._restore_outputs()
        drop_unused_initializers(self.graph)
        kept = tuple(f"{name}: {why}" for name, why in self.reasons.items() if why)
        return Typed(self.model, kept)

    def _wide_nodes(self, asked: set[str]) -> dict[str, str]:
        """Names of wide nodes with the reason; an empty reason is not worth telling."""
        names = {node.name for node in self.graph}
        if unknown := asked - names:
            raise UsageError(f"No node is named {min(unknown)}", expected="Names of nodes")
        reasons = dict.fromkeys(sorted(asked), "asked for")
        for node in self.graph:
            name = str(node.name)
            if node.op_type in WIDE_OPERATORS and _computes_floats(node):
                reasons.setdefault(name, "" if "Linear" in node.op_type else node.op_type)
            elif _has_subgraph(node):
                reasons.setdefault(name, f"{node.op_type} holds a subgraph")
            elif big := _beyond_fp16(node):
                reasons.setdefault(name, f"constant {big:.3g} is beyond FP16")
        for value in _captured_by_subgraphs(self.graph):
            producer = value.producer()
            if producer is not None:
                reasons.setdefault(str(producer.name), "feeds a subgraph")
        return reasons

    def _narrow(self, node: ir.Node) -> None:
        """Give a node's float results, constants and casts the narrow type (F2, F5)."""
        import onnx_ir as ir

        for value in node.outputs:
            if value.dtype is None and value.uses():
                raise UsageError(f"Value {value.name} has no type", expected="An inferred graph")
            if value.dtype == ir.DataType.FLOAT:
                # A new type object: the clone shares the old one with the graph it came from.
                value.type = ir.TensorType(ir.DataType.FLOAT16)
        if node.op_type == "Cast" and node.attributes["to"].as_int() == ir.DataType.FLOAT:
            node.attributes["to"] = ir.AttrInt64("to", ir.DataType.FLOAT16)
        for name in ("value", "value_float"):
            if node.op_type in ("Constant", "ConstantOfShape") and name in node.attributes:
                self._narrow_constant(node, name)

    def _narrow_constant(self, node: ir.Node, name: str) -> None:
        import onnx_ir as ir

        if name == "value_float":
            array = np.array(node.attributes[name].as_float(), np.float32)
        else:
            array = node.attributes[name].as_tensor().numpy()
        if array.dtype == np.float32:
            del node.attributes[name]
            node.attributes["value"] = ir.AttrTensor("value", ir.tensor(_as_fp16(array)))

    def _feed(self, node: ir.Node, wanted: ir.DataType) -> None:
        """Make each float input of a node arrive in the wanted type."""
        import onnx_ir as ir

        fixed = FIXED_INPUTS.get(node.op_type, set())
        for index, value in enumerate(node.inputs):
            target = ir.DataType.FLOAT if index in fixed else wanted
            if value is None or value.dtype not in (ir.DataType.FLOAT, ir.DataType.FLOAT16):
                continue
            if value.dtype != target:
                node.replace_input_with(index, self._as(value, target))

    def _as(self, value: ir.Value, target: ir.DataType) -> ir.Value:
        if value.is_initializer() and value.const_value is not None:
            return self._constant_fp16(value)
        key = (id(value), target)
        if key not in self.casts:
            self.casts[key] = self._cast(value, target)
        return self.casts[key]

    def _constant_fp16(self, value: ir.Value) -> ir.Value:
        import onnx_ir as ir

        if id(value) not in self.constants:
            if value.const_value is None:
                raise UsageError(f"Constant {value.name} has no content", expected="Its tensor")
            tensor = ir.tensor(_as_fp16(value.const_value.numpy()), name=f"{value.name}_fp16")
            narrow = ir.Value(
                name=tensor.name,
                shape=value.shape,
                type=ir.TensorType(tensor.dtype),
                const_value=tensor,
            )
            self.graph.register_initializer(narrow)
            self.constants[id(value)] = narrow
        return self.constants[id(value)]

    def _cast(self, value: ir.Value, target: ir.DataType) -> ir.Value:
        import onnx_ir as ir

        suffix = "fp16" if target == ir.DataType.FLOAT16 else "fp32"
        cast = ir.node("Cast", [value], {"to": target}, name=f"{value.name}_to_{suffix}")
        result = cast.outputs[0]
        result.name, result.shape = f"{value.name}_{suffix}", value.shape
        result.type = ir.TensorType(target)
        producer = value.producer()
        if producer is None:
            self.graph.insert_before(self.graph[0], cast)
        else:
            self.graph.insert_after(producer, cast)
        return result

    def _restore_outputs(self) -> None:
        """Give graph outputs their float32 type and name back (F1)."""
        import onnx_ir as ir

        for index, value in enumerate(self.graph.outputs):
            if value.dtype != ir.DataType.FLOAT16:
                continue
            name, producer = value.name, value.producer()
            value.name = f"{name}_narrow"
            cast = ir.node("Cast", [value], {"to": ir.DataType.FLOAT}, name=f"{name}_to_fp32_out")
            result = cast.outputs[0]
            result.name, result.shape, result.type = (
                name,
                value.shape,
                ir.TensorType(ir.DataType.FLOAT),
            )
            if producer is None:
                raise UsageError(f"Output {name} is not computed", expected="A node that makes it")
            self.graph.insert_after(producer, cast)
            self.graph.outputs[index] = result


def _as_fp16(
    array: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.float16]]:
    masks = np.abs(array) >= MASK_FROM
    if masks.any():
        array = np.where(masks, np.copysign(np.float32(FP16_MAX), array), array)
    return array.astype(np.float16)


def _beyond_fp16(node: ir.Node) -> float | None:
    """The largest constant of a node that FP16 cannot hold and that is no mask (F3, F4)."""
    for value in node.inputs:
        tensor = value.const_value if value is not None else None
        if tensor is None or tensor.dtype.name != "FLOAT":
            continue
        magnitudes = np.abs(tensor.numpy())
        beyond = magnitudes[(magnitudes > FP16_MAX) & (magnitudes < MASK_FROM)]
        if beyond.size:
            return float(beyond.max())
    return None


def _computes_floats(node: ir.Node) -> bool:
    return any(value.dtype is not None and value.dtype.name == "FLOAT" for value in node.outputs)


def _has_subgraph(node: ir.Node) -> bool:
    return any(attribute.type.name in ("GRAPH", "GRAPHS") for attribute in node.attributes.values())


def _captured_by_subgraphs(graph: ir.Graph) -> list[ir.Value]:
    import onnx_ir as ir

    captured: list[ir.Value] = []
    for subgraph in graph.subgraphs():
        for node in ir.traversal.RecursiveGraphIterator(subgraph):
            captured += [
                value for value in node.inputs if value is not None and value.graph is graph
            ]
    return captured


def drop_unused_initializers(graph: ir.Graph) -> None:
    """Remove constants that nothing reads any more."""
    for name, value in list(graph.initializers.items()):
        if not value.uses() and value not in graph.outputs:
            del graph.initializers[name]
