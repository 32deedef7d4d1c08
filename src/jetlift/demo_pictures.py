"""The pictures of `jetlift demo`: from scikit-image where it is installed, else drawn.

scikit-image ships a handful of free photographs (its README names their licences). A handful is
few for calibration, so each photograph gives several crops; crops of one photograph never stand
on both sides of the calibration split, since samples are split by name and named by photograph.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from jetlift.runtime.atomic import storage_errors

if TYPE_CHECKING:
    import numpy.typing as npt

    Picture = npt.NDArray[np.uint8]

# Photographs that the wheel itself holds; others would be downloaded.
PHOTOGRAPHS = (
    "astronaut.png", "chelsea.png", "coffee.png", "hubble_deep_field.jpg", "ihc.png",
    "motorcycle_left.png", "retina.jpg", "rocket.jpg",
)  # fmt: skip
TEXTURE = "brick.png"
CROPS_PER_PHOTOGRAPH = 6
CROP_SIDE_PX = 256
DRAWN_SCENES = 8
GOOD_SHOTS = 32
SHOTS_PER_KIND = 4


@dataclass(frozen=True)
class DemoPictures:
    """Folders of pictures, and where they come from.

    Attributes:
        scenes: Crops to calibrate with, to measure on and to search in.
        good: Shots of one texture without a defect, to fit the anomaly model on.
        test: Other shots of it, some with a drawn defect (`defect-*.png`).
        origin: One sentence for the report.
    """

    scenes: Path
    good: Path
    test: Path
    origin: str


def make(folder: Path) -> DemoPictures:
    """Write the demo's pictures into a new folder."""
    made = DemoPictures(folder / "scenes", folder / "good", folder / "test", _origin())
    random = np.random.default_rng(2026)
    with storage_errors(folder):
        for path in (made.scenes, made.good, made.test):
            path.mkdir(parents=True)
        for name, photograph in _photographs():
            for index in range(CROPS_PER_PHOTOGRAPH):
                crop = _crop(photograph, random, jitter=False)
                _write(made.scenes / f"{name}-{index}.png", crop)
        texture = _texture()
        for index in range(GOOD_SHOTS):
            _write(made.good / f"good-{index:02d}.png", _shot(texture, random))
        for index in range(SHOTS_PER_KIND):
            _write(made.test / f"good-{index:02d}.png", _shot(texture, random))
            _write(made.test / f"defect-{index:02d}.png", _defect(_shot(texture, random), random))
    return made


def _skimage_data() -> Path | None:
    spec = importlib.util.find_spec("skimage")
    return Path(spec.origin).parent / "data" if spec is not None and spec.origin else None


def _origin() -> str:
    if _skimage_data() is None:
        return "drawn pictures, since scikit-image is not installed: shapes, not photographs"
    return "crops of the photographs that scikit-image ships; the defects are drawn"


def _photographs() -> list[tuple[str, Picture]]:
    data = _skimage_data()
    if data is None:
        random = np.random.default_rng(7)
        return [(f"drawn-{index}", _drawn_scene(random)) for index in range(DRAWN_SCENES)]
    found = [(Path(name).stem, cv2.imread(str(data / name))) for name in PHOTOGRAPHS]
    return [(name, np.asarray(picture, np.uint8)) for name, picture in found if picture is not None]


def _texture() -> Picture:
    data = _skimage_data()
    if data is not None:
        picture = cv2.imread(str(data / TEXTURE))
        if picture is not None:
            return np.asarray(picture, np.uint8)
    return _drawn_texture(np.random.default_rng(11))


def _crop(picture: Picture, random: np.random.Generator, *, jitter: bool) -> Picture:
    """A square part of the picture at a random place and, without jitter, of a random size."""
    height, width = picture.shape[:2]
    shorter = min(height, width)
    side = CROP_SIDE_PX if jitter else int(random.integers(shorter // 2, shorter + 1))
    y = int(random.integers(0, height - side + 1))
    x = int(random.integers(0, width - side + 1))
    square = picture[y : y + side, x : x + side]
    if side == CROP_SIDE_PX:
        return np.asarray(square, np.uint8)
    size_wh = (CROP_SIDE_PX, CROP_SIDE_PX)
    return np.asarray(cv2.resize(square, size_wh, interpolation=cv2.INTER_AREA), np.uint8)


def _shot(texture: Picture, random: np.random.Generator) -> Picture:
    """The same piece of texture as a fixed camera sees it: a little shift, light and noise."""
    y, x = (int(random.integers(100, 109)) for _ in range(2))
    piece = texture[y : y + CROP_SIDE_PX, x : x + CROP_SIDE_PX].astype(np.float32)
    light = random.uniform(0.92, 1.08)
    noise = random.normal(0.0, 2.0, piece.shape)
    return np.asarray(np.clip(piece * light + noise, 0, 255), np.uint8)


def _defect(picture: Picture, random: np.random.Generator) -> Picture:
    """A dark scratch or a pale blot, at a random place."""
    marked: Picture = np.array(picture)
    x, y = (int(random.integers(60, CROP_SIDE_PX - 60)) for _ in range(2))
    if random.random() < 0.5:
        dx, dy = (int(step) for step in random.integers(-45, 46, 2))
        cv2.line(marked, (x, y), (x + dx, y + dy), (20, 20, 20), 4, cv2.LINE_AA)
    else:
        cv2.circle(marked, (x, y), 14, (200, 210, 205), -1, cv2.LINE_AA)
    return marked


def _drawn_scene(random: np.random.Generator) -> Picture:
    picture = np.full((384, 384, 3), random.integers(0, 256, 3), np.uint8)
    for _ in range(12):
        colour = tuple(int(value) for value in random.integers(0, 256, 3))
        x, y, size = (int(value) for value in random.integers(20, 360, 3))
        if random.random() < 0.5:
            cv2.circle(picture, (x, y), 10 + size // 8, colour, -1, cv2.LINE_AA)
        else:
            cv2.rectangle(picture, (x, y), (x + size // 3, y + size // 5), colour, -1)
    return picture


def _drawn_texture(random: np.random.Generator) -> Picture:
    grain = cv2.GaussianBlur(random.normal(128, 60, (512, 512)).astype(np.float32), (0, 0), 2)
    grey = np.clip((grain - 128) * 3 + 128, 0, 255).astype(np.uint8)
    grey[::48] = grey[:, ::64] = 40
    return np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), np.uint8)


def _write(path: Path, picture: Picture) -> None:
    # PNG's encoder gives the same bytes everywhere, so the samples' hashes repeat.
    done, encoded = cv2.imencode(".png", picture)
    if not done:
        raise OSError(f"OpenCV could not encode {path.name}")
    path.write_bytes(encoded.tobytes())
