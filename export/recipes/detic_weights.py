"""Detic's two sources: the detector's published checkpoint, and CLIP for the words.

Rules:
    T1  `--weights FILE` or `FOLDER`: the detector is that .pth, .pkl or .safetensors file, or the
        only one in the folder. CLIP ViT-B/32 is the folder's `clip`, as transformers saves it, and
        where there is none the hub's.
    T2  A checkpoint is read without running anything in it (export/safe_pickle.py).
    T3  Every parameter comes from the checkpoint, once. What it holds beside them is dropped by
        name and, where it says something that the graph has fixed, held to that: pixel means,
        places in windows. The ImageNet classifier of the ResNet, its count of batches and the
        classes that words replace do nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.export import safe_pickle, weights
from jetlift.runtime.errors import ArtefactError, InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from jetlift.export.recipes.detic_modules import Detic

    State = dict[str, npt.NDArray[Any]]

CLIP_FOLDER = "clip"
MEAN, STD = (123.675, 116.280, 103.530), (58.395, 57.12, 57.375)
_SUFFIXES = (*safe_pickle.SUFFIXES, ".safetensors")
_UNUSED = re.compile(
    r"backbone\.bottom_up\.base\.fc\.(weight|bias)"
    r"|backbone\.bottom_up\.base\..*\.?num_batches_tracked"
    r"|roi_heads\.box_predictor\.\d\.cls_score\.zs_weight"
)
_PIXELS = {"pixel_mean": MEAN, "pixel_std": STD}
_PLACES = ".relative_position_index"
_SHOWN = 3


@dataclass(frozen=True)
class Sources:
    """The detector's file, and the folder or hub id that CLIP comes from."""

    detector: Path
    clip: str


def sources_of(source: str | None, url: str, clip_hub_id: str) -> Sources:
    """Where the weights are (rule T1).

    Args:
        source: What the user gave; None where nothing.
        url: Where the detector's file is published.
        clip_hub_id: CLIP's hub id.

    Raises:
        UsageError: Nothing was given: no hub has the file.
        InputError: There is no such file, or several.
    """
    if source is None or source == weights.PACKAGE_WORD:
        raise UsageError(
            "Detic's weights are on no hub and in no package",
            expected=f"The file {url}",
            do="Download it, then: --weights FILE",
        )
    path = Path(source).expanduser()
    if path.is_file() and path.suffix in _SUFFIXES:
        return Sources(path, clip_hub_id)
    found = sorted(item for item in path.glob("*") if item.suffix in _SUFFIXES)
    if len(found) != 1:
        names = ", ".join(item.name for item in found) or "none"
        raise InputError(
            f"{path} has these checkpoints: {names}",
            expected="One file *.pth, *.pkl or *.safetensors, or a folder with one",
        )
    clip = path / CLIP_FOLDER
    return Sources(found[0], str(clip) if clip.is_dir() else clip_hub_id)


def read(file: Path) -> State:
    """A checkpoint's arrays by name (rule T2).

    Raises:
        InputError: The file cannot be read.
        ArtefactError: It holds more than arrays.
    """
    if file.suffix == ".safetensors":
        return weights.read_safetensors(file)
    return safe_pickle.read_arrays(file)


def fill(model: Detic, state: Mapping[str, npt.NDArray[Any]], title: str) -> None:
    """Put a checkpoint's arrays into the model (rule T3).

    Raises:
        ArtefactError: One is missing, left over, of another shape, or says something else than
            the graph does.
    """
    import torch

    left = {name: value for name, value in state.items() if not _UNUSED.fullmatch(name)}
    for name, wanted in _PIXELS.items():
        _hold(name, left.pop(name, None), np.array(wanted, np.float32), title)
    own = model.state_dict()
    for name, value in own.items():
        if name.endswith(_PLACES):
            _hold(name, left.setdefault(name, value.numpy()), value.numpy(), title)
    wrong = {
        "missing": sorted(own.keys() - left.keys()),
        "left over": sorted(left.keys() - own.keys()),
        "of another shape": sorted(
            name for name in own.keys() & left.keys() if own[name].shape != left[name].shape
        ),
    }
    if any(wrong.values()):
        told = "; ".join(f"{kind}: {', '.join(names[:_SHOWN])}" for kind, names in wrong.items()
                         if names)  # fmt: skip
        raise ArtefactError(
            f"The weights do not fit {title}: {told}",
            expected="Every parameter of the published checkpoint once, and no other",
        )
    model.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in left.items()})


def _hold(name: str, got: npt.NDArray[Any] | None, wanted: npt.NDArray[Any], title: str) -> None:
    if got is not None and not np.allclose(np.ravel(got), np.ravel(wanted), rtol=0, atol=1e-3):
        raise ArtefactError(
            f"The checkpoint has another {name} than {title}", expected="The published one"
        )
