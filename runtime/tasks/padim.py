"""PaDiM in numpy: one Gaussian per patch position, and how far a patch lies from it.

Defard, Setkov, Loesch, Audigier: PaDiM, a Patch Distribution Modeling Framework for Anomaly
Detection and Localization, 2020, arXiv 2011.08785. As there: a random choice of feature dimensions,
mean and covariance per position over good pictures, Mahalanobis distance, the map smoothed with a
Gaussian of 4 pixels per 224, its maximum the picture's score. Other than there:
    D1  Features are a vision transformer's patch tokens, not a pyramid of a CNN's.
    D2  The covariance is shrunk towards a multiple of the identity by the oracle approximating
        weight of Chen, Wiesel, Eldar, Hero, 2010, arXiv 0907.4698, eq. 23, then VARIANCE_FLOOR
        times the mean variance is added. The paper adds 0.01 alone, whose weight depends on the
        unit of the features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from jetlift.runtime.errors import InputError

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]
    Doubles = npt.NDArray[np.float64]

VARIANCE_FLOOR = 0.01
# Above 2**18 multiplications OpenBLAS wakes its threads, which on busy cores made one fit take
# seconds instead of tenths (see resample.py).
_PRODUCT = 2**18
_SMOOTHING = 4 / 224  # standard deviation as a share of the map's side


@dataclass(frozen=True, eq=False)
class Gaussians:
    """One Gaussian per patch position.

    Attributes:
        mean: float32 [patches, dims].
        whitening: float32 [patches, dims, dims], lower triangular: the inverse of the Cholesky
            factor of the covariance, so that |whitening (x - mean)| is the Mahalanobis distance.
        shrinkage: float64 [patches], the weight of the identity in each covariance (D2).
    """

    mean: Floats
    whitening: Floats
    shrinkage: Doubles

    def distances(self, features: Floats) -> Floats:
        """Mahalanobis distance of each patch of one picture, float32 [patches].

        Args:
            features: float32 [patches, dims].
        """
        # einsum and not matmul: BLAS threads would fight with the engine's over the same cores.
        whitened = np.einsum("pij,pj->pi", self.whitening, features - self.mean)
        return np.asarray(np.linalg.norm(whitened, axis=-1), np.float32)


@dataclass(frozen=True, eq=False)
class Padim:
    """Gaussians of a choice of feature dimensions.

    Attributes:
        dims: int64 [dims], the dimensions in use.
        gaussians: One per patch position.
    """

    dims: npt.NDArray[np.int64]
    gaussians: Gaussians

    def judge(self, tokens: Floats) -> tuple[Floats, None]:
        """Mahalanobis distance of each patch of one picture, float32 [patches].

        The second value says that the picture's score is the maximum of its smoothed map.

        Args:
            tokens: float32 [patches, D].
        """
        return self.gaussians.distances(tokens[:, self.dims]), None


def choose_dimensions(available: int, wanted: int, seed: int) -> npt.NDArray[np.int64]:
    """A random choice of feature dimensions, sorted; all where no more are wanted."""
    if wanted >= available:
        return np.arange(available, dtype=np.int64)
    chosen = np.random.default_rng(seed).choice(available, wanted, replace=False)
    return np.sort(chosen).astype(np.int64)


def fit_gaussians(features: Floats) -> Gaussians:
    """Estimate the Gaussians from good pictures (D2).

    Args:
        features: float32 [pictures, patches, dims], at least 2 pictures.

    Raises:
        InputError: There are fewer than 2 pictures, or they are all the same.
    """
    count, _, dims = features.shape
    if count < 2:
        raise InputError(f"Got {count} good pictures", expected="At least 2, better 20 or more")
    mean = features.mean(axis=0, dtype=np.float64)
    covariances = _covariances(features, mean)
    variances = np.trace(covariances, axis1=1, axis2=2) / dims
    if not variances.any():
        raise InputError(
            f"The {count} good pictures are all the same",
            expected="Pictures that show how good ones differ",
        )
    shrinkage = _oas_weights(covariances, variances, count)
    covariances *= (1 - shrinkage)[:, None, None]
    diagonal = np.arange(dims)
    floor = VARIANCE_FLOOR * variances.mean()
    covariances[:, diagonal, diagonal] += (shrinkage * variances + floor)[:, None]
    whitening = _inverse_of_lower(np.asarray(np.linalg.cholesky(covariances), np.float64))
    return Gaussians(mean.astype(np.float32), whitening.astype(np.float32), shrinkage)


def heat_map(
    distances: Floats, grid_hw: tuple[int, int], size_wh: tuple[int, int], seen_wh: tuple[int, int]
) -> Floats:
    """Distances of one picture's patches as a smooth map over what the model saw of it.

    Args:
        distances: float32 [patches], row by row.
        grid_hw: Rows and columns of patches.
        size_wh: Size of the part's input in pixels.
        seen_wh: Size of the picture in it, from the top left; smaller only under letterbox.

    Returns:
        float32 [height, width] of `seen_wh`.
    """
    grid = distances.reshape(grid_hw)
    full = cv2.resize(grid, size_wh, interpolation=cv2.INTER_LINEAR)
    seen = full[: seen_wh[1], : seen_wh[0]]
    return np.asarray(cv2.GaussianBlur(seen, (0, 0), _SMOOTHING * max(size_wh)), np.float32)


def _covariances(features: Floats, mean: Doubles) -> Doubles:
    """Maximum likelihood covariance per position, [patches, dims, dims]."""
    count, patches, dims = features.shape
    total = np.zeros((patches, dims, dims))
    step = max(1, _PRODUCT // dims**2)
    for start in range(0, count, step):
        centred = (features[start : start + step] - mean).transpose(1, 0, 2)
        total += centred.transpose(0, 2, 1) @ centred
    return np.asarray(total / count, np.float64)


def _inverse_of_lower(factors: Doubles) -> Doubles:
    """Inverse of each lower triangular matrix [patches, dims, dims], by forward substitution."""
    inverses = np.zeros_like(factors)
    for row in range(factors.shape[1]):
        pivots = factors[:, row, row, None]
        above = factors[:, row : row + 1, :row] @ inverses[:, :row]
        inverses[:, row] = -above[:, 0] / pivots
        inverses[:, row, row] = 1 / pivots[:, 0]
    return inverses


def _oas_weights(covariances: Doubles, variances: Doubles, count: int) -> Doubles:
    """Weight of the identity per position, in 0..1 (Chen et al., eq. 23)."""
    dims = covariances.shape[1]
    trace = variances * dims
    trace_of_square = np.einsum("pij,pij->p", covariances, covariances)
    over = (1 - 2 / dims) * trace_of_square + trace**2
    under = (count + 1 - 2 / dims) * (trace_of_square - trace**2 / dims)
    weights = np.divide(over, under, out=np.ones_like(over), where=under > 0)
    return np.asarray(np.minimum(1.0, weights), np.float64)
