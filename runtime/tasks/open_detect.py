"""What is in a picture and where, for things that are named in any words.

Fields: as `detect` has them (`boxes_xyxy`, `scores`, `labels`, `label_ids`), where a label is a
prompt and its id the prompt's place; and where the model draws outlines `masks`, one per box, as
COCO's run-length code (runtime/masks.py).

Rules:
    O1  A family is a file with `open_family(bundle, session, others)`, imported when it is needed.
        It finds everything its model says above the bundle's threshold, best score first.
    O2  Prompts are of this bundle, with features that were computed beforehand: other words need
        no other engine.
    O3  Boxes are in the picture's pixels and cut at its edges; one without area is dropped.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from jetlift.runtime import masks as mask_codes
from jetlift.runtime.drawing import box_overlay, mask_overlay
from jetlift.runtime.errors import UsageError
from jetlift.runtime.prompts import Prompts
from jetlift.runtime.sources import Frame
from jetlift.runtime.tasks import artefact
from jetlift.runtime.tasks.base import Outcome, Prepared, StepTask, Task, place_of
from jetlift.runtime.tasks.detect import picture_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.session.base import Session
    from jetlift.runtime.task_forms import OpenVocabulary
    from jetlift.runtime.tasks.base import Array, Feeds, Item

    Floats = npt.NDArray[np.float32]

_FAMILIES = {"owl": "open_owl", "grounding": "open_grounding", "detic": "open_detic"}


@dataclass(frozen=True, eq=False)
class Found:
    """What a family found in one picture, best score first.

    Attributes:
        boxes_xyxy: float32 [N, 4], left, top, right and bottom in the picture's pixels.
        scores: float32 [N], 0 to 1.
        labels: int64 [N], places of the prompts.
        masks: bool [H, W] of the picture per box; None where the model draws none.
    """

    boxes_xyxy: Floats
    scores: Floats
    labels: npt.NDArray[np.int64]
    masks: Sequence[npt.NDArray[np.bool_]] | None = None


class Family(Protocol):
    """One way from a picture and prompts to boxes (rule O1)."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of the pictures so far."""

    @property
    def engine(self) -> Session:
        """The session of the part for pictures."""

    def prepare(self, image_bgr: npt.NDArray[np.uint8], prompts: Prompts) -> Feeds:
        """What that part is fed for a picture, uint8 [H, W, 3].

        Raises:
            InputError: The picture cannot be used.
        """

    def finish(
        self, image_bgr: npt.NDArray[np.uint8], outputs: Mapping[str, Array], prompts: Prompts
    ) -> Found:
        """Everything in a picture that a prompt names, from what that part said of it.

        Raises:
            UsageError: There are more prompts than the model takes at once.
            ArtefactError: The prompts' features are of another length.
            EngineLibraryError: An engine failed or returned NaN or infinity.
        """


class OpenDetectTask(StepTask):
    """The boxes in each picture of what the prompts name.

    Args:
        family: What finds them.
        prompts: The words, with features of the family's bundle.
    """

    name = "detect"

    def __init__(self, family: Family, prompts: Prompts) -> None:
        self._family, self._prompts = family, prompts

    @property
    def notes(self) -> tuple[str, ...]:
        """See Task.notes."""
        return self._family.notes

    @property
    def engine(self) -> Session:
        """See StepTask.engine."""
        return self._family.engine

    def prepare(self, item: Item) -> Prepared:
        """See StepTask.prepare."""
        return Prepared(self._family.prepare(picture_of(item).image_bgr, self._prompts))

    def finish(self, item: Item, prepared: Prepared, outputs: Mapping[str, Array]) -> Outcome:
        """Find the boxes in one picture; see StepTask.finish."""
        del prepared
        found = self._family.finish(picture_of(item).image_bgr, outputs, self._prompts)
        fields: dict[str, Any] = place_of(item) | {
            "boxes_xyxy": [[round(float(edge), 2) for edge in box] for box in found.boxes_xyxy],
            "scores": [round(float(score), 4) for score in found.scores],
            "labels": [self._prompts.head.prompts[label] for label in found.labels],
            "label_ids": [int(label) for label in found.labels],
        }
        if found.masks is not None:
            fields["masks"] = [mask_codes.encode(mask) for mask in found.masks]
        return Outcome(fields, {})

    def draw(self, item: Item, outcome: Outcome) -> npt.NDArray[np.uint8] | None:
        """The picture with its boxes, and its masks where there are any."""
        if not isinstance(item, Frame):
            return None
        fields, picture = outcome.fields, item.image_bgr
        if fields.get("masks"):
            drawn = [mask_codes.decode(code) for code in fields["masks"]]
            picture = mask_overlay(picture, drawn, fields["label_ids"])
        rows = zip(fields["labels"], fields["scores"], strict=True)
        captions = [f"{label} {score:.2f}" for label, score in rows]
        return box_overlay(picture, fields["boxes_xyxy"], captions, fields["label_ids"])


def find(family: Family, image_bgr: npt.NDArray[np.uint8], prompts: Prompts) -> Found:
    """Everything in one picture that a prompt names; raises what the family's steps raise."""
    outputs = family.engine.run(family.prepare(image_bgr, prompts))
    return family.finish(image_bgr, outputs, prompts)


def on_picture(
    boxes_xyxy: npt.NDArray[Any], image_wh: tuple[int, int]
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Boxes cut at a picture's edges, and which of them are left with an area (rule O3).

    Args:
        boxes_xyxy: Floats [N, 4] in the picture's pixels.
        image_wh: Its width and height.

    Returns:
        float32 [N, 4], and bool [N].
    """
    limits = np.tile(np.asarray(image_wh, np.float32), 2)
    cut = np.clip(boxes_xyxy.astype(np.float32), np.float32(0), limits)
    return cut, np.asarray((cut[:, 2:] > cut[:, :2]).all(axis=1), np.bool_)


def open_family(bundle: Bundle, session: Session, others: Mapping[str, Session]) -> Family:
    """The family of a bundle that takes any words (rule O1).

    Args:
        bundle: A verified bundle with `open_vocabulary`.
        session: An open session of its picture part.
        others: Open sessions of other parts, as far as the family uses them.

    Raises:
        UsageError: A session that the family needs is missing or of another part.
    """
    module = importlib.import_module(f"jetlift.runtime.tasks.{_FAMILIES[facts_of(bundle).family]}")
    family: Family = module.open_family(bundle, session, others)
    return family


def facts_of(bundle: Bundle) -> OpenVocabulary:
    """How the bundle finds what words name.

    Raises:
        UsageError: It cannot.
    """
    facts = bundle.manifest.open_vocabulary
    if facts is None:
        raise UsageError(
            f"{bundle.manifest.model} finds no things by their names",
            expected="A detector for any words, such as owlv2-base",
        )
    return facts


def open_from(
    bundle: Bundle,
    session: Session,
    prompts: Path | Prompts | None,
    others: Mapping[str, Session],
) -> Task:
    """The task on a session, with prompts or their file (rule O2).

    Raises:
        UsageError: Prompts are missing.
        ArtefactError: They are of another bundle.
    """
    facts_of(bundle)
    if not isinstance(prompts, Prompts):
        prompts = Prompts.load(artefact.needed("detect", prompts))
    prompts.check_bundle(bundle)
    return OpenDetectTask(open_family(bundle, session, others), prompts)
