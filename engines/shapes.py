"""What shape and element type every tensor of an ONNX graph has once the inputs' shapes are known.

Rules:
    H1  Large weights never enter: only their shapes matter, so graphs over 2 GB cost no memory and
        external data is not read.
    H2  What the exporter wrote of symbolic shapes is dropped; everything is inferred anew.
    H3  Where ONNX's own inference stops (it follows no Range, Where or Slice of a shape), small
        tensors that depend on shapes alone are computed, and inference goes on from there.
    H4  What depends on no input's content is a constant: an engine folds it when it is built.
    H5  A norm's first result has the shape of its first input: ONNX's inference (1.23) does not say
        so of GroupNormalization.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.runtime.errors import MissingPackageError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt
    import onnx

    Array = npt.NDArray[Any]
    Shapes = Mapping[str, tuple[int, ...]]

_SMALL_ELEMENTS = 4096
_ROUNDS = 32
_NORMS = frozenset({
    "GroupNormalization", "InstanceNormalization", "LayerNormalization", "RMSNormalization",
})  # fmt: skip


@dataclass(frozen=True)
class Tensor:
    """A tensor of a bound graph; `shape` is None where it could not be found out."""

    kind: int
    shape: tuple[int, ...] | None

    @property
    def elements(self) -> int:
        """Number of elements; 0 where the shape is unknown."""
        return int(np.prod(self.shape, dtype=np.int64)) if self.shape is not None else 0

    @property
    def size_bytes(self) -> float:
        """Bytes as stored; 4-bit types take half a byte."""
        return self.elements * bytes_per_element(self.kind)


@dataclass(frozen=True)
class BoundGraph:
    """A graph whose inputs have fixed shapes.

    Attributes:
        nodes: Its nodes in topological order, local functions inlined.
        tensors: Every tensor by name.
        constants: Names of tensors that depend on no input's content (rule H4).
        weight_bytes: Bytes of all constants as stored in the file.
        outputs: Names of the graph's outputs.
    """

    nodes: tuple[onnx.NodeProto, ...]
    tensors: dict[str, Tensor]
    constants: frozenset[str]
    weight_bytes: float
    outputs: tuple[str, ...]


def bind(model: onnx.ModelProto, shapes: Shapes) -> BoundGraph:
    """Fix the inputs' shapes and find out all others (rules H1 to H4). `model` is not changed.

    Args:
        model: An ONNX model; its external data need not be loaded.
        shapes: Shape per graph input; those without dynamic axes may be left out.

    Raises:
        MissingPackageError: onnx is not installed.
        UsageError: A shape is missing, for no input, or does not fit the graph.
    """
    weights = {
        item.name: Tensor(item.data_type, tuple(item.dims)) for item in model.graph.initializer
    }
    lean = _without_weights(model)
    _bind_inputs(lean, shapes, weights)
    nodes = tuple(lean.graph.node)
    weight_bytes = sum(tensor.size_bytes for tensor in weights.values())
    weight_bytes += sum(tensor.size_bytes for tensor in _constant_tensors(nodes))
    tensors = {**_infer(lean), **weights}
    outputs = tuple(item.name for item in lean.graph.output)
    return BoundGraph(nodes, tensors, _constants(nodes, weights), weight_bytes, outputs)


def bytes_per_element(kind: int) -> float:
    """Bytes that one element of an ONNX element type takes in a file."""
    onnx = onnx_library()
    name = onnx.TensorProto.DataType.Name(kind)
    if name in ("INT4", "UINT4", "FLOAT4E2M1"):
        return 0.5
    return float(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind)).itemsize)


def onnx_library() -> Any:  # noqa: ANN401 - a module
    """The package `onnx` with what this stage uses of it.

    Raises:
        MissingPackageError: It is not installed.
    """
    try:
        import onnx
        import onnx.helper
        import onnx.numpy_helper
        import onnx.shape_inference
    except ModuleNotFoundError as error:
        if error.name != "onnx":
            raise
        raise MissingPackageError("onnx", extra="export", purpose="to read graphs") from error
    return onnx


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which each large initializer is an input of the same type and shape (rule H1)."""
    library = onnx_library()
    lean: onnx.ModelProto = library.ModelProto(ir_version=max(model.ir_version, 4))
    lean.opset_import.extend(model.opset_import)
    lean.functions.extend(model.functions)
    graph = lean.graph
    graph.name = model.graph.name or "graph"
    graph.node.extend(model.graph.node)
    graph.output.extend(model.graph.output)
    names = {item.name for item in model.graph.initializer}
    # Old graphs list their initializers among the inputs too.
    graph.input.extend(item for item in model.graph.input if item.name not in names)
    for item in model.graph.initializer:
        inside = item.data_location != library.TensorProto.EXTERNAL
        if inside and np.prod(item.dims, dtype=np.int64) <= _SMALL_ELEMENTS:
            graph.initializer.append(item)
        else:
            info = library.helper.make_tensor_value_info(item.name, item.data_type, list(item.dims))
            graph.input.append(info)
    return _inlined(lean) if lean.functions else lean


