"""What is in a picture and where: boxes of a detector.

Fields: `boxes_xyxy` (left, top, right, bottom in the picture's pixels, cut at its edges), `scores`
(0 to 1), `labels` (names) and `label_ids`, best score first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jetlift.runtime import boxes
from jetlift.runtime.boxes import Boxes
from jetlift.runtime.drawing import box_overlay
from jetlift.runtime.errors import ArtefactError, UnknownNameError, UsageError
from jetlift.runtime.frames import PictureInput
from jetlift.runtime.manifest import ImagePreprocess
from jetlift.runtime.sources import Frame
from jetlift.runtime.tasks.base import Outcome, Prepared, StepTask, Task, place_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.prompts import Prompts
    from jetlift.runtime.session.base import Session
    from jetlift.runtime.tasks.base import Array, Feeds, Item


class Detector:
    """A bundle's detector part on an open session.

    Args:
        bundle: A verified bundle.
        session: An engine of the part.
        part: Its name; may be left out where only one part is a detector.

    Raises:
        UnknownNameError: No such part, or none or several that could be meant.
        UsageError: The part is no detector, or the session is of another part.
        ArtefactError: The labels are fewer or more than the output has classes.
    """

    def __init__(self, bundle: Bundle, session: Session, part: str | None = None) -> None:
        self.part_name = part or _only_detector(bundle)
        described = bundle.part(self.part_name)[1]
        if described.detection is None or not isinstance(described.preprocess, ImagePreprocess):
            raise UsageError(
                f"Part {self.part_name} is no detector",
                expected="A part with preprocessing for pictures and a head that gives boxes",
            )
        wanted, got = {s.name for s in described.inputs}, {s.name for s in session.inputs}
        if wanted != got:
            raise UsageError(
                f"The session takes {', '.join(sorted(got))}",
                expected=f"A session of part {self.part_name}, which takes "
                f"{', '.join(sorted(wanted))}",
            )
        self.image_spec, self.head = described.preprocess, described.detection
        self._pictures = PictureInput(self.image_spec)
        self.labels = read_labels(bundle.path(self.head.labels).read_text(encoding="utf-8"))
        self._output, self._session = described.outputs[0], session
        classes = self._output.shape[-1]
        if classes != boxes.BOX_COLUMNS + len(self.labels):
            raise ArtefactError(
                f"{self.head.labels} has {len(self.labels)} labels, the output {classes} columns",
                expected=f"{boxes.BOX_COLUMNS} columns and one per label",
                do="Make the bundle again with: jetlift export",
            )

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of the pictures so far."""
        return self._pictures.notes

    @property
    def engine(self) -> Session:
        """The session of the part."""
        return self._session

    def find(self, image_bgr: npt.NDArray[np.uint8]) -> Boxes:
        """Boxes in the pixels of a picture, uint8 [H, W, 3], best score first.

        Raises:
            InputError: The picture cannot be used.
            EngineLibraryError: The engine failed or returned NaN or infinity.
        """
        return self.finish(image_bgr, self._session.run(self.prepare(image_bgr)))

    def prepare(self, image_bgr: npt.NDArray[np.uint8]) -> Feeds:
        """What the part is fed for a picture, uint8 [H, W, 3].

        Raises:
            InputError: The picture cannot be used.
        """
        return self._pictures.feeds(image_bgr)

    def finish(self, image_bgr: npt.NDArray[np.uint8], outputs: Mapping[str, Array]) -> Boxes:
        """Boxes in the pixels of a picture, from what the part said of it.

        Raises:
            EngineLibraryError: The outputs hold NaN or infinity.
        """
        raw = outputs[self._output.name]
        found = boxes.find(raw, self.image_spec.size_wh, self.head)
        placement = self._pictures.placement((image_bgr.shape[1], image_bgr.shape[0]))
        return Boxes(boxes.to_picture(found.boxes_xyxy, placement), found.scores, found.labels)


class DetectTask(StepTask):
    """The boxes in each picture.

    Args:
        detector: What finds them.
    """

    name = "detect"

    def __init__(self, detector: Detector) -> None:
        self._detector = detector

    @property
    def notes(self) -> tuple[str, ...]:
        """See Task.notes."""
        return self._detector.notes

    @property
    def engine(self) -> Session:
        """See StepTask.engine."""
        return self._detector.engine

    def prepare(self, item: Item) -> Prepared:
        """See StepTask.prepare."""
        return Prepared(self._detector.prepare(picture_of(item).image_bgr))

    def finish(self, item: Item, prepared: Prepared, outputs: Mapping[str, Array]) -> Outcome:
        """Find the boxes in one picture; see StepTask.finish."""
        del prepared
        found = self._detector.finish(picture_of(item).image_bgr, outputs)
        fields = place_of(item) | {
            "boxes_xyxy": [[round(float(edge), 2) for edge in box] for box in found.boxes_xyxy],
            "scores": [round(float(score), 4) for score in found.scores],
            "labels": [self._detector.labels[label] for label in found.labels],
            "label_ids": [int(label) for label in found.labels],
        }
        return Outcome(fields, {})

    def draw(self, item: Item, outcome: Outcome) -> npt.NDArray[np.uint8] | None:
        """The picture with its boxes."""
        if not isinstance(item, Frame):
            return None
        fields = outcome.fields
        rows = zip(fields["labels"], fields["scores"], strict=True)
        captions = [f"{label} {score:.2f}" for label, score in rows]
        return box_overlay(item.image_bgr, fields["boxes_xyxy"], captions, fields["label_ids"])


def picture_of(item: Item) -> Frame:
    """The item, if it is a picture.

    Raises:
        UsageError: It is none.
    """
    if not isinstance(item, Frame):
        raise UsageError("Boxes are looked for in pictures", expected="A picture or video")
    return item


def read_labels(text: str) -> tuple[str, ...]:
    """Class names, one per line; a blank line at the end is none."""
    return tuple(line.strip() for line in text.rstrip().splitlines())


def _only_detector(bundle: Bundle) -> str:
    names = [name for name, part in bundle.manifest.parts.items() if part.detection is not None]
    if len(names) == 1:
        return names[0]
    raise UnknownNameError(
        f"Bundle {bundle.manifest.model} has {len(names)} parts that give boxes",
        expected=f"A part named by the caller, one of {', '.join(names)}" if names else "One",
    )


def open_from(
    bundle: Bundle,
    session: Session,
    _precision: str,
    part: str | None,
    *,
    prompts: Path | Prompts | None = None,
    others: Mapping[str, Session] | None = None,
) -> Task:
    """The task on a session: for a model of any words, with prompts or their file; see open_task.

    Raises:
        UsageError: Prompts are missing, or given to a detector of fixed classes.
    """
    if bundle.manifest.open_vocabulary is not None:
        from jetlift.runtime.tasks import open_detect

        return open_detect.open_from(bundle, session, prompts, others or {})
    if prompts is not None:
        raise UsageError(
            f"{bundle.manifest.model} got prompts, but its classes are fixed",
            expected="A detector for any words, such as owlv2-base",
        )
    return DetectTask(Detector(bundle, session, part))
