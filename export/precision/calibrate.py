"""Ranges of activations on real samples, seen by the reference engine.

The graph is run with the tensors of interest added to its outputs, one sample at a time, so memory
stays at one sample's activations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.runtime.errors import InputError, MissingPackageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy.typing as npt
    import onnx_ir as ir

    Feeds = Mapping[str, npt.NDArray[Any]]


def channel_maxima(
    model: ir.Model,
    names: Sequence[str],
    samples: Sequence[Feeds],
    *,
    progress: Callable[[float], None] | None = None,
) -> dict[str, npt.NDArray[np.float32]]:
    """Largest magnitude of each channel (last axis) of each named float tensor over the samples.

    Args:
        model: A float32 graph.
        names: Values of the graph, each with a last axis of fixed size.
        samples: Graph inputs per sample.
        progress: Called with the share done, 0 to 1.

    Raises:
        InputError: No samples, or a tensor holds NaN or infinity on one.
    """
    maxima: dict[str, npt.NDArray[np.float32]] = {}
    for name, array in _observed(model, names, samples, progress):
        largest = np.max(np.abs(array.reshape(-1, array.shape[-1])), axis=0, initial=0.0)
        maxima[name] = np.maximum(maxima[name], largest) if name in maxima else largest
    return maxima


def absolute_maxima(
    model: ir.Model,
    names: Sequence[str],
    samples: Sequence[Feeds],
    *,
    progress: Callable[[float], None] | None = None,
) -> dict[str, float]:
    """Largest magnitude of each named float tensor over the samples.

    Args:
        model: A float32 graph.
        names: Values of the graph.
        samples: Graph inputs per sample.
        progress: Called with the share done, 0 to 1.

    Raises:
        InputError: No samples, or a tensor holds NaN or infinity on one.
    """
    maxima = dict.fromkeys(names, 0.0)
    for name, array in _observed(model, names, samples, progress):
        maxima[name] = max(maxima[name], float(np.max(np.abs(array), initial=0.0)))
    return maxima


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
    session = _session(_with_outputs(model, wanted))
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


def _session(model: ir.Model) -> Any:  # noqa: ANN401 - onnxruntime ships no types
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
