"""Scale migration: make activations easy to quantise, and leave the FP32 answer as it was.

A transformer's activations have a few channels far larger than the rest, and one scale per tensor
spends INT8's 127 steps on them. Dividing channel j of an activation by s_j and multiplying the
weight's row j by s_j changes nothing in exact arithmetic, but moves the outliers into weights,
which have a scale per output channel. Xiao et al., SmoothQuant, arXiv 2211.10438, equation 4:

    s_j = max|X_j|^alpha / max|W_j|^(1 - alpha)

Rules:
    G1  A tensor is migrated only if every consumer of it is a MatMul or Gemm to be quantised.
    G2  The division is absorbed where the tensor is made: by scale and bias of a LayerNormalization
        or by a constant factor, looking up through products and through reshapes that keep the
        last axis, as long as nobody else reads what lies between. Elsewhere one Mul is inserted.
    G3  s is 1 for a channel that is never active or never used, and stays within 1e-4 and 1e4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt
    import onnx_ir as ir

    from jetlift.export.precision.int8 import Site

    Floats = npt.NDArray[np.float32]

_ACTIVE = 1e-6
_LIMITS = (1e-4, 1e4)


def candidates(sites: Sequence[Site]) -> dict[str, list[Site]]:
    """Sites by the name of their activation, for the activations that can be migrated (G1)."""
    groups: dict[str, list[Site]] = {}
    for site in sites:
        groups.setdefault(str(site.activation.name), []).append(site)
    return {
        name: group
        for name, group in groups.items()
        if all(site.node.op_type in ("MatMul", "Gemm") for site in group)
        and len(group) == len(group[0].activation.uses())
        and group[0].activation.producer() is not None
    }


def migrate(
    graph: ir.Graph,
    groups: Mapping[str, Sequence[Site]],
    channel_maxima: Mapping[str, Floats],
    *,
    alpha: float,
) -> dict[str, float]:
    """Migrate scales in place; sites keep their nodes but not their activation and weight.

    Args:
        graph: The graph to change.
        groups: What `candidates` found in it.
        channel_maxima: Per activation, the largest magnitude of each channel of its last axis.
        alpha: How much of the difficulty goes into the weights, 0 to 1.

    Returns:
        Largest magnitude of each migrated activation, under the name its sites now read.
    """
    maxima: dict[str, float] = {}
    for name, group in groups.items():
        used = np.max([_row_maxima(site) for site in group], axis=0)
        factors = migration_factors(channel_maxima[name], used, alpha)
        _divide(graph, group[0].activation, factors)
        for site in group:
            _multiply_weight(graph, site, factors)
        read = group[0].node.inputs[0]
        if read is not None:
            maxima[str(read.name)] = float((channel_maxima[name] / factors).max())
    return maxima


def migration_factors(active: Floats, used: Floats, alpha: float) -> Floats:
    """S per channel (G3).

    Args:
        active: Largest magnitude of each activation channel.
        used: Largest magnitude of the weights that read it.
        alpha: Exponent of the activations.
    """
    live = (active > _ACTIVE) & (used > _ACTIVE)
    ratio = np.where(live, active, 1.0) ** alpha / np.where(live, used, 1.0) ** (1 - alpha)
    return np.clip(ratio, *_LIMITS).astype(np.float32)


def _row_maxima(site: Site) -> Floats:
    """Largest magnitude of the weights behind each input channel."""
    weight = _array(site.weight)
    return np.asarray(np.abs(weight).max(axis=site.axis), np.float32)


def _multiply_weight(graph: ir.Graph, site: Site, factors: Floats) -> None:
    weight = _array(site.weight)
    column = factors[:, None] if site.axis == 1 else factors[None, :]
    # A weight may serve several nodes with other activations, so each gets a copy of its own.
    name = f"{site.weight.name}_migrated_{site.node.name}"
    site.node.replace_input_with(1, constant(graph, name, weight * column))


def _divide(graph: ir.Graph, activation: ir.Value, factors: Floats) -> None:
    """Divide the last axis of an activation, where that costs nothing if possible (G2)."""
    import onnx_ir as ir

    if _absorbed(graph, activation, factors):
        return
    inverse = constant(graph, f"{activation.name}_inverse", 1 / factors)
    division = ir.node("Mul", [activation, inverse], name=f"{activation.name}_migrate")
    divided = division.outputs[0]
    divided.name, divided.shape = f"{activation.name}_migrated", activation.shape
    divided.type = ir.TensorType(ir.DataType.FLOAT)
    activation.replace_all_uses_with(divided)
    division.replace_input_with(0, activation)
    producer = activation.producer()
    if producer is not None:
        graph.insert_after(producer, division)


def _absorbed(graph: ir.Graph, value: ir.Value, factors: Floats) -> bool:
    """Divide a tensor by changing constants of the nodes that make it, if that can be done (G2)."""
    node = value.producer()
    if node is None or value.is_graph_output():
        return False
    if node.op_type == "LayerNormalization" and _is_last_axis(node):
        for index in range(1, len(node.inputs)):
            _divide_constant(graph, node, index, factors)
        return True
    if node.op_type == "Mul":  # (a b) / s = a (b / s): a constant factor first, else either
        constants = [i for i, item in enumerate(node.inputs) if _is_factor(item, factors)]
        if constants:
            _divide_constant(graph, node, constants[0], factors)
            return True
        return any(_absorbed_above(graph, node, index, factors) for index in (0, 1))
    if node.op_type == "Reshape" and _keeps_last_axis(node):
        return _absorbed_above(graph, node, 0, factors)
    return False


def _absorbed_above(graph: ir.Graph, node: ir.Node, index: int, factors: Floats) -> bool:
    """The same for an input of a node, where nobody else reads that input."""
    above = node.inputs[index]
    if above is None or len(above.uses()) != 1 or _last(above) != factors.size:
        return False
    return _absorbed(graph, above, factors)


def _divide_constant(graph: ir.Graph, node: ir.Node, index: int, factors: Floats) -> None:
    value = node.inputs[index]
    if value is not None:
        name = f"{value.name}_migrated_{node.name}"
        node.replace_input_with(index, constant(graph, name, _array(value) / factors))


def _keeps_last_axis(node: ir.Node) -> bool:
    source = node.inputs[0]
    return (
        source is not None and _last(source) is not None and _last(source) == _last(node.outputs[0])
    )


def _last(value: ir.Value) -> int | None:
    """Size of the last axis, where it is fixed."""
    last = value.shape[-1] if value.shape is not None and len(value.shape) else None
    return last if isinstance(last, int) else None


def _is_last_axis(node: ir.Node) -> bool:
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else -1
    source = node.inputs[0]
    rank = len(source.shape) if source is not None and source.shape is not None else None
    single = len(node.outputs) == 1 or not any(value.uses() for value in node.outputs[1:])
    return single and (axis == -1 or (rank is not None and axis == rank - 1))


def _is_factor(value: ir.Value | None, factors: Floats) -> bool:
    """Whether it is a constant that broadcasts along the last axis alone, scalar or vector."""
    if value is None or value.const_value is None:
        return False
    shape = _array(value).shape
    return all(size == 1 for size in shape[:-1]) and (not shape or shape[-1] in (1, factors.size))


def _array(value: ir.Value) -> Floats:
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
