"""Whether an engine computes what its graph says, asked before its speed counts.

An INT8 engine whose results are garbage can be very fast, and engine libraries have made such.

Rules:
    A1  Compared are the outputs of the race's own inputs with those that fp32 gives for the same.
        Only float outputs are; indices and masks jump with the smallest difference.
    A2  The measure is correlation, mean removed, so that a common offset hides nothing, together
        with the ratio of what is left of the norms. Garbage correlates with nothing: the bound is
        loose on purpose, since fidelity was judged at export on real samples, and this is noise.
    A3  On noise an INT8 graph may be far off by itself. So below the bound the reference runtime
        computes the variant's graph: an engine that agrees with it computes what it should, and
        one that does not is out, however fast. Where there is no reference to ask it is out too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.runtime.errors import JetliftError
from jetlift.runtime.feeds import random_feeds

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

    from jetlift.runtime.manifest import Part

    Outputs = Mapping[str, npt.NDArray[Any]]

# On this noise INT8 of MiniLM correlates with fp32 by 0.82, of Whisper tiny.en's encoder by 0.98,
# of DINOv2-small by 0.998 and more, and each with ONNX Runtime on the same graph by 0.998 and more.
LEAST_WITH_FP32 = 0.5
LEAST_WITH_REFERENCE = 0.9
MOST_NORM_RATIO = 4.0
_STILL = 1e-6  # of an output's largest value: what varies less is constant


def disagreement(own: Outputs, expected: Outputs, least: float) -> str:
    """What speaks against outputs being those that are expected; empty where nothing does.

    Args:
        own: What an engine gave.
        expected: What another gave for the same inputs.
        least: Correlation that each float output has to reach (rule A2).
    """
    for name, wanted in expected.items():
        if not np.issubdtype(wanted.dtype, np.floating):  # A1
            continue
        if name not in own or own[name].shape != wanted.shape:
            return f"output {name} has another shape"
        if told := _of_output(own[name], wanted, least):
            return f"output {name} {told}"
    return ""


def _of_output(own: npt.NDArray[Any], wanted: npt.NDArray[Any], least: float) -> str:
    a, b = (np.asarray(array, np.float64).ravel() for array in (own, wanted))
    usable = np.isfinite(b)
    if not np.isfinite(a[usable]).all():
        return "is not finite where it should be"
    a, b = a[usable], b[usable]
    if b.size == 0:
        return ""
    largest = max(np.abs(a).max(), np.abs(b).max())
    if np.ptp(b) <= _STILL * largest:  # a constant correlates with nothing, not even itself
        far = float(np.abs(a - b).max())
        return f"is off by {far:.3g} where it should be {b[0]:.3g}" if far > largest / 2 else ""
    if np.ptp(a) <= _STILL * largest:
        return f"is {a[0]:.3g} everywhere"
    a, b = a - a.mean(), b - b.mean()
    norms = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    correlation = float(a @ b) / (norms[0] * norms[1])
    if correlation < least:
        return f"correlates by {correlation:.2f}"
    ratio = norms[0] / norms[1]
    if not 1 / MOST_NORM_RATIO <= ratio <= MOST_NORM_RATIO:
        return f"has {ratio:.3g} times the spread"
    return ""


def reference_outputs(onnx: Path, part: Part, seed: int) -> Outputs:
    """What the reference runtime gives for a graph on the race's inputs (rule A3).

    Raises:
        JetliftError: It is not installed or does not take the graph.
    """
    from jetlift.runtime.session.onnxruntime import OnnxRuntimeSession

    with OnnxRuntimeSession.from_onnx(onnx, part=part) as session:
        given = session.run(random_feeds(part, seed))
        return {name: np.array(array) for name, array in given.items()}


def confirm(own: Outputs, onnx: Path, part: Part, seed: int, doubt: str) -> str:
    """Ask the reference where fp32 gave reason to doubt (rule A3).

    Returns:
        Why the engine is out; empty where it computes what its graph says.
    """
    against_fp32 = f"against fp32, {doubt}"
    try:
        wanted = reference_outputs(onnx, part, seed)
    except JetliftError as error:
        return f"{against_fp32}, and the reference could not be asked ({error.got})"
    if told := disagreement(own, wanted, LEAST_WITH_REFERENCE):
        return f"{against_fp32}, and against ONNX Runtime on the same graph, {told}"
    return ""
