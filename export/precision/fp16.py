"""A graph typed in 16-bit floats: what every strongly typed TensorRT builds as it stands.

Rules:
    F1  Graph inputs and outputs keep their type; one Cast stands at each border.
    F2  A node is narrow (all its float tensors in 16 bits) or wide (all FP32); casts stand between.
    F3  Wide are the nodes asked for and those that wide_rules.py names.
    F4  Constants become what half.py says: rounded, but for masks, bounds and guards.
    F5  Casts to FLOAT inside the narrow region become casts to the narrow type.
    F6  A Q/DQ graph keeps its integer kernels: casts stand around them (wide_rules.py, W2), and the
        rest is narrow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jetlift.export.precision.half import half_of, is_added
from jetlift.export.precision.wide_rules import (
    fixed_inputs,
    name_nodes,
    raised_opset,
    wide_by_rule,
)
from jetlift.runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection

    import onnx_ir as ir

    from jetlift.export.precision.half import Half, HalfKind


@dataclass(frozen=True)
class Typed:
    """A typed graph and the nodes that were kept wide, as 'name: reason'."""

    model: ir.Model
    kept_wide: tuple[str, ...]


def to_fp16(model: ir.Model, *, wide: Collection[str] = ()) -> Typed:
    """Type a float32 graph as FP16: `to_half` by its usual name."""
    return to_half(model, "fp16", wide=wide)


def to_half(model: ir.Model, kind: HalfKind, *, wide: Collection[str] = ()) -> Typed:
    """Type a float32 graph in 16-bit floats (rules F1 to F6). The model given is not changed.

    Args:
        model: A float32 graph whose values all have types; it may hold Q/DQ pairs.
        kind: `fp16` or `bf16`. A BF16 graph declares opset 22 (wide_rules.py, W3).
        wide: Names of nodes to keep in FP32; a mapping gives the reason of each, as `find_wide`
            returns it.

    Raises:
        UsageError: A value has no type or another 16-bit type, or a name in `wide` is no node.
    """
    copy = model.clone(deep_copy=False)
    reasons = dict(wide) if isinstance(wide, Mapping) else dict.fromkeys(sorted(wide), "asked for")
    return _Retyper(copy, half_of(kind), reasons).run()


class _Retyper:
    """One pass over a graph; lives as long as the pass."""

    def __init__(self, model: ir.Model, half: Half, asked: Mapping[str, str]) -> None:
        import onnx_ir as ir

        self.model, self.graph, self.half = model, model.graph, half
        name_nodes(self.graph)
        if (opset := raised_opset(model, half)) != model.opset_imports.get("", 1):
            model.opset_imports[""] = opset
        self.reasons = wide_by_rule(model, half, asked)
        self.narrow, self.floats = half.dtype, (ir.DataType.FLOAT, half.dtype)
        self.casts: dict[tuple[int, ir.DataType], ir.Value] = {}
        self.constants: dict[tuple[int, bool], ir.Value] = {}

    def run(self) -> Typed:
        import onnx_ir as ir

        masks = {id(value): is_added(value) for value in self._constants()}
        for node in list(self.graph):
            if node.name in self.reasons:
                self._feed(node, ir.DataType.FLOAT, masks)
            else:
                self._narrow(node, masks)
                self._feed(node, self.narrow, masks)
        self._restore_outputs()
        drop_unused_initializers(self.graph)
        kept = tuple(f"{name}: {why}" for name, why in self.reasons.items() if why)
        return Typed(self.model, kept)

    def _constants(self) -> list[ir.Value]:
        """Initializers and what Constant nodes give: what could be a mask (rule F4)."""
        made = [
            node.outputs[0]
            for node in self.graph
            if node.op_type in ("Constant", "ConstantOfShape")
        ]
        return [*self.graph.initializers.values(), *made]

    def _narrow(self, node: ir.Node, masks: Mapping[int, bool]) -> None:
        """Give a node's float results, constants and casts the narrow type (F2, F5)."""
        import onnx_ir as ir

        for value in node.outputs:
            if value.dtype is None and value.uses():
                raise UsageError(f"Value {value.name} has no type", expected="An inferred graph")
            if value.dtype is not None and value.dtype.is_floating_point():
                self._check(value)
            if value.dtype == ir.DataType.FLOAT:
                # A new type object: the clone shares the old one with the graph it came from.
                value.type = ir.TensorType(self.narrow)
        if node.op_type == "Cast" and node.attributes["to"].as_int() == ir.DataType.FLOAT:
            node.attributes["to"] = ir.AttrInt64("to", self.narrow)
        for name in ("value", "value_float"):
            if node.op_type in ("Constant", "ConstantOfShape") and name in node.attributes:
                self._narrow_constant(node, name, mask=masks[id(node.outputs[0])])

    def _check(self, value: ir.Value) -> None:
        import onnx_ir as ir

        halves = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
        if value.dtype in halves and value.dtype != self.narrow:
            raise UsageError(
                f"Value {value.name} is {value.dtype} already",
                expected=f"A float32 graph to type as {self.half.kind}",
            )

    def _narrow_constant(self, node: ir.Node, name: str, *, mask: bool) -> None:
        import onnx_ir as ir

        if name == "value_float":
            array = np.array(node.attributes[name].as_float(), np.float32)
        else:
            array = node.attributes[name].as_tensor().numpy()
        if array.dtype == np.float32:
            del node.attributes[name]
            tensor = ir.Tensor(self.half.constant(array, mask=mask), dtype=self.narrow)
            node.attributes["value"] = ir.AttrTensor("value", tensor)

    def _feed(self, node: ir.Node, wanted: ir.DataType, masks: Mapping[int, bool]) -> None:
        """Make each float input of a node arrive in the wanted type."""
        import onnx_ir as ir

        fixed = fixed_inputs(node, self.model.opset_imports, self.half)
        for index, value in enumerate(node.inputs):
            target = ir.DataType.FLOAT if index in fixed else wanted
            if value is None or value.dtype not in self.floats or value.dtype == target:
                continue
            if value.is_initializer() and target == self.narrow:
                # A mask that others add to may be the bound of this node.
                mask = masks.get(id(value), False) and node.op_type not in ("Clip", "Max", "Min")
                node.replace_input_with(index, self._constant(value, mask=mask))
            else:
                node.replace_input_with(index, self._cast(value, target))

    def _constant(self, value: ir.Value, *, mask: bool) -> ir.Value:
        import onnx_ir as ir

        key = (id(value), mask)
        if key not in self.constants:
            if value.const_value is None:
                raise UsageError(f"Constant {value.name} has no content", expected="Its tensor")
            name = f"{value.name}_{self.half.kind}"
            if (id(value), not mask) in self.constants:
                name += "_mask" if mask else "_bound"
            array = self.half.constant(np.asarray(value.const_value.numpy()), mask=mask)
            tensor = ir.Tensor(array, dtype=self.narrow, name=name)
            narrow = ir.Value(
                name=name,
                shape=value.shape,
                type=ir.TensorType(self.narrow),
                const_value=tensor,
            )
            self.graph.register_initializer(narrow)
            self.constants[key] = narrow
        return self.constants[key]

    def _cast(self, value: ir.Value, target: ir.DataType) -> ir.Value:
        import onnx_ir as ir

        key = (id(value), target)
        if key in self.casts:
            return self.casts[key]
        suffix = self.half.kind if target == self.narrow else "fp32"
        cast = ir.node("Cast", [value], {"to": target}, name=f"{value.name}_to_{suffix}")
        result = cast.outputs[0]
        result.name, result.shape = f"{value.name}_{suffix}", value.shape
        result.type = ir.TensorType(target)
        producer = value.producer()
        if producer is None:
            self.graph.insert_before(self.graph[0], cast)
        else:
            self.graph.insert_after(producer, cast)
        self.casts[key] = result
        return result

    def _restore_outputs(self) -> None:
        """Give graph outputs their float32 type and name back (F1)."""
        import onnx_ir as ir

        for index, value in enumerate(self.graph.outputs):
            if value.dtype != self.narrow:
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


def drop_unused_initializers(graph: ir.Graph) -> None:
    """Remove constants that nothing reads any more."""
    for name, value in list(graph.initializers.items()):
        if not value.uses() and value not in graph.outputs:
            del graph.initializers[name]
