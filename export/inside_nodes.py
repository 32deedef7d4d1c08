"""Nodes in a row: what the writers of a graph's front append to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt
    import onnx_ir as ir


class Chain:
    """Nodes that follow each other, and their constants.

    Every name in it begins with PREFIX.

    Attributes:
        end: What the last node gives.
        nodes: The nodes in order.
        constants: Initializers by name.
    """

    PREFIX: ClassVar[str] = "inside_"

    def __init__(self, start: ir.Value) -> None:
        self.end = start
        self.nodes: list[ir.Node] = []
        self.constants: dict[str, ir.Value] = {}

    def add(
        self,
        operator: str,
        inputs: Sequence[ir.Value],
        attributes: Mapping[str, Any] | None = None,
        *,
        name: str,
    ) -> ir.Value:
        """Append a node with one result, which becomes the end.

        Args:
            operator: Of ONNX's own domain.
            inputs: What it reads.
            attributes: Its attributes.
            name: Name of the node and its result, without the prefix.
        """
        import onnx_ir as ir

        node = ir.node(operator, inputs, attributes or {}, name=f"{self.PREFIX}{name}")
        self.end = node.outputs[0]
        self.end.name = node.name
        self.nodes.append(node)
        return self.end

    def constant(self, name: str, array: npt.NDArray[Any] | np.generic) -> ir.Value:
        """A constant with this content; another call with its name gives it again."""
        import onnx_ir as ir

        full = f"{self.PREFIX}{name}"
        if full not in self.constants:
            tensor = ir.tensor(np.asarray(array), name=full)
            self.constants[full] = ir.Value(
                name=full,
                shape=ir.Shape(np.shape(array)),
                type=ir.TensorType(tensor.dtype),
                const_value=tensor,
            )
        return self.constants[full]

    def cut(self, source: ir.Value, axis: int, start: int, stop: int, *, name: str) -> ir.Value:
        """Append a Slice along one axis."""
        bounds = [self.constant(f"to_{i}", np.array([i], np.int64)) for i in (start, stop)]
        along = self.constant(f"axis_{axis}", np.array([axis], np.int64))
        return self.add("Slice", [source, *bounds, along], name=name)
