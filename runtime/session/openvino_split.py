"""Brings joint products and masks that hide nothing into the form in which OpenVINO wastes nothing.

Exports join the products of query, key and value into one and split what comes of it. OpenVINO
splits by a plain copy and cannot join a bias behind it to the product. And PyTorch leaves a mask
that lets everything pass, which is added to every attention's scores.

Rules:
    K1  A product with constant weights, float or int8, that is split along its columns, with or
        without a constant added before, becomes one product per part with its own columns.
    K2  `scores + mask` becomes `scores` where the mask is chosen by a condition that is true
        everywhere and is then zero, and is no larger than the scores. Where the batch is open, that
        is known only if nothing else is: the model's inputs have one open axis together.
    K3  Parts are named NODE/part.N after the product's ONNX node; `declared` takes that off again.
    K4  Constants that are added to a product or multiply it bear the product's name from here on:
        what becomes one layer is called after its last node, and is to be found by its product.
    K5  It is the same arithmetic; the file is not touched.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.runtime.session.openvino_nodes import content, only_reader

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Array = npt.NDArray[Any]
    Columns = Callable[[slice], Any]

PART = "/part."
_ADDED = re.compile(rf"(?:{PART}\d+)?(?:/WithoutBiases)?$")


def unsplit(model: Any) -> Any:  # noqa: ANN401 - the library ships no types
    """The model, changed in place (rules K1 to K5)."""
    simple = sum(axis.is_dynamic for it in model.inputs for axis in it.get_partial_shape()) <= 1
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        if kind in {"Split", "VariadicSplit"}:
            _unsplit(node)
        elif kind == "Select" and simple:
            _unmask(node)
    model.validate_nodes_and_infer_types()
    for node in model.get_ordered_ops():
        if node.get_type_name() == "MatMul" and _columns_of(node.input_value(1).get_node()):
            _name_what_follows(node)
    return model


def declared(name: str) -> str:
    """The ONNX node that a layer's name speaks of, without what OpenVINO and rule K3 add."""
    return _ADDED.sub("", name)


def _unsplit(split: Any) -> None:  # noqa: ANN401
    """Rule K1."""
    from openvino import opset13 as ops

    product, shift = _product_before(split)
    if product is None or product.get_attributes()["transpose_a"]:
        return
    if product.get_attributes()["transpose_b"] or not _along_columns(split):
        return
    columns = _columns_of(product.input_value(1).get_node())
    if columns is None:
        return
    at = 0
    for number in range(split.get_output_size()):
        width = split.output(number).get_partial_shape()[-1].get_length()
        chosen, at = slice(at, at + width), at + width
        part = ops.matmul(
            product.input_value(0), columns(chosen), transpose_a=False, transpose_b=False
        )
        name = f"{product.get_friendly_name()}{PART}{number}"
        part.set_friendly_name(f"{name}/WithoutBiases")
        if shift is not None:
            part = ops.add(part, ops.constant(_cut(shift, chosen)))
            part.set_friendly_name(name)
        split.output(number).replace(part.output(0))


def _name_what_follows(product: Any) -> None:  # noqa: ANN401
    """Rule K4."""
    name, node = product.get_friendly_name().removesuffix("/WithoutBiases"), product
    while (node := only_reader(node)) is not None:
        if node.get_type_name() not in {"Add", "Multiply"}:
            return
        if all(_value(node.input_value(number).get_node()) is None for number in range(2)):
            return
        node.set_friendly_name(name)


def _product_before(split: Any) -> tuple[Any, Array | None]:  # noqa: ANN401
    """The product that is split, and what is added to it; None where it is something else."""
    node, shift = split.input_value(0).get_node(), None
    if node.get_type_name() == "Add" and only_reader(node) is not None:
        given = [node.input_value(number).get_node() for number in range(2)]
        values = [_value(one) for one in given]
        if (values[0] is None) == (values[1] is None):
            return None, None
        node, shift = (given[1], values[0]) if values[1] is None else (given[0], values[1])
        if shift is not None and any(side != 1 for side in shift.shape[:-1]):
            return None, None
    is_product = node.get_type_name() == "MatMul" and only_reader(node) is not None
    return (node, shift) if is_product else (None, None)