def _inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    from onnx.inliner import inline_local_functions

    return inline_local_functions(model)


def _bind_inputs(model: onnx.ModelProto, shapes: Shapes, weights: Mapping[str, Tensor]) -> None:
    inputs = [item for item in model.graph.input if item.name not in weights]
    if unknown := set(shapes) - {item.name for item in inputs}:
        raise UsageError(
            f"Got a shape for {min(unknown)}, which is no input of the graph",
            expected=f"Shapes for {', '.join(item.name for item in inputs)}",
        )
    for item in inputs:
        axes = item.type.tensor_type.shape.dim
        fixed = [axis.dim_value if axis.HasField("dim_value") else None for axis in axes]
        wanted = shapes.get(item.name, tuple(fixed) if None not in fixed else None)
        if wanted is None:
            told = [axis.dim_value or axis.dim_param or "?" for axis in axes]
            raise UsageError(
                f"Input {item.name} {told} has dynamic axes", expected="A shape for it"
            )
        fits = len(wanted) == len(fixed) and all(
            a in (None, b) for a, b in zip(fixed, wanted, strict=True)
        )
        if not fits:
            raise UsageError(
                f"Shape {list(wanted)} was given for input {item.name}",
                expected=f"One that fits {[a if a is not None else '?' for a in fixed]}",
            )
        for axis, size in zip(axes, wanted, strict=True):
            axis.Clear()
            axis.dim_value = size
    for item in model.graph.output:  # H2
        item.type.tensor_type.ClearField("shape")


def _infer(model: onnx.ModelProto) -> dict[str, Tensor]:
    """Infer, and where that leaves gaps compute what depends on shapes alone (rule H3)."""
    library = onnx_library()
    values = {item.name: library.numpy_helper.to_array(item) for item in model.graph.initializer}
    for _ in range(_ROUNDS):
        told = library.shape_inference.infer_shapes(model, data_prop=True)
        tensors = _tensors(told.graph)
        if all(tensor.shape is not None for tensor in tensors.values()):
            return tensors
        if not (_compute_small(model, tensors, values) or _shape_norms(model, tensors)):
            break
    _refuse_contradictions(model)
    return tensors


def _refuse_contradictions(model: onnx.ModelProto) -> None:
    """Tell shapes that contradict each other from shapes that nobody can know.

    Raises:
        UsageError: An operator cannot take the shapes that reach it.
    """
    library = onnx_library()
    try:
        library.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    except library.shape_inference.InferenceError as error:
        told = " ".join(str(error).replace("[ShapeInferenceError]", "").split())
        raise UsageError(f"These input shapes do not fit the graph: {told[:400]}") from error


def _tensors(graph: onnx.GraphProto) -> dict[str, Tensor]:
    outputs = [name for node in graph.node for name in node.output if name]
    found = dict.fromkeys(outputs, Tensor(0, None))
    for info in (*graph.input, *graph.value_info, *graph.output):
        kind = info.type.tensor_type
        known = kind.HasField("shape") and all(a.HasField("dim_value") for a in kind.shape.dim)
        axes = tuple(axis.dim_value for axis in kind.shape.dim)
        found[info.name] = Tensor(kind.elem_type, axes if known else None)
    for item in graph.initializer:
        found[item.name] = Tensor(item.data_type, tuple(item.dims))
    return found


