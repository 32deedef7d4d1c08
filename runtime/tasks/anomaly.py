"""What in a picture differs from good ones: PaDiM on patch tokens (see padim.py).

Rules:
    A1  Only what the model sees is judged. Where its preprocessing crops, the borders are not, and
        each result says which part was seen.
    A2  The threshold is mean + 3 standard deviations of good pictures' scores. From 3 pictures on
        these are cross-validated: each is scored by a model that never saw it (5 folds, or one per
        picture below 5). The model that is kept has seen all of them.
    A3  Whatever weakens the model (few pictures, borders unseen) is a sentence in `notes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from jetlift.runtime.drawing import Scale, heat_overlay
from jetlift.runtime.errors import ArtefactError, InputError, UsageError
from jetlift.runtime.jsonform import field
from jetlift.runtime.preprocess import Placement, place
from jetlift.runtime.sources import Frame
from jetlift.runtime.tasks import artefact, padim
from jetlift.runtime.tasks.base import Outcome, Task, place_of
from jetlift.runtime.tasks.encoder import Encoder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy.typing as npt

    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.session.base import Session
    from jetlift.runtime.tasks.base import Item

    Floats = npt.NDArray[np.float32]

SCHEMA_VERSION = 1
DIMS, SEED, FOLDS = 100, 0, 5
_FEW = 20
_DEVIATIONS = 3.0
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
    map_mean: float = field(doc="Mean of good pictures' maps: where the drawn colours begin")
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


def fit(
    bundle: Bundle,
    session: Session,
    source: Iterable[Item],
    *,
    precision: str,
    target: str,
    part: str | None = None,
    dims: int = DIMS,
    seed: int = SEED,
    progress: Callable[[int], None] | None = None,
) -> AnomalyModel:
    """Fit a model to good pictures.

    Their features are kept in memory meanwhile: 4 bytes x patches x dims per picture, which is
    0.1 MB with 256 patches and 100 dimensions.

    Args:
        bundle: The bundle whose part computes.
        session: An engine of the part.
        source: Good pictures.
        precision: The session's variant, for the stamp.
        target: The session's target, for the stamp.
        part: Name of the part; may be left out where only one gives patch tokens.
        dims: Feature dimensions to choose at random.
        seed: Seed of that choice.
        progress: Called with the number of pictures done.

    Raises:
        InputError: There are fewer than 2 pictures, or they are all the same.
        UsageError: The part gives no patch tokens, or `dims` is below 1.
        EngineLibraryError: The engine failed or returned no finite numbers.
    """
    if dims < 1:
        raise UsageError(f"Got {dims} feature dimensions", expected="At least 1")
    encoder = Encoder(bundle, session, part, patches=True)
    features, placements, chosen = _collect(encoder, source, dims, seed, progress)
    gaussians = padim.fit_gaussians(features)
    maps_of = _Mapper(encoder)
    threshold, map_mean = _judge_good(features, placements, gaussians, maps_of)
    head = AnomalyHead(
        kind="jetlift-anomaly-model",
        schema_version=SCHEMA_VERSION,
        stamp=artefact.stamp(bundle, encoder.part_name, precision, target),
        arrays_sha256={},
        pictures=len(features),
        skipped=len(getattr(source, "skipped", ())),
        seed=seed,
        shrinkage_mean=float(gaussians.shrinkage.mean()),
        map_mean=map_mean,
        threshold=threshold,
        notes=_notes(len(features), len(chosen), gaussians, placements, threshold),
    )
    return AnomalyModel(head, chosen, gaussians)


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
        self._encoder, self._model, self._maps_of = encoder, model, _Mapper(encoder)
        rows, columns = self._maps_of.grid_hw
        if rows * columns != len(model.gaussians.mean):
            raise ArtefactError(
                f"The anomaly model has {len(model.gaussians.mean)} patch positions",
                expected=f"{rows} x {columns}, as part {encoder.part_name} gives",
                do="Make it again with: jetlift fit",
            )

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
        scale = Scale(low=head.map_mean, mark=mark, high=mark + (mark - head.map_mean))
        name = Path(item.source).name
        return heat_overlay(
            item.image_bgr,
            outcome.arrays["anomaly_map"],
            scale,
            region_xyxy=self._maps_of.placement(item).seen_xyxy,
            title=f"{verdict}: {fields['score']:.1f} (limit {mark:.1f})  {name}",
        )


class _Mapper:
    """From features to the map over what the model saw of a picture."""

    def __init__(self, encoder: Encoder) -> None:
        self._spec = encoder.image_spec
        rows, columns = encoder.part.patch_grid_hw or (0, 0)
        self.grid_hw = (rows, columns)

    def placement(self, frame: Frame) -> Placement:
        height, width = frame.image_bgr.shape[:2]
        return place((width, height), self._spec)

    def __call__(
        self, gaussians: padim.Gaussians, features: Floats, placement: Placement
    ) -> Floats:
        size_wh = (self._spec.size_wh[0], self._spec.size_wh[1])
        seen_wh = placement.crop_xywh[2:]
        return padim.heat_map(gaussians.distances(features), self.grid_hw, size_wh, seen_wh)


def _collect(
    encoder: Encoder,
    source: Iterable[Item],
    dims: int,
    seed: int,
    progress: Callable[[int], None] | None,
) -> tuple[Floats, list[Placement], npt.NDArray[np.int64]]:
    spec = encoder.image_spec
    rows: list[Floats] = []
    placements: list[Placement] = []
    chosen = np.zeros(0, np.int64)
    for item in source:
        tokens = encoder.encode(item).patch_tokens
        if tokens is None or not isinstance(item, Frame):
            raise UsageError("The part returned no patch tokens", expected="Patch tokens")
        if not rows:
            chosen = padim.choose_dimensions(tokens.shape[1], dims, seed)
        rows.append(tokens[:, chosen])
        placements.append(place((item.image_bgr.shape[1], item.image_bgr.shape[0]), spec))
        if progress is not None:
            progress(len(rows))
    if len(rows) < 2:
        raise InputError(
            f"Got {len(rows)} good pictures",
            expected="At least 2, better 20 or more, that show how good ones differ",
        )
    return np.stack(rows), placements, chosen


def _judge_good(
    features: Floats,
    placements: list[Placement],
    gaussians: padim.Gaussians,
    maps_of: _Mapper,
) -> tuple[Threshold, float]:
    """Scores of the good pictures by rule A2: the threshold, and the mean of their maps."""
    count = len(features)
    scores, means = np.empty(count), np.empty(count)
    held_out = count > 2
    folds = np.arange(count) % min(FOLDS, count)
    for fold in range(folds.max() + 1) if held_out else (-1,):
        judged = np.flatnonzero(folds == fold) if held_out else np.arange(count)
        judge = padim.fit_gaussians(features[folds != fold]) if held_out else gaussians
        for number in judged:
            heat = maps_of(judge, features[number], placements[number])
            scores[number], means[number] = heat.max(), heat.mean()
    mean, std = float(scores.mean()), float(scores.std(ddof=1))
    how = f"cross-validated in {folds.max() + 1} folds" if held_out else "of the fitting itself"
    threshold = Threshold(
        value=mean + _DEVIATIONS * std,
        rule=f"mean + {_DEVIATIONS:g} standard deviations of {count} scores, {how}",
        held_out=held_out,
        score_mean=mean,
        score_std=std,
        score_max=float(scores.max()),
    )
    return threshold, float(means.mean())


def _notes(
    count: int,
    dims: int,
    gaussians: padim.Gaussians,
    placements: list[Placement],
    threshold: Threshold,
) -> tuple[str, ...]:
    notes = []
    if count <= dims:
        notes.append(
            f"{count} good pictures are not enough for {dims} dimensions: the covariances are "
            f"shrunk to the identity with a mean weight of {gaussians.shrinkage.mean():.2f}"
        )
    if not threshold.held_out:
        notes.append(
            "The threshold rests on the pictures the model was fitted to, since 2 leave none to "
            "hold out: expect false alarms"
        )
    elif count < _FEW:
        notes.append(f"The threshold rests on {count} pictures; {_FEW} or more would steady it")
    if any(placement.crop_xywh[2:] != placement.resized_wh for placement in placements):
        notes.append("The model crops: what lies outside `seen_xyxy` of a picture is not judged")
    return tuple(notes)


def _peak_xy(heat: Floats, placement: Placement) -> list[float]:
    row, column = np.unravel_index(int(heat.argmax()), heat.shape)
    left, top, right, bottom = placement.seen_xyxy
    x = left + (float(column) + 0.5) / heat.shape[1] * (right - left)
    y = top + (float(row) + 0.5) / heat.shape[0] * (bottom - top)
    return [round(x, 1), round(y, 1)]
