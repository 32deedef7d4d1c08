"""Keeps OpenVINO from misreading INT8: quantised activations are counted from 0 to 255.

OpenVINO's low precision transformations move the quantisation of a joined tensor to before the
join. Where it is int8 with zero point 0, as explicit INT8 graphs for TensorRT are, what they move
loses its scale: values come out rounded to whole numbers, and nothing is said (seen with 2025.4.0,
2026.0.0 and 2026.4.1 on a Concat before a quantised convolution). The same steps as uint8 with zero
point 128 are right, and no slower: convolutions are turned into that form anyway.

Rules:
    J1  Every quantisation of an activation to int8 is rewritten to uint8 with a zero point higher
        by 128, in memory; the file is not touched. The values stay the same.
    J2  One whose int8 steps anything but a conversion to float reads stays as it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jetlift.runtime.session.openvino_nodes import content, readers

_OFFSET = 128
_LEVELS = 256


def count_from_zero(model: Any) -> Any:  # noqa: ANN401 - the library ships no types
    """The model, changed in place (rules J1 and J2)."""
    for node in model.get_ordered_ops():
        if _quantises_to_int8(node):
            _rewrite(node)
    return model


def _quantises_to_int8(node: Any) -> bool:  # noqa: ANN401
    """Whether a node's steps become int8, and these nothing but floats again."""
    if node.get_type_name() != "FakeQuantize" or node.get_attributes()["levels"] != _LEVELS:
        return False
    low, high = (_constant(node.input_value(index).get_node()) for index in (3, 4))
    if low is None or high is None or (low != -_OFFSET).any() or (high != _OFFSET - 1).any():
        return False
    narrow = readers(node)
    widened = [reader for item in narrow for reader in readers(item)]
    return all(_converts_to(item, "i8") for item in narrow) and all(
        _converts_to(item, "f32") for item in widened
    )


def _rewrite(quantise: Any) -> None:  # noqa: ANN401
    from openvino import opset13

    edges = (np.float32(edge) for edge in (0, _LEVELS - 1))
    given = (quantise.input_value(index) for index in range(3))
    counted = opset13.fake_quantize(*given, *edges, _LEVELS)
    for narrow in readers(quantise):
        unsigned = opset13.convert(counted, "u8")
        for widen in readers(narrow):
            _take_off(widen, opset13.convert(unsigned, "f32"))


def _take_off(widen: Any, wide: Any) -> None:  # noqa: ANN401
    """Put new floats, which are higher by 128, in the old ones' place.

    A zero point that is taken off already grows: OpenVINO knows one Subtract there, not two.
    """
    from openvino import opset13

    for target in list(widen.output(0).get_target_inputs()):
        reader = target.get_node()
        zero = _constant(reader.input_value(1).get_node()) if _subtracts(reader, widen) else None
        old = reader.output(0) if zero is not None else widen.output(0)
        taken = np.float32(_OFFSET) if zero is None else zero + np.float32(_OFFSET)
        new = opset13.subtract(wide, opset13.constant(taken))
        new.set_friendly_name(old.get_node().get_friendly_name())
        if zero is not None:
            old.replace(new.output(0))
        else:
            target.replace_source_output(new.output(0))


def _subtracts(node: Any, widen: Any) -> bool:  # noqa: ANN401
    """Whether it takes something off what was widened, and not the other way round."""
    return bool(
        node.get_type_name() == "Subtract"
        and node.input_value(0).get_node().get_friendly_name() == widen.get_friendly_name()
    )


def _converts_to(node: Any, kind: str) -> bool:  # noqa: ANN401
    return bool(
        node.get_type_name() == "Convert" and node.get_attributes()["destination_type"] == kind
    )


def _constant(node: Any) -> Any:  # noqa: ANN401
    """A constant's content as float32, through a Convert; None for anything else."""
    if node.get_type_name() == "Convert":
        node = node.input_value(0).get_node()
    stored = content(node)
    return None if stored is None else stored.astype(np.float32, copy=False)
