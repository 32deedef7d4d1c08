from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jetlift.runtime import drawing
from jetlift.runtime.drawing import Scale, Tile, box_overlay, contact_sheet, heat_overlay
from jetlift.runtime.errors import UsageError

SCALE = Scale(low=10.0, mark=20.0, high=40.0)


def grey(width: int, height: int) -> np.ndarray:
    return np.full((height, width, 3), 120, np.uint8)


def body(drawn: np.ndarray, width: int, height: int) -> np.ndarray:
    """The picture's own area in an overlay of a picture that was not enlarged."""
    return drawn[30 : 30 + height, :width]


def overlay(image: np.ndarray, heat: np.ndarray, region: tuple[float, ...]) -> np.ndarray:
    return heat_overlay(image, heat, SCALE, region_xyxy=region, title="good: 1.0")  # type: ignore[arg-type]


def test_normal_values_leave_the_picture_clear() -> None:
    image = grey(400, 400)
    drawn = overlay(image, np.full((16, 16), 9.0), (0, 0, 400, 400))
    np.testing.assert_array_equal(body(drawn, 400, 400), image)


def test_the_glow_lies_where_the_heat_is_and_a_line_around_it() -> None:
    heat = np.full((100, 100), 5.0)
    heat[60:80, 20:40] = 40.0
    changed = body(overlay(grey(400, 400), heat, (0, 0, 400, 400)), 400, 400) != 120
    rows, columns = np.nonzero(changed.any(axis=2))
    assert abs(rows.mean() - 280) < 4
    assert abs(columns.mean() - 120) < 4
    assert (rows.max() - rows.min(), columns.max() - columns.min()) < (100, 100)


def test_what_was_not_seen_is_darkened() -> None:
    drawn = body(overlay(grey(500, 400), np.zeros((4, 4)), (50, 0, 450, 400)), 500, 400)
    assert (drawn[:, :50] == 54).all()
    assert (drawn[:, 450:] == 54).all()
    assert (drawn[10:390, 60:440] == 120).all()


def test_small_pictures_are_enlarged_to_be_readable() -> None:
    drawn = overlay(grey(20, 10), np.zeros((2, 2)), (0, 0, 20, 10))
    assert drawn.shape == (30 + 360, 720 + 92, 3)
    thin = overlay(grey(640, 1), np.zeros((2, 2)), (0, 0, 640, 1))
    assert thin.shape == (30 + 2, 1280 + 92, 3)


def test_letters_grow_with_the_picture() -> None:
    drawn = overlay(grey(2400, 1800), np.zeros((2, 2)), (0, 0, 2400, 1800))
    assert drawn.shape == (3 * 30 + 1800, 2400 + 3 * 92, 3)


def test_nothing_given_is_changed() -> None:
    image, heat = grey(400, 380), np.random.default_rng(0).uniform(0, 60, (7, 7))
    image_before, heat_before = image.copy(), heat.copy()
    overlay(image, heat, (0, 0, 400, 380))
    contact_sheet([Tile(image, ("a",), accent=True)])
    np.testing.assert_array_equal(image, image_before)
    np.testing.assert_array_equal(heat, heat_before)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 700),
    st.integers(1, 700),
    st.tuples(*[st.floats(0, 1)] * 4),
    st.text(max_size=300),
)
def test_any_picture_region_and_title_can_be_drawn(
    width: int, height: int, shares: tuple[float, float, float, float], title: str
) -> None:
    left, right = sorted((shares[0] * width, shares[1] * width))
    top, bottom = sorted((shares[2] * height, shares[3] * height))
    drawn = heat_overlay(
        grey(width, height),
        np.linspace(0, 50, 12).reshape(3, 4),
        SCALE,
        region_xyxy=(left, top, right, bottom),
        title=title,
    )
    assert drawn.dtype == np.uint8
    assert drawn.ndim == 3


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.lists(st.floats(-1e9, 1e9), min_size=1))
def test_shares_stay_within_the_scale(low: float, high: float, values: list[float]) -> None:
    shares = Scale(low=min(low, high), mark=low, high=max(low, high)).shares(np.array(values))
    assert ((shares >= 0) & (shares <= 1)).all()


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 1, 1), (4, 4, 1), (6, 4, 2), (9, 4, 3)])
def test_a_sheet_has_a_field_for_each_tile(count: int, columns: int, rows: int) -> None:
    tiles = [Tile(grey(30 + number, 50), (f"{number}", "name.png")) for number in range(count)]
    sheet = contact_sheet(tiles, tile_wh=(100, 80))
    assert sheet.shape == (rows * (80 + 12 + 40) + 12, columns * 112 + 12, 3)


def test_a_picture_that_is_gone_leaves_its_field() -> None:
    tiles = [Tile(grey(50, 50), ("here",)), Tile(None, ("gone",))]
    sheet = contact_sheet(tiles, tile_wh=(150, 100))
    field = sheet[12:112, 12 + 162 : 12 + 162 + 150]
    assert (field[:30] == 228).all()
    assert (field != 228).any()  # the words


def test_a_sheet_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="nothing"):
        contact_sheet([])


@given(st.text(max_size=200), st.integers(20, 400))
def test_words_are_cut_to_fit_and_keep_both_ends(text: str, width: int) -> None:
    short = drawing._shortened(text, width, 0.45)
    assert short.isascii()
    fits = cv2.getTextSize(short, drawing.FONT, 0.45, 1)[0][0] <= width
    assert fits or len(short) <= 4
    if ".." in short and ".." not in drawing._ascii(text) and len(short) > 6:
        assert drawing._ascii(text).startswith(short.partition("..")[0])
        assert drawing._ascii(text).endswith(short.rpartition("..")[2])


def test_accents_are_taken_off_and_other_signs_become_question_marks() -> None:
    assert drawing._ascii("Größe café 漢.png") == "Gro?e cafe ?.png"


def test_boxes_are_drawn_in_the_colour_of_their_kind_and_only_on_their_edges() -> None:
    drawn = box_overlay(grey(500, 400), [(100, 100, 200, 300)], ["cat 0.91"], [3])
    colour = drawing.kind_colour(3)
    for row, column in ((200, 100), (200, 199), (299, 150)):
        assert tuple(drawn[row, column]) == colour
    assert (drawn[110:290, 110:190] == 120).all()
    assert (drawn[:, 210:] == 120).all()
    assert (drawn[80:99, 100:160] != 120).any()


def test_boxes_at_and_beyond_the_edges_keep_their_captions_on_the_picture() -> None:
    image = grey(400, 400)
    drawn = box_overlay(image, [(-9, -5, 60, 50), (380, 390, 420, 420)], ["left", "right"], [0, 1])
    assert drawn.shape == image.shape
    assert (image == 120).all()
    assert (drawn[0:60, 0:60] != 120).any()
    assert (drawn[360:400, 340:400] != 120).any()


def test_kinds_that_stand_beside_each_other_differ_in_colour() -> None:
    colours = np.array([drawing.kind_colour(kind) for kind in range(80)], float)
    steps = np.abs(np.diff(colours, axis=0)).max(axis=1)
    assert steps.min() > 60