def _along_columns(split: Any) -> bool:  # noqa: ANN401
    """Whether it is split along its last axis, into parts of known width."""
    axis, shape = _value(split.input_value(1).get_node()), split.input_value(0).get_partial_shape()
    if axis is None or shape.rank.is_dynamic or shape[-1].is_dynamic:
        return False
    widths = [split.output(i).get_partial_shape()[-1] for i in range(split.get_output_size())]
    return int(axis.reshape(-1)[0]) in (-1, len(shape) - 1) and all(it.is_static for it in widths)


def _columns_of(weights: Any) -> Columns | None:  # noqa: ANN401
    """Makes some columns of constant weights anew; None for weights of another form."""
    from openvino import opset13 as ops

    if (stored := content(weights)) is not None:
        return lambda chosen: ops.constant(_cut(stored, chosen))
    if weights.get_type_name() != "Multiply":
        return None
    shifted, scale = weights.input_value(0).get_node(), _value(weights.input_value(1).get_node())
    if shifted.get_type_name() != "Subtract" or scale is None:
        return None
    widened = shifted.input_value(0).get_node()
    zero = _value(shifted.input_value(1).get_node())
    if widened.get_type_name() != "Convert" or zero is None:
        return None
    levels = _value(widened.input_value(0).get_node())
    if levels is None:
        return None

    def made(chosen: slice) -> Any:  # noqa: ANN401
        floats = ops.convert(ops.constant(_cut(levels, chosen)), "f32")
        centred = ops.subtract(floats, ops.constant(_cut(zero, chosen)))
        return ops.multiply(centred, ops.constant(_cut(scale, chosen)))

    return made


def _unmask(select: Any) -> None:  # noqa: ANN401
    """Rule K2."""
    condition, zero = select.input_value(0).get_node(), _value(select.input_value(1).get_node())
    if condition.get_type_name() == "Broadcast":
        condition = condition.input_value(0).get_node()
    passes = _value(condition)
    if passes is None or zero is None or not passes.all() or zero.any():
        return
    for target in list(select.output(0).get_target_inputs()):
        reader = target.get_node()
        if reader.get_type_name() != "Add":
            continue
        own = 0 if reader.input_value(0).get_node().get_name() == select.get_name() else 1
        scores = reader.input_value(1 - own)
        if _no_larger(select.output(0).get_partial_shape(), scores.get_partial_shape()):
            reader.output(0).replace(scores)


def _no_larger(mask: Any, scores: Any) -> bool:  # noqa: ANN401
    """Whether a mask is as large as the scores or repeated along axes, of which the first is open.

    OpenVINO tells no two open axes apart; rule K2 has it that there is but one.
    """
    if mask.rank.is_dynamic or scores.rank.is_dynamic or len(mask) != len(scores):
        return False
    batch = mask[0] == scores[0] or (mask[0].is_static and mask[0].get_length() == 1)
    rest = (
        mask[axis].is_static and (mask[axis].get_length() == 1 or mask[axis] == scores[axis])
        for axis in range(1, len(mask))
    )
    return bool(batch and all(rest))


def _cut(array: Array, chosen: slice) -> Array:
    """Columns of an array, or all of one that has the same number for every column."""
    if array.ndim == 0 or array.shape[-1] == 1:
        return array
    return np.ascontiguousarray(array[..., chosen])


def _value(node: Any) -> Array | None:  # noqa: ANN401
    """What a node holds, where it is a constant: reshaped, multiplied, converted to float32."""
    kind, stored = node.get_type_name(), content(node)
    if stored is not None or kind not in {"Reshape", "Convert", "Multiply"}:
        return stored
    inner = _value(node.input_value(0).get_node())
    if inner is None or kind == "Convert":
        return None if inner is None else inner.astype(np.float32)
    if kind == "Multiply":
        other = _value(node.input_value(1).get_node())
        return None if other is None else np.asarray(inner * other)
    return inner.reshape(list(node.output(0).get_shape()))
