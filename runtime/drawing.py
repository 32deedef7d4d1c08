"""What a task draws: heat maps and boxes over pictures, captions, contact sheets.

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
# Smaller pictures are enlarged, or nobody could read what stands on them; long thin ones less far.
_SMALLEST_SIDE, _LARGEST_ENLARGED = 360, 1280
_LETTERS_FOR_SIDE = 600  # letters grow with pictures above this, to be as readable beside them


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
    left, right = _inside(left, right, picture.shape[1])
    top, bottom = _inside(top, bottom, picture.shape[0])
    drawn = (picture * np.float32(0.45)).astype(np.uint8)
    seen = picture[top:bottom, left:right]
    stretched = cv2.resize(
        np.asarray(heat, np.float32), (right - left, bottom - top), interpolation=cv2.INTER_LINEAR
    )
    drawn[top:bottom, left:right] = _blended(seen, stretched, scale)
    if (right - left, bottom - top) != (picture.shape[1], picture.shape[0]):
        cv2.rectangle(drawn, (left, top), (right - 1, bottom - 1), PAPER, 1)
    unit = max(1.0, min(drawn.shape[:2]) / _LETTERS_FOR_SIDE)
    return _titled(np.hstack([drawn, _colour_bar(drawn.shape[0], scale, unit)]), title, unit)


def box_overlay(
    image_bgr: npt.NDArray[Any],
    boxes_xyxy: Sequence[Sequence[float]],
    captions: Sequence[str],
    kinds: Sequence[int],
) -> Picture:
    """A picture with captioned boxes, the first one drawn last and so on top.

    Args:
        image_bgr: uint8 [H, W, 3].
        boxes_xyxy: Left, top, right and bottom of each box in the picture's pixels.
        captions: One line per box.
        kinds: A number per box; boxes of one kind have one colour.
    """
    picture, factor = _enlarged(image_bgr)
    drawn = np.ascontiguousarray(picture.copy())
    unit = max(1.0, min(drawn.shape[:2]) / _LETTERS_FOR_SIDE)
    rows = list(zip(boxes_xyxy, captions, kinds, strict=True))
    for box_xyxy, caption, kind in reversed(rows):
        left, top, right, bottom = (round(edge * factor) for edge in box_xyxy)
        colour = kind_colour(kind)
        cv2.rectangle(drawn, (left, top), (right - 1, bottom - 1), colour, max(2, round(2 * unit)))
        _tag(drawn, caption, (left, top), colour, unit)
    return drawn


def mask_overlay(
    image_bgr: npt.NDArray[Any],
    masks: Sequence[npt.NDArray[np.bool_]],
    kinds: Sequence[int],
) -> Picture:
    """A picture with tinted masks and their outlines, the first one drawn last and so on top.

    Args:
        image_bgr: uint8 [H, W, 3].
        masks: bool [H, W] each.
        kinds: A number per mask; masks of one kind have one colour, that of `box_overlay`.
    """
    drawn = np.array(image_bgr, np.uint8, order="C")
    for mask, kind in reversed(list(zip(masks, kinds, strict=True))):
        colour = np.array(kind_colour(kind), np.float32)
        drawn[mask] = np.rint(drawn[mask] * np.float32(0.55) + colour * np.float32(0.45))
        outlines, _ = cv2.findContours(
            mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE
        )
        cv2.drawContours(drawn, outlines, -1, kind_colour(kind), 1, cv2.LINE_AA)
    return drawn


def with_warning(picture: Picture, text: str) -> Picture:
    """A picture under a strip that warns whoever sees it later."""
    strip = _paper(24, picture.shape[1])
    _write(strip, _shortened(text, picture.shape[1] - 12, 0.5), (6, 17), 0.5, ALARM)
    return np.vstack([strip, picture])


def kind_colour(kind: int) -> tuple[int, int, int]:
    """A colour (BGR) for a number, unlike those of its neighbours: hues a golden section apart."""
    hue = np.uint8(round(kind * 0.618034 % 1 * 179))
    blue, green, red = cv2.cvtColor(np.array([[[hue, 190, 215]]], np.uint8), cv2.COLOR_HSV2BGR)[
        0, 0
    ]
    return int(blue), int(green), int(red)


def _tag(
    picture: Picture, text: str, at_xy: tuple[int, int], colour: tuple[int, int, int], unit: float
) -> None:
    """A caption on its own ground above a point, or below it where there is no room above."""
    size = 0.45 * unit
    (width, height), _ = cv2.getTextSize(_ascii(text), FONT, size, max(1, round(size / 0.5)))
    pad = round(4 * unit)
    x = max(0, min(at_xy[0], picture.shape[1] - width - 2 * pad))
    y = at_xy[1] if at_xy[1] >= height + 2 * pad else at_xy[1] + height + 2 * pad
    cv2.rectangle(picture, (x, y - height - 2 * pad), (x + width + 2 * pad, y), colour, -1)
    ink = INK if 0.114 * colour[0] + 0.587 * colour[1] + 0.299 * colour[2] > 120 else PAPER
    _write(picture, text, (x + pad, y - pad), size, ink)


def _inside(start: int, end: int, length: int) -> tuple[int, int]:
    """The same span within 0 to length, of one pixel at least."""
    start = min(max(0, start), length - 1)
    return start, min(max(start + 1, end), length)


def _blended(seen: Picture, heat: npt.NDArray[Any], scale: Scale) -> Picture:
    shares = scale.shares(heat)
    colours = cv2.applyColorMap((shares * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    opacity = (0.75 * shares**0.75)[..., None]
    mixed = np.rint(seen * (1 - opacity) + colours * opacity)
    blended = np.ascontiguousarray(mixed, np.uint8)  # OpenCV draws on nothing else
    above = (heat >= scale.mark).astype(np.uint8)
    outlines, _ = cv2.findContours(above, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    cv2.drawContours(blended, outlines, -1, (255, 255, 255), 3, cv2.LINE_AA)
    cv2.drawContours(blended, outlines, -1, ALARM, 1, cv2.LINE_AA)
    return blended


def _colour_bar(height: int, scale: Scale, unit: float) -> Picture:
    bar = _paper(height, round(92 * unit))
    top = min(round(14 * unit), height // 3)
    bottom = max(height - top, top + 1)
    left, right, thickness = round(14 * unit), round(32 * unit), round(2 * unit)
    ramp = np.linspace(255, 0, bottom - top).astype(np.uint8)[:, None]
    colours = cv2.applyColorMap(np.repeat(ramp, right - left, axis=1), cv2.COLORMAP_INFERNO)
    bar[top:bottom, left:right] = colours.reshape(bottom - top, right - left, 3)
    for value, colour in ((scale.low, INK), (scale.high, INK), (scale.mark, ALARM)):
        y = round(bottom - (bottom - top) * float(scale.shares(np.array(value))))
        cv2.line(bar, (left - 4, y), (right + 4, y), colour, thickness)
        _write(bar, f"{value:.3g}", (right + 8, y + round(5 * unit)), 0.42 * unit, colour)
    return bar


def _titled(picture: Picture, title: str, unit: float) -> Picture:
    strip = _paper(round(30 * unit), picture.shape[1])
    text = _shortened(title, picture.shape[1] - 20, 0.5 * unit)
    _write(strip, text, (10, round(20 * unit)), 0.5 * unit)
    return np.vstack([strip, picture])


def _enlarged(image_bgr: npt.NDArray[Any]) -> tuple[Picture, float]:
    height, width = image_bgr.shape[:2]
    factor = max(
        1.0, min(_SMALLEST_SIDE / min(height, width), _LARGEST_ENLARGED / max(height, width))
    )
    if factor == 1.0:
        return np.asarray(image_bgr, np.uint8), 1.0
    size_wh = (round(width * factor), round(height * factor))
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
    thickness = max(1, round(size / 0.5))
    cv2.putText(picture, _ascii(text), at_xy, FONT, size, colour, thickness, cv2.LINE_AA)


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
