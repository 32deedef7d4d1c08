"""Samples of Detic's parts, all made of one folder of pictures.

proposals  the pictures
regions    fp32's features and proposals of each picture, with the words of COCO's 80 classes
masks      fp32's features, and the boxes that fp32's `regions` makes of the best proposals
text       the words of COCO's 80 classes in Detic's sentence

The features of a picture are large (22 MB at full size), so they are computed again whenever a
sample is looked at, and only the last are kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.export.coco import COCO_LABELS
from jetlift.export.samples import Item
from jetlift.runtime.errors import InputError
from jetlift.runtime.preprocess import place, prepare_image
from jetlift.runtime.prompts import PLACE
from jetlift.runtime.session import open_onnx
from jetlift.runtime.sources import open_source
from jetlift.runtime.tasks import open_detic
from jetlift.runtime.text import TextPreparer

if TYPE_CHECKING:
    import numpy.typing as npt

    from jetlift.export.samples import ItemContext
    from jetlift.runtime.boxes import Boxes
    from jetlift.runtime.manifest import ImagePreprocess, TextPreprocess
    from jetlift.runtime.session.base import Session
    from jetlift.runtime.sources import Frame
    from jetlift.runtime.task_forms import DeticFacts

    Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Facts:
    """What the samples are made with.

    Attributes:
        pixels: The pictures' preprocessing.
        text: The words' preprocessing.
        template: The sentence of a word.
        detic: Thresholds and counts.
        prompts: Most words that a part takes.
        masks: Most boxes that the part `masks` takes.
    """

    pixels: ImagePreprocess
    text: TextPreprocess
    template: str
    detic: DeticFacts
    prompts: int
    masks: int


def words(context: ItemContext, facts: Facts) -> list[Item]:
    """The names of COCO's classes, whatever the folder holds."""
    sentences, feeds = _sentences(context, facts)
    return [
        Item(hashlib.sha256(sentence.encode()).hexdigest(), (feed,))
        for sentence, feed in zip(sentences, feeds, strict=True)
    ]


def regions(context: ItemContext, facts: Facts) -> list[Item]:
    """Proposals of each picture."""
    seen = _Seen(open_onnx(context.files["proposals"], library="onnxruntime"), facts)
    features = _word_features(context, facts)
    return [_item(frame, RegionFeeds(frame, seen, features)) for frame in _frames(context, seen)]


def masks(context: ItemContext, facts: Facts) -> list[Item]:
    """Boxes of the best proposals of each picture."""
    seen = _Seen(open_onnx(context.files["proposals"], library="onnxruntime"), facts)
    scorer = open_onnx(context.files["regions"], library="onnxruntime")
    features = _word_features(context, facts)
    return [
        _item(frame, MaskFeeds(frame, seen, _boxes(scorer, frame, seen, features)))
        for frame in _frames(context, seen)
    ]


def _item(picture: _Picture, feeds: Any) -> Item:  # noqa: ANN401 - a mapping made on demand
    return Item(picture.digest, (feeds,))


def _sentences(context: ItemContext, facts: Facts) -> tuple[list[str], list[dict[str, Array]]]:
    preparer = TextPreparer(facts.text, context.bundle_folder / facts.text.tokenizer)
    sentences = [facts.template.replace(PLACE, label) for label in COCO_LABELS]
    return sentences, [preparer([sentence]) for sentence in sentences]


def _word_features(context: ItemContext, facts: Facts) -> Array:
    """float32 [words, D], of as many words as the part takes."""
    _, feeds = _sentences(context, facts)
    with open_onnx(context.files["text"], library="onnxruntime") as encoder:
        rows = [encoder.run(feed)["embedding"] for feed in feeds[: facts.prompts]]
    return np.concatenate(rows)


@dataclass(frozen=True, eq=False)
class _Picture:
    """A picture on the disk or in memory, and what is known of it."""

    frame: Frame
    picture_wh: Array

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(self.frame.image_bgr.tobytes()).hexdigest()


def _frames(context: ItemContext, seen: _Seen) -> list[_Picture]:
    """Pictures in which there is a proposal; others would be no sample of the parts behind."""
    pictures = []
    with open_source([str(context.folder)]) as source:
        for frame in source:
            height, width = frame.image_bgr.shape[:2]
            size = place((width, height), seen.facts.pixels).crop_xywh[2:]
            picture = _Picture(frame, np.array([size], np.float32))
            if len(seen(picture)[1]):
                pictures.append(picture)
        if source.skipped:
            raise InputError(
                f"{source.skipped[0].source} cannot be read: {source.skipped[0].reason}",
                expected="Samples that are all whole, since figures must be repeatable",
                do="Remove it from the samples",
            )
    return pictures


class _Seen:
    """fp32's features and proposals of a picture; the last one's are kept."""

    def __init__(self, session: Session, facts: Facts) -> None:
        self.facts, self._session = facts, session
        self._last: tuple[_Picture, dict[str, Array], Boxes] | None = None

    def __call__(self, picture: _Picture) -> tuple[dict[str, Array], Boxes]:
        if self._last is None or self._last[0] is not picture:
            spec = self.facts.pixels
            outputs = self._session.run({spec.input: prepare_image(picture.frame.image_bgr, spec)})
            levels = {name: outputs[name] for name in open_detic.LEVELS}
            found = open_detic.propose(outputs, spec.size_wh, self.facts.detic)
            self._last = (picture, levels, found)
        return self._last[1:]


class RegionFeeds(Mapping[str, "Array"]):
    """What the part `regions` gets of one picture."""

    names: tuple[str, ...] = (
        *open_detic.LEVELS, open_detic.BOXES, open_detic.WORDS, open_detic.PICTURE
    )  # fmt: skip

    def __init__(self, picture: _Picture, seen: _Seen, features: Array) -> None:
        self._picture, self._seen, self._features = picture, seen, features

    def __getitem__(self, name: str) -> Array:
        if name == open_detic.WORDS:
            return self._features
        if name == open_detic.PICTURE:
            return self._picture.picture_wh
        levels, found = self._seen(self._picture)
        return found.boxes_xyxy if name == open_detic.BOXES else levels[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


class MaskFeeds(Mapping[str, "Array"]):
    """What the part `masks` gets of one picture."""

    names: tuple[str, ...] = (*open_detic.LEVELS, open_detic.BOXES)

    def __init__(self, picture: _Picture, seen: _Seen, boxes_xyxy: Array) -> None:
        self._picture, self._seen, self._boxes_xyxy = picture, seen, boxes_xyxy

    def __getitem__(self, name: str) -> Array:
        return self._boxes_xyxy if name == open_detic.BOXES else self._seen(self._picture)[0][name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def _boxes(scorer: Session, picture: _Picture, seen: _Seen, features: Array) -> Array:
    """Boxes that fp32 makes of the best proposals, cut at the picture."""
    scored = scorer.run(dict(RegionFeeds(picture, seen, features)))
    best = np.argsort(-scored[open_detic.SCORES].max(axis=1), kind="stable")[: seen.facts.masks]
    limits = np.tile(picture.picture_wh[0], 2)
    return np.clip(scored[open_detic.MOVED][best], np.float32(0), limits)
