"""A detector among graphs of the user's own: what it must be, and what the bundle says of it.

Rules:
    D1  One input, float32 [batch, 3, H, W] of fixed H and W: BGR 0..255, the picture at the top
        left, 114 elsewhere, as YOLOX is trained and exported
        (Megvii-BaseDetection/YOLOX@main:yolox/data/data_augment.py, preproc).
    D2  One output, float32 [batch, cells, 5 + classes] on the cells of strides 8, 16 and 32.
    D3  The output is what runtime/boxes.py decodes: scores after their sigmoid, boxes relative to
        their cells. Both are seen from its numbers; a graph with decoding inside is refused, since
        its boxes would be decoded twice.
    D4  Labels are one per class. 80 classes without labels are taken for COCO's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.export.coco import COCO_LABELS
from jetlift.runtime.boxes import BOX_COLUMNS, cell_count, cells
from jetlift.runtime.errors import InputError, UsageError
from jetlift.runtime.manifest import Detection, ImagePreprocess

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from jetlift.export.fidelity import Metric, MetricContext
    from jetlift.export.judging import Source
    from jetlift.runtime.manifest import Part

    Answer = Callable[[Mapping[str, Any]], Sequence[Any]]

STRIDES = (8, 16, 32)
LABELS_PATH = "assets/labels.txt"
# What a user sees: the defaults of YOLOX's own demonstration of an ONNX graph,
# Megvii-BaseDetection/YOLOX@main:demo/ONNXRuntime/onnx_inference.py.
SCORE_THRESHOLD, IOU_THRESHOLD = 0.3, 0.45
PAD_VALUE = 114


@dataclass(frozen=True)
class DetectOptions:
    """How a graph of one's own is taken for a detector.

    Attributes:
        labels: Class names, one per line; None takes 80 classes for COCO's.
    """

    labels: Path | None = None


def detecting(source: Source, options: DetectOptions, folder: Path) -> tuple[Source, str]:
    """A graph of one's own as a detector, judged by its boxes.

    Args:
        source: The graph without a task.
        options: Its labels.
        folder: The bundle under construction, which gets the labels.

    Returns:
        The source, which refuses an output of another form (rule D3) when it answers, and a
        sentence on what was assumed.

    Raises:
        UsageError: The graph's input or output is not a YOLOX detector's, or its classes have no
            names.
        InputError: The labels cannot be read or are not one per class.
    """
    part, labels = as_detector(source.part, options.labels)
    path = folder / LABELS_PATH
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
    given = "the labels given" if options.labels is not None else "COCO's 80 labels"
    note = f"Taken for a YOLOX detector with {given}; judged by fp32's own boxes, not by true ones"
    answer = _checked(source.answer, _size_of(part))
    return replace(source, part=part, answer=answer, metric=partial(_metric, part)), note


def _checked(answer: Answer, size_wh: tuple[int, int]) -> Answer:
    """The same answers, refused where they are not of the form of rule D3."""

    def answered(feeds: Mapping[str, Any]) -> Sequence[Any]:
        outputs = answer(feeds)
        check_form(np.asarray(outputs[0]), size_wh)
        return outputs

    return answered


def _metric(part: Part, _context: MetricContext) -> Metric:
    from jetlift.export.fidelity.boxes import BoxMetric

    if part.detection is None:
        raise UsageError("The part has no head that gives boxes")
    return BoxMetric(part.outputs[0].name, _size_of(part), part.detection)


def _size_of(part: Part) -> tuple[int, int]:
    height, width = part.inputs[0].shape[2:]
    return int(width), int(height)


def as_detector(part: Part, labels_file: Path | None = None) -> tuple[Part, tuple[str, ...]]:
    """A part with the preprocessing and head of a YOLOX detector (rules D1, D2 and D4).

    Args:
        part: The part as it is without a task.
        labels_file: Class names, one per line.

    Returns:
        The part, and its class names.

    Raises:
        UsageError: The graph's input or output is not a YOLOX detector's, or its classes have no
            names.
        InputError: The labels cannot be read or are not one per class.
    """
    size_wh = _input_size(part)
    labels = _labels(_class_count(part, size_wh), labels_file)
    preprocess = ImagePreprocess(
        kind="image",
        input=part.inputs[0].name,
        size_wh=size_wh,
        fit="letterbox",
        resize_short=None,
        resample="linear_exact",
        colour="bgr",
        scale=1.0,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        pad_value=PAD_VALUE,
    )
    head = Detection("yolox", STRIDES, LABELS_PATH, SCORE_THRESHOLD, IOU_THRESHOLD)
    return replace(part, preprocess=preprocess, detection=head), labels


def _input_size(part: Part) -> tuple[int, int]:
    described = "; ".join(f"{s.name} {s.dtype}{list(s.shape)}" for s in part.inputs)
    first = part.inputs[0] if part.inputs else None
    if first is None or len(part.inputs) > 1 or first.dtype != "float32" or len(first.shape) != 4:
        raise _no_detector(f"It takes {described or 'nothing'}", "One input, float32 [1, 3, H, W]")
    channels, height, width = first.shape[1:]
    if channels != 3 or not isinstance(height, int) or not isinstance(width, int):
        raise _no_detector(f"It takes {described}", "float32 [1, 3, H, W] of fixed H and W")
    for side in (height, width):
        if side % STRIDES[-1]:
            raise _no_detector(
                f"Its input is {width}x{height} pixels",
                f"Sides that are multiples of {STRIDES[-1]}, its largest stride",
            )
    return width, height


def _class_count(part: Part, size_wh: tuple[int, int]) -> int:
    count = cell_count(size_wh, STRIDES)
    wanted = f"One output, float32 [1, {count}, 5 + classes]: {count} cells of strides 8, 16, 32"
    described = "; ".join(f"{s.name} {s.dtype}{list(s.shape)}" for s in part.outputs)
    if len(part.outputs) != 1 or part.outputs[0].dtype != "float32":
        raise _no_detector(f"It gives {described}", wanted)
    shape = part.outputs[0].shape
    columns = shape[-1] if shape else None
    if len(shape) != 3 or shape[1] != count or not isinstance(columns, int):
        raise _no_detector(f"It gives {described} for {size_wh[0]}x{size_wh[1]} pixels", wanted)
    if columns <= BOX_COLUMNS:
        raise _no_detector(f"Its output has {columns} columns", "At least 6, for one class")
    return columns - BOX_COLUMNS


def _labels(classes: int, labels_file: Path | None) -> tuple[str, ...]:
    from jetlift.runtime.tasks.detect import read_labels

    if labels_file is None:
        if classes == len(COCO_LABELS):
            return COCO_LABELS
        raise UsageError(
            f"The detector has {classes} classes, and their names are not known",
            expected="80 for COCO's, or a file with one name per line",
            do="Add --labels FILE",
        )
    try:
        labels = read_labels(labels_file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"The labels {labels_file} cannot be read: {error}", expected="A text file in UTF-8"
        ) from error
    if len(labels) != classes or not all(labels):
        blank = f", {labels.count('')} of them blank" if not all(labels) else ""
        raise InputError(
            f"{labels_file} has {len(labels)} labels{blank}",
            expected=f"{classes}, one per line, as the output has {classes + BOX_COLUMNS} columns",
        )
    return labels


def check_form(raw: npt.NDArray[Any], size_wh: tuple[int, int]) -> None:
    """Refuse an output that boxes.decode would misread (rule D3).

    Args:
        raw: Floats [batch, cells, 5 + classes].
        size_wh: Size of the input in pixels.

    Raises:
        UsageError: Scores are not between 0 and 1, or the boxes are decoded already.
    """
    scores = raw[..., BOX_COLUMNS - 1 :]
    if not (scores.min() >= 0 and scores.max() <= 1):
        raise _no_detector(
            f"Its score columns lie between {scores.min():.3g} and {scores.max():.3g}",
            "Scores between 0 and 1, after their sigmoid",
        )
    corners, strides = cells(size_wh, STRIDES)
    near_cell = np.abs(raw[..., :2] - 0.5).mean()
    near_pixel = (np.abs(raw[..., :2] - (corners + 0.5) * strides) / strides).mean()
    if near_pixel < near_cell:
        raise _no_detector(
            "Its boxes are in pixels already, decoded inside the graph",
            "Boxes relative to their cells",
            "Export it from YOLOX without --decode_in_inference",
        )


def _no_detector(got: str, expected: str, do: str = "") -> UsageError:
    return UsageError(
        f"The graph is no detector that --task detect knows. {got}",
        expected=expected,
        do=do or "Leave --task out to export it as a plain graph",
    )
