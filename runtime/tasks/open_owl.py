"""OWLv2's way from a picture and words to boxes: every patch gives one.

Rules, equal to transformers 5.23 (models/owlv2: Owlv2ClassPredictionHead in modeling_owlv2.py,
post_process_object_detection in image_processing_owlv2.py):
    W1  A prompt's embedding is divided by its length + 1e-6, as the graph does with the patches'.
        logit = (patch . prompt + shift) * scale, in float32.
    W2  A patch is of the prompt with the highest logit, the earlier one of equals; its score is the
        logit's sigmoid, and it counts where that is above the threshold.
    W3  Boxes are shares of the square that the picture was padded to, so they are scaled by its
        longer side, then cut at the picture's edges. No box is suppressed for another, unless the
        bundle states a threshold of overlap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.runtime import boxes
from jetlift.runtime.errors import EngineLibraryError, UsageError
from jetlift.runtime.frames import PictureInput
from jetlift.runtime.manifest import ImagePreprocess
from jetlift.runtime.tasks.open_detect import Found, facts_of, on_picture

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.prompts import Prompts
    from jetlift.runtime.session.base import Session

    Array = npt.NDArray[Any]

_EPSILON = np.float32(1e-6)
_OUTPUTS = ("boxes_cxcywh", "class_embeddings", "logit_shift", "logit_scale")


class OwlFamily:
    """Finds boxes with an OWLv2 bundle.

    Args:
        bundle: A verified bundle of this family.
        session: An engine of its picture part.

    Raises:
        UsageError: The session is of another part.
    """

    def __init__(self, bundle: Bundle, session: Session) -> None:
        self._facts, self._session = facts_of(bundle), session
        self._pictures = PictureInput(picture_spec(bundle, session))

    @property
    def notes(self) -> tuple[str, ...]:
        """See Family.notes."""
        return self._pictures.notes

    @property
    def engine(self) -> Session:
        """See Family.engine."""
        return self._session

    def prepare(self, image_bgr: npt.NDArray[np.uint8], _prompts: Prompts) -> dict[str, Array]:
        """See Family.prepare."""
        return self._pictures.feeds(image_bgr)

    def finish(
        self, image_bgr: npt.NDArray[np.uint8], outputs: Mapping[str, Array], prompts: Prompts
    ) -> Found:
        """See Family.finish (rules W1 to W3)."""
        cxcywh, patches, shift, scale = (finite(outputs, name)[0] for name in _OUTPUTS)
        logits = (patches @ _unit(prompts.features).T + shift) * scale  # W1
        labels = logits.argmax(axis=1)
        scores = sigmoid(logits[np.arange(len(logits)), labels])
        chosen = np.flatnonzero(scores > np.float32(self._facts.score_threshold))  # W2
        image_wh = (image_bgr.shape[1], image_bgr.shape[0])
        boxes_xyxy, kept = on_picture(
            corners(cxcywh[chosen]) * np.float32(max(image_wh)), image_wh
        )  # W3
        chosen, boxes_xyxy = chosen[kept], boxes_xyxy[kept]
        order = np.argsort(-scores[chosen], kind="stable")
        found = boxes.Boxes(boxes_xyxy[order], scores[chosen][order], labels[chosen][order])
        return suppressed(found, self._facts.iou_threshold)


def _unit(features: Array) -> Array:
    """Rows divided by their length + epsilon, as the graph does with its own (rule W1)."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / (lengths + _EPSILON), np.float32)


def suppressed(found: boxes.Boxes, iou_threshold: float | None) -> Found:
    """What is found, without boxes that overlap a better one of their prompt too much."""
    if iou_threshold is not None:
        found = found.of(boxes.suppress(found, iou_threshold))
    return Found(found.boxes_xyxy, found.scores, found.labels.astype(np.int64))


def corners(cxcywh: Array) -> npt.NDArray[np.float32]:
    """Centre, width and height to left, top, right and bottom, float32 [N, 4]."""
    centres, halves = cxcywh[:, :2], cxcywh[:, 2:] * np.float32(0.5)
    return np.concatenate([centres - halves, centres + halves], axis=1, dtype=np.float32)


def sigmoid(logits: Array) -> npt.NDArray[np.float32]:
    """1 / (1 + exp(-x)) in float32, without overflow on either side."""
    small = np.exp(-np.abs(logits))
    return np.asarray(np.where(logits >= 0, np.float32(1), small) / (1 + small), np.float32)


def finite(outputs: Mapping[str, Array], name: str) -> npt.NDArray[np.float32]:
    """An output in float32.

    Raises:
        EngineLibraryError: It holds NaN or infinity.
    """
    if not np.isfinite(outputs[name]).all():
        raise EngineLibraryError(
            f"Output {name} holds NaN or infinity",
            expected="Finite numbers",
            do="Try --precision fp32: where that is finite, this variant overflows",
        )
    return np.asarray(outputs[name], np.float32)


def picture_spec(bundle: Bundle, session: Session) -> ImagePreprocess:
    """How pictures are prepared for the session.

    Raises:
        UsageError: The session is of another part than that for pictures.
    """
    name = facts_of(bundle).image
    part = bundle.part(name)[1]
    wanted, got = {spec.name for spec in part.inputs}, {spec.name for spec in session.inputs}
    if wanted != got or not isinstance(part.preprocess, ImagePreprocess):
        raise UsageError(
            f"The session takes {', '.join(sorted(got))}",
            expected=f"A session of part {name}, which takes {', '.join(sorted(wanted))}",
        )
    return part.preprocess


def open_family(bundle: Bundle, session: Session, _others: Mapping[str, Session]) -> OwlFamily:
    """The family on a session of the picture part; see open_detect.open_family."""
    return OwlFamily(bundle, session)
