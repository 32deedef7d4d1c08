"""What in a picture differs from good ones: PaDiM on patch tokens (see padim.py).

Rules:
    A1  Only what the model sees is judged. Where its preprocessing crops, the borders are not, and
        each result says which part was seen.
    A2  A picture's score is the maximum of its smoothed map; from the threshold on it is anomalous.
    A3  In drawings the colours begin at the mean score of good pictures and a line follows the
        threshold. Their end is the same for every picture, but for those that go beyond it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from jetlift.runtime.drawing import Scale, heat_overlay
from jetlift.runtime.errors import ArtefactError, UsageError
from jetlift.runtime.frames import placement_of
from jetlift.runtime.jsonform import field
from jetlift.runtime.sources import Frame
from jetlift.runtime.tasks import artefact, padim
from jetlift.runtime.tasks.base import Outcome, Task, place_of
from jetlift.runtime.tasks.encoder import Encoder

if TYPE_CHECKING:
    import numpy.typing as npt

    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.preprocess import Placement
    from jetlift.runtime.session.base import Session
    from jetlift.runtime.tasks.base import Item

    Floats = npt.NDArray[np.float32]

SCHEMA_VERSION = 1
KIND: Literal["jetlift-anomaly-model"] = "jetlift-anomaly-model"
_WHAT = "an anomaly model"


@dataclass(frozen=True)
class Threshold:
    """Where anomalous begins, and what that rests on (rule A2)."""

    value: float = field(doc="A picture with this score or more is called anomalous")
    rule: str = field(doc="How it was chosen")
    held_out: bool = field(doc="Whether the scores come from pictures the scoring model never saw")
    score_mean: float = field(doc="Mean score of the good pictures")
    score_std: float = field(doc="Standard deviation of the good pictures' scores")
    score_max: float = field(doc="Highest score of a good picture")


@dataclass(frozen=True)
class AnomalyHead:
    """The head of an anomaly model's file."""

    kind: Literal["jetlift-anomaly-model"] = field(doc="Says what the file is")
    schema_version: int = field(doc="Version of this schema")
    stamp: artefact.Stamp = field(doc="Whose numbers these are")
    arrays_sha256: dict[str, str] = field(doc="SHA-256 of dtype, shape and bytes of each array")
    pictures: int = field(doc="Number of good pictures")
    skipped: int = field(doc="Pictures that could not be read")
    seed: int = field(doc="Seed of the choice of dimensions")
    shrinkage_mean: float = field(doc="Mean weight of the identity in the covariances, 0 to 1")
    threshold: Threshold = field(doc="Where anomalous begins")
    notes: tuple[str, ...] = field(doc="What weakens the model")


@dataclass(frozen=True, eq=False)
class AnomalyModel:
    """A fitted model in memory.

    Attributes:
        head: What it rests on.
        dims: int64 [dims], the feature dimensions in use.
        gaussians: One per patch position.
    """

    head: AnomalyHead
    dims: npt.NDArray[np.int64]
    gaussians: padim.Gaussians

    def save(self, path: Path | str) -> None:
        """Write the model as one file, atomically.

        Raises:
            StorageError: The disk is full or not writable.
        """
        arrays: dict[str, npt.NDArray[Any]] = {
            "dims": self.dims,
            "mean": self.gaussians.mean,
            "whitening": self.gaussians.whitening,
            "shrinkage": self.gaussians.shrinkage,
        }
        artefact.save(Path(path), self.head, arrays)

    @classmethod
    def load(cls, path: Path | str) -> AnomalyModel:
        """Read a model back.

        Raises:
            InputError: There is no such file.
            ArtefactError: It is something else, altered, or of another version.
        """
        head, arrays = artefact.load(Path(path), AnomalyHead, version=SCHEMA_VERSION, what=_WHAT)
        forms = {name: (array.dtype.str, array.ndim) for name, array in arrays.items()}
        if forms != _FORMS or not _fit_together(arrays):
            raise ArtefactError(f"{path} is not {_WHAT}: its arrays do not fit together")
        gaussians = padim.Gaussians(arrays["mean"], arrays["whitening"], arrays["shrinkage"])
        return cls(head, arrays["dims"], gaussians)


_FORMS = {"dims": ("<i8", 1), "mean": ("<f4", 2), "whitening": ("<f4", 3), "shrinkage": ("<f8", 1)}


def _fit_together(arrays: dict[str, npt.NDArray[Any]]) -> bool:
    patches, dims = arrays["mean"].shape
    return (
        arrays["dims"].shape == (dims,)
        and arrays["whitening"].shape == (patches, dims, dims)
        and arrays["shrinkage"].shape == (patches,)
    )


