"""From a torch module to a clean ONNX graph, and from a file to one.

G1  Export by torch.export (`dynamo=True`), opset 18, float32, dynamic axes named as in the recipe.
G2  Simplified by onnxsim; weights are left out of its sight above SIMPLIFY_LIMIT_BYTES, since a
    protobuf cannot hold 2 GB (onnxsim#262, #355).
G3  Every value has a type and, as far as inference goes, a shape; the checker accepts the graph.
G4  Written as one file, or above EXTERNAL_LIMIT_BYTES with the weights in one file beside it.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.export.opset import brought_up
from jetlift.runtime.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt
    import onnx_ir as ir
    import torch

    from jetlift.runtime.manifest import TensorSpec

OPSET = 18
EXTERNAL_LIMIT_BYTES = 1_900_000_000
SIMPLIFY_LIMIT_BYTES = 1_500_000_000
_SMALL_CONSTANT_BYTES = 4096


def from_torch(
    module: torch.nn.Module, inputs: Sequence[TensorSpec], output_names: Sequence[str]
) -> ir.Model:
    """Export one module (rules G1 to G3).

    Args:
        module: In eval mode; `forward` takes one tensor per input, in order.
        inputs: Their specs; the module is traced at a shape between min and max.
        output_names: Names for what `forward` returns.
    """
    import torch

    arguments = tuple(torch.from_numpy(array) for array in example(inputs))
    with _quiet_torch(), torch.no_grad():
        program = torch.onnx.export(
            module,
            arguments,
            dynamo=True,
            opset_version=OPSET,
            input_names=[spec.name for spec in inputs],
            dynamic_shapes=_dynamic_shapes(module, inputs),
            optimize=True,
            verbose=False,
        )
    if program is None:
        raise UsageError("torch.onnx.export returned nothing", expected="An ONNX program")
    _name_outputs(program.model, output_names)
    return finish(program.model)


def _name_outputs(model: ir.Model, names: Sequence[str]) -> None:
    """Name the outputs, and whatever else bears such a name otherwise.

    torch names an inner value after the function that made it ('embedding'), and its own
    `output_names` would let the two collide.
    """
    if len(names) != len(model.graph.outputs):
        raise UsageError(
            f"The module returns {len(model.graph.outputs)} tensors",
            expected=f"{len(names)}, named {', '.join(names)}",
        )
    inner = [value for node in model.graph for value in node.outputs]
    for value in (*inner, *list(model.graph.initializers.values())):
        if value.name in names:
            value.name = f"{value.name}_inner"
    for value, name in zip(model.graph.outputs, names, strict=True):
        value.name = name


def from_file(path: Path) -> ir.Model:
    """Read a graph of one's own (rules G2 and G3).

    Raises:
        InputError: There is no such file, it is not an ONNX model, or too old to be converted.
    """
    import onnx_ir as ir
    from google.protobuf.message import DecodeError

    if not path.is_file():
        raise InputError(f"There is no file {path}", expected="An ONNX file")
    try:
        model = ir.load(path)
        if len(model.graph) == 0 or not model.graph.outputs:
            raise _not_onnx(path, "it holds no graph")
        return finish(brought_up(model))
    except (DecodeError, ValueError, TypeError, UnicodeDecodeError) as error:
        raise _not_onnx(path, str(error).splitlines()[0] if str(error) else "") from error


def _not_onnx(path: Path, why: str) -> InputError:
    return InputError(
        f"{path} is not an ONNX model" + (f": {why}" if why else ""),
        expected="A file that onnx.checker accepts, opset 13 or newer",
        do="Export it again, for instance with torch.onnx.export(..., dynamo=True)",
    )


def finish(model: ir.Model) -> ir.Model:
    """Simplify, infer shapes and check (rules G2 and G3)."""
    simplified = _simplified(model)
    simplified.graph.name = simplified.graph.name or "jetlift"
    return infer(simplified)


def infer(model: ir.Model) -> ir.Model:
    """Give every value a type and a shape as far as inference goes, then check the graph."""
    from onnx_ir.passes import common

    model = common.ShapeInferencePass(check_type=True, strict_mode=False, data_prop=True)(
        model
    ).model
    return common.CheckerPass(full_check=False)(model).model


def save(model: ir.Model, path: Path) -> tuple[str, ...]:
    """Write the graph (rule G4).

    Returns:
        Names of the data files beside it; empty where everything is in one file.
    """
    import onnx_ir as ir

    if weight_bytes(model) <= EXTERNAL_LIMIT_BYTES:
        ir.external_data.load_to_model(model)
        ir.save(model, path)
        return ()
    data_name = f"{path.name}.data"
    ir.save(model, path, external_data=data_name)
    return (data_name,)


def weight_bytes(model: ir.Model) -> int:
    """Bytes of all initializers."""
    return sum(
        value.const_value.nbytes
        for value in model.graph.initializers.values()
        if value.const_value is not None
    )


def parameter_count(model: ir.Model) -> int:
    """Elements of all float initializers: the trained parameters, as far as a graph can tell."""
    return sum(
        int(np.prod(value.const_value.shape.numpy(), dtype=np.int64))
        for value in model.graph.initializers.values()
        if value.const_value is not None and value.const_value.dtype.is_floating_point()
    )


def output_specs(model: ir.Model) -> tuple[TensorSpec, ...]:
    """Specs of the graph's outputs."""
    from jetlift.runtime.manifest import TensorSpec

    return tuple(
        TensorSpec(name=str(value.name), dtype=dtype_of(value), shape=axes_of(value))  # type: ignore[arg-type]
        for value in model.graph.outputs
    )


