"""Detic on the device: a picture to proposals, proposals and words to boxes, boxes to masks.

Zhou et al., arXiv 2201.02605. Three sessions, numpy between them (detic_boxes.py):
    proposals  once per picture: features, heat of centres, distances to edges
    regions    once per picture: scores of up to 256 proposals for each word, moved boxes
    masks      once per group of kept boxes
Where it differs from the original is told in docs/detic.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from jetlift.runtime import boxes
from jetlift.runtime.errors import ArtefactError, UsageError
from jetlift.runtime.frames import PictureInput
from jetlift.runtime.manifest import ImagePreprocess
from jetlift.runtime.tasks import detic_boxes
from jetlift.runtime.tasks.open_detect import Found, on_picture

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from jetlift.runtime.boxes import Boxes
    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.prompts import Prompts
    from jetlift.runtime.session.base import Session
    from jetlift.runtime.task_forms import DeticFacts, OpenVocabulary

    Floats = npt.NDArray[np.float32]
    Mask = npt.NDArray[np.bool_]
    Feeds = dict[str, npt.NDArray[np.float32]]

LEVELS = ("p3", "p4", "p5")
HEAT, DISTANCES = "heat", "distances"
BOXES, WORDS, PICTURE, SCORES, MASKS = "boxes_xyxy", "words", "picture_wh", "scores", "masks"
MOVED = "moved_xyxy"


def open_family(bundle: Bundle, session: Session, others: Mapping[str, Session]) -> Detic:
    """Detic's parts on open sessions; raises what `Detic` raises."""
    return Detic(bundle, session, others)


