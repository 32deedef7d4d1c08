"""A part's preprocessing in front of its own graph: whole camera frames in, nothing on the host.

Rules:
    P1  The input is uint8 [batch, height, width, 3] in BGR order, as OpenCV gives a camera's. Its
        first node is a Cast: TensorRT takes uint8 as an input of the network and converts it to
        FP32 or FP16, no more (docs.nvidia.com/deeplearning/tensorrt, Python API, DataType).
    P2  Frames have one size. Where a picture lies, what is cropped and what is padded follow from
        it, and so do the constants of the resampling; a camera does not change it. The batch is as
        free as the part's own.
    P3  The result equals runtime/preprocess.py: the pixels bit for bit (inside_resize.py), the
        normalisation within FP32's rounding, since it is one product and one sum. It is not folded
        into the first convolution: zeros that a convolution pads with would change their meaning.
    P4  It is FP32 whatever the part is, and it comes after the part was typed and calibrated, so no
        precision is ever chosen for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jetlift.export import inside_resize
from jetlift.export.inside_nodes import Chain
from jetlift.runtime.errors import UsageError
from jetlift.runtime.preprocess import place

if TYPE_CHECKING:
    import onnx_ir as ir

    from jetlift.runtime.manifest import ImagePreprocess
    from jetlift.runtime.resample import Filter

FRAME = "frame_bgr"
# The longest side that a frame may have: 8K is 7680. The matrices of a resize grow with it.
LONGEST_SIDE = 8192
MINIMUM_OPSET = 13  # Pad, Slice and Clip with their bounds as tensors


def check_frame_size(frame_wh: tuple[int, int]) -> None:
    """Refuse frames that no camera gives.

    Raises:
        UsageError: A side is below 1 or above LONGEST_SIDE.
    """
    if not all(1 <= side <= LONGEST_SIDE for side in frame_wh):
        raise UsageError(
            "Frames of {}x{} were asked for".format(*frame_wh),
            expected=f"Sides from 1 to {LONGEST_SIDE} pixels",
        )


def with_preprocessing(
    model: ir.Model, spec: ImagePreprocess, frame_wh: tuple[int, int]
) -> ir.Model:
    """Put the preprocessing in front of a graph (rules P1 to P4). The model given is not changed.

    Args:
        model: The part's graph, in any precision, whose input `spec.input` is float32
            [batch, 3, height, width].
        spec: The part's preprocessing.
        frame_wh: Width and height of the frames in pixels.

    Returns:
        The graph with the input `frame_bgr` in place of `spec.input`; the tensor that bore that
        name bears it still, inside.

    Raises:
        UsageError: The graph has no such input, an older opset, or the size cannot be.
    """
    import onnx_ir as ir

    check_frame_size(frame_wh)
    copy = model.clone(deep_copy=False)
    old = _input_of(copy, spec)
    batch = old.shape[0] if old.shape is not None else None
    frame = ir.Value(
        name=FRAME,
        shape=ir.Shape([batch, frame_wh[1], frame_wh[0], 3]),
        type=ir.TensorType(ir.DataType.UINT8),
    )
    copy.graph.inputs[list(copy.graph.inputs).index(old)] = frame
    chain = Chain(frame)
    _prepare(chain, spec, frame_wh)
    name, old.name = str(old.name), None
    old.replace_all_uses_with(chain.end)
    chain.end.name = name
    copy.graph.insert_before(copy.graph[0], chain.nodes)
    for constant in chain.constants.values():
        copy.graph.register_initializer(constant)
    return copy


def _input_of(model: ir.Model, spec: ImagePreprocess) -> ir.Value:
    import onnx_ir as ir

    graph = model.graph
    found = [value for value in graph.inputs if value.name == spec.input]
    if not found or found[0].dtype != ir.DataType.FLOAT or found[0].is_graph_output():
        described = ", ".join(f"{value.name} {value.dtype}" for value in graph.inputs)
        raise UsageError(
            f"The graph takes {described or 'nothing'}",
            expected=f"An input {spec.input} in float32, to put the preprocessing in front of",
        )
    if model.opset_imports.get("", MINIMUM_OPSET) < MINIMUM_OPSET:
        raise UsageError(
            f"The graph is of opset {model.opset_imports['']}",
            expected=f"Opset {MINIMUM_OPSET} or newer",
        )
    names = {value.name for value in graph.inputs} | set(graph.initializers)
    names |= {value.name for node in graph for value in node.outputs}
    if taken := sorted(n for n in map(str, names) if n.startswith((FRAME, Chain.PREFIX))):
        raise UsageError(
            f"The graph has a tensor {taken[0]} already",
            expected=f"A graph without preprocessing: no tensor named {FRAME} or {Chain.PREFIX}…",
        )
    return found[0]


def _prepare(chain: Chain, spec: ImagePreprocess, frame_wh: tuple[int, int]) -> None:
    """From the frame to float32 [batch, 3, height, width], as `prepare_image` does it."""
    placement = place(frame_wh, spec)
    if spec.resample == "linear_exact":
        inside_resize.linear(chain, placement)
    else:
        kind: Filter = "bicubic" if spec.resample == "bicubic_antialias" else "bilinear"
        inside_resize.antialiased(chain, placement, kind)
    if spec.colour == "rgb":
        reverse = chain.constant("channels", np.array([2, 1, 0], np.int64))
        chain.add("Gather", [chain.end, reverse], {"axis": 1}, name="rgb")
    _pad(chain, spec, placement.crop_xywh[2:])
    _normalise(chain, spec)


def _pad(chain: Chain, spec: ImagePreprocess, filled_wh: tuple[int, int]) -> None:
    right, below = (spec.size_wh[axis] - filled_wh[axis] for axis in (0, 1))
    if not right and not below:
        return
    widths = chain.constant("padding", np.array([0, 0, 0, 0, 0, 0, below, right], np.int64))
    grey = chain.constant("grey", np.float32(spec.pad_value))
    chain.add("Pad", [chain.end, widths, grey], {"mode": "constant"}, name="letterbox")


def _normalise(chain: Chain, spec: ImagePreprocess) -> None:
    std = np.array(spec.std)
    factor = (spec.scale / std).astype(np.float32)
    shift = (-np.array(spec.mean) / std).astype(np.float32)
    if (factor != 1).any():
        by = chain.constant("factor", factor.reshape(1, 3, 1, 1))
        chain.add("Mul", [chain.end, by], name="scaled")
    if shift.any():
        by = chain.constant("shift", shift.reshape(1, 3, 1, 1))
        chain.add("Add", [chain.end, by], name="normalised")
