"""How near pictures are that a model makes: noise, structure and edges.

Figures of an output of pictures [1, channels, H, W], over the samples:
    psnr_mean, psnr_min    peak signal to noise ratio in dB
    ssim_mean, ssim_min    structural similarity, 1 where equal (Wang, Bovik, Sheikh, Simoncelli,
                           2004: Gaussian window of deviation 1.5, K1 0.01, K2 0.03)
    gradient_distance_mean, gradient_distance_max
                           how differently edges are drawn, 0 where alike: 1 minus the gradient
                           magnitude similarity of Xue, Zhang, Mou, Bovik, arXiv 1308.3052, averaged
                           over pixels and over the scales 1, 1/2 and 1/4. Its filters are fixed
                           (Prewitt) and nothing in it is learned: it is no LPIPS.

Rules:
    P1  Values are measured against `data_range`, the span a picture's values can take.
    P2  float32 resolves 2^-24 of that span, so no PSNR is above 144.5 dB, that of equal pictures.
    P3  A picture with NaN or infinity is as far as can be: 0 dB, SSIM 0, gradient distance 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from jetlift.export.fidelity.metric import Outputs

    Array = npt.NDArray[Any]
    Doubles = npt.NDArray[np.float64]

SMALLEST_SIDE = 11  # the window of SSIM
_RADIUS, _SIGMA = 5, 1.5
_SCALES = 3
_GRADIENT_CONSTANT = 170 / 255**2  # Xue et al. give 170 for values to 255
_LEAST_ERROR = 2.0**-48
_PREWITT = np.repeat(np.array([[1.0, 0.0, -1.0]]) / 3, 3, axis=0)


class PictureMetric:
    """Judges pictures that a part makes.

    Args:
        output: Name of the output.
        data_range: Span that a picture's values can take, as 255, or 2 for -1..1.

    Raises:
        UsageError: The range is not above 0.
    """

    names = (
        "psnr_mean", "psnr_min", "ssim_mean", "ssim_min",
        "gradient_distance_mean", "gradient_distance_max",
    )  # fmt: skip

    def __init__(self, output: str, data_range: float) -> None:
        if not data_range > 0:
            raise UsageError(f"Got a data range of {data_range:g}", expected="Above 0")
        self._output, self._range = output, data_range

    def figures(self, reference: Outputs, got: Outputs) -> dict[str, float]:
        """See the module.

        Raises:
            UsageError: Pictures are of other shapes, or smaller than SSIM's window.
        """
        rows = np.array(
            [
                self._compared(wanted, picture)
                for wanted, picture in zip(reference[self._output], got[self._output], strict=True)
            ]
        )
        return {
            "psnr_mean": float(rows[:, 0].mean()),
            "psnr_min": float(rows[:, 0].min()),
            "ssim_mean": float(rows[:, 1].mean()),
            "ssim_min": float(rows[:, 1].min()),
            "gradient_distance_mean": float(rows[:, 2].mean()),
            "gradient_distance_max": float(rows[:, 2].max()),
        }

    def loss(self, figures: Mapping[str, float]) -> float:
        """The mean of what structure and edges lose, and the noise's share of the range."""
        noise = 10 ** (-figures["psnr_mean"] / 20)
        return (1 - figures["ssim_mean"]) + figures["gradient_distance_mean"] + noise

    def _compared(self, wanted: Array, got: Array) -> tuple[float, float, float]:
        first, second = self._picture(wanted), self._picture(got)
        if first.shape != second.shape:
            raise UsageError(
                f"Got a picture of {list(second.shape)}", expected=f"fp32's {list(first.shape)}"
            )
        if not np.isfinite(second).all():
            return 0.0, 0.0, 1.0  # P3
        return psnr(first, second), ssim(first, second), gradient_distance(first, second)

    def _picture(self, array: Array) -> Doubles:
        """float64 [channels, H, W] as shares of the range."""
        if array.ndim != 4 or len(array) != 1 or min(array.shape[2:]) < SMALLEST_SIDE:
            raise UsageError(
                f"Output {self._output} is {list(array.shape)}",
                expected=f"A picture [1, channels, H, W] of {SMALLEST_SIDE} pixels a side or more",
            )
        return np.asarray(array[0].astype(np.float64) / self._range)


def psnr(wanted: Doubles, got: Doubles) -> float:
    """Peak signal to noise ratio in dB of values whose range is 1 (rule P2)."""
    error = max(float(np.square(wanted - got).mean()), _LEAST_ERROR)
    return -10 * float(np.log10(error))


def ssim(wanted: Doubles, got: Doubles) -> float:
    """Structural similarity of pictures [channels, H, W] whose range is 1, -1 to 1.

    Windows that reach over the edge are left out, and channels are averaged.
    """
    return float(np.mean([_ssim(a, b) for a, b in zip(wanted, got, strict=True)]))


def _ssim(a: Doubles, b: Doubles) -> float:
    c1, c2 = 0.01**2, 0.03**2
    mean_a, mean_b = _blurred(a), _blurred(b)
    spread_a, spread_b = _blurred(a * a) - mean_a**2, _blurred(b * b) - mean_b**2
    shared = _blurred(a * b) - mean_a * mean_b
    similar = (2 * mean_a * mean_b + c1) * (2 * shared + c2)
    similar /= (mean_a**2 + mean_b**2 + c1) * (spread_a + spread_b + c2)
    return float(similar[_RADIUS:-_RADIUS, _RADIUS:-_RADIUS].mean())


def _blurred(plane: Doubles) -> Doubles:
    import cv2

    size = 2 * _RADIUS + 1
    return np.asarray(cv2.GaussianBlur(plane, (size, size), _SIGMA), np.float64)


def gradient_distance(wanted: Doubles, got: Doubles) -> float:
    """How differently edges are drawn in pictures [channels, H, W] whose range is 1, 0 to 1."""
    distances = []
    first, second = wanted.mean(axis=0), got.mean(axis=0)
    for scale in range(_SCALES):
        if scale:
            first, second = _halved(first), _halved(second)
        a, b = _steepness(first), _steepness(second)
        similar = (2 * a * b + _GRADIENT_CONSTANT) / (a**2 + b**2 + _GRADIENT_CONSTANT)
        distances.append(1 - similar.mean())
    return float(np.mean(distances))


def _steepness(plane: Doubles) -> Doubles:
    import cv2

    along, down = (cv2.filter2D(plane, cv2.CV_64F, kernel) for kernel in (_PREWITT, _PREWITT.T))
    return np.asarray(np.hypot(along, down), np.float64)


def _halved(plane: Doubles) -> Doubles:
    """Mean of each 2 x 2 pixels; an odd row or column at the end is left out."""
    rows, columns = plane.shape[0] // 2, plane.shape[1] // 2
    blocks = plane[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2)
    return np.asarray(blocks.mean(axis=(1, 3)), np.float64)