class AnomalyTask(Task):
    """How far each picture is from good ones, and where.

    Fields: `score`, `threshold`, `anomalous`, `peak_xy` (where the map is highest) and `seen_xyxy`
    (the part that was judged), both in the picture's pixels.
    Arrays: `anomaly_map` float32, over what was seen.

    Args:
        encoder: What computes patch tokens.
        model: What good ones look like.

    Raises:
        ArtefactError: The model has another grid than the part.
    """

    name = "anomaly"

    def __init__(self, encoder: Encoder, model: AnomalyModel) -> None:
        self._encoder, self._model, self._maps_of = encoder, model, Mapper(encoder)
        rows, columns = self._maps_of.grid_hw
        if rows * columns != len(model.gaussians.mean):
            raise ArtefactError(
                f"The anomaly model has {len(model.gaussians.mean)} patch positions",
                expected=f"{rows} x {columns}, as part {encoder.part_name} gives",
                do="Make it again with: jetlift fit",
            )

    @property
    def notes(self) -> tuple[str, ...]:
        """See Task.notes."""
        return self._encoder.notes

    def process(self, item: Item) -> Outcome:
        """Score one picture; see Task.process."""
        if not isinstance(item, Frame):
            raise UsageError("Anomalies are looked for in pictures", expected="A picture or video")
        tokens = self._encoder.encode(item).patch_tokens
        if tokens is None:
            raise UsageError("The part returned no patch tokens", expected="Patch tokens")
        placement = self._maps_of.placement(item)
        heat = self._maps_of(self._model.gaussians, tokens[:, self._model.dims], placement)
        score, threshold = float(heat.max()), self._model.head.threshold.value
        fields = place_of(item) | {
            "score": round(score, 4),
            "threshold": round(threshold, 4),
            "anomalous": score >= threshold,
            "peak_xy": _peak_xy(heat, placement),
            "seen_xyxy": [round(edge, 1) for edge in placement.seen_xyxy],
        }
        return Outcome(fields, {"anomaly_map": heat})

    def draw(self, item: Item, outcome: Outcome) -> npt.NDArray[np.uint8] | None:
        """The picture under its heat map."""
        if not isinstance(item, Frame):
            return None
        fields, head = outcome.fields, self._model.head
        verdict = "anomalous" if fields["anomalous"] else "good"
        mark = head.threshold.value
        low = head.threshold.score_mean  # what the hottest spot of a good picture has
        scale = Scale(low=low, mark=mark, high=max(mark + 2 * (mark - low), fields["score"]))
        name = Path(item.source).name
        return heat_overlay(
            item.image_bgr,
            outcome.arrays["anomaly_map"],
            scale,
            region_xyxy=self._maps_of.placement(item).seen_xyxy,
            title=f"{verdict}: {fields['score']:.1f} (limit {mark:.1f})  {name}",
        )


class Mapper:
    """From features to the map over what the model saw of a picture."""

    def __init__(self, encoder: Encoder) -> None:
        self._spec = encoder.image_spec
        rows, columns = encoder.part.patch_grid_hw or (0, 0)
        self.grid_hw = (rows, columns)

    def placement(self, frame: Frame) -> Placement:
        """Where a picture lies in the part's input."""
        height, width = frame.image_bgr.shape[:2]
        return placement_of((width, height), self._spec)

    def __call__(
        self, gaussians: padim.Gaussians, features: Floats, placement: Placement
    ) -> Floats:
        """The smoothed map of one picture's features, float32 [height, width] of what is seen."""
        size_wh = (self._spec.size_wh[0], self._spec.size_wh[1])
        seen_wh = placement.crop_xywh[2:]
        return padim.heat_map(gaussians.distances(features), self.grid_hw, size_wh, seen_wh)


def _peak_xy(heat: Floats, placement: Placement) -> list[float]:
    row, column = np.unravel_index(int(heat.argmax()), heat.shape)
    left, top, right, bottom = placement.seen_xyxy
    x = left + (float(column) + 0.5) / heat.shape[1] * (right - left)
    y = top + (float(row) + 0.5) / heat.shape[0] * (bottom - top)
    return [round(x, 1), round(y, 1)]


def open_from(
    bundle: Bundle,
    session: Session,
    precision: str,
    part: str | None,
    *,
    fit: Path | AnomalyModel | None = None,
) -> Task:
    """The task on a session, with a fitted model or its file; see open_task."""
    if not isinstance(fit, AnomalyModel):
        fit = AnomalyModel.load(artefact.needed("anomaly", fit))
    encoder = Encoder(bundle, session, part, patches=True)
    stamped = fit.head.stamp
    artefact.check_stamp(stamped, bundle, encoder.part_name, precision, "The anomaly model")
    return AnomalyTask(encoder, fit)
