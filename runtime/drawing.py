"""What a task draws: heat maps over pictures, captions, contact sheets.

All pictures are uint8 [H, W, 3] in BGR order; nothing given is changed. OpenCV's fonts know ASCII
only, so accents are taken off and other signs become question marks, in drawings alone.
"""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from jetlift.runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Picture = npt.NDArray[np.uint8]

FONT = cv2.FONT_HERSHEY_SIMPLEX
PAPER, INK, FAINT = (250, 250, 250), (30, 30, 30), (120, 120, 120)
ALARM = (48, 48, 208)
_SMALLEST_SIDE = 360  # smaller pictures are enlarged, or nobody could read what stands on them


@dataclass(frozen=True, eq=False)
class Tile:
    """One field of a contact sheet.

    Attributes:
        image_bgr: uint8 [H, W, 3], or None where the picture is no longer to be had.
        lines: What stands under it.
        accent: Whether it is framed, as the query is.
    """

    image_bgr: npt.NDArray[Any] | None
    lines: tuple[str, ...]
    accent: bool = False


@dataclass(frozen=True)
class Scale:
    """What the colours of a heat map mean.

    Attributes:
        low: Value of the darkest colour, which is transparent.
        mark: Value that the colour bar and a contour line mark.
        high: Value of the brightest colour.
    """

    low: float
    mark: float
    high: float

    def shares(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Values as shares of the scale, cut to 0..1."""
        span = max(self.high - self.low, 1e-12)
        return np.clip((values - self.low) / span, 0.0, 1.0).astype(np.float32)


def contact_sheet(
    tiles: Sequence[Tile], *, columns: int = 4, tile_wh: tuple[int, int] = (240, 180)
) -> Picture:
    """Pictures in a grid with lines of text under each.

    Raises:
        UsageError: There are no tiles.
    """
    if not tiles:
        raise UsageError("A contact sheet of nothing was asked for", expected="At least one tile")
    columns = min(columns, len(tiles))
    rows = math.ceil(len(tiles) / columns)
    most_lines = max(len(tile.lines) for tile in tiles)
    gap, line_height = 12, 20
    step_x, step_y = tile_wh[0] + gap, tile_wh[1] + gap + line_height * most_lines
    sheet = _paper(rows * step_y + gap, columns * step_x + gap)
    for number, tile in enumerate(tiles):
        x, y = gap + number % columns * step_x, gap + number // columns * step_y
        _paste(sheet, _tile_picture(tile, tile_wh), x, y)
        if tile.accent:
            cv2.rectangle(sheet, (x - 3, y - 3), (x + tile_wh[0] + 2, y + tile_wh[1] + 2), ALARM, 3)
        for row, line in enumerate(tile.lines):
            baseline = y + tile_wh[1] + line_height * row + 16
            _write(sheet, _shortened(line, tile_wh[0], 0.45), (x, baseline), 0.45)
    return sheet


def heat_overlay(
    image_bgr: npt.NDArray[Any],
    heat: npt.NDArray[Any],
    scale: Scale,
    *,
    region_xyxy: tuple[float, float, float, float],
    title: str,
) -> Picture:
    """A picture under a heat map, with a title and a colour bar.

    Normal values leave the picture clear, high ones glow (inferno, which grows brighter evenly);
    a line follows `scale.mark`. What lies outside the region was not judged and is darkened.

    Args:
        image_bgr: uint8 [H, W, 3].
        heat: Floats [h, w], any size; stretched over the region.
        scale: What the colours mean.
        region_xyxy: Where the map lies on the picture, in pixels.
        title: One line above the picture.
    """
    picture, factor = _enlarged(image_bgr)
    left, top, right, bottom = (round(edge * factor) for edge in region_xyxy)
    left, right = max(0, left), max(left + 1, min(picture.shape[1], right))
    top, bottom = max(0, top), max(top + 1, min(picture.shape[0], bottom))
    drawn = (picture * np.float32(0.45)).astype(np.uint8)
    seen = picture[top:bottom, left:right]
    stretched = cv2.resize(
        np.asarray(heat, np.float32), (right - left, bottom - top), interpolation=cv2.INTER_LINEAR
    )
    drawn[top:bottom, left:right] = _blended(seen, stretched, scale)
    if (right - left, bottom - top) != (picture.shape[1], picture.shape[0]):
        cv2.rectangle(drawn, (left, top), (right - 1, bottom - 1), PAPER, 1)
    return _titled(np.hstack([drawn, _colour_bar(drawn.shape[0], scale)]), title)


def _blended(seen: Picture, heat: npt.NDArray[Any], scale: Scale) -> Picture:
    shares = scale.shares(heat)
    colours = cv2.applyColorMap((shares * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    opacity = (0.75 * shares**0.75)[..., None]
    blended = np.asarray(np.rint(seen * (1 - opacity) + colours * opacity), np.uint8)
    above = (heat >= scale.mark).astype(np.uint8)
    outlines, _ = cv2.findContours(above, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    cv2.drawContours(blended, outlines, -1, (255, 255, 255), 3, cv2.LINE_AA)
    cv2.drawContours(blended, outlines, -1, ALARM, 1, cv2.LINE_AA)
    return blended


def _colour_bar(height: int, scale: Scale) -> Picture:
    bar = _paper(height, 92)
    top, bottom = 14, height - 14
    ramp = np.linspace(255, 0, bottom - top).astype(np.uint8)[:, None]
    bar[top:bottom, 14:32] = cv2.applyColorMap(np.repeat(ramp, 18, axis=1), cv2.COLORMAP_INFERNO)
    for value, colour in ((scale.low, INK), (scale.high, INK), (scale.mark, ALARM)):
        y = round(bottom - (bottom - top) * float(scale.shares(np.array(value))))
        cv2.line(bar, (10, y), (38, y), colour, 2)
        _write(bar, f"{value:.3g}", (42, y + 5), 0.42, colour)
    return bar


def _titled(picture: Picture, title: str) -> Picture:
    strip = _paper(30, picture.shape[1])
    _write(strip, _shortened(title, picture.shape[1] - 20, 0.5), (10, 20), 0.5)
    return np.vstack([strip, picture])


def _enlarged(image_bgr: npt.NDArray[Any]) -> tuple[Picture, float]:
    factor = max(1.0, _SMALLEST_SIDE / max(1, min(image_bgr.shape[:2])))
    if factor == 1.0:
        return np.asarray(image_bgr, np.uint8), 1.0
    size_wh = (round(image_bgr.shape[1] * factor), round(image_bgr.shape[0] * factor))
    enlarged = cv2.resize(image_bgr, size_wh, interpolation=cv2.INTER_NEAREST)
    return np.asarray(enlarged, np.uint8), factor


def _tile_picture(tile: Tile, tile_wh: tuple[int, int]) -> Picture:
    field = np.full((tile_wh[1], tile_wh[0], 3), 228, np.uint8)
    if tile.image_bgr is None:
        _write(field, "not to be had", (10, tile_wh[1] // 2), 0.5, FAINT)
        return field
    height, width = tile.image_bgr.shape[:2]
    factor = min(tile_wh[0] / width, tile_wh[1] / height)
    size_wh = (max(1, round(width * factor)), max(1, round(height * factor)))
    small = cv2.resize(tile.image_bgr, size_wh, interpolation=cv2.INTER_AREA)
    _paste(field, small, (tile_wh[0] - size_wh[0]) // 2, (tile_wh[1] - size_wh[1]) // 2)
    return field


def _paste(sheet: Picture, picture: npt.NDArray[Any], x: int, y: int) -> None:
    sheet[y : y + picture.shape[0], x : x + picture.shape[1]] = picture


def _paper(height: int, width: int) -> Picture:
    return np.full((height, width, 3), PAPER, np.uint8)


def _write(
    picture: Picture,
    text: str,
    at_xy: tuple[int, int],
    size: float,
    colour: tuple[int, int, int] = INK,
) -> None:
    cv2.putText(picture, _ascii(text), at_xy, FONT, size, colour, 1, cv2.LINE_AA)


def _shortened(text: str, width: int, size: float) -> str:
    """The text, cut in its middle so that both ends of a file name stay readable."""
    text = _ascii(text)
    kept = len(text)
    while kept > 4 and cv2.getTextSize(_cut(text, kept), FONT, size, 1)[0][0] > width:
        kept -= 1
    return _cut(text, kept)


def _cut(text: str, kept: int) -> str:
    if kept >= len(text):
        return text
    head = (kept - 2) // 2
    return f"{text[:head]}..{text[len(text) - (kept - 2 - head) :]}"


def _ascii(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text)
    bare = "".join(sign for sign in plain if not unicodedata.combining(sign))
    return bare.encode("ascii", "replace").decode("ascii")
