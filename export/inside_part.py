"""Moves a picture part's preprocessing into its graphs, where that is proved harmless.

Rules:
    Q1  It comes last: the part's variants are made, judged and measured behind the host's
        preprocessing, and keep their figures, which holds because of Q2 and Q3.
    Q2  The front is a gate: it gives what the host's preprocessing gives (inside_check.py).
    Q3  Each variant with the front, given a frame, answers as without it, given what the front
        gives for it, within OUTPUT_TOLERANCE of its largest value. 16-bit graphs are run in
        emulation, as they are where they are judged.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.export import graph
from jetlift.export.inside import FRAME, check_frame_size, with_preprocessing
from jetlift.export.inside_check import check_front, drawn_frames
from jetlift.export.judging import difference_of, reference
from jetlift.export.precision.emulate import emulate_half
from jetlift.runtime.errors import FidelityError, UsageError
from jetlift.runtime.manifest import FrameInput, ImagePreprocess, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt
    import onnx_ir as ir

    from jetlift.runtime.manifest import Part, Variant

    Feeds = Mapping[str, Any]

OUTPUT_TOLERANCE = 1e-3


def check_that_some_part_takes_pictures(
    preprocesses: Iterable[object], frame_wh: tuple[int, int]
) -> None:
    """Refuse frames for a model that takes none, before anything heavy is done.

    Raises:
        UsageError: No part has preprocessing for pictures, or the size cannot be.
    """
    check_frame_size(frame_wh)
    pictures = [item for item in preprocesses if isinstance(item, ImagePreprocess)]
    for fit in {item.fit for item in pictures} & {"pad_square", "canvas"}:
        raise UsageError(
            f"This model's pictures are prepared by {fit}, which is not in the graph's reach",
            expected="A model whose pictures are cropped, stretched or letterboxed",
            do="Leave --frames out: the preprocessing stays before the graph",
        )
    if pictures:
        return
    raise UsageError(
        "Frames of {}x{} were asked for, and no part of this model has preprocessing for "
        "pictures".format(*frame_wh),
        expected="A model of the zoo that takes pictures, or --onnx FILE --task detect",
        do="Leave --frames out",
    )


def put_inside(
    folder: Path,
    name: str,
    part: Part,
    frame_wh: tuple[int, int],
    samples: Path | None = None,
    tell: Callable[[str, float], None] = lambda _stage, _share: None,
) -> Part:
    """Give every variant of a picture part its preprocessing (rules Q1 to Q3).

    Args:
        folder: A bundle under construction, in which the variants lie; their files are replaced.
        name: Name of the part.
        part: The part; one that takes no pictures comes back as it is.
        frame_wh: Width and height of the frames in pixels.
        samples: A folder of pictures to check with; None checks with drawn frames only.
        tell: Called with a stage's name and its share done.

    Returns:
        The part as the manifest says it: its input takes frames, its costs include the front.

    Raises:
        FidelityError: The front or a variant with it differs too much.
        UsageError: The frames or the graph cannot be.
        InputError: A sample cannot be read, or the frames are too long and thin.
    """
    spec = part.preprocess
    if not isinstance(spec, ImagePreprocess):
        return part
    told = f"{name}: preprocessing into the graph"
    tell(told, 0.0)
    check_frame_size(frame_wh)
    found = check_front(spec, frame_wh, samples)
    feeds = _feeds(part, spec, found.first, frame_wh)
    inside = FrameInput(frame_wh, found.frames, round(found.levels, 7))
    moved = replace(
        part,
        inputs=tuple(_framed(item, frame_wh) if item.name == spec.input else item
                     for item in part.inputs),
        preprocess=replace(spec, input=FRAME, inside=inside),
    )  # fmt: skip
    variants = {}
    for done, (label, variant) in enumerate(part.variants.items()):
        tell(told, (done + 1) / (len(part.variants) + 1))
        model = graph.infer(_load(folder / variant.file))
        whole = with_preprocessing(model, spec, frame_wh)
        _check_variant(f"{name} at {label}", _Run(folder, variant, feeds), model, whole)
        variants[label] = _written(folder, variant, whole, moved.inputs)
    return replace(moved, variants=variants)


def _feeds(
    part: Part,
    spec: ImagePreprocess,
    pixels: npt.NDArray[np.float32],
    frame_wh: tuple[int, int],
) -> tuple[Feeds, Feeds]:
    """Feeds of the part's own graph and of the one with the front, that mean the same."""
    arrays = dict(zip((item.name for item in part.inputs), graph.example(part.inputs), strict=True))
    batch = len(arrays.pop(spec.input))
    frame = next(drawn_frames(frame_wh))  # the one that `pixels` come from
    own = {**arrays, spec.input: np.repeat(pixels, batch, 0)}
    return own, {**arrays, FRAME: np.repeat(frame[None], batch, 0)}


def _framed(item: TensorSpec, frame_wh: tuple[int, int]) -> TensorSpec:
    """What the manifest says of the frames in place of the prepared picture."""
    rest = (frame_wh[1], frame_wh[0], 3)
    shapes = (item.min_shape, item.opt_shape, item.max_shape)
    limits = (None if shape is None else (shape[0], *rest) for shape in shapes)
    return TensorSpec(FRAME, "uint8", (item.shape[0], *rest), *limits)


def _load(path: Path) -> ir.Model:
    import onnx_ir as ir

    model = ir.load(path)
    ir.external_data.load_to_model(model)  # the file it lies in is about to be replaced
    return model


@dataclass(frozen=True)
class _Run:
    """Where a variant is run, and on what."""

    folder: Path
    variant: Variant
    feeds: tuple[Feeds, Feeds]


def _check_variant(title: str, run: _Run, own: ir.Model, whole: ir.Model) -> None:
    """Hold a variant with the front to itself without it (rule Q3).

    Raises:
        FidelityError: It differs.
    """
    if run.variant.rest != "fp32":
        own, whole = emulate_half(own), emulate_half(whole)
    answers = [
        _answers(run.folder, model, feeds)
        for model, feeds in zip((own, whole), run.feeds, strict=True)
    ]
    for name, wanted in answers[0].items():
        difference = difference_of(answers[1][name], wanted)
        if not difference <= OUTPUT_TOLERANCE:
            raise FidelityError(
                f"Output {name} of {title} changes by {difference:.2e} where the preprocessing is "
                "in the graph",
                expected=f"At most {OUTPUT_TOLERANCE:g} of its largest value",
                do="This is a fault of the export: please report it, and leave --frames out",
            )


def _answers(folder: Path, model: ir.Model, feeds: Feeds) -> dict[str, Any]:
    path = folder / ".inside.onnx"
    try:
        graph.save(graph.infer(model), path)
        with reference(path) as session:
            return session.run(feeds)
    finally:
        for left in folder.glob(f"{path.name}*"):
            left.unlink()


def _written(
    folder: Path, variant: Variant, whole: ir.Model, inputs: Sequence[TensorSpec]
) -> Variant:
    """Replace a variant's file, and count what it costs now."""
    import onnx

    from jetlift.engines.ops import count

    path = folder / variant.file
    data_files = graph.save(graph.infer(whole), path)
    for left in set(variant.data_files) - set(data_files):
        (folder / left).unlink()
    proto = onnx.load(path, load_external_data=False)
    shapes = {item.name: item.opt_shape for item in inputs if item.opt_shape is not None}
    return replace(variant, data_files=data_files, cost=count(proto, shapes).cost)
