"""Small questions to the nodes of an OpenVINO model, for what rewrites one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


def inputs(node: Any) -> list[Any]:  # noqa: ANN401 - the library ships no types
    """What a node is fed, in order, as outputs of other nodes."""
    return [node.input_value(number) for number in range(node.get_input_size())]


def readers(node: Any) -> list[Any]:  # noqa: ANN401
    """The nodes that read a node's first output."""
    return [target.get_node() for target in node.output(0).get_target_inputs()]


def only_reader(node: Any) -> Any:  # noqa: ANN401
    """The one node that reads it; None where there are none or several."""
    found = readers(node)
    return found[0] if len(found) == 1 else None


def content(node: Any) -> npt.NDArray[Any] | None:  # noqa: ANN401
    """A constant's array; None of any other node."""
    return np.asarray(node.data) if node.get_type_name() == "Constant" else None
