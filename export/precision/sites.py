"""What there is to quantise: weighted MatMul, Gemm and Conv, and how channels run through them.

Rules:
    T1  A site multiplies an activation with a constant weight; a product of two
        activations is none.
    T2  A convolution that reads the graph's input stays wide: it is cheap, and what it loses is
        lost for good.
    T3  The channels of an activation are its axis 1 before a Conv and its last axis elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import numpy.typing as npt
    import onnx_ir as ir

    Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Site:
    """One weighted node.

    Attributes:
        node: The node.
        activation: What it reads.
        weight: Its constant weight: [in, out] for MatMul, [out, in] for Gemm with transB,
            [out, in / groups, ...] for Conv.
        axis: Output-channel axis of the weight.
        groups: Groups of a Conv, else 1.
    """

    node: ir.Node
    activation: ir.Value
    weight: ir.Value
    axis: int
    groups: int = 1

    @property
    def name(self) -> str:
        """Name of the node."""
        return str(self.node.name)

    @property
    def bias(self) -> Floats | None:
        """The constant that is added to its output channels, float32 [out], where there is one."""
        if self.node.op_type in ("Conv", "Gemm"):
            value = self.node.inputs[2] if len(self.node.inputs) > 2 else None
        else:
            size = self.array().shape[self.axis]
            follower = _bias_of(self.node.outputs[0], size)
            value = follower[0].inputs[follower[1]] if follower is not None else None
        if value is None or value.const_value is None:
            return None
        return array_of(value).reshape(-1)

    @property
    def is_conv(self) -> bool:
        """Whether channels are axis 1 of the activation (rule T3)."""
        return self.node.op_type == "Conv"

    @property
    def depthwise(self) -> bool:
        """Whether each output channel reads one input channel only."""
        return self.is_conv and self.array().shape[1] == 1

    @property
    def padded(self) -> bool:
        """Whether zeros beyond the border enter the sums."""
        attributes = self.node.attributes
        named = attributes["auto_pad"].as_string() if "auto_pad" in attributes else "NOTSET"
        pads = attributes["pads"].as_ints() if "pads" in attributes else ()
        return any(pads) or named not in ("NOTSET", "VALID")

    def array(self) -> Floats:
        """The weight as it stands."""
        return array_of(self.weight)

    def matrix(self, weight: Floats | None = None) -> Floats:
        """The weight as [groups, in / groups, taps, out / groups]; taps is 1 but for Conv."""
        weight = self.array() if weight is None else weight
        if self.is_conv:
            out, inside = weight.shape[:2]
            grouped = weight.reshape(self.groups, out // self.groups, inside, -1)
            return np.asarray(grouped.transpose(0, 2, 3, 1))
        plain = weight if self.axis == 1 else weight.T
        return np.asarray(plain[None, :, None, :])

    def largest_per_input(self) -> Floats:
        """Largest magnitude of the weights behind each input channel, float32 [in]."""
        return np.asarray(np.abs(self.matrix()).max(axis=(2, 3)).reshape(-1), np.float32)

    def scaled(self, factors: Floats) -> Floats:
        """The weight with each input channel multiplied by its factor, in the weight's own form."""
        weight = self.array()
        if not self.is_conv:
            return np.asarray(weight * (factors[:, None] if self.axis == 1 else factors[None, :]))
        out, inside = weight.shape[:2]
        per_group = factors.reshape(self.groups, 1, inside, 1)
        grouped = weight.reshape(self.groups, out // self.groups, inside, -1) * per_group
        return grouped.reshape(weight.shape)

    def answer(self, inputs: Floats, weight: Floats | None = None) -> Floats:
        """What constant input channels give, without a bias and away from any border.

        Args:
            inputs: float [rows, in].
            weight: A weight in place of the site's own, in its form.

        Returns:
            float [rows, out].
        """
        summed = self.matrix(weight).sum(axis=2)  # [groups, in / groups, out / groups]
        rows = inputs.reshape(len(inputs), self.groups, -1)
        product = np.einsum("ngi,gio->ngo", rows, summed, optimize=True)
        return np.asarray(product.reshape(len(inputs), -1))


def find_sites(
    graph: ir.Graph, kinds: Collection[str] = ("FLOAT",)
) -> tuple[list[Site], list[str]]:
    """What there is to quantise, and the nodes that stay wide with the reason (T1, T2).

    Args:
        graph: The graph.
        kinds: Types of weights that count.
    """
    sites: list[Site] = []
    kept_wide: list[str] = []
    for node in graph:
        site = _site_of(node, kinds)
        if isinstance(site, str):
            kept_wide.append(f"{node.name}: {site}")
        if site is None or isinstance(site, str):
            continue
        if site.is_conv and site.activation.is_graph_input():
            kept_wide.append(f"{node.name}: convolution of the input")
        else:
            sites.append(site)
    return sites, kept_wide


def by_activation(sites: Sequence[Site]) -> dict[str, list[Site]]:
    """Sites that read the same tensor, by its name: they share one Q/DQ pair."""
    groups: dict[str, list[Site]] = {}
    for site in sites:
        groups.setdefault(str(site.activation.name), []).append(site)
    return groups


def _site_of(node: ir.Node, kinds: Collection[str]) -> Site | str | None:
    """What there is to quantise at a node; why it cannot be, where it is weighted; or None (T1)."""
    if node.op_type not in ("MatMul", "Gemm", "Conv"):
        return None
    activation, weight = node.inputs[0], node.inputs[1]
    if activation is None or weight is None or weight.const_value is None:
        return None
    rank = len(weight.const_value.shape)
    if activation.const_value is not None or rank < 2 or weight.const_value.dtype.name not in kinds:
        return None
    attributes = node.attributes
    if node.op_type == "Conv":
        groups = attributes["group"].as_int() if "group" in attributes else 1
        return Site(node, activation, weight, 0, groups)
    if node.op_type == "MatMul":
        return Site(node, activation, weight, 1) if rank == 2 else f"a weight of rank {rank}"
    scaled = any(
        name in attributes and attributes[name].as_float() != 1.0 for name in ("alpha", "beta")
    )
    if scaled:
        return "its product is scaled"
    if "transA" in attributes and attributes["transA"].as_int():
        return "its activation is transposed"
    transposed = "transB" in attributes and attributes["transB"].as_int()
    return Site(node, activation, weight, 0 if transposed else 1)


def array_of(value: ir.Value) -> Floats:
    """A constant's content."""
    if value.const_value is None:
        raise ValueError(f"{value.name} is not a constant")
    return np.asarray(value.const_value.numpy(), np.float32)


def constant(graph: ir.Graph, name: str, array: npt.NDArray[Any]) -> ir.Value:
    """Register a constant in a graph."""
    import onnx_ir as ir

    tensor = ir.tensor(array, name=name)
    shape, kind = ir.Shape(array.shape), ir.TensorType(tensor.dtype)
    value = ir.Value(name=name, shape=shape, type=kind, const_value=tensor)
    graph.register_initializer(value)
    return value


def add_to_output(graph: ir.Graph, site: Site, vector: Floats, label: str) -> None:
    """Add a vector to a site's output channels, in a bias that is there or else by a new one.

    Args:
        graph: The graph to change.
        site: Where.
        vector: float [out].
        label: Part of the new constant's name.
    """
    import onnx_ir as ir

    name = f"{site.name}_{label}"
    if site.node.op_type in ("Conv", "Gemm"):
        _add_to_input(graph, site, vector, name)
        return
    result = site.node.outputs[0]
    follower = _bias_of(result, vector.size)
    if follower is not None:
        add, index = follower
        bias = add.inputs[index]
        if bias is not None:
            summed = array_of(bias) + vector.reshape(-1)
            add.replace_input_with(index, constant(graph, name, summed.astype(np.float32)))
        return
    bias = constant(graph, name, vector.astype(np.float32).reshape(-1))
    add = ir.node("Add", [result, bias], name=f"{name}_add")
    summed_value = add.outputs[0]
    summed_value.name, summed_value.shape = f"{result.name}_{label}", result.shape
    summed_value.type = ir.TensorType(ir.DataType.FLOAT)
    if result.is_graph_output():
        outputs = graph.outputs
        index = next(i for i, value in enumerate(outputs) if value is result)
        wanted, result.name = str(result.name), f"{result.name}_before_{label}"
        outputs[index] = summed_value
        summed_value.name = wanted
    result.replace_all_uses_with(summed_value)
    add.replace_input_with(0, result)
    graph.insert_after(site.node, add)


def _add_to_input(graph: ir.Graph, site: Site, vector: Floats, name: str) -> None:
    """The bias of a Conv or Gemm is its third input, there or not."""
    node = site.node
    old = node.inputs[2] if len(node.inputs) > 2 else None
    base = array_of(old) if old is not None else np.zeros(vector.size, np.float32)
    bias = constant(graph, name, (base + vector.reshape(-1)).astype(np.float32))
    if len(node.inputs) > 2:
        node.replace_input_with(2, bias)
    else:
        node.resize_inputs(3)
        node.replace_input_with(2, bias)


def _bias_of(result: ir.Value, size: int) -> tuple[ir.Node, int] | None:
    """The Add with a constant vector that alone reads a MatMul's result, and its operand."""
    uses = list(result.uses())
    if len(uses) != 1 or uses[0].node.op_type != "Add" or result.is_graph_output():
        return None
    add, index = uses[0].node, 1 - uses[0].idx
    bias = add.inputs[index]
    if bias is None or bias.const_value is None:
        return None
    shape = tuple(bias.const_value.shape.numpy())
    return (add, index) if shape and shape[-1] == size and bias.const_value.size == size else None
