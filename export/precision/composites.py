"""Operators that an engine takes apart: what lies between their steps is typed as they are.

TensorRT's parser makes a product, a sum and a root of ReduceL2, all in the type of its input
(onnx-tensorrt@96e7811:onnxOpImporters.cpp), so squares overflow FP16 from 256 on, though neither
what goes in nor what comes out is near its limit. To show that, such operators are opened into the
steps. LayerNormalization is not: its statistics are float32 by the standard (`stash_type`) and in
that parser; Softmax, products and sums accumulate inside one kernel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx_ir as ir

# Steps before and after the sum: `square` multiplies a value with itself.
_STEPS = {
    "ReduceL2": (("square",), ("Sqrt",)),
    "ReduceSumSquare": (("square",), ()),
    "ReduceLogSum": ((), ("Log",)),
    "ReduceLogSumExp": (("Exp",), ("Log",)),
    "LpNormalization": (("square",), ("Sqrt",)),
}


def open_composites(
    model: ir.Model, *, wanted: Callable[[ir.Node], bool] = lambda _: True
) -> dict[str, str]:
    """Replace composite operators by their steps, in place.

    Args:
        model: A graph whose nodes have names.
        wanted: Which nodes to open.

    Returns:
        Per node made, the name of the node that it is a step of.
    """
    owners: dict[str, str] = {}
    for node in list(model.graph):
        if node.op_type in _STEPS and node.domain == "" and _is_plain(node) and wanted(node):
            for step in _Opener(model, node).open():
                owners[str(step.name)] = str(node.name)
    return owners


def _is_plain(node: ir.Node) -> bool:
    power = node.attributes["p"].as_int() if "p" in node.attributes else 2
    return node.op_type != "LpNormalization" or power == 2


class _Opener:
    def __init__(self, model: ir.Model, node: ir.Node) -> None:
        self.graph, self.node = model.graph, node
        self.axes_are_input = model.opset_imports.get("", 1) >= 18
        self.steps: list[ir.Node] = []

    def open(self) -> list[ir.Node]:
        before, after = _STEPS[self.node.op_type]
        source, result = self.node.inputs[0], self.node.outputs[0]
        if source is None:
            return []
        value = source
        for operator in before:
            inputs = [value, value] if operator == "square" else [value]
            value = self._step("Mul" if operator == "square" else operator, inputs, source.shape)
        norm = self.node.op_type == "LpNormalization"
        value = self._sum(value, None if norm else result.shape)
        for operator in after:
            value = self._step(operator, [value], value.shape)
        if norm:
            value = self._step("Div", [source, value], result.shape)
        self._replace(result, value)
        return self.steps

    def _sum(self, value: ir.Value, shape: ir.Shape | None) -> ir.Value:
        import onnx_ir as ir

        attributes = self.node.attributes
        if self.node.op_type == "LpNormalization":
            axis = attributes["axis"].as_int() if "axis" in attributes else -1
            return self._step("ReduceSum", [value, self._axes([axis])], shape, {"keepdims": 1})
        kept = {
            name: attributes[name].as_int()
            for name in ("keepdims", "noop_with_empty_axes")
            if name in attributes
        }
        axes: ir.Value | None = None
        if self.axes_are_input and len(self.node.inputs) > 1:
            axes = self.node.inputs[1]
        elif "axes" in attributes and attributes["axes"].type == ir.AttributeType.INTS:
            axes = self._axes(list(attributes["axes"].as_ints()))
        return self._step("ReduceSum", [value, *([axes] if axes else [])], shape, kept)

    def _axes(self, axes: list[int]) -> ir.Value:
        import onnx_ir as ir

        tensor = ir.tensor(np.array(axes, np.int64), name=f"{self.node.name}_axes")
        value = ir.Value(
            name=tensor.name,
            shape=ir.Shape([len(axes)]),
            type=ir.TensorType(tensor.dtype),
            const_value=tensor,
        )
        self.graph.register_initializer(value)
        return value

    def _step(
        self,
        operator: str,
        inputs: list[ir.Value],
        shape: ir.Shape | None,
        attributes: dict[str, Any] | None = None,
    ) -> ir.Value:
        import onnx_ir as ir

        name = f"{self.node.name}_{operator}"
        step = ir.node(operator, inputs, attributes or {}, name=name)
        value = step.outputs[0]
        value.name, value.shape = name, shape
        value.type = ir.TensorType(self.node.outputs[0].dtype or ir.DataType.FLOAT)
        self.steps.append(step)
        return value

    def _replace(self, result: ir.Value, value: ir.Value) -> None:
        self.graph.insert_before(self.node, self.steps)
        if result.is_graph_output():
            outputs = self.graph.outputs
            outputs[next(i for i, item in enumerate(outputs) if item is result)] = value
        name = result.name
        result.replace_all_uses_with(value)
        self.graph.remove(self.node, safe=True)
        value.name = name
