"""Ranges of activations on real samples, seen by the reference engine.

The graph is run with the tensors of interest added to its outputs, one sample at a time, so memory
stays at one sample's activations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.runtime.errors import InputError, MissingPackageError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    import numpy.typing as npt
    import onnx_ir as ir

    Feeds = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Ranges:
    """What the samples showed.

    Attributes:
        tensors: Largest magnitude per tensor.
        channels: Largest magnitude per channel of the last axis, for the tensors asked for.
    """

    tensors: dict[str, float]
    channels: dict[str, npt.NDArray[np.float32]]


def observe(
    model: ir.Model,
    names: Sequence[str],
    samples: Sequence[Feeds],
    *,
    by_channel: Collection[str] = (),
    progress: Callable[[float], None] | None = None,
) -> Ranges:
    """Run the samples once and note the ranges of named float tensors.

    Args:
        model: A float32 graph.
        names: Values of the graph.
        samples: Graph inputs per sample.
        by_channel: Those of `names` whose channels are wanted too; their last axis is fixed.
        progress: Called with the share done, 0 to 1.

    Raises:
        InputError: No samples, or a tensor holds NaN or infinity on one.
    """
    tensors: dict[str, float] = {}
    channels: dict[str, npt.NDArray[np.float32]] = {}
    for name, array in _observed(model, names, samples, progress):
        magnitudes = np.abs(array)
        tensors[name] = max(tensors.get(name, 0.0), float(np.max(magnitudes, initial=0.0)))
        if name in by_channel:
            largest = np.max(magnitudes.reshape(-1, array.shape[-1]), axis=0, initial=0.0)
            channels[name] = np.maximum(channels.get(name, largest), largest)
    return Ranges(tensors, channels)


def _observed(
    model: ir.Model,
    names: Sequence[str],
    samples: Sequence[Feeds],
    progress: Callable[[float], None] | None,
) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """Each named tensor on each sample, checked to be finite."""
    if not samples:
        raise InputError("There are no calibration samples", expected="At least one real sample")
    wanted = list(dict.fromkeys(names))
    session = reference_session(_with_outputs(model, wanted))
    for index, feeds in enumerate(samples):
        for name, array in zip(wanted, session.run(wanted, dict(feeds)), strict=True):
            if not np.isfinite(array).all():
                raise InputError(
                    f"Tensor {name} holds NaN or infinity on calibration sample {index + 1}",
                    expected="Finite activations on every sample",
                    do="Look at that sample and at the weights",
                )
            yield name, array
        if progress is not None:
            progress((index + 1) / len(samples))


def _with_outputs(model: ir.Model, names: Sequence[str]) -> ir.Model:
    copy = model.clone(deep_copy=False)
    values = {value.name: value for node in copy.graph for value in node.outputs}
    values |= {value.name: value for value in copy.graph.inputs}
    present = {value.name for value in copy.graph.outputs}
    copy.graph.outputs.extend(values[name] for name in names if name not in present)
    return copy


def reference_session(model: ir.Model) -> Any:  # noqa: ANN401 - onnxruntime ships no types
    """An ONNX Runtime session of a graph in memory."""
    import onnx_ir as ir

    try:
        import onnxruntime
    except ImportError as error:
        raise MissingPackageError(
            "onnxruntime", extra="export", purpose="to calibrate on real samples"
        ) from error
    # Through a file, since a graph with its weights may be over a protobuf's 2 GB.
    import tempfile
    from pathlib import Path

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # warnings here are about the extra outputs
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory(prefix="jetlift-calibrate-") as folder:
        path = Path(folder) / "calibrate.onnx"
        ir.save(model, path, external_data="calibrate.onnx.data")
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
