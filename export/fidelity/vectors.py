"""How near vectors are: cosine, rank correlation of similarities, nearest neighbours.

Figures of an output of shape [1, ..., D], one row per vector along the last axis:
    cosine_mean, cosine_min   cosine of each fp32 row with the variant's row
    neighbour_agreement       share of samples whose nearest other sample (by cosine) is the same
    spearman                  rank correlation of all pair similarities, fp32 against the variant
The last two need one vector per sample and at least 3 samples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from jetlift.export.fidelity.metric import Outputs

    Floats = npt.NDArray[np.floating[Any]]


RANKED, RANKABLE = ("neighbour_agreement", "spearman"), 3  # and how many samples they need


class VectorMetric:
    """The metric of a part whose task has no other: its outputs as vectors."""

    names = ("cosine_mean", "cosine_min", *RANKED)

    def figures(self, reference: Outputs, got: Outputs) -> dict[str, float]:
        """Figures per output, as `output.metric`."""
        return compare(reference, got)

    def loss(self, figures: Mapping[str, float]) -> float:
        """The sum over outputs of `vector_loss`."""
        return vector_loss(figures)


def vector_loss(figures: Mapping[str, float]) -> float:
    """One number for how far outputs are from fp32's.

    Per output the geometric mean of two figures, one minus its mean cosine and one minus its
    lowest: a variant that is a little nearer on average may not pay with a row far off.
    """
    means = {n: v for n, v in figures.items() if n.rpartition(".")[2] == "cosine_mean"}
    return float(
        sum(
            np.sqrt(max(0.0, 1 - mean) * max(0.0, 1 - figures[name[: -len("mean")] + "min"]))
            for name, mean in means.items()
        )
    )


def compare(reference: Outputs, other: Outputs) -> dict[str, float]:
    """Figures of a variant's outputs against fp32's, sample by sample.

    Args:
        reference: Per output, one array [1, ..., D] per sample.
        other: The same from the variant.
    """
    figures: dict[str, float] = {}
    for name, wanted in reference.items():
        got = other[name]
        cosines = np.concatenate([row_cosines(a, b) for a, b in zip(wanted, got, strict=True)])
        figures[f"{name}.cosine_mean"] = float(cosines.mean())
        figures[f"{name}.cosine_min"] = float(cosines.min())
        if len(wanted) >= RANKABLE and wanted[0].size == wanted[0].shape[-1]:
            figures |= _ranking_figures(name, wanted, got)
    return figures


def row_cosines(a: Floats, b: Floats) -> npt.NDArray[np.float64]:
    """Cosine per row along the last axis; two zero rows agree (1), a zero and another do not (0).

    NaN or infinity in either row gives 0, so that a broken variant never looks near.
    """
    first = np.atleast_2d(a.reshape(-1, a.shape[-1])).astype(np.float64)
    second = np.atleast_2d(b.reshape(-1, b.shape[-1])).astype(np.float64)
    with np.errstate(all="ignore"):
        norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
        cosines = np.einsum("ij,ij->i", first, second) / norms
    both_zero = ~first.any(axis=1) & ~second.any(axis=1)
    cosines = np.where(np.isfinite(cosines), cosines, 0.0)
    clipped: npt.NDArray[np.float64] = np.clip(np.where(both_zero, 1.0, cosines), -1.0, 1.0)
    return clipped


def spearman(a: Floats, b: Floats) -> float:
    """Spearman's rank correlation with average ranks for ties. Constant input gives 0."""
    x, y = _ranks(a), _ranks(b)
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / scale if scale > 0 else 0.0


def _ranking_figures(
    name: str, wanted: Sequence[Floats], got: Sequence[Floats]
) -> dict[str, float]:
    similar_a, similar_b = _similarities(wanted), _similarities(got)
    pairs = np.triu_indices(len(wanted), k=1)
    np.fill_diagonal(similar_a, -np.inf)
    np.fill_diagonal(similar_b, -np.inf)
    agree = similar_a.argmax(axis=1) == similar_b.argmax(axis=1)
    return {
        f"{name}.neighbour_agreement": float(agree.mean()),
        f"{name}.spearman": spearman(similar_a[pairs], similar_b[pairs]),
    }


def _similarities(vectors: Sequence[Floats]) -> npt.NDArray[np.float64]:
    rows = np.stack([vector.reshape(-1) for vector in vectors]).astype(np.float64)
    with np.errstate(all="ignore"):  # a broken variant's rows may hold infinity
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        rows = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
        similar: npt.NDArray[np.float64] = np.nan_to_num(rows @ rows.T)
    return similar


def _ranks(values: Floats) -> npt.NDArray[np.float64]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    average = (ends - counts + ends - 1) / 2
    return np.asarray(average[inverse.reshape(-1)], np.float64)
