"""How near a classifier is to fp32: which class comes first, and whether it is among the first.

Figures of an output of scores [1, classes]:
    top1_agreement     share of samples on which the variant's best class is fp32's
    top5_agreement     share on which fp32's best class is among the variant's first five
    top1, top5         where true classes are known: the share of samples that are right, and
    top1_fp32, ...     fp32's own
    output.cosine_mean, output.cosine_min   of the scores, and of every other output of the part

Rules:
    C1  Of equal scores the lower class number comes first, as argmax has it.
    C2  A sample with NaN or infinity among its scores has no best class and agrees with nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.export.fidelity.vectors import compare, vector_loss
from jetlift.runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from jetlift.export.fidelity.metric import Outputs

    Ints = npt.NDArray[np.int64]

FIRST = 5
_COSINES = ("cosine_mean", "cosine_min")


class ClassMetric:
    """Judges a classifier's scores.

    Args:
        output: Name of the output with the scores.
        classes: True class of each sample, in order; None where they are not known.
    """

    def __init__(self, output: str, classes: Sequence[int] | None = None) -> None:
        self._output = output
        self._classes = None if classes is None else np.asarray(classes, np.int64)

    @property
    def names(self) -> tuple[str, ...]:
        """Figures it can give."""
        known = () if self._classes is None else ("top1", "top1_fp32", "top5", "top5_fp32")
        return ("top1_agreement", "top5_agreement", *known, *_COSINES)

    def figures(self, reference: Outputs, got: Outputs) -> dict[str, float]:
        """See the module.

        Raises:
            UsageError: There are true classes, but not one per sample.
        """
        fp32, variant = first_classes(reference[self._output]), first_classes(got[self._output])
        figures = {
            "top1_agreement": _share_of_hits(fp32[:, 0], variant[:, :1]),
            "top5_agreement": _share_of_hits(fp32[:, 0], variant),
        }
        if self._classes is not None:
            if len(self._classes) != len(fp32):
                raise UsageError(
                    f"There are {len(self._classes)} true classes for {len(fp32)} samples",
                    expected="One per sample",
                )
            for suffix, first in (("", variant), ("_fp32", fp32)):
                figures[f"top1{suffix}"] = _share_of_hits(self._classes, first[:, :1])
                figures[f"top5{suffix}"] = _share_of_hits(self._classes, first)
        near = compare(reference, got)
        return figures | {n: v for n, v in near.items() if n.rpartition(".")[2] in _COSINES}

    def loss(self, figures: Mapping[str, float]) -> float:
        """By the outputs' cosines, since a class changes in steps too coarse to rank by."""
        return vector_loss(figures)


def first_classes(scores: Sequence[npt.NDArray[Any]]) -> Ints:
    """The best classes of each sample, best first (rules C1 and C2).

    Args:
        scores: One array [1, classes] per sample.

    Returns:
        int64 [samples, up to 5]; -1 throughout a sample without a best class.
    """
    rows = np.stack([array.reshape(-1) for array in scores]).astype(np.float64)
    sound = np.asarray(np.isfinite(rows).all(axis=1))
    order = np.argsort(-np.where(sound[:, None], rows, 0.0), axis=1, kind="stable")
    first = order[:, :FIRST].astype(np.int64)
    first[~sound] = -1
    return first


def _share_of_hits(wanted: Ints, first: Ints) -> float:
    hits = (first == wanted[:, None]).any(axis=1) & (wanted >= 0)
    return float(hits.mean())