def dtype_of(value: ir.Value) -> str:
    """Element type in numpy's word.

    Raises:
        InputError: The value has none.
    """
    if value.dtype is None:
        raise InputError(f"Tensor {value.name} has no element type", expected="A typed graph")
    return str(value.dtype.numpy())


def axes_of(value: ir.Value) -> tuple[int | str, ...]:
    """A number per fixed axis, a name per dynamic one.

    Raises:
        InputError: The rank is unknown.
    """
    if value.shape is None:
        raise InputError(f"Tensor {value.name} has no shape", expected="A known rank")
    return tuple(
        axis if isinstance(axis, int) else str(getattr(axis, "value", None) or f"axis_{i}")
        for i, axis in enumerate(value.shape)
    )


def example(inputs: Sequence[TensorSpec]) -> list[npt.NDArray[Any]]:
    """Seeded arrays of a shape that is inside every profile and special on no dynamic axis."""
    random = np.random.default_rng(0)
    arrays: list[npt.NDArray[Any]] = []
    for spec in inputs:
        shape = [
            max(2, spec.opt_shape[i] if spec.opt_shape else 2) if isinstance(axis, str) else axis
            for i, axis in enumerate(spec.shape)
        ]
        if spec.dtype == "float32":
            arrays.append(random.standard_normal(shape).astype(np.float32))
        else:
            # Ones are valid token ids and a valid mask for every model.
            arrays.append(np.ones(shape, spec.dtype))
    return arrays


def _dynamic_shapes(module: torch.nn.Module, inputs: Sequence[TensorSpec]) -> tuple[Any, ...]:
    """Dynamic axes per argument of `forward`; those that land in its `*args` as one tuple."""
    import torch

    axes: dict[str, Any] = {}
    shapes = tuple(
        {
            i: axes.setdefault(axis, torch.export.Dim(axis, min=1, max=65536))
            for i, axis in enumerate(spec.shape)
            if isinstance(axis, str)
        }
        for spec in inputs
    )
    kinds = [item.kind for item in inspect.signature(module.forward).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL not in kinds:
        return shapes
    named = kinds.index(inspect.Parameter.VAR_POSITIONAL)
    return (*shapes[:named], shapes[named:])


def _simplified(model: ir.Model) -> ir.Model:
    import onnx_ir as ir
    import onnxsim

    held: dict[str, ir.TensorProtocol] = {}
    if weight_bytes(model) <= SIMPLIFY_LIMIT_BYTES:
        ir.external_data.load_to_model(model)
    else:
        held = _detach_weights(model)
    proto, _ = onnxsim.simplify(ir.to_proto(model))
    simplified: ir.Model = ir.from_proto(proto)
    _attach_weights(simplified, held)
    return simplified


def _detach_weights(model: ir.Model) -> dict[str, ir.TensorProtocol]:
    """Turn large initializers into graph inputs, so that the rest fits in one protobuf."""
    import onnx_ir as ir

    held: dict[str, Any] = {}
    for name, value in list(model.graph.initializers.items()):
        if value.const_value is None:
            continue
        if value.const_value.nbytes <= _SMALL_CONSTANT_BYTES:
            # Shapes and axes, which the simplifier must see.
            value.const_value = ir.tensor(value.const_value.numpy(), name=name)
            continue
        held[name] = value.const_value
        del model.graph.initializers[name]
        value.const_value = None
        if value not in model.graph.inputs:
            model.graph.inputs.append(value)
    return held


def _attach_weights(model: ir.Model, held: dict[str, ir.TensorProtocol]) -> None:
    for value in list(model.graph.inputs):
        if value.name in held:
            model.graph.inputs.remove(value)
            if value.uses():
                value.const_value = held[value.name]
                model.graph.register_initializer(value)


@contextlib.contextmanager
def _quiet_torch() -> Iterator[None]:
    """torch.onnx logs that torchvision is absent and warns of its own deprecations."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
