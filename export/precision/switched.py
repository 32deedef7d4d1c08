"""One session that runs a graph with any choice of nodes in 16 bits: nothing is compiled again.

Rules:
    S1  Between a value and each node that reads it stands a switch: the value as it is, or rounded
        to 16 bits and back. It is as it is where both ends are wide, as in a typed graph with its
        Casts (fp16.py, F2); inputs and constants of the graph count as wide ends.
    S2  With the switches of a choice, the session gives what `emulate_half(to_half(model, wide))`
        gives, but for the order in which FP32 sums: behind a switch a weight is no constant, and
        ONNX Runtime may multiply with another kernel.
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
    """

    value: str
    producer: str | None
    consumer: str | None

    def is_raw(self, wide: Collection[str]) -> bool:
        """Whether the value arrives unrounded (rule S1)."""
        return all(end is None or end in wide for end in (self.producer, self.consumer))


@dataclass(frozen=True)
class Made:
    """How a float value comes about.

    Attributes:
        node: The node of the model that makes it; empty for an input of the graph.
        operator: The operator that does, a step of the node where the node is opened.
        sources: The float values that it is made from, without constants.
    """

    node: str
    operator: str
    sources: tuple[str, ...]


class Switched:
    """A graph with switches, in memory.

    Attributes:
        nodes: Names of the nodes that can be chosen, in the graph's order.
        rules: Nodes that are wide anyway, with the reason (wide_rules.py).
        outputs: Names of the graph's outputs.
        values: How the float values come about, inputs first, then in the graph's order.
        edges: The switches.
    """

    def __init__(self, model: ir.Model, half: Half) -> None:
        copy = model.clone(deep_copy=False)
        name_nodes(copy.graph)
        copy.opset_imports[""] = raised_opset(copy, half)
        self.half = half
        self.rules = wide_by_rule(copy, half, {})
        self.nodes = [str(n.name) for n in copy.graph if n.name not in self.rules]
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
        import onnx_ir as ir

        self.model, self.graph, self.half, self.rules = model, model.graph, half, rules
        self.masks = {id(value): is_added(value) for value in self._constants()}
        self.owners = open_composites(model, wanted=lambda node: str(node.name) not in rules)
        given = [value for value in self.graph.inputs if _is_float(value)]
        self.values = {str(value.name): Made("", "", ()) for value in given}
        self.values |= {
            str(value.name): Made(self._owner(node), node.op_type, _sources(node))
            for node in self.graph
            for value in node.outputs
            if _is_float(value)
        }
        self.edges: list[Edge] = []
        self.switches: dict[tuple[Edge, bool], ir.Value] = {}
        self.flags = ir.Value(name=_FLAGS, type=ir.TensorType(ir.DataType.BOOL))

    def build(self) -> list[str]:
        """Put them in; returns the names of the values that stand for the graph's outputs."""
        import onnx_ir as ir

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
        if self.edges:
            self.flags.shape = ir.Shape([len(self.edges)])
            self.graph.inputs.append(self.flags)
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
        node = value.producer()
        if not _is_float(value) or (node is None and reader is None):
            return value
        producer = self._owner(node) if node is not None else None
        edge = Edge(str(value.name), producer, reader)
        if edge.is_raw(self.rules):
            return value
        mask = self.masks.get(id(value), False) and not bound
        if (edge, mask) not in self.switches:
            name = f"{value.name}_seen_{len(self.edges)}"
            switch = self._switch(name, value, mask=mask)
            if node is None:
                self.graph.insert_before(self.graph[0], switch)
            else:
                self.graph.insert_after(node, switch)
            self.edges.append(edge)
            self.switches[edge, mask] = switch[-1].outputs[0]
        return self.switches[edge, mask]

    def _switch(self, name: str, value: ir.Value, *, mask: bool) -> list[ir.Node]:
        """A switch, made of `If`: it computes one side alone, and `Where` is slow on the CPU."""
        import onnx_ir as ir

        made, narrow = self._narrow(value, mask=mask)
        as_it_is = ir.node("Identity", [value], name=f"{name}_raw")
        if narrow is None:
            rounded, result = rounding(value, self.half.dtype, name)
        else:
            rounded = [ir.node("Identity", [narrow], name=f"{name}_narrow")]
            result = rounded[0].outputs[0]
        as_it_is.outputs[0].name, result.name = f"{name}_raw", f"{name}_rounded"
        branches = {}
        for branch, nodes in (("then_branch", [as_it_is]), ("else_branch", rounded)):
            shown = nodes[-1].outputs[0]
            shown.type, shown.shape = ir.TensorType(ir.DataType.FLOAT), value.shape
            branches[branch] = ir.Graph([], [shown], nodes=nodes, name=f"{name}_{branch}")
        index = constant(self.graph, f"{name}_index", np.array(len(self.edges), np.int64))
        gather = ir.node("Gather", [self.flags, index], name=f"{name}_flag")
        gather.outputs[0].name = f"{name}_flag"
        gather.outputs[0].type, gather.outputs[0].shape = self.flags.type, ir.Shape([])
        switch = ir.node("If", gather.outputs, branches, name=name)
        switch.outputs[0].name, switch.outputs[0].shape = name, value.shape
        switch.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
        return [*made, gather, switch]

    def _narrow(self, value: ir.Value, *, mask: bool) -> tuple[list[ir.Node], ir.Value | None]:
        """What a constant is in the typed graph, where that is not its rounding (half.py)."""
        node = value.producer()
        if node is not None and node.op_type in ("Constant", "ConstantOfShape"):
            return self._second_constant(node, mask=mask)
        if node is None and value.const_value is not None:
            array = np.asarray(value.const_value.numpy())
            narrow = self.half.constant(array, mask=mask).astype(np.float32)
            if not np.array_equal(narrow, self.half.rounded(array), equal_nan=True):
                name = f"{value.name}_narrow_{len(self.edges)}"
                return [], constant(self.graph, name, narrow)
        return [], None

    def _second_constant(
        self, node: ir.Node, *, mask: bool
    ) -> tuple[list[ir.Node], ir.Value | None]:
        """A Constant or ConstantOfShape as the typed graph has it."""
        import onnx_ir as ir

        if "value_float" in node.attributes:
            array = np.array(node.attributes["value_float"].as_float(), np.float32)
        elif "value" in node.attributes:
            array = node.attributes["value"].as_tensor().numpy()
        else:
            array = np.zeros(1, np.float32)
        tensor = ir.tensor(self.half.constant(array, mask=mask).astype(np.float32))
        name = f"{node.name}_twin_{len(self.edges)}"
        twin = ir.node(node.op_type, list(node.inputs), {"value": tensor}, name=name)
        value = twin.outputs[0]
        value.name, value.shape = name, node.outputs[0].shape
        value.type = ir.TensorType(ir.DataType.FLOAT)
        return [twin], value


def _is_float(value: ir.Value) -> bool:
    return value.dtype is not None and value.dtype.name == "FLOAT"


def _sources(node: ir.Node) -> tuple[str, ...]:
    floats = [v for v in node.inputs if v is not None and _is_float(v) and v.const_value is None]
    return tuple(str(value.name) for value in floats)
