"""Proves that preprocessing in a graph gives what the host's preprocessing gives.

Rules:
    C1  It is compared on drawn frames, of which noise and stripes of one pixel are harder than any
        picture, and on real pictures where there are samples, laid on frames as at run time.
    C2  What the part's own graph gets differs by at most LEVELS_TOLERANCE: pixels are equal bit for
        bit, and what is left is FP32's rounding of the normalisation.
    C3  ONNX Runtime computes it. Other engines have the same exact sums to give (inside_resize.py).
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jetlift.export import graph
from jetlift.export.inside import FRAME, with_preprocessing
from jetlift.export.judging import reference
from jetlift.runtime.errors import FidelityError
from jetlift.runtime.frames import lay
from jetlift.runtime.preprocess import prepare_image

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt
    import onnx_ir as ir

    from jetlift.runtime.manifest import ImagePreprocess

    Bytes = npt.NDArray[np.uint8]
    Floats = npt.NDArray[np.float32]

LEVELS_TOLERANCE = 1e-3
_PICTURES = 16
PIXELS = "pixels"


@dataclass(frozen=True)
class FrontCheck:
    """What a comparison with the host's preprocessing found.

    Attributes:
        frames: Number of frames compared.
        levels: Largest difference in levels of 255.
        first: What the graph gives for the first frame, float32 [1, 3, height, width].
    """

    frames: int
    levels: float
    first: Floats


def check_front(
    spec: ImagePreprocess, frame_wh: tuple[int, int], samples: Path | None = None
) -> FrontCheck:
    """Hold the preprocessing in the graph to the host's (rules C1 and C2).

    Args:
        spec: The preprocessing.
        frame_wh: Width and height of the frames in pixels.
        samples: A folder of pictures; None checks with drawn frames only.

    Raises:
        FidelityError: It differs too much.
        InputError: The samples have no pictures, or the frames are too long and thin.
    """
    levels = spec.scale / np.array(spec.std).reshape(1, 3, 1, 1)
    firsts: list[Floats] = []
    largest, count = 0.0, 0
    with tempfile.TemporaryDirectory(prefix="jetlift-") as folder:
        path = Path(folder) / "front.onnx"
        graph.save(front_alone(spec, frame_wh), path)
        with reference(path) as session:
            for frame in frames_to_check(spec, frame_wh, samples):
                got = session.run({FRAME: frame[None]})[PIXELS]
                difference = np.abs((got - prepare_image(frame, spec)) / levels)
                largest, count = max(largest, float(difference.max())), count + 1
                firsts = firsts or [got]
    if not largest <= LEVELS_TOLERANCE:
        raise FidelityError(
            f"The preprocessing in the graph differs from the host's by {largest:.3g} levels",
            expected=f"At most {LEVELS_TOLERANCE:g} of 255",
            do="This is a fault of the export: please report it, and leave --frames out",
        )
    return FrontCheck(count, largest, firsts[0])


def front_alone(spec: ImagePreprocess, frame_wh: tuple[int, int]) -> ir.Model:
    """A graph of nothing but the preprocessing: `frame_bgr` in, `pixels` out."""
    import onnx_ir as ir

    of_floats = ir.TensorType(ir.DataType.FLOAT)
    shape = ir.Shape(["batch", 3, spec.size_wh[1], spec.size_wh[0]])
    start = ir.Value(name=spec.input, shape=shape, type=of_floats)
    node = ir.node("Identity", [start], name="as_it_is")
    node.outputs[0].name, node.outputs[0].type = PIXELS, of_floats
    opset = {"": graph.OPSET}
    alone = ir.Graph([start], node.outputs, nodes=[node], opset_imports=opset, name="front")
    return graph.infer(with_preprocessing(ir.Model(alone, ir_version=9), spec, frame_wh))


def frames_to_check(
    spec: ImagePreprocess, frame_wh: tuple[int, int], samples: Path | None
) -> Iterator[Bytes]:
    """Drawn frames, then up to 16 of the samples' pictures, uint8 [height, width, 3] (rule C1)."""
    yield from drawn_frames(frame_wh)
    if samples is not None:
        from jetlift.runtime.sources import open_source

        with open_source([str(samples)]) as source:
            for frame in islice(source, _PICTURES):
                yield lay(frame.image_bgr, spec, frame_wh)


def drawn_frames(frame_wh: tuple[int, int]) -> Iterator[Bytes]:
    """A coloured gradient, noise, and stripes one pixel wide either way."""
    width, height = frame_wh
    across = np.linspace(0, 255, width, dtype=np.uint8)[None, :, None]
    down = np.linspace(255, 0, height, dtype=np.uint8)[:, None, None]
    yield np.concatenate(
        [np.repeat(across, height, 0), np.repeat(down, width, 1), across // 2 + down // 2], axis=2
    )
    yield np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    columns = np.arange(width)[None, :, None] % 2 + np.zeros((height, 1, 3), np.int64)
    rows = np.arange(height)[:, None, None] % 2 + np.zeros((1, width, 3), np.int64)
    for stripes in (columns, rows):
        yield (stripes * 255).astype(np.uint8)