class Detic:
    """Finds what words name, with outlines.

    Args:
        bundle: A verified bundle.
        session: An engine of the part `proposals`.
        others: Engines of the parts that score regions and draw masks, by part.

    Raises:
        UsageError: The bundle is no Detic, or a session is missing.
    """

    def __init__(self, bundle: Bundle, session: Session, others: Mapping[str, Session]) -> None:
        self._words, self._facts = _facts_of(bundle)
        part = bundle.part(self._words.image)[1]
        if not isinstance(part.preprocess, ImagePreprocess):
            raise UsageError(
                f"Part {self._words.image} takes no pictures", expected="A bundle of detic-*"
            )
        self._pictures = PictureInput(part.preprocess)
        self._size_wh = part.preprocess.size_wh
        self._proposals = session
        self._regions = _session_of(others, self._facts.regions)
        self._masks = _session_of(others, self._facts.masks)
        self._group = _most(bundle, self._facts.masks, BOXES)
        self._most_words = _most(bundle, self._facts.regions, WORDS)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of the pictures so far."""
        return self._pictures.notes

    @property
    def engine(self) -> Session:
        """The engine of the part `proposals`."""
        return self._proposals

    def prepare(self, image_bgr: npt.NDArray[np.uint8], _prompts: Prompts) -> Feeds:
        """See Family.prepare."""
        return self._pictures.feeds(image_bgr)

    def finish(
        self,
        image_bgr: npt.NDArray[np.uint8],
        outputs: Mapping[str, npt.NDArray[Any]],
        prompts: Prompts,
    ) -> Found:
        """Everything in a picture, uint8 [H, W, 3], that a prompt names, with its mask.

        Raises:
            ArtefactError: The prompts' features are of another length.
            InputError: The picture cannot be used.
            EngineLibraryError: An engine failed or returned NaN or infinity.
        """
        self._check(prompts.features)
        image_wh = (image_bgr.shape[1], image_bgr.shape[0])
        placement = self._pictures.placement(image_wh)
        proposed = propose(outputs, self._size_wh, self._facts)
        if not len(proposed):
            return _nothing()
        levels = {name: outputs[name] for name in LEVELS}
        picture_wh = np.array([placement.crop_xywh[2:]], np.float32)
        feeds = levels | {BOXES: proposed.boxes_xyxy, PICTURE: picture_wh}
        scores, moved_xyxy = self._scored(feeds, prompts.features)
        found = detic_boxes.detections(
            scores, moved_xyxy, proposed.scores, picture_wh[0], self._words
        )
        on_image, real = on_picture(boxes.to_picture(found.boxes_xyxy, placement), image_wh)
        found, on_image = found.of(real), on_image[real]
        if not len(found):
            return _nothing()
        masks = PastedMasks(self._shares(levels, found), on_image, image_wh)
        return Found(on_image, found.scores, found.labels, masks)

    def _scored(self, feeds: Feeds, words: Floats) -> tuple[Floats, Floats]:
        """Scores float32 [K, prompts] and moved boxes [K, 4], in groups that the engine takes.

        A score depends on its own word alone, and the moved boxes on none.
        """
        runs = [
            self._regions.run(feeds | {WORDS: words[start : start + self._most_words[0]]})
            for start in range(0, len(words), self._most_words[0])
        ]
        return np.concatenate([run[SCORES] for run in runs], axis=1), runs[0][MOVED]

    def _check(self, words: Floats) -> None:
        if words.shape[1] != self._most_words[1]:
            raise ArtefactError(
                f"The prompts' features are {words.shape[1]} long",
                expected=f"{self._most_words[1]}, as the part {self._facts.regions} takes them",
            )

    def _shares(self, levels: Feeds, found: Boxes) -> Floats:
        """Masks over their boxes, float32 [N, side, side], in groups that the engine takes."""
        drawn: list[Floats] = []
        for start in range(0, len(found), self._group[0]):
            rows = slice(start, start + self._group[0])
            drawn.append(self._masks.run(levels | {BOXES: found.boxes_xyxy[rows]})[MASKS])
        detic_boxes.check_finite(*drawn)
        return np.concatenate(drawn).astype(np.float32, copy=False)


class PastedMasks(Sequence["Mask"]):
    """Masks on a picture, each pasted when it is looked at: 300 of an 8K picture would be 10 GB.

    Args:
        shares: float32 [N, side, side], 0 to 1 over the boxes.
        boxes_xyxy: float32 [N, 4] in the picture's pixels, with areas.
        image_wh: Size of the picture.
    """

    def __init__(self, shares: Floats, boxes_xyxy: Floats, image_wh: tuple[int, int]) -> None:
        self._shares, self._boxes, self._image_wh = shares, boxes_xyxy, image_wh

    def __len__(self) -> int:
        return len(self._boxes)

    @overload
    def __getitem__(self, index: int) -> Mask: ...

    @overload
    def __getitem__(self, index: slice) -> PastedMasks: ...

    def __getitem__(self, index: int | slice) -> Mask | PastedMasks:
        """One mask, bool [H, W] of the picture, or some of them."""
        if isinstance(index, slice):
            return PastedMasks(self._shares[index], self._boxes[index], self._image_wh)
        return detic_boxes.paste(self._shares[index], self._boxes[index], self._image_wh)


def propose(
    seen: Mapping[str, npt.NDArray[np.float32]], size_wh: tuple[int, ...], facts: DeticFacts
) -> Boxes:
    """Proposals of one picture, from the outputs of the part `proposals`."""
    heat, distances = (seen[name][0].astype(np.float32, copy=False) for name in (HEAT, DISTANCES))
    return detic_boxes.proposals(heat, distances, size_wh, facts)


def _facts_of(bundle: Bundle) -> tuple[OpenVocabulary, DeticFacts]:
    words = bundle.manifest.open_vocabulary
    if words is None or words.detic is None:
        raise UsageError(f"{bundle.manifest.model} is no Detic", expected="A bundle of detic-*")
    return words, words.detic


def _session_of(others: Mapping[str, Session], part: str) -> Session:
    if part not in others:
        raise UsageError(
            f"Got sessions of {', '.join(others) or 'no other part'}",
            expected=f"One of the part {part} as well",
        )
    return others[part]


def _most(bundle: Bundle, part: str, name: str) -> tuple[int, ...]:
    """The largest shape of an input of a part."""
    for spec in bundle.part(part)[1].inputs:
        if spec.name == name and spec.max_shape is not None:
            return spec.max_shape
    raise UsageError(
        f"Part {part} has no input {name} with a largest shape", expected="A bundle of detic-*"
    )


def _nothing() -> Found:
    return Found(
        np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), masks=[]
    )
