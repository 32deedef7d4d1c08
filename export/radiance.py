"""A radiance field's facts, its file of weights, and the pictures it is trained on.

The file is safetensors; its metadata holds these facts as JSON, so that the file alone is enough to
export. A folder of pictures has `transforms.json` (instant-ngp's layout) or `transforms_train.json`
and `transforms_test.json` (Blender's NeRF scenes): docs/nerf.md.

Rules:
    Q1  Held out are the views of transforms_test.json, or where there is one list alone every
        eighth view, the first included.
    Q2  Pictures with an alpha channel have no background of their own; others are taken as they
        are.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from jetlift.runtime import jsonform
from jetlift.runtime.errors import InputError
from jetlift.runtime.jsonform import field
from jetlift.runtime.poses import Capture, read_capture
from jetlift.runtime.rays import camera_rays
from jetlift.runtime.task_forms import Radiance  # noqa: TC001 - jsonform reads the types

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

METADATA = "jetlift.radiance"
HELD_OUT_EVERY = 8
_TRAIN, _TEST = "transforms_train.json", "transforms_test.json"


@dataclass(frozen=True)
class FieldConfig:
    """The network, from a point and a direction to density and colour."""

    encoding: Literal["planes", "hash", "positional"] = field(
        doc="planes: three feature planes per resolution, bilinear, multiplied (K-Planes, arXiv "
        "2301.10241); hash: multiresolution hash grid (arXiv 2201.05989); positional: sines and "
        "cosines (arXiv 2003.08934)",
        default="planes",
    )
    resolutions: tuple[int, ...] = field(
        doc="Texels per side of the planes, or cells per side of the hash grid's levels",
        default=(32, 64, 128),
    )
    channels: int = field(doc="Features per resolution", default=8)
    table_log2: int = field(doc="Hash: log2 of the rows of a level's table", default=15)
    frequencies: int = field(doc="Positional: octaves", default=8)
    hidden: int = field(doc="Width of the hidden layers", default=64)
    layers: int = field(doc="Hidden layers from the features to density", default=1)
    geometry: int = field(doc="Features that density's layers hand to colour's", default=15)


@dataclass(frozen=True)
class Training:
    """How the weights were trained, and how well they render views they never saw."""

    steps: int = field(doc="Steps done")
    seed: int = field(doc="Seed of every draw")
    seconds: float = field(doc="Seconds it took")
    views: int = field(doc="Number of pictures trained on")
    held_out_views: int = field(doc="Number of pictures held out")
    held_out_psnr: float | None = field(doc="Mean PSNR over these in dB; null where there are none")
    held_out_ssim: float | None = field(doc="Mean SSIM over these")


@dataclass(frozen=True)
class RadianceFacts:
    """What the metadata of a weights file states."""

    field_config: FieldConfig = field(doc="The network")
    radiance: Radiance = field(doc="Scene and camera, as the bundle's manifest has them")
    training: Training | None = field(doc="How it was trained; null before", default=None)


def facts_of(file: Path) -> RadianceFacts:
    """The facts in a weights file's metadata.

    Raises:
        InputError: It is no file of `python -m jetlift.export.train_nerf`.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np") as opened:
            stated = (opened.metadata() or {}).get(METADATA)
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{file} cannot be read as safetensors: {error}", expected="An undamaged file"
        ) from error
    do = "Train one with: python -m jetlift.export.train_nerf FOLDER -o weights.safetensors"
    if stated is None:
        raise InputError(f"{file} states no radiance field in its metadata", do=do)
    with jsonform.refusing(file, InputError, do=do):
        return jsonform.loads(RadianceFacts, stated)


@dataclass(frozen=True, eq=False)
class View:
    """One picture and the rays of its pixels.

    Attributes:
        name: Its file.
        pose: float64 [4, 4], camera to world.
        rgba: float32 [H, W, 4], 0 to 1, alpha 1 where the picture has none; not premultiplied.
        capture: The cameras it is of.
    """

    name: str
    pose: npt.NDArray[np.float64]
    rgba: Floats
    capture: Capture

    def rays(self) -> tuple[Floats, Floats]:
        """Origins and directions of its pixels, float32 [H * W, 3] each."""
        size_wh = (self.rgba.shape[1], self.rgba.shape[0])
        lens = self.capture.lens(size_wh)
        return camera_rays(self.pose, size_wh, lens.focal_px, lens.centre_px)

    def over(self, background_rgb: tuple[float, ...]) -> Floats:
        """The picture on a background, float32 [H, W, 3]."""
        alpha = self.rgba[..., 3:]
        background = np.asarray(background_rgb, np.float32)
        return np.asarray(self.rgba[..., :3] * alpha + (1 - alpha) * background, np.float32)


def read_views(folder: Path) -> tuple[list[View], list[View]]:
    """The views to train on and those held out (rules Q1 and Q2).

    Raises:
        InputError: There is no such layout, or a picture is missing or of another shape.
    """
    if (folder / _TRAIN).is_file():
        train = _views(folder, read_capture(folder / _TRAIN))
        test = folder / _TEST
        return train, _views(folder, read_capture(test)) if test.is_file() else []
    every = _views(folder, read_capture(folder / "transforms.json"))
    held_out = [view for index, view in enumerate(every) if index % HELD_OUT_EVERY == 0]
    return [view for index, view in enumerate(every) if index % HELD_OUT_EVERY], held_out


def _views(folder: Path, capture: Capture) -> list[View]:
    pictures = [_rgba(folder, name) for name in capture.files]
    for name, rgba in zip(capture.files, pictures, strict=True):
        shape, stated = rgba.shape[:2], capture.size_wh or (rgba.shape[1], rgba.shape[0])
        if abs(shape[1] * stated[1] - shape[0] * stated[0]) > max(stated):
            raise InputError(
                f"{folder / name} is {shape[1]}x{shape[0]}",
                expected=f"The shape of {stated[0]}x{stated[1]}, as transforms.json states it",
            )
    rows = zip(capture.files, capture.poses, pictures, strict=True)
    return [View(name, pose, rgba, capture) for name, pose, rgba in rows]


def _rgba(folder: Path, name: str) -> Floats:
    import cv2

    path = folder / name if Path(name).suffix else folder / f"{name}.png"
    array: Any = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) if path.is_file() else None
    if array is None or array.dtype != np.uint8:
        raise InputError(
            f"{path} cannot be read as an 8-bit picture",
            expected="The pictures that transforms.json names, beside it",
        )
    if array.ndim == 2:
        array = cv2.cvtColor(array, cv2.COLOR_GRAY2BGR)
    if array.shape[2] == 3:
        array = np.dstack([array, np.full(array.shape[:2], 255, np.uint8)])
    return np.asarray(array[..., [2, 1, 0, 3]] / np.float32(255), np.float32)


def save_weights(file: Path, state: Mapping[str, Any], facts: RadianceFacts) -> None:
    """Write weights with their facts, aside and then under their name.

    Raises:
        StorageError: The disk is full or not writable.
    """
    from safetensors.torch import save

    from jetlift.runtime import atomic

    tensors = {name: tensor.detach().contiguous().clone() for name, tensor in state.items()}
    atomic.write_bytes(file, save(tensors, {METADATA: jsonform.dumps(facts)}))
