"""Fitting an anomaly model to good pictures (see padim.py).

Rules:
    G1  The threshold is mean + 3 standard deviations of good pictures' scores. From 3 pictures on
        these are cross-validated: each is scored by a model that never saw it (5 folds, or one per
        picture below 5). The model that is kept has seen all of them.
    G2  Whatever weakens the model (few pictures, borders unseen) is a sentence in `notes`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jetlift.runtime.errors import InputError, UsageError
from jetlift.runtime.frames import placement_of
from jetlift.runtime.sources import Frame
from jetlift.runtime.tasks import artefact, padim
from jetlift.runtime.tasks.anomaly import (
    KIND,
    SCHEMA_VERSION,
    AnomalyHead,
    AnomalyModel,
    Mapper,
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

DIMS, SEED, FOLDS = 100, 0, 5
_FEW = 20
_CAN_HOLD_OUT = 3  # pictures; fewer leave no two to fit a judge to
_DEVIATIONS = 3.0


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
    threshold = _threshold(_scores(features, placements, gaussians, Mapper(encoder)))
    head = AnomalyHead(
        kind=KIND,
        schema_version=SCHEMA_VERSION,
        stamp=artefact.stamp(bundle, encoder.part_name, precision, target),
        arrays_sha256={},
        pictures=len(features),
        skipped=len(getattr(source, "skipped", ())),
        seed=seed,
        shrinkage_mean=float(gaussians.shrinkage.mean()),
        threshold=threshold,
        notes=(
            *_notes(len(features), len(chosen), gaussians, placements, threshold),
            *encoder.notes,
        ),
    )
    return AnomalyModel(head, chosen, gaussians)


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
        placements.append(placement_of((item.image_bgr.shape[1], item.image_bgr.shape[0]), spec))
        if progress is not None:
            progress(len(rows))
    if len(rows) < 2:
        raise InputError(
            f"Got {len(rows)} good pictures",
            expected="At least 2, better 20 or more, that show how good ones differ",
        )
    return np.stack(rows), placements, chosen


def _scores(
    features: Floats,
    placements: list[Placement],
    gaussians: padim.Gaussians,
    maps_of: Mapper,
) -> npt.NDArray[np.float64]:
    """Score of each good picture, by a model that never saw it where that can be (rule G1)."""
    count = len(features)
    parts = min(FOLDS, count)
    # Runs of neighbours, not every fifth: neighbours may be frames of one video, nearly the same.
    folds = np.arange(count) * parts // count
    scores = np.empty(count)
    for fold in range(parts):
        if count >= _CAN_HOLD_OUT:
            gaussians = padim.fit_gaussians(features[folds != fold])
        for number in np.flatnonzero(folds == fold):
            heat = maps_of(gaussians, features[number], placements[number])
            scores[number] = heat.max()
    return scores


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
    if any(_crops(placement) for placement in placements):
        notes.append("The model crops: what lies outside `seen_xyxy` of a picture is not judged")
    return tuple(notes)


def _crops(placement: Placement) -> bool:
    shown = zip(placement.resized_wh, placement.crop_xywh[2:], strict=True)
    return any(whole - seen >= 1 for whole, seen in shown)