def _shape_norms(model: onnx.ModelProto, tensors: Mapping[str, Tensor]) -> bool:
    """Write down the shapes of norms that inference left open (rule H5)."""
    found = []
    for node in model.graph.node:
        if node.op_type not in _NORMS or node.domain not in ("", "ai.onnx"):
            continue
        source = tensors[node.input[0]]
        if tensors[node.output[0]].shape is None and source.shape is not None:
            found.append((node.output[0], source))
    stale = {name for name, _ in found}
    told = [item for item in model.graph.value_info if item.name not in stale]
    del model.graph.value_info[:]
    model.graph.value_info.extend(told)
    outputs = {item.name: item for item in model.graph.output}
    for name, source in found:
        info = onnx_library().helper.make_tensor_value_info(name, source.kind, source.shape)
        if name in outputs:
            outputs[name].CopyFrom(info)
        else:
            model.graph.value_info.append(info)
    return bool(found)


def _compute_small(
    model: onnx.ModelProto, tensors: Mapping[str, Tensor], values: dict[str, Array]
) -> bool:
    """Replace nodes whose results follow from shapes alone by those results."""
    kept, computed = [], False
    for node in model.graph.node:
        results = _results(node, model, tensors, values)
        if results is None:
            kept.append(node)
            continue
        computed = True
        for name, array in zip(node.output, results, strict=True):
            values[name] = array
            model.graph.initializer.append(onnx_library().numpy_helper.from_array(array, name))
    del model.graph.node[:]
    model.graph.node.extend(kept)
    return computed


def _results(
    node: onnx.NodeProto,
    model: onnx.ModelProto,
    tensors: Mapping[str, Tensor],
    values: Mapping[str, Array],
) -> Sequence[Array] | None:
    """A node's results where they are small and follow from what is known, else None."""
    outputs = [tensors[name] for name in node.output if name]
    if node.op_type == "Shape" and (shape := tensors[node.input[0]].shape) is not None:
        limits = {item.name: item.i for item in node.attribute}
        return [np.array(shape[limits.get("start", 0) : limits.get("end", len(shape))], np.int64)]
    if node.domain not in ("", "ai.onnx") or not all(name in values for name in node.input if name):
        return None
    big = any(tensor.elements > _SMALL_ELEMENTS for tensor in outputs)
    if big or not node.input or _has_graph(node) or "" in node.output:
        return None
    return _evaluated(node, model, values)


def _evaluated(
    node: onnx.NodeProto, model: onnx.ModelProto, values: Mapping[str, Array]
) -> Sequence[Array] | None:
    from onnx.reference import ReferenceEvaluator

    opsets = {item.domain: item.version for item in model.opset_import}
    try:
        run = ReferenceEvaluator(node, opsets=opsets).run
        results = run(None, {name: values[name] for name in node.input if name})
    except (NotImplementedError, RuntimeError, ValueError, TypeError, IndexError):
        return None  # the node stays, and what hangs on it is reported as of unknown shape
    arrays = [np.asarray(item) for item in results]
    return arrays if all(item.size <= _SMALL_ELEMENTS for item in arrays) else None


def _constants(nodes: Iterable[onnx.NodeProto], weights: Iterable[str]) -> frozenset[str]:
    found = set(weights)
    for node in nodes:
        given = [name for name in node.input if name]
        folded = bool(given) and all(name in found for name in given) and not _has_graph(node)
        if node.op_type in ("Constant", "Shape", "Size") or folded:
            found.update(name for name in node.output if name)
    return frozenset(found)


def _constant_tensors(nodes: Iterable[onnx.NodeProto]) -> Iterable[Tensor]:
    for node in nodes:
        for item in node.attribute if node.op_type == "Constant" else ():
            if item.HasField("t"):
                yield Tensor(item.t.data_type, tuple(item.t.dims))


def _has_graph(node: onnx.NodeProto) -> bool:
    return any(item.HasField("g") or item.graphs for item in node.attribute)
