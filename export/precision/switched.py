"""One session that runs a graph with any choice of nodes in 16 bits: nothing is compiled again.

Rules:
    S1  Between a value and each node that reads it stands a switch: the value as it is, or rounded
        to 16 bits and back. It is as it is where both ends are wide, as in a typed graph with its
        Casts (fp16.py, F2); inputs and constants of the graph count as wide ends.
    S2  With the switches of a choice, the session gives what `emulate_half(to_half(model, wide))`
        gives, bit for bit.
    S3  Any value can be fetched before it is rounded. Nothing is kept between runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.export.precision.calibrate import reference_session
from jetlift.export.precision.composites import open_composites
from jetlift.export.precision.emulate import rounding
from jetlift.export.precision.half import is_added
from jetlift.export.precision.sites import constant
from jetlift.export.precision.wide_rules import (
    fixed_inputs,
    name_nodes,
    raised_opset,
    wide_by_rule,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import numpy.typing as npt
    import onnx_ir as ir

    from jetlift.export.precision.half import Half

    Feeds = Mapping[str, npt.NDArray[Any]]
    Floats = npt.NDArray[np.float32]

_FLAGS = "jetlift_switches"


@dataclass(frozen=True)
class Edge:
    """A value on its way to whoever reads it.

    Attributes:
        value: Name of the value.
        producer: The node that makes it; None for an input or a constant of the graph.
        consumer: The node that reads it, or None for an output of the graph and where the node
            takes float32 whatever it computes in.
        constant: Whether the value is a constant.
    """

    value: str
    producer: str | None
    consumer: str | None
    constant: bool

    def is_raw(self, wide: Collection[str]) -> bool:
        """Whether the value arrives unrounded (rule S1)."""
        return all(end is None or end in wide for end in (self.producer, self.consumer))


class Switched:
    """A graph with switches, in memory.

    Attributes:
        nodes: Names of the nodes that can be chosen, in the graph's order.
        rules: Nodes that are wide anyway, with the reason (wide_rules.py).
        values: Names of the float values that nodes make, in the graph's order.
        edges: The switches.
    """

    def __init__(self, model: ir.Model, half: Half) -> None:
        copy = model.clone(deep_copy=False)
        name_nodes(copy.graph)
        copy.opset_imports[""] = raised_opset(copy, half)
        self.half = half
        self.rules = wide_by_rule(copy, half, {})
        self.nodes = [str(n.name) for n in copy.graph if n.name not in self.rules]
        self.operators = {str(node.name): node.op_type for node in copy.graph}
        self.outputs = [str(value.name) for value in copy.graph.outputs]
        builder = _Builder(copy, half, set(self.rules))
        self.values, self.edges = builder.values, builder.edges
        self._output_names = builder.build()
        self._session = reference_session(copy)

    def flags(self, wide: Collection[str]) -> npt.NDArray[np.bool_]:
        """The switches of a choice of wide nodes."""
        chosen = set(wide) | set(self.rules)
        return np.array([edge.is_raw(chosen) for edge in self.edges], np.bool_)

    def run(
        self, feeds: Feeds, flags: npt.NDArray[np.bool_], fetch: Sequence[str] = ()
    ) -> tuple[list[Floats], dict[str, Floats]]:
        """Compute the outputs, and the values named in `fetch` as their nodes made them."""
        names = [*self._output_names, *fetch]
        given = dict(feeds) if not self.edges else {**feeds, _FLAGS: flags}
        arrays = self._session.run(names, given)
        count = len(self._output_names)
        return list(arrays[:count]), dict(zip(fetch, arrays[count:], strict=True))


class _Builder:
    """Puts the switches into a graph; lives as long as that takes."""

    def __init__(self, model: ir.Model, half: Half, rules: set[str]) -> None:
        self.model, self.graph, self.half, self.rules = model, model.graph, half, rules
        self.masks = {id(value): is_added(value) for value in self._constants()}
        self.owners = open_composites(model, wanted=lambda node: str(node.name) not in rules)
        made = [value for node in self.graph for value in node.outputs if _is_float(value)]
        self.values = [str(value.name) for value in made]
        self.edges: list[Edge] = []
        self.switches: dict[tuple[Edge, bool], ir.Value] = {}
        self.rounded: dict[tuple[int, bool], ir.Value] = {}

    def build(self) -> list[str]:
        """Put them in; returns the names of the values that stand for the graph's outputs."""
        made = [value for node in self.graph for value in node.outputs if _is_float(value)]
        outputs = list(self.graph.outputs)
        for node in list(self.graph):
            fixed = fixed_inputs(node, self.model.opset_imports, self.half)
            for index, value in enumerate(node.inputs):
                if value is None or not _is_float(value):
                    continue
                if index in fixed and value.const_value is not None:
                    continue
                reader = None if index in fixed else self._owner(node)
                seen = self._seen(value, reader, bound=node.op_type in ("Clip", "Max", "Min"))
                if seen is not value:
                    node.replace_input_with(index, seen)
        shown = [self._seen(value, None, bound=False) for value in outputs]
        self._add_flags()
        present = {id(value) for value in outputs}
        extra = {id(value): value for value in [*made, *shown] if id(value) not in present}
        self.graph.outputs.extend(extra.values())
        return [str(value.name) for value in shown]

    def _constants(self) -> list[ir.Value]:
        made = [n.outputs[0] for n in self.graph if n.op_type in ("Constant", "ConstantOfShape")]
        return [*self.graph.initializers.values(), *made]

    def _owner(self, node: ir.Node) -> str:
        return self.owners.get(str(node.name), str(node.name))

    def _seen(self, value: ir.Value, reader: str | None, *, bound: bool) -> ir.Value:
        """The value as a reader sees it, behind its switch."""
        import onnx_ir as ir

        node = value.producer()
        if not _is_float(value) or (node is None and reader is None):
            return value
        producer = self._owner(node) if node is not None else None
        edge = Edge(str(value.name), producer, reader, value.const_value is not None)
        if edge.is_raw(self.rules):
            return value
        mask = self.masks.get(id(value), False) and not bound
        if (edge, mask) not in self.switches:
            narrow = self._rounded(value, mask=mask)
            name = f"{value.name}_seen_{len(self.edges)}"
            index = constant(self.graph, f"{name}_index", np.array(len(self.edges), np.int64))
            self.edges.append(edge)
            gather = ir.node("Gather", [index, index], name=f"{name}_switch")  # fed below
            where = ir.node("Where", [gather.outputs[0], value, narrow], name=name)
            gather.outputs[0].name, where.outputs[0].name = f"{name}_flag", name
            where.outputs[0].type, where.outputs[0].shape = value.type, value.shape
            after = narrow.producer() or node
            if after is None:
                self.graph.insert_before(self.graph[0], [gather, where])
            else:
                self.graph.insert_after(after, [gather, where])
            self.switches[edge, mask] = where.outputs[0]
        return self.switches[edge, mask]

    def _rounded(self, value: ir.Value, *, mask: bool) -> ir.Value:
        key = (id(value), mask)
        if key not in self.rounded:
            self.rounded[key] = self._round(value, mask=mask)
        return self.rounded[key]

    def _round(self, value: ir.Value, *, mask: bool) -> ir.Value:
        import onnx_ir as ir

        node = value.producer()
        if value.const_value is not None and node is None:
            array = np.asarray(value.const_value.numpy())
            narrow = self.half.constant(array, mask=mask).astype(np.float32)
            if not np.array_equal(narrow, self.half.rounded(array), equal_nan=True):
                return constant(self.graph, f"{value.name}_narrow_{int(mask)}", narrow)
        if node is not None and node.op_type in ("Constant", "ConstantOfShape"):
            return self._second_constant(node, mask=mask)
        casts, rounded = rounding(value, self.half.dtype)
        if node is None:
            self.graph.insert_before(self.graph[0], casts)
        else:
            self.graph.insert_after(node, casts)
        rounded.type = ir.TensorType(ir.DataType.FLOAT)
        return rounded

    def _second_constant(self, node: ir.Node, *, mask: bool) -> ir.Value:
        """A Constant or ConstantOfShape as the typed graph has it."""
        import onnx_ir as ir

        if "value_float" in node.attributes:
            array = np.array(node.attributes["value_float"].as_float(), np.float32)
        elif "value" in node.attributes:
            array = node.attributes["value"].as_tensor().numpy()
        else:
            array = np.zeros(1, np.float32)
        tensor = ir.tensor(self.half.constant(array, mask=mask).astype(np.float32))
        twin = ir.node(node.op_type, list(node.inputs), {"value": tensor}, name=f"{node.name}_twin")
        value = twin.outputs[0]
        value.name, value.shape = f"{node.outputs[0].name}_twin", node.outputs[0].shape
        value.type = ir.TensorType(ir.DataType.FLOAT)
        self.graph.insert_after(node, twin)
        return value

    def _add_flags(self) -> None:
        import onnx_ir as ir

        if not self.edges:
            return
        flags = ir.Value(
            name=_FLAGS,
            shape=ir.Shape([len(self.edges)]),
            type=ir.TensorType(ir.DataType.BOOL),
        )
        self.graph.inputs.append(flags)
        for switch in self.switches.values():
            where = switch.producer()
            flag = where.inputs[0] if where is not None else None
            gather = flag.producer() if flag is not None else None
            if gather is not None:
                gather.replace_input_with(0, flags)
                gather.outputs[0].type = ir.TensorType(ir.DataType.BOOL)
                gather.outputs[0].shape = ir.Shape([])


def _is_float(value: ir.Value) -> bool:
    return value.dtype is not None and value.dtype.name == "FLOAT"
