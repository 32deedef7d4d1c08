"""Brings explicit INT8 graphs into the form in which OpenVINO fuses what lies between products.

PyTorch's exporter flattens rows for a Gemm and unflattens them behind it, and quantising may have
moved a scale per channel into GELU's factor of a half. OpenVINO then neither knows the GELU nor
joins scale, shift and quantisation to the product before: each is a pass over the whole tensor.

Rules:
    F1  A reshape that flattens [a, b, c] to [a * b, c] is left out where all that reads it works
        row by row (products with a constant, scales, shifts, quantisation, GELU) up to the reshapes
        that bring [a, b, ...] back; those are left out too. A graph with anything else in between
        stays as it is.
    F2  x * (c * (1 + erf(x / sqrt 2))) with a constant c other than a half becomes GELU(x) * 2c.
    F3  It is the same arithmetic in another order of kernels; the file is not touched.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from jetlift.runtime.session.openvino_nodes import content, inputs, only_reader, readers

_ROW_BY_ROW = {
    "Add", "Subtract", "Multiply", "Divide", "Erf", "Gelu", "FakeQuantize", "Convert", "MatMul",
}  # fmt: skip
_CLOSE = 1e-6


def fusible(model: Any) -> Any:  # noqa: ANN401 - the library ships no types
    """The model, changed in place (rules F1 to F3)."""
    constants = _constants(model)
    for node in model.get_ordered_ops():
        if node.get_type_name() == "Reshape" and _flattens(node):
            _unflatten(node, constants)
    model.validate_nodes_and_infer_types()
    for node in model.get_ordered_ops():
        if node.get_type_name() == "Erf":
            _rewrite_gelu(node)
    return model


def _unflatten(flattening: Any, constants: set[str]) -> None:  # noqa: ANN401
    """Rule F1."""
    given = flattening.input_value(0)
    behind = _unflattening(flattening, given.get_partial_shape(), constants)
    if not behind:
        return
    flattening.output(0).replace(given)
    for reshape in behind:
        reshape.output(0).replace(reshape.input_value(0))


def _unflattening(
    flattening: Any,  # noqa: ANN401
    given: Any,  # noqa: ANN401
    constants: set[str],
) -> list[Any] | None:
    """The reshapes that bring the rows back; None where something else reads them."""
    found, waiting, seen = [], [flattening], set()
    while waiting:
        node = waiting.pop()
        if not readers(node):
            return None
        for reader in readers(node):
            name = reader.get_name()
            if name in seen:
                continue
            seen.add(name)
            if reader.get_type_name() == "Reshape" and _brings_back(reader, given):
                found.append(reader)
            elif _works_by_row(reader, constants):
                waiting.append(reader)
            else:
                return None
    return found


def _flattens(reshape: Any) -> bool:  # noqa: ANN401
    given, made = reshape.input_value(0).get_partial_shape(), reshape.output(0).get_partial_shape()
    if given.rank.is_dynamic or made.rank.is_dynamic or (len(given), len(made)) != (3, 2):
        return False
    return bool(given[2].is_static and made[1].is_static and given[2] == made[1])


def _brings_back(reshape: Any, given: Any) -> bool:  # noqa: ANN401
    """Whether it makes [rows, d] to [a, b, d], with a and b as they were."""
    rows, made = reshape.input_value(0).get_partial_shape(), reshape.output(0).get_partial_shape()
    if made.rank.is_dynamic or len(made) != 3 or len(rows) != 2:
        return False
    # With b and d known, a is what is left; so it is the same as before.
    return bool(
        given[1].is_static and made[1] == given[1] and made[2].is_static and made[2] == rows[1]
    )


def _works_by_row(node: Any, constants: set[str]) -> bool:  # noqa: ANN401
    """Whether it treats each row alike, whatever axes lie before it."""
    kind = node.get_type_name()
    if kind not in _ROW_BY_ROW:
        return False
    fixed = [port.get_node().get_name() in constants for port in inputs(node)]
    if kind == "MatMul":
        return fixed == [False, True] and not node.get_attributes()["transpose_a"]
    flat = all(
        _is_row(port) for port, is_fixed in zip(inputs(node), fixed, strict=True) if is_fixed
    )
    return flat and (fixed.count(False) == 1 or kind == "Multiply")  # GELU multiplies two


def _is_row(port: Any) -> bool:  # noqa: ANN401
    """Whether a constant has a number, or one per column."""
    shape = list(port.get_shape())
    return len(shape) <= 2 and all(side == 1 for side in shape[:-1])


def _constants(model: Any) -> set[str]:  # noqa: ANN401
    """Names of all nodes that depend on no input."""
    names: set[str] = set()
    for node in model.get_ordered_ops():
        given = [port.get_node().get_name() in names for port in inputs(node)]
        if node.get_type_name() == "Constant" or (given and all(given)):
            names.add(node.get_name())
    return names


def _rewrite_gelu(erf: Any) -> None:  # noqa: ANN401
    """Rule F2."""
    from openvino import opset13

    divided, added = erf.input_value(0).get_node(), only_reader(erf)
    halved = only_reader(added) if added is not None and _adds_one(added, erf) else None
    factor = _other_constant(halved, added, "Multiply") if halved is not None else None
    product = only_reader(halved) if halved is not None else None
    if product is None or factor is None or not _divides_by_root(divided):
        return
    x = divided.input_value(0)
    is_product = product.get_type_name() == "Multiply" and any(
        _same(port, x) for port in inputs(product)
    )
    if not is_product or np.allclose(factor, 0.5, rtol=0, atol=_CLOSE):
        return
    gelu = opset13.gelu(x, "ERF")
    made = opset13.multiply(gelu, opset13.constant((2 * factor).astype(np.float32)))
    made.set_friendly_name(product.get_friendly_name())
    product.output(0).replace(made.output(0))


def _adds_one(node: Any, erf: Any) -> bool:  # noqa: ANN401
    value = _other_constant(node, erf, "Add")
    return value is not None and value.size == 1 and abs(float(value.reshape(-1)[0]) - 1) < _CLOSE


def _divides_by_root(node: Any) -> bool:  # noqa: ANN401
    if node.get_type_name() not in {"Divide", "Multiply"} or node.get_input_size() != 2:
        return False
    value = content(node.input_value(1).get_node())
    wanted = math.sqrt(2) if node.get_type_name() == "Divide" else 1 / math.sqrt(2)
    return value is not None and bool(np.allclose(value, wanted, rtol=0, atol=_CLOSE))


def _other_constant(node: Any, one: Any, kind: str) -> Any:  # noqa: ANN401
    """The constant that an operation joins with another node; None where it does not."""
    if node.get_type_name() != kind:
        return None
    others = [
        port.get_node() for port in inputs(node) if port.get_node().get_name() != one.get_name()
    ]
    return content(others[0]) if len(others) == 1 else None


def _same(first: Any, second: Any) -> bool:  # noqa: ANN401
    names = [port.get_node().get_name() for port in (first, second)]
    return bool(names[0] == names[1] and first.get_index() == second.get_index())
