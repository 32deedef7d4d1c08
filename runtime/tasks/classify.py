"""Which label fits a picture: words of the user's own (CLIP, SigLIP), or a model's fixed classes.

Fields: `labels`, best first, and `scores`, one per label. Arrays: `scores` [labels], all of them,
in the order of the prompts or of the model's classes.

Rules:
    L1  Words: the score is softmax or sigmoid of scale * cosine + bias, both facts of the
        checkpoint. Softmax scores share a whole of 1 among the words that were asked for; sigmoid
        scores stand alone. Fixed classes: softmax of the model's raw scores.
    L2  Of equal scores the earlier label comes first.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from jetlift.runtime.drawing import Tile, contact_sheet
from jetlift.runtime.errors import ArtefactError, EngineLibraryError, UnknownNameError, UsageError
from jetlift.runtime.frames import PictureInput
from jetlift.runtime.manifest import ImagePreprocess
from jetlift.runtime.prompts import Prompts
from jetlift.runtime.sources import Frame
from jetlift.runtime.tasks import artefact
from jetlift.runtime.tasks.base import (
    Outcome,
    Prepared,
    StepTask,
    Task,
    place_of,
    short_floats,
)
from jetlift.runtime.tasks.detect import read_labels
from jetlift.runtime.tasks.encoder import Encoder
from jetlift.runtime.tasks.search import normalised

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.session.base import Session
    from jetlift.runtime.tasks.base import Array, Item

    Doubles = npt.NDArray[np.float64]

COUNT = 5
_TILE_WH = (480, 360)


class Scorer(Protocol):
    """What gives each label its score."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, in the order of the scores."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of the pictures so far."""

    @property
    def engine(self) -> Session:
        """The session of the part."""

    def prepare(self, frame: Frame) -> Prepared:
        """What the part is fed for a picture."""

    def scores(self, frame: Frame, prepared: Prepared, outputs: Mapping[str, Array]) -> Doubles:
        """A score per label, float64 [labels], 0 to 1; in float32 the lowest would be alike."""


class WordScorer:
    """Scores pictures against words.

    Args:
        bundle: A bundle that compares pictures with words.
        session: An engine of its picture part.
        prompts: The words, with features of this bundle.

    Raises:
        UsageError: The bundle cannot do that, or the session is of another part.
        ArtefactError: The prompts are of another bundle.
    """

    def __init__(self, bundle: Bundle, session: Session, prompts: Prompts) -> None:
        facts = bundle.manifest.zero_shot
        if facts is None:
            raise UsageError(
                f"{bundle.manifest.model} cannot compare pictures with words",
                expected="A model that gives each word a score, such as clip-vit-b32",
            )
        self._facts, self._prompts = facts, prompts
        prompts.check_bundle(bundle)
        self._encoder = Encoder(bundle, session, self._facts.image)

    @property
    def labels(self) -> tuple[str, ...]:
        """The prompts."""
        return self._prompts.head.prompts

    @property
    def notes(self) -> tuple[str, ...]:
        """See Scorer.notes."""
        return self._encoder.notes

    @property
    def engine(self) -> Session:
        """See Scorer.engine."""
        return self._encoder.engine

    def prepare(self, frame: Frame) -> Prepared:
        """See Scorer.prepare."""
        return self._encoder.prepare(frame)

    def scores(self, frame: Frame, prepared: Prepared, outputs: Mapping[str, Array]) -> Doubles:
        """See Scorer.scores (rule L1)."""
        vector = normalised(self._encoder.finish(frame, prepared, outputs).embedding, frame)
        cosines = self._prompts.features.astype(np.float64) @ vector.astype(np.float64)
        raw = self._facts.logit_scale * cosines + self._facts.logit_bias
        return softmax(raw) if self._facts.scores == "softmax" else sigmoid(raw)


class ClassScorer:
    """Scores pictures against a model's fixed classes.

    Args:
        bundle: A verified bundle.
        session: An engine of its classifier part.
        part: Its name; may be left out where only one part is a classifier.

    Raises:
        UnknownNameError: No such part, or none or several that could be meant.
        UsageError: The part is no classifier, or the session is of another part.
        ArtefactError: The labels are fewer or more than the output has classes.
    """

    def __init__(self, bundle: Bundle, session: Session, part: str | None = None) -> None:
        name = part or _only_classifier(bundle)
        described = bundle.part(name)[1]
        head, spec = described.classification, described.preprocess
        if head is None or not isinstance(spec, ImagePreprocess):
            raise UsageError(f"Part {name} is no classifier", expected="A part with classes")
        if spec.input not in {item.name for item in session.inputs}:
            raise UsageError(f"The session is not of part {name}", expected=f"Input {spec.input}")
        self._pictures, self._session, self._output = PictureInput(spec), session, head.output
        self._labels = read_labels(bundle.path(head.labels).read_text(encoding="utf-8"))
        classes = next(item.shape[-1] for item in described.outputs if item.name == head.output)
        if classes != len(self._labels):
            raise ArtefactError(
                f"{head.labels} has {len(self._labels)} labels, the model {classes} classes",
                expected="One label per class",
                do="Make the bundle again with: jetlift export",
            )

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes' names."""
        return self._labels

    @property
    def notes(self) -> tuple[str, ...]:
        """See Scorer.notes."""
        return self._pictures.notes

    @property
    def engine(self) -> Session:
        """See Scorer.engine."""
        return self._session

    def prepare(self, frame: Frame) -> Prepared:
        """See Scorer.prepare."""
        return Prepared(self._pictures.feeds(frame.image_bgr))

    def scores(self, frame: Frame, _prepared: Prepared, outputs: Mapping[str, Array]) -> Doubles:
        """See Scorer.scores (rule L1)."""
        raw = outputs[self._output][0]
        if not np.isfinite(raw).all():
            raise EngineLibraryError(
                f"Output {self._output} holds NaN or infinity for {frame.source} ({frame.index})",
                expected="Finite numbers",
                do="Try --precision fp32: where that is finite, this variant overflows",
            )
        return softmax(raw.astype(np.float64))


