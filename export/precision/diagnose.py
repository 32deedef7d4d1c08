"""Which tensors lose most in a variant: the first place to look when it misses its budget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.export.precision.calibrate import reference_session, with_outputs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt
    import onnx_ir as ir

    Feeds = Mapping[str, npt.NDArray[Any]]

_TOLD = 3
_LOOKED_AT = {"MatMul", "Gemm", "Conv", "LayerNormalization", "Softmax", "Add", "Mul", "Pow"}


def worst_tensors(fp32: ir.Model, variant: ir.Model, samples: Sequence[Feeds]) -> list[str]:
    """The tensors with the largest error relative to fp32's, in words, worst first.

    A tensor is compared where both graphs have it under the same name. Its error is the root mean
    square of the difference over that of fp32's tensor; the infinite come first.

    Args:
        fp32: The float graph.
        variant: The variant, as a graph that the reference engine computes in FP32.
        samples: A few samples.
    """
    theirs = {
        str(value.name)
        for node in variant.graph
        for value in node.outputs
        if value.dtype is not None and value.dtype.name == "FLOAT"
    }
    names = [
        name
        for node in fp32.graph
        if node.op_type in _LOOKED_AT
        for value in node.outputs[:1]
        if (name := str(value.name)) in theirs
    ]
    lost = dict.fromkeys(names, 0.0)
    first = reference_session(with_outputs(fp32, names))
    second = reference_session(with_outputs(variant, names))
    for feeds in samples:
        wanted, got = first.run(names, dict(feeds)), second.run(names, dict(feeds))
        for name, a, b in zip(names, wanted, got, strict=True):
            lost[name] = max(lost[name], _relative_error(a, b))
    ranked = sorted(lost, key=lambda name: -lost[name])[:_TOLD]
    return [f"{name} ({lost[name]:.1%} off)" for name in ranked if lost[name] > 0]


def _relative_error(wanted: npt.NDArray[Any], got: npt.NDArray[Any]) -> float:
    if wanted.shape != got.shape or not np.isfinite(got).all():
        return float("inf")
    a, b = wanted.astype(np.float64), got.astype(np.float64)
    scale = float(np.sqrt(np.square(a).mean())) if a.size else 0.0
    error = float(np.sqrt(np.square(a - b).mean())) if a.size else 0.0
    return error / scale if scale > 0 else error
