"""Grounding DINO's way from a picture and words to boxes: each query fits some tokens.

Rules, equal to transformers 5.23 (models/grounding_dino/processing_grounding_dino.py,
post_process_grounded_object_detection) where it says something:
    Y1  A box's score is the sigmoid of its highest logit over all tokens of the text, and it counts
        where that is above the threshold.
    Y2  Its label is the prompt with the highest logit among its own tokens, full stops left out,
        the earlier one of equals. (transformers joins whatever tokens are above a second
        threshold, which may be parts of several prompts.)
    Y3  Boxes are shares of the picture without its padding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jetlift.runtime import boxes
from jetlift.runtime.errors import ArtefactError
from jetlift.runtime.frames import PictureInput
from jetlift.runtime.preprocess import place
from jetlift.runtime.prompt_tokens import (
    BLOCKS,
    BOXES,
    FEATURES,
    LOGITS,
    MASK,
    POSITIONS,
    VALID,
    facts_of,
    places,
)
from jetlift.runtime.tasks.open_detect import on_picture
from jetlift.runtime.tasks.open_owl import corners, finite, picture_spec, sigmoid, suppressed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    import numpy.typing as npt

    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.prompt_tokens import Spans
    from jetlift.runtime.prompts import Prompts
    from jetlift.runtime.session.base import Session
    from jetlift.runtime.tasks.open_detect import Found


class GroundingFamily:
    """Finds boxes with a Grounding DINO bundle.

    Args:
        bundle: A verified bundle of this family.
        session: An engine of its picture part.

    Raises:
        UsageError: The bundle is of another family, or the session of another part.
    """

    def __init__(self, bundle: Bundle, session: Session) -> None:
        self._facts, self._words = facts_of(bundle)
        self._spec, self._session = picture_spec(bundle, session), session
        self._pictures = PictureInput(self._spec)

    @property
    def notes(self) -> tuple[str, ...]:
        """See Family.notes."""
        return self._pictures.notes

    @property
    def engine(self) -> Session:
        """See Family.engine."""
        return self._session

    def prepare(
        self, image_bgr: npt.NDArray[np.uint8], prompts: Prompts
    ) -> dict[str, npt.NDArray[Any]]:
        """See Family.prepare."""
        image_wh = (image_bgr.shape[1], image_bgr.shape[0])
        feeds = self._pictures.feeds(image_bgr)
        feeds |= text_feeds(prompts.features, prompts.head.spans, self._words.longest)
        feeds[VALID] = np.array([place(image_wh, self._spec).resized_wh], np.int64)
        return feeds

    def finish(
        self,
        image_bgr: npt.NDArray[np.uint8],
        outputs: Mapping[str, npt.NDArray[Any]],
        prompts: Prompts,
    ) -> Found:
        """See Family.finish (rules Y1 to Y3)."""
        image_wh = (image_bgr.shape[1], image_bgr.shape[0])
        logits = finite(outputs, LOGITS)[0, :, : len(prompts.features)]
        scores = sigmoid(logits.max(axis=1))  # Y1
        chosen = np.flatnonzero(scores > np.float32(self._facts.score_threshold))
        shares = corners(finite(outputs, BOXES)[0][chosen])
        boxes_xyxy, kept = on_picture(
            shares * np.tile(np.asarray(image_wh, np.float32), 2), image_wh
        )  # Y3
        chosen, boxes_xyxy = chosen[kept], boxes_xyxy[kept]
        own = [logits[chosen, start:end].max(axis=1) for start, end in prompts.head.spans or ()]
        labels = np.stack(own).argmax(axis=0)  # Y2
        order = np.argsort(-scores[chosen], kind="stable")
        found = boxes.Boxes(boxes_xyxy[order], scores[chosen][order], labels[order])
        return suppressed(found, self._facts.iou_threshold)


def text_feeds(
    rows: npt.NDArray[np.float32], spans: Spans | None, longest: int
) -> dict[str, npt.NDArray[Any]]:
    """What the picture part takes of the words, padded to its length.

    Args:
        rows: float32 [tokens, D].
        spans: First row of each prompt and the row after its last.
        longest: Tokens that the part takes.

    Raises:
        ArtefactError: There are no spans, or too many tokens.
    """
    count = len(rows)
    if spans is None or count > longest:
        raise ArtefactError(
            f"The prompts are {count} rows" + ("" if spans else " without spans"),
            expected=f"At most {longest} tokens, with the prompts' places among them",
            do="Make them again with: jetlift prompts",
        )
    features = np.zeros((1, longest, rows.shape[1]), np.float32)
    features[0, :count] = rows
    positions, blocks = places(spans, longest)
    mask = (np.arange(longest) < count).astype(np.int64)
    return {FEATURES: features, MASK: mask[None], POSITIONS: positions[None], BLOCKS: blocks[None]}


def open_family(
    bundle: Bundle, session: Session, _others: Mapping[str, Session]
) -> GroundingFamily:
    """The family on a session of the picture part; see open_detect.open_family."""
    return GroundingFamily(bundle, session)