class ClassifyTask(StepTask):
    """The labels that fit each picture best.

    Args:
        scorer: What gives each label its score.
        count: How many labels at most.

    Raises:
        UsageError: `count` is below 1.
    """

    name = "classify"

    def __init__(self, scorer: Scorer, *, count: int = COUNT) -> None:
        if count < 1:
            raise UsageError(f"Got a count of {count} labels", expected="At least 1")
        self._scorer, self._count = scorer, count

    @property
    def notes(self) -> tuple[str, ...]:
        """See Task.notes."""
        return self._scorer.notes

    @property
    def engine(self) -> Session:
        """See StepTask.engine."""
        return self._scorer.engine

    def prepare(self, item: Item) -> Prepared:
        """See StepTask.prepare."""
        return self._scorer.prepare(_picture(item))

    def finish(self, item: Item, prepared: Prepared, outputs: Mapping[str, Array]) -> Outcome:
        """Score one picture; see StepTask.finish."""
        scores = self._scorer.scores(_picture(item), prepared, outputs)
        best = np.argsort(-scores, kind="stable")[: self._count]  # L2
        fields: dict[str, Any] = place_of(item) | {
            "labels": [self._scorer.labels[row] for row in best],
            "scores": short_floats(scores[best]),
        }
        return Outcome(fields, {"scores": scores.astype(np.float32)})

    def draw(self, item: Item, outcome: Outcome) -> npt.NDArray[np.uint8] | None:
        """The picture with its labels under it."""
        if not isinstance(item, Frame):
            return None
        rows = zip(outcome.fields["labels"], outcome.fields["scores"], strict=True)
        lines = tuple(f"{score:.3f}  {label}" for label, score in rows)
        tile = Tile(item.image_bgr, (Path(item.source).name, *lines))
        return contact_sheet([tile], columns=1, tile_wh=_TILE_WH)


def _picture(item: Item) -> Frame:
    if not isinstance(item, Frame):
        raise UsageError("Labels are found for pictures", expected="A picture or video")
    return item


def softmax(raw: Doubles) -> Doubles:
    """Shares of a whole, float64 [n]; a shift of all raw scores changes nothing."""
    powers = np.exp(raw - raw.max())
    return np.asarray(powers / powers.sum(), np.float64)


def sigmoid(raw: Doubles) -> Doubles:
    """1 / (1 + exp(-raw)), float64 [n], without overflow on either side."""
    small = np.exp(-np.abs(raw))
    return np.asarray(np.where(raw >= 0, 1.0, small) / (1.0 + small), np.float64)


def _only_classifier(bundle: Bundle) -> str:
    parts = bundle.manifest.parts
    names = [name for name, part in parts.items() if part.classification is not None]
    if len(names) == 1:
        return names[0]
    raise UnknownNameError(
        f"Bundle {bundle.manifest.model} has {len(names)} parts with fixed classes",
        expected=f"A part named by the caller, one of {', '.join(names)}" if names else "One",
    )


def open_from(
    bundle: Bundle,
    session: Session,
    _precision: str,
    part: str | None,
    *,
    prompts: Path | Prompts | None = None,
    count: int = 5,
) -> Task:
    """The task on a session: for a model of any words, with prompts or their file; see open_task.

    Raises:
        UsageError: Prompts are missing, or given to a model of fixed classes.
    """
    if bundle.manifest.zero_shot is None:
        if prompts is not None:
            raise UsageError(
                f"{bundle.manifest.model} got prompts, but its classes are fixed",
                expected="A model that compares pictures with words, such as clip-vit-b32",
            )
        return ClassifyTask(ClassScorer(bundle, session, part), count=count)
    if not isinstance(prompts, Prompts):
        prompts = Prompts.load(artefact.needed("classify", prompts))
    return ClassifyTask(WordScorer(bundle, session, prompts), count=count)
