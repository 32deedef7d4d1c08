"""How near an anomaly detector is to fp32: does it tell defects from good pictures as well?

Figures, of maps that say per pixel how odd it is:
    image_auroc, image_auroc_fp32   area under the ROC curve of the pictures' scores, a score being
                                    the maximum of the picture's map; of the variant and of fp32
    pixel_auroc, pixel_auroc_fp32   the same over every pixel, where masks of the defects are given
    map_error                       root mean square difference of the two maps, each brought to
                                    mean 0 and deviation 1, since a map's unit is its own

Rules:
    A1  The area is the chance that a defective one scores higher than a good one, an equal score
        counting half (Mann and Whitney, 1947): ties are neither for nor against.
    A2  A map with NaN or infinity is wrong throughout: good is taken for the worst defect and a
        defect for nothing, so that a broken variant never looks near.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from jetlift.export.fidelity.metric import Outputs

    Array = npt.NDArray[Any]
    Doubles = npt.NDArray[np.float64]
    MapsOf = Callable[[Outputs], Sequence[Array]]


@dataclass(frozen=True, eq=False)
class Truth:
    """What is true of one picture.

    Attributes:
        defective: Whether it has a defect.
        mask: bool [H, W] of its map's size, True where the defect is; None where it is not known.
    """

    defective: bool
    mask: npt.NDArray[np.bool_] | None = None


class AnomalyMetric:
    """Judges a part by the anomalies that are found with it.

    Args:
        maps_of: From the part's outputs to one map [H, W] per judged picture. What it fits to
            good pictures, it fits to those of the same outputs: an anomaly model is made and used
            at one precision.
        truths: What is true of each judged picture, in order.

    Raises:
        UsageError: There are no defective pictures, or no good ones.
    """

    def __init__(self, maps_of: MapsOf, truths: Sequence[Truth]) -> None:
        defective = sum(truth.defective for truth in truths)
        if not 0 < defective < len(truths):
            raise UsageError(
                f"Of {len(truths)} pictures {defective} are defective",
                expected="At least one good and one defective picture",
            )
        self._maps_of, self._truths = maps_of, list(truths)
        self._masked = all(truth.mask is not None for truth in truths if truth.defective)

    @property
    def names(self) -> tuple[str, ...]:
        """Figures it can give."""
        pixel = ("pixel_auroc", "pixel_auroc_fp32") if self._masked else ()
        return ("image_auroc", "image_auroc_fp32", *pixel, "map_error")

    def figures(self, reference: Outputs, got: Outputs) -> dict[str, float]:
        """See the module.

        Raises:
            UsageError: There is not one map per picture, or a mask is not of its map's size.
        """
        fp32, variant = self._maps(reference), self._maps(got)
        figures = {"map_error": _map_error(fp32, variant)}
        for suffix, maps in (("", variant), ("_fp32", fp32)):
            judged = list(zip(maps, self._truths, strict=True))
            scores = np.array([_score(heat, truth) for heat, truth in judged])
            labels = np.array([truth.defective for truth in self._truths])
            figures[f"image_auroc{suffix}"] = auroc(scores, labels)
            if self._masked:
                masks = [_mask(heat, truth) for heat, truth in judged]
                pixels = [_pixels(h, mask) for h, mask in zip(maps, masks, strict=True)]
                area = auroc(np.concatenate(pixels), np.concatenate(masks, axis=None))
                figures[f"pixel_auroc{suffix}"] = area
        return figures

    def loss(self, figures: Mapping[str, float]) -> float:
        """By the maps, since areas move in steps too coarse to rank by."""
        return figures["map_error"]

    def _maps(self, outputs: Outputs) -> list[Doubles]:
        maps = [np.asarray(item, np.float64) for item in self._maps_of(outputs)]
        if len(maps) != len(self._truths):
            raise UsageError(
                f"There are {len(maps)} maps for {len(self._truths)} pictures", expected="One each"
            )
        return maps


def _score(heat: Doubles, truth: Truth) -> float:
    if np.isfinite(heat).all():
        return float(heat.max())
    return -np.inf if truth.defective else np.inf  # A2


def _pixels(heat: Doubles, mask: npt.NDArray[np.bool_]) -> Doubles:
    if np.isfinite(heat).all():
        return heat.reshape(-1)
    return np.where(mask, -np.inf, np.inf).reshape(-1)  # A2


def _mask(heat: Doubles, truth: Truth) -> npt.NDArray[np.bool_]:
    if truth.mask is None:
        return np.zeros(heat.shape, bool)
    if truth.mask.shape != heat.shape:
        raise UsageError(
            f"A mask is {list(truth.mask.shape)}", expected=f"Its map's {list(heat.shape)}"
        )
    return truth.mask.astype(bool)


def auroc(scores: Array, positive: npt.NDArray[np.bool_]) -> float:
    """Area under the ROC curve, 0 to 1 (rule A1).

    Args:
        scores: Floats [N].
        positive: bool [N].

    Raises:
        UsageError: All are positive, or none.
    """
    ahead = int(positive.sum())
    behind = len(positive) - ahead
    if not ahead or not behind:
        raise UsageError(
            f"Of {len(positive)} scores {ahead} are of positives", expected="Some, and not all"
        )
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks = (ends - (counts - 1) / 2)[inverse.reshape(-1)]  # from 1, equal scores share theirs
    above = float(ranks[positive].sum()) - ahead * (ahead + 1) / 2
    return above / (ahead * behind)


def _map_error(wanted: Sequence[Doubles], got: Sequence[Doubles]) -> float:
    broken = np.concatenate([np.full(m.size, not np.isfinite(m).all()) for m in got])
    first, second = (np.concatenate(maps, axis=None) for maps in (wanted, got))
    first, second = _standard(first), _standard(np.where(broken, 0.0, second))
    return float(np.sqrt(np.square(first - np.where(broken, -first, second)).mean()))


def _standard(values: Doubles) -> Doubles:
    centred = values - values.mean()
    deviation = centred.std()
    return np.asarray(centred / deviation if deviation > 0 else centred, np.float64)
