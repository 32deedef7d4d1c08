"""Masks as run-length codes, the uncompressed form of COCO.

Rule:
    M1  `{"size": [height, width], "counts": [...]}`: runs of equal pixels down each column, columns
        from left to right, the first run of background and so perhaps 0 long
        (cocodataset/cocoapi@master:common/maskApi.h; pycocotools' `frPyObjects` takes this form).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.runtime.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    Mask = npt.NDArray[np.bool_]


def encode(mask: Mask) -> dict[str, Any]:
    """A mask as JSON-ready runs (rule M1).

    Args:
        mask: bool [H, W].

    Raises:
        UsageError: It has another dtype or rank.
    """
    if mask.dtype != np.bool_ or mask.ndim != 2:
        raise UsageError(
            f"Got a mask of {mask.dtype}{list(mask.shape)}", expected="bool [height, width]"
        )
    line = mask.ravel(order="F")
    starts = np.flatnonzero(np.diff(line, prepend=False))
    counts = np.diff(starts, prepend=0, append=line.size)
    return {"size": list(mask.shape), "counts": counts.tolist()}


def decode(code: Mapping[str, Any]) -> Mask:
    """The mask of such a code, bool [H, W].

    Raises:
        InputError: The runs do not fill the picture.
    """
    height, width = code["size"]
    counts = np.asarray(code["counts"], np.int64)
    if (counts < 0).any() or counts.sum() != height * width:
        raise InputError(
            f"The runs of a mask hold {int(counts.sum())} pixels",
            expected=f"{height * width}, as its size {height}x{width} has",
        )
    line = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return np.asarray(line.reshape((height, width), order="F"))
