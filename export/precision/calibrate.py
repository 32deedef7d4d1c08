"""What activations do on real samples, seen by the reference engine.

The graph is run with the tensors of interest added to its outputs, one sample at a time, so memory
stays at one sample's activations and a bounded number of rows per tensor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.runtime.errors import InputError, MissingPackageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy.typing as npt
    import onnx_ir as ir

    Feeds = Mapping[str, npt.NDArray[Any]]
    Floats = npt.NDArray[np.float32]

# Rows (tokens, pixels) kept per tensor to judge scales and to correct biases by.
ROWS = 1536


@dataclass(frozen=True)
class Activation:
    """What the samples showed of one tensor.

    Attributes:
        lows: Smallest value per sample and channel, float32 [samples, channels].
        highs: Largest value per sample and channel.
        rows: Some of its vectors along the channel axis, evenly from every sample,
            float32 [rows, channels].
    """

    lows: Floats
    highs: Floats
    rows: Floats

    @property
    def low(self) -> Floats:
        """Smallest value per channel."""
        return np.asarray(self.lows.min(axis=0))

    @property
    def high(self) -> Floats:
        """Largest value per channel."""
        return np.asarray(self.highs.max(axis=0))

    @property
    def largest(self) -> Floats:
        """Largest magnitude per channel."""
        return np.maximum(np.abs(self.low), np.abs(self.high))


def observe(
    model: ir.Model,
    axes: Mapping[str, int],
    samples: Sequence[Feeds],
    *,
    progress: Callable[[float], None] | None = None,
) -> dict[str, Activation]:
    """Run the samples once and note what named float tensors do.

    Args:
        model: A float32 graph.
        axes: Channel axis per tensor, by its name in the graph; the axis has a fixed size.
        samples: Graph inputs per sample.
        progress: Called with the share done, 0 to 1.

    Raises:
        InputError: No samples, or a tensor holds NaN or infinity on one.
    """
    lows: dict[str, list[Floats]] = {name: [] for name in axes}
    highs: dict[str, list[Floats]] = {name: [] for name in axes}
    kept: dict[str, list[Floats]] = {name: [] for name in axes}
    quota = max(1, ROWS // max(1, len(samples)))
    for name, array in _observed(model, list(axes), samples, progress):
        rows = np.moveaxis(array, axes[name], -1).reshape(-1, array.shape[axes[name]])
        lows[name].append(rows.min(axis=0))
        highs[name].append(rows.max(axis=0))
        # An odd number of rows apart, so that no column of a picture is preferred.
        picked = np.unique(np.linspace(0, len(rows) - 1, quota).astype(np.int64))
        kept[name].append(rows[picked])
    return {
        name: Activation(np.stack(lows[name]), np.stack(highs[name]), np.concatenate(kept[name]))
        for name in axes
    }


def _observed(
    model: ir.Model,
    names: Sequence[str],
    samples: Sequence[Feeds],
    progress: Callable[[float], None] | None,
) -> Iterator[tuple[str, Floats]]:
    """Each named tensor on each sample, checked to be finite."""
    if not samples:
        raise InputError("There are no calibration samples", expected="At least one real sample")
    wanted = list(dict.fromkeys(names))
    session = reference_session(with_outputs(model, wanted))
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


def with_outputs(model: ir.Model, names: Sequence[str]) -> ir.Model:
    """A copy of a graph that also returns the named tensors."""
    copy = model.clone(deep_copy=False)
    values = {value.name: value for node in copy.graph for value in node.outputs}
    values |= {value.name: value for value in copy.graph.inputs}
    present = {value.name for value in copy.graph.outputs}
    copy.graph.outputs.extend(values[name] for name in names if name not in present)
    return copy


def reference_session(model: ir.Model, *, fuse: bool = False) -> Any:  # noqa: ANN401 - onnxruntime ships no types
    """An ONNX Runtime session of a graph in memory.

    Args:
        model: The graph.
        fuse: Compute quantised products as integers, which is faster. Sums come out in another
            order, and a value on the border of two codes may fall to the other side: engines differ
            in the same way. Not for emulated graphs, whose roundings must stay.
    """
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
    # Waiting threads that spin take the processor from whoever else works on this machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    levels = onnxruntime.GraphOptimizationLevel
    level = levels.ORT_ENABLE_ALL if fuse else levels.ORT_ENABLE_BASIC
    options.graph_optimization_level = level
    with tempfile.TemporaryDirectory(prefix="jetlift-calibrate-") as folder:
        path = Path(folder) / "calibrate.onnx"
        ir.save(model, path, external_data="calibrate.onnx.data")
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
