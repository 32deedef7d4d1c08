"""Small graphs built for real with TensorRT-RTX, which needs no GPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from jetlift.engines import ops
from jetlift.engines.trt.build import MODULE, build_engine
from jetlift.runtime.manifest import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jetlift.engines.receipt import Built

X = TensorSpec("x", "float32", ("batch", 16), (1, 16), (1, 16), (4, 16))


def need_builder() -> None:
    """Skip where the builder is not installed."""
    reason = "TensorRT-RTX is not installed (pip install 'jetlift[rtx]')"
    pytest.importorskip("tensorrt_rtx", reason=reason)
    pytest.importorskip("polygraphy", reason=reason)


def compile_graph(
    model: onnx.ModelProto,
    folder: Path,
    inputs: Sequence[TensorSpec] = (X,),
    *,
    costed: bool = False,
    **more: Any,
) -> tuple[Built, Path]:
    """Build a graph for SM 8.6 in a folder; its engine, and what is known of it."""
    onnx.save(model, folder / "graph.onnx")
    engine = folder / "graph.engine"
    shapes = {spec.name: spec.opt_shape for spec in inputs if spec.opt_shape}
    cost = ops.count(model, shapes) if costed else None
    given = {"inputs": inputs, "compute_capability": "8.6", **more}
    return build_engine(folder / "graph.onnx", engine, cost, **given), engine


def graph_of(nodes: Sequence[Any], **constants: Any) -> onnx.ModelProto:
    """A graph from x [batch, 16] to y."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 16])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    stored = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    graph = helper.make_graph(nodes, "g", [x], [y], stored)
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def children(process: int | str = "self") -> list[int]:
    """Processes of a process, this one if not given, that build an engine."""
    found = []
    for task in Path(f"/proc/{process}/task").iterdir():
        for pid in (task / "children").read_text().split():
            command = Path(f"/proc/{pid}/cmdline")
            if command.exists() and MODULE.encode() in command.read_bytes():
                found.append(int(pid))
    return found
