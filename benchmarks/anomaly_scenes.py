"""Scenes to judge anomaly detection with: many shots of one picture, some with a drawn defect.

Rules:
    S1  A scene is one picture. Its shots differ as a fixed camera's do: shift of at most 2 % of
        each side, gain and gamma, sensor noise, JPEG. Nothing is invented at the borders: a shot
        is the inner 96 %.
    S2  Defects are synthetic. They are drawn on the scene before light, noise and JPEG, so they
        pass through the same camera, and their masks are known exactly.
    S3  A defect covers a given share of the shot's area, within a fifth, and lies in the middle
        80 % of the shot's central square, which a model that crops still sees.
    S4  A defect changes the scene under its mask by at least 12 of 255 levels on average, else it
        is drawn again: sky copied onto the same sky is no defect. After 200 tries it is refused.
    S5  Everything follows from the scene's name, the shot's role and its number.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import cv2
import numpy as np

from jetlift.runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Picture = npt.NDArray[np.uint8]
    Mask = npt.NDArray[np.bool_]
    Random = np.random.Generator

Kind = Literal["scratch", "blot", "missing", "copied", "colour"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SHIFT = 0.02
GAIN, GAMMA = (0.9, 1.1), (0.9, 1.1)
NOISE_LEVELS = (1.0, 4.0)
JPEG_QUALITY = (75, 95)
LEAST_CHANGE = 12.0
AREA_TOLERANCE = 0.2
_TRIES = 200
_INSIDE = 0.8
_LEAST_SIDE = 64
_ELONGATION = 12  # length of a scratch in widths, where that fits
_FINER = 4


@dataclass(frozen=True, eq=False)
class Shot:
    """One shot of a scene.

    Attributes:
        image_bgr: uint8 [H, W, 3].
        mask: bool [H, W], True where the defect is.
        kind: Of the defect, None in a good shot.
    """

    image_bgr: Picture
    mask: Mask
    kind: Kind | None = None


class Scene:
    """Shots of one picture.

    Args:
        name: Seeds every shot (rule S5).
        image_bgr: uint8 [H, W, 3].

    Raises:
        InputError: The picture is smaller than 64 pixels.
    """

    def __init__(self, name: str, image_bgr: Picture) -> None:
        if min(image_bgr.shape[:2]) < _LEAST_SIDE:
            raise InputError(
                f"Scene {name} is {image_bgr.shape[1]} x {image_bgr.shape[0]} pixels",
                expected=f"At least {_LEAST_SIDE} on each side",
            )
        self.name = name
        self._picture = image_bgr

    def good(self, role: str, number: int) -> Shot:
        """A shot without a defect; `role` keeps fit and test apart."""
        random = self._random(role, number)
        scene = _shifted(self._picture, random)
        return Shot(_photographed(scene, random), np.zeros(scene.shape[:2], bool))

    def defective(self, kind: Kind, share: float, number: int) -> Shot:
        """A shot with one synthetic defect on `share` of its area.

        Raises:
            InputError: No such defect fits this picture and is visible in it (rules S3 and S4).
        """
        random = self._random(f"{kind} {share:g}", number)
        scene = _shifted(self._picture, random)
        spoilt, mask = self._visible(scene, kind, share, random)
        return Shot(_photographed(spoilt, random), mask, kind)

    def _visible(
        self, scene: Picture, kind: Kind, share: float, random: Random
    ) -> tuple[Picture, Mask]:
        for _ in range(_TRIES):
            mask = _SHAPES[kind](scene.shape[:2], share, random)
            wanted = share * mask.size
            if abs(int(mask.sum()) - wanted) > AREA_TOLERANCE * wanted or not _central(mask):
                continue
            spoilt = _PAINTS[kind](scene, mask, random)
            if float(cv2.absdiff(spoilt, scene)[mask].mean()) >= LEAST_CHANGE:
                return spoilt, mask
        raise InputError(
            f"No {kind} defect on {share:.2%} of scene {self.name} would fit and be visible",
            expected="A picture with some structure, and a defect of some pixels",
        )

    def _random(self, role: str, number: int) -> Random:
        return np.random.default_rng([zlib.crc32(f"{self.name}/{role}".encode()), number])


def _shifted(picture: Picture, random: Random) -> Picture:
    """The inner 96 % of a picture, moved by up to 2 % of each side (rule S1)."""
    height, width = picture.shape[:2]
    margin_x, margin_y = SHIFT * width, SHIFT * height
    size_wh = (int(width - 2 * margin_x) - 1, int(height - 2 * margin_y) - 1)
    left = margin_x + random.uniform(-margin_x, margin_x)
    top = margin_y + random.uniform(-margin_y, margin_y)
    move = np.array([[1, 0, -left], [0, 1, -top]])
    return np.asarray(cv2.warpAffine(picture, move, size_wh, flags=cv2.INTER_LINEAR), np.uint8)


def _photographed(scene: Picture, random: Random) -> Picture:
    """Light, noise and JPEG (rule S1)."""
    lit = random.uniform(*GAIN) * (scene / 255.0) ** random.uniform(*GAMMA) * 255.0
    noisy = lit + random.normal(0, random.uniform(*NOISE_LEVELS), scene.shape)
    pixels = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
    quality = int(random.integers(JPEG_QUALITY[0], JPEG_QUALITY[1] + 1))
    coded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)


def _central(mask: Mask) -> bool:
    """Whether a shape keeps to where every model looks (rule S3)."""
    height, width = mask.shape
    half = _INSIDE * min(height, width) / 2
    rows, columns = np.nonzero(mask)
    far = max(np.abs(rows - height / 2).max(), np.abs(columns - width / 2).max())
    return bool(far <= half)


def _centre(size_hw: tuple[int, int], reach: float, random: Random) -> npt.NDArray[np.float64]:
    """A point from which `reach` pixels in every direction keep to the middle, where possible."""
    room = max(0.0, _INSIDE * min(size_hw) / 2 - reach)
    middle = np.array([size_hw[1], size_hw[0]]) / 2
    return np.asarray(middle + random.uniform(-room, room, 2))


def _blob(size_hw: tuple[int, int], share: float, random: Random) -> Mask:
    """A round shape with a wavy edge."""
    angles = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    radius = np.ones_like(angles)
    for wave in (2, 3, 5):
        radius += random.uniform(0, 0.4 / wave) * np.cos(wave * angles + random.uniform(0, 6.3))
    points = np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=1)
    drawn = cv2.contourArea(points.astype(np.float32))
    points *= np.sqrt(share * size_hw[0] * size_hw[1] / drawn)
    points += _centre(size_hw, float(np.abs(points).max()), random)
    return _filled(size_hw, points)


def _rectangle(size_hw: tuple[int, int], share: float, random: Random) -> Mask:
    aspect = np.exp(random.uniform(-0.6, 0.6))
    height = np.sqrt(share * size_hw[0] * size_hw[1] / aspect)
    half = np.array([height * aspect, height]) / 2
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half
    return _filled(size_hw, corners + _centre(size_hw, float(half.max()), random))


def _line(size_hw: tuple[int, int], share: float, random: Random) -> Mask:
    """A slightly bent line."""
    area, longest = share * size_hw[0] * size_hw[1], 0.7 * min(size_hw)
    elongation = min(_ELONGATION, longest**2 / area)
    width = np.sqrt(area / elongation)
    length = width * elongation
    along, bend = np.linspace(-0.5, 0.5, 24), random.uniform(-0.15, 0.15)
    line = np.stack([along, bend * (1 - 4 * along**2)], axis=1) * length
    angle = random.uniform(0, np.pi)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    side = np.array([[-np.sin(angle), np.cos(angle)]]) * -width / 2
    turned = line @ turn
    turned = turned + _centre(size_hw, float(np.abs(turned).max() + width), random)
    return _filled(size_hw, np.concatenate([turned + side, (turned - side)[::-1]]))


def _filled(size_hw: tuple[int, int], points: npt.NDArray[Any]) -> Mask:
    # fillPoly counts the outline in, which would thicken a thin shape by a pixel: drawn large.
    canvas = np.zeros((size_hw[0] * _FINER, size_hw[1] * _FINER), np.uint8)
    cv2.fillPoly(canvas, [np.rint(points * _FINER).astype(np.int32)], (255,))
    small = cv2.resize(canvas, size_hw[::-1], interpolation=cv2.INTER_AREA)
    return np.asarray(small > 127, bool)


def _blend(scene: Picture, mask: Mask, other: npt.NDArray[Any], strength: float) -> Picture:
    mixed = scene + strength * (np.asarray(other, np.float64) - scene)
    pixels = np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
    return np.where(mask[..., None], pixels, scene)


def _toned(scene: Picture, mask: Mask, random: Random) -> Picture:
    """Lighter where the scene is dark, darker where it is light."""
    bright = float(scene[mask].mean()) > random.uniform(90, 165)
    tone = random.uniform(0, 50, 3) if bright else random.uniform(205, 255, 3)
    return _blend(scene, mask, tone, random.uniform(0.5, 0.9))


def _missing(scene: Picture, mask: Mask, _random: Random) -> Picture:
    """The mean colour of a ring around it, as where a part has fallen off."""
    wide = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool)
    return _blend(scene, mask, scene[wide & ~mask].mean(axis=0), 1.0)


def _copied(scene: Picture, mask: Mask, random: Random) -> Picture:
    """What stands elsewhere in the scene."""
    height, width = mask.shape
    by = (int(random.integers(height)), int(random.integers(width)))
    return _blend(scene, mask, np.roll(scene, by, axis=(0, 1)), 1.0)


def _recoloured(scene: Picture, mask: Mask, random: Random) -> Picture:
    """Another hue and more colour at the same brightness."""
    lab = cv2.cvtColor(scene, cv2.COLOR_BGR2LAB).astype(np.float64)
    angle = random.uniform(0, 2 * np.pi)
    lab[..., 1:] += random.uniform(25, 60) * np.array([np.cos(angle), np.sin(angle)])
    shifted = np.clip(np.rint(lab), 0, 255).astype(np.uint8)
    return _blend(scene, mask, cv2.cvtColor(shifted, cv2.COLOR_LAB2BGR), 1.0)


_SHAPES: dict[Kind, Callable[[tuple[int, int], float, Random], Mask]] = {
    "scratch": _line, "blot": _blob, "missing": _rectangle, "copied": _rectangle, "colour": _blob,
}  # fmt: skip
_PAINTS: dict[Kind, Callable[[Picture, Mask, Random], Picture]] = {
    "scratch": _toned, "blot": _toned, "missing": _missing, "copied": _copied,
    "colour": _recoloured,
}  # fmt: skip
