"""What in a picture differs from good ones: PaDiM or PatchCore on patch tokens.

Rules:
    A1  Only what the model sees is judged. Where its preprocessing crops, the borders are not, and
        each result says which part was seen.
    A2  A picture's score is the maximum of its smoothed map (PaDiM) or that of its oddest patch,
        re-weighted (PatchCore); from the threshold on it is anomalous.
    A3  In drawings the colours begin where good pictures' hottest spots are on average and a line
        follows 3 standard deviations above: the threshold, where the score is the map's maximum.
        Their end is the same for every picture, but for those that go beyond it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jetlift.runtime.drawing import Scale, heat_overlay
from jetlift.runtime.errors import ArtefactError, UsageError
from jetlift.runtime.frames import placement_of
from jetlift.runtime.sources import Frame
from jetlift.runtime.tasks import artefact, padim
from jetlift.runtime.tasks.anomaly_model import AnomalyHead, AnomalyModel, Threshold
from jetlift.runtime.tasks.base import Outcome, Prepared, StepTask, Task, place_of
from jetlift.runtime.tasks.encoder import Encoder

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.preprocess import Placement
    from jetlift.runtime.session.base import Session
    from jetlift.runtime.tasks.base import Array, Item
    from jetlift.runtime.tasks.patchcore import Memory

    Floats = npt.NDArray[np.float32]

__all__ = ["AnomalyHead", "AnomalyModel", "AnomalyTask", "Mapper", "Threshold", "open_from"]


class AnomalyTask(StepTask):
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
        judge = model.judge
        if isinstance(judge, padim.Padim) and rows * columns != len(judge.gaussians.mean):
            raise ArtefactError(
                f"The anomaly model has {len(judge.gaussians.mean)} patch positions",
                expected=f"{rows} x {columns}, as part {encoder.part_name} gives",
                do="Make it again with: jetlift fit",
            )

    @property
    def notes(self) -> tuple[str, ...]:
        """See Task.notes."""
        return self._encoder.notes

    @property
    def engine(self) -> Session:
        """See StepTask.engine."""
        return self._encoder.engine

    def prepare(self, item: Item) -> Prepared:
        """See StepTask.prepare."""
        _frame(item)
        return self._encoder.prepare(item)

    def finish(self, item: Item, prepared: Prepared, outputs: Mapping[str, Array]) -> Outcome:
        """Score one picture; see StepTask.finish."""
        item = _frame(item)
        tokens = self._encoder.finish(item, prepared, outputs).patch_tokens
        if tokens is None:
            raise UsageError("The part returned no patch tokens", expected="Patch tokens")
        placement = self._maps_of.placement(item)
        heat, score = self._maps_of(self._model.judge, tokens, placement)
        threshold = self._model.head.threshold.value
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
        heat = outcome.arrays["anomaly_map"]
        low, mark = _marks(head)
        scale = Scale(low=low, mark=mark, high=max(mark + 2 * (mark - low), float(heat.max())))
        name = Path(item.source).name
        return heat_overlay(
            item.image_bgr,
            heat,
            scale,
            region_xyxy=self._maps_of.placement(item).seen_xyxy,
            title=f"{verdict}: {fields['score']:.1f} (limit {fields['threshold']:.1f})  {name}",
        )


def _frame(item: Item) -> Frame:
    if not isinstance(item, Frame):
        raise UsageError("Anomalies are looked for in pictures", expected="A picture or video")
    return item


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
        self, judge: padim.Padim | Memory, tokens: Floats, placement: Placement
    ) -> tuple[Floats, float]:
        """The smoothed map of one picture and its score (rule A2).

        Returns:
            float32 [height, width] of what is seen, and the score.
        """
        size_wh = (self._spec.size_wh[0], self._spec.size_wh[1])
        seen_wh = placement.crop_xywh[2:]
        distances, score = judge.judge(tokens)
        heat = padim.heat_map(distances, self.grid_hw, size_wh, seen_wh)
        return heat, float(heat.max()) if score is None else score


def _marks(head: AnomalyHead) -> tuple[float, float]:
    """Where colours begin, and the line (rule A3)."""
    if head.map_mark is not None:
        return head.map_mark.low, head.map_mark.mark
    return head.threshold.score_mean, head.threshold.value


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
