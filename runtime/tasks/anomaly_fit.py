"""Fitting an anomaly model to good pictures (see padim.py and patchcore.py).

Rules:
    G1  The threshold is mean + 3 standard deviations of good pictures' scores. From 3 pictures on
        these are cross-validated: each is scored by a model that never saw it (5 folds, or one per
        picture below 5). The model that is kept has seen all of them.
    G2  Whatever weakens the model (few pictures, borders unseen) is a sentence in `notes`.
    G3  Features are held in memory while fitting, at most MOST_BYTES of them: more good pictures
        than that are refused, since a choice among them would be the user's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jetlift.runtime.errors import InputError, UsageError
from jetlift.runtime.frames import placement_of
from jetlift.runtime.sources import Frame
from jetlift.runtime.tasks import artefact, padim, patchcore
from jetlift.runtime.tasks.anomaly import Mapper
from jetlift.runtime.tasks.anomaly_model import (
    KIND,
    SCHEMA_VERSION,
    AnomalyHead,
    AnomalyModel,
    MapMark,
    Method,
    Threshold,
)
from jetlift.runtime.tasks.encoder import Encoder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy.typing as npt

    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.preprocess import Placement
    from jetlift.runtime.session.base import Session
    from jetlift.runtime.tasks.base import Item

    Floats = npt.NDArray[np.float32]
    Doubles = npt.NDArray[np.float64]
    Judge = padim.Padim | patchcore.Memory

DIMS, SEED, FOLDS = 100, 0, 5
MOST_BYTES = 2**30
_FEW = 20
_CAN_HOLD_OUT = 3  # pictures; fewer leave no two to fit a judge to
_DEVIATIONS = 3.0


@dataclass(frozen=True, eq=False)
class _Good:
    """What is kept of the good pictures.

    Attributes:
        features: float32 [pictures, patches, dims].
        placements: Where each lies in the part's input.
        dims: int64 [dims], which dimensions of the tokens `features` has.
    """

    features: Floats
    placements: list[Placement]
    dims: npt.NDArray[np.int64]


def fit(
    bundle: Bundle,
    session: Session,
    source: Iterable[Item],
    *,
    precision: str,
    target: str,
    part: str | None = None,
    method: Method = "padim",
    dims: int = DIMS,
    seed: int = SEED,
    progress: Callable[[int], None] | None = None,
) -> AnomalyModel:
    """Fit a model to good pictures.

    Their features are kept in memory meanwhile (rule G3): 4 bytes x patches x dims per picture,
    which with 256 patches is 0.1 MB for PaDiM's 100 dimensions, 0.4 MB for PatchCore's 384.

    Args:
        bundle: The bundle whose part computes.
        session: An engine of the part.
        source: Good pictures.
        precision: The session's variant, for the stamp.
        target: The session's target, for the stamp.
        part: Name of the part; may be left out where only one gives patch tokens.
        method: How good pictures are described.
        dims: Feature dimensions that PaDiM chooses at random; PatchCore takes all.
        seed: Seed of that choice, or of PatchCore's selection.
        progress: Called with the number of pictures done.

    Raises:
        InputError: There are fewer than 2 pictures, or too many, or they are all the same.
        UsageError: The part gives no patch tokens, or `dims` is below 1.
        EngineLibraryError: The engine failed or returned no finite numbers.
    """
    if dims < 1:
        raise UsageError(f"Got {dims} feature dimensions", expected="At least 1")
    encoder = Encoder(bundle, session, part, patches=True)
    good = _collect(encoder, source, dims if method == "padim" else None, seed, progress)
    judge = _judge(method, good.features, good.dims, seed)
    scores, maxima = _scores(good, judge, Mapper(encoder), method, seed)
    threshold = _threshold(scores)
    shrinkage = judge.gaussians.shrinkage.mean() if isinstance(judge, padim.Padim) else 0.0
    head = AnomalyHead(
        kind=KIND,
        schema_version=SCHEMA_VERSION,
        stamp=artefact.stamp(bundle, encoder.part_name, precision, target),
        arrays_sha256={},
        pictures=len(good.features),
        skipped=len(getattr(source, "skipped", ())),
        seed=seed,
        shrinkage_mean=float(shrinkage),
        threshold=threshold,
        notes=(*_notes(good, judge, threshold), *encoder.notes),
        method=method,
        map_mark=None if method == "padim" else _map_mark(maxima),
    )
    return AnomalyModel(head, judge)


def _judge(method: Method, features: Floats, dims: npt.NDArray[np.int64], seed: int) -> Judge:
    if method == "patchcore":
        return patchcore.remember(features, seed)
    return padim.Padim(dims, padim.fit_gaussians(features))


def _collect(
    encoder: Encoder,
    source: Iterable[Item],
    dims: int | None,
    seed: int,
    progress: Callable[[int], None] | None,
) -> _Good:
    spec = encoder.image_spec
    rows: list[Floats] = []
    placements: list[Placement] = []
    chosen = np.zeros(0, np.int64)
    for item in source:
        tokens = encoder.encode(item).patch_tokens
        if tokens is None or not isinstance(item, Frame):
            raise UsageError("The part returned no patch tokens", expected="Patch tokens")
        if not rows:
            chosen = padim.choose_dimensions(tokens.shape[1], dims or tokens.shape[1], seed)
        rows.append(tokens[:, chosen])
        placements.append(placement_of((item.image_bgr.shape[1], item.image_bgr.shape[0]), spec))
        _check_room(len(rows), rows[0].nbytes)
        if progress is not None:
            progress(len(rows))
    if len(rows) < 2:
        raise InputError(
            f"Got {len(rows)} good pictures",
            expected="At least 2, better 20 or more, that show how good ones differ",
        )
    return _Good(np.stack(rows), placements, chosen)


def _check_room(count: int, bytes_each: int) -> None:
    if count * bytes_each > MOST_BYTES:  # rule G3
        most = MOST_BYTES // bytes_each
        raise InputError(
            f"Got more good pictures than {most}, whose features take {MOST_BYTES >> 20} MiB",
            expected=f"At most {most}",
            do="Choose some that show how good ones differ",
        )


def _scores(
    good: _Good, judge: Judge, maps_of: Mapper, method: Method, seed: int
) -> tuple[Doubles, Doubles]:
    """Score and map maximum of each good picture (rule G1).

    By a model that never saw it, where that can be.
    """
    count = len(good.features)
    parts = min(FOLDS, count)
    # Runs of neighbours, not every fifth: neighbours may be frames of one video, nearly the same.
    folds = np.arange(count) * parts // count
    kept = np.arange(len(good.dims))
    if isinstance(judge, padim.Padim):  # features have its dimensions already
        judge = padim.Padim(kept, judge.gaussians)
    scores, maxima = np.empty(count), np.empty(count)
    for fold in range(parts):
        if count >= _CAN_HOLD_OUT:
            judge = _judge(method, good.features[folds != fold], kept, seed)
        for number in np.flatnonzero(folds == fold):
            heat, score = maps_of(judge, good.features[number], good.placements[number])
            scores[number], maxima[number] = score, heat.max()
    return scores, maxima


def _map_mark(maxima: Doubles) -> MapMark:
    mean = float(maxima.mean())
    return MapMark(mean, mean + _DEVIATIONS * float(maxima.std(ddof=1)))


def _threshold(scores: npt.NDArray[np.float64]) -> Threshold:
    count = len(scores)
    held_out = count >= _CAN_HOLD_OUT
    how = f"cross-validated in {min(FOLDS, count)} folds" if held_out else "of the fitting itself"
    mean, std = float(scores.mean()), float(scores.std(ddof=1))
    return Threshold(
        value=mean + _DEVIATIONS * std,
        rule=f"mean + {_DEVIATIONS:g} standard deviations of {count} scores, {how}",
        held_out=held_out,
        score_mean=mean,
        score_std=std,
        score_max=float(scores.max()),
    )


def _notes(good: _Good, judge: Judge, threshold: Threshold) -> tuple[str, ...]:
    notes = []
    count, dims = len(good.features), len(good.dims)
    if isinstance(judge, padim.Padim) and count <= dims:
        notes.append(
            f"{count} good pictures are not enough for {dims} dimensions: the covariances are "
            f"shrunk to the identity with a mean weight of {judge.gaussians.shrinkage.mean():.2f}"
        )
    if not threshold.held_out:
        notes.append(
            "The threshold rests on the pictures the model was fitted to, since 2 leave none to "
            "hold out: expect false alarms"
        )
    elif count < _FEW:
        notes.append(f"The threshold rests on {count} pictures; {_FEW} or more would steady it")
    if any(_crops(placement) for placement in good.placements):
        notes.append("The model crops: what lies outside `seen_xyxy` of a picture is not judged")
    return tuple(notes)


def _crops(placement: Placement) -> bool:
    shown = zip(placement.resized_wh, placement.crop_xywh[2:], strict=True)
    return any(whole - seen >= 1 for whole, seen in shown)
