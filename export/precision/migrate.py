"""Migration of scales and shifts: make activations easy to quantise, and leave the FP32 answer.

A few channels of an activation are far larger than the rest or lie to one side of zero, and one
symmetric scale per tensor spends INT8's 255 steps on them. Reading (x - c) / s in place of x, with
the weight's row j multiplied by s_j and W c added to the bias, changes nothing in exact arithmetic,
but moves the difficulty into weights, which have a scale per output channel, and into biases,
which are float. Scales: Xiao et al., SmoothQuant, arXiv 2211.10438, equation 4; shifts: Wei et al.,
Outlier Suppression+, arXiv 2304.09145:

    c_j = (max X_j + min X_j) / 2        s_j = max|X_j - c_j|^alpha / max|W_j|^(1 - alpha)

Rules:
    G1  The affine is absorbed where the tensor is made, if every consumer of it is a site: by scale
        and bias of a LayerNormalization; a scale alone also by a constant factor, looking up
        through products and through reshapes that keep the last axis, as long as nobody else reads
        what lies between; and by weight and bias of a Conv, through Relu, LeakyRelu and pooling
        (cross-layer equalisation: Nagel et al., arXiv 1906.04721, section 4.1). Elsewhere a Sub
        and a Mul are inserted that only the sites read.
    G2  s is 1 for a channel that is never active or never used, and stays within 1e-4 and 1e4.
    G3  A depthwise convolution has a weight scale per input channel, so its alpha is always 1.
    G4  Before a padded convolution there is no shift: a border of zeros would have to become -c.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jetlift.export.precision.calibrate import Activation
from jetlift.export.precision.sites import add_to_output, array_of, constant

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt
    import onnx_ir as ir

    from jetlift.export.precision.sites import Site

    Floats = npt.NDArray[np.float32]

_ACTIVE = 1e-6
_LIMITS = (1e-4, 1e4)
# f(x / s) = f(x) / s per channel for every s > 0.
_HOMOGENEOUS = {"Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool"}


@dataclass(frozen=True)
class Affine:
    """What is read in place of x: (x - shift) / factors, per channel."""

    factors: Floats
    shift: Floats

    def of(self, seen: Activation) -> Activation:
        """What the samples show of the tensor after the affine."""
        after = [(part - self.shift) / self.factors for part in (seen.lows, seen.highs, seen.rows)]
        return Activation(*after)


def affine_of(group: Sequence[Site], seen: Activation, *, alpha: float, shift: bool) -> Affine:
    """The affine for a tensor and the sites that read it (rules G2 to G4).

    Args:
        group: The sites.
        seen: What the samples showed of the tensor.
        alpha: How much of the difficulty goes into the weights, 0 to 1.
        shift: Whether channels are centred too.
    """
    centred = shift and not any(site.is_conv and site.padded for site in group)
    middle = (seen.low + seen.high) / 2 if centred else np.zeros_like(seen.low)
    active = np.maximum(seen.high - middle, middle - seen.low)
    used = np.max([site.largest_per_input() for site in group], axis=0)
    if all(site.depthwise for site in group):
        alpha = 1.0
    return Affine(migration_factors(active, used, alpha), middle.astype(np.float32))


def migration_factors(active: Floats, used: Floats, alpha: float) -> Floats:
    """S per channel (rule G2).

    Args:
        active: Largest magnitude of each activation channel.
        used: Largest magnitude of the weights that read it.
        alpha: Exponent of the activations.
    """
    live = (active > _ACTIVE) & (used > _ACTIVE)
    ratio = np.where(live, active, 1.0) ** alpha / np.where(live, used, 1.0) ** (1 - alpha)
    return np.clip(ratio, *_LIMITS).astype(np.float32)


def migrate(
    graph: ir.Graph, groups: Mapping[str, Sequence[Site]], affines: Mapping[str, Affine]
) -> dict[str, str]:
    """Apply affines in place; sites keep their nodes but not their activation and weight.

    Args:
        graph: The graph to change.
        groups: Sites by the name of the tensor they read.
        affines: What each tensor becomes; tensors without one stay as they are.

    Returns:
        Per migrated tensor, the name of what its sites read now.
    """
    renamed = {}
    for name, affine in affines.items():
        group = groups[name]
        _apply(graph, group, affine)
        for site in group:
            if affine.shift.any():
                vector = site.answer(affine.shift[None, :])[0]
                add_to_output(graph, site, vector, "shifted")
            # A weight may serve several nodes with other activations, so each gets its own copy.
            weight = constant(
                graph, f"{site.weight.name}_migrated_{site.name}", site.scaled(affine.factors)
            )
            site.node.replace_input_with(1, weight)
        read = group[0].node.inputs[0]
        renamed[name] = str(read.name) if read is not None else name
    return renamed


def _apply(graph: ir.Graph, group: Sequence[Site], affine: Affine) -> None:
    """Make the group read (x - c) / s, where that costs nothing if possible (rule G1)."""
    activation = group[0].activation
    alone = len(group) == len(activation.uses()) and not activation.is_graph_output()
    if alone:
        if not group[0].is_conv and _absorbed_by_norm(graph, activation, affine):
            return
        absorb = _absorbed_by_conv if group[0].is_conv else _absorbed
        if absorb(graph, activation, affine.factors):
            if affine.shift.any():
                shift = affine.shift / affine.factors
                _insert(graph, group, Affine(np.ones_like(shift), shift))
            return
    _insert(graph, group, affine)


def _insert(graph: ir.Graph, group: Sequence[Site], affine: Affine) -> None:
    import onnx_ir as ir

    value = group[0].activation
    shape = (1, -1, *(1 for _ in range(group[0].array().ndim - 2))) if group[0].is_conv else (-1,)
    steps = []
    if affine.shift.any():
        steps.append(("Sub", "shift", affine.shift))
    if (affine.factors != 1).any():
        steps.append(("Mul", "scale", np.reciprocal(affine.factors)))
    nodes: list[ir.Node] = []
    current = value
    for operator, label, vector in steps:
        operand = constant(graph, f"{value.name}_{label}", vector.astype(np.float32).reshape(shape))
        node = ir.node(operator, [current, operand], name=f"{value.name}_migrate_{label}")
        current = node.outputs[0]
        current.name, current.shape = f"{value.name}_migrated_{label}", value.shape
        current.type = ir.TensorType(ir.DataType.FLOAT)
        nodes.append(node)
    for site in group:
        site.node.replace_input_with(0, current)
    producer = value.producer()
    if producer is not None:
        graph.insert_after(producer, nodes)
    else:
        graph.insert_before(graph[0], nodes)


def _absorbed_by_norm(graph: ir.Graph, value: ir.Value, affine: Affine) -> bool:
    """Scale and bias of a LayerNormalization take the whole affine."""
    node = value.producer()
    if node is None or node.op_type != "LayerNormalization" or not _is_last_axis(node):
        return False
    scale, bias = node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None
    if scale is None or (bias is not None and bias.const_value is None):
        return False
    base = array_of(bias) if bias is not None else np.zeros_like(affine.shift)
    name = f"{node.name}_migrated"
    new_scale = constant(graph, f"{name}_scale", array_of(scale) / affine.factors)
    new_bias = constant(graph, f"{name}_bias", (base - affine.shift) / affine.factors)
    node.replace_input_with(1, new_scale)
    if len(node.inputs) < 3:
        node.resize_inputs(3)
    node.replace_input_with(2, new_bias)
    return True


def _absorbed(graph: ir.Graph, value: ir.Value, factors: Floats) -> bool:
    """Divide a tensor by changing constants of the nodes that make it, if that can be done."""
    node = value.producer()
    if node is None or value.is_graph_output():
        return False
    zero = np.zeros_like(factors)
    if _absorbed_by_norm(graph, value, Affine(factors, zero)):
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


def _absorbed_by_conv(graph: ir.Graph, value: ir.Value, factors: Floats) -> bool:
    """Divide the channels of a Conv's result in its weight and bias."""
    node = value.producer()
    if node is None or value.is_graph_output():
        return False
    source = node.inputs[0]
    if node.op_type in _HOMOGENEOUS and source is not None and len(source.uses()) == 1:
        return _absorbed_by_conv(graph, source, factors)
    weight, bias = node.inputs[1] if len(node.inputs) > 1 else None, None
    if node.op_type != "Conv" or weight is None or weight.const_value is None:
        return False
    if len(node.inputs) > 2 and (bias := node.inputs[2]) is not None and bias.const_value is None:
        return False
    shape = (-1, *(1 for _ in range(array_of(weight).ndim - 1)))
    name = f"{node.name}_equalised"
    divided = array_of(weight) / factors.reshape(shape)
    node.replace_input_with(1, constant(graph, f"{name}_weight", divided))
    if bias is not None:
        node.replace_input_with(2, constant(graph, f"{name}_bias", array_of(bias) / factors))
    return True


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
        node.replace_input_with(index, constant(graph, name, array_of(value) / factors))


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
    shape = array_of(value).shape
    return all(size == 1 for size in shape[:-1]) and (not shape or shape[-1] in (1, factors.size))
