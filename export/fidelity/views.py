"""How near rendered views are to fp32's, and how near both are to the pictures of a real camera.

Figures, means over views, colours 0 to 1:
    psnr, psnr_fp32         peak signal to noise ratio against the picture, in dB; of the variant
                            and of fp32
    ssim, ssim_fp32         structural similarity with the picture
    psnr_to_fp32_mean, psnr_to_fp32_min     PSNR against fp32's own view
    ssim_to_fp32_mean       structural similarity with it

Rules:
    P1  A view with NaN or infinity is black: as far from the picture as any.
    P2  Colours are cut to 0..1 first, as a screen does it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.export.fidelity.pictures import psnr, ssim
from jetlift.runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from jetlift.export.fidelity.metric import Outputs

    Array = npt.NDArray[Any]
    Doubles = npt.NDArray[np.float64]
    ViewsOf = Callable[[Outputs], Sequence[Array]]


class ViewMetric:
    """Judges a part by the views that are rendered with it.

    Args:
        views_of: From the part's outputs to one view [H, W, 3] per sample.
        pictures: The true pictures, [H, W, 3] each, in order.
    """

    names = (
        "psnr", "psnr_fp32", "ssim", "ssim_fp32",
        "psnr_to_fp32_mean", "psnr_to_fp32_min", "ssim_to_fp32_mean",
    )  # fmt: skip

    def __init__(self, views_of: ViewsOf, pictures: Sequence[Array]) -> None:
        self._views_of, self._pictures = views_of, [_planes(picture) for picture in pictures]

    def figures(self, reference: Outputs, got: Outputs) -> dict[str, float]:
        """See the module.

        Raises:
            UsageError: There is not one view per picture, or one is of another shape.
        """
        fp32, variant = self._views(reference), self._views(got)
        near = [psnr(a, b) for a, b in zip(fp32, variant, strict=True)]
        alike = [ssim(a, b) for a, b in zip(fp32, variant, strict=True)]
        figures = {
            "psnr_to_fp32_mean": float(np.mean(near)),
            "psnr_to_fp32_min": float(np.min(near)),
            "ssim_to_fp32_mean": float(np.mean(alike)),
        }
        for suffix, views in (("", variant), ("_fp32", fp32)):
            pairs = list(zip(self._pictures, views, strict=True))
            figures[f"psnr{suffix}"] = float(np.mean([psnr(*pair) for pair in pairs]))
            figures[f"ssim{suffix}"] = float(np.mean([ssim(*pair) for pair in pairs]))
        return figures

    def loss(self, figures: Mapping[str, float]) -> float:
        """Root mean square difference from fp32's views."""
        return float(10 ** (-figures["psnr_to_fp32_mean"] / 20))

    def _views(self, outputs: Outputs) -> list[Doubles]:
        views = [_planes(view) for view in self._views_of(outputs)]
        if [view.shape for view in views] != [picture.shape for picture in self._pictures]:
            raise UsageError(
                f"Got {len(views)} views for {len(self._pictures)} pictures",
                expected="One of each picture's shape",
            )
        return views


def _planes(picture: Array) -> Doubles:
    """float64 [3, H, W], 0 to 1 (rules P1 and P2)."""
    planes = np.asarray(picture, np.float64).transpose(2, 0, 1)
    return np.clip(planes, 0, 1) if np.isfinite(planes).all() else np.zeros_like(planes)
