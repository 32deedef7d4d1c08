from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetlift.export.judging import Source
from jetlift.export.recipes.dinov2 import IMAGE
from jetlift.export.samples import PICTURES, TEXTS, Item, ItemContext, Rule, prepare, split
from jetlift.runtime.errors import InputError
from jetlift.runtime.manifest import Part


def items(count: int) -> list[Item]:
    return [Item(f"{i:064x}", ({"x": np.full(1, i)},), label=i) for i in range(count)]


@given(
    st.integers(3, 900),
    st.sampled_from([PICTURES, TEXTS, Rule(Fraction(1, 3), 10, Fraction(1, 2))]),
)
def test_three_sets_apart_and_nothing_lost(count, rule):
    parts = split(items(count), rule, note="n")
    labels = [parts.calibration.labels, parts.search.labels, parts.report.labels]
    assert [label for part in labels for label in part] == list(range(count))
    assert all(len(part) > 0 for part in labels)
    for part in (parts.calibration, parts.search, parts.report):
        assert part.described.count == len(part.labels) == len(part.feeds)


def test_photographs_choose_by_the_first_64_and_report_on_the_rest():
    parts = split(items(200), note="n")
    sets = (parts.calibration, parts.search, parts.report)
    assert [s.described.count for s in sets] == [32, 32, 136]
    assert parts.report.labels[0] == 64


def test_texts_choose_by_four_fifths():
    parts = split(items(500), TEXTS, note="n")
    sets = (parts.calibration, parts.search, parts.report)
    assert [s.described.count for s in sets] == [300, 100, 100]


def test_one_sample_may_feed_the_graph_several_times():
    several = [Item("0" * 64, ({"x": i}, {"x": i})) for i in range(4)]
    parts = split(several, note="n")
    assert parts.report.described.count == 2
    assert len(parts.report.feeds) == 4


def context(folder) -> ItemContext:
    part = Part(IMAGE.inputs, (), 0, IMAGE.preprocess, {})
    return ItemContext(folder, part, folder, {})


def test_folders_that_cannot_serve_are_refused(tmp_path):
    with pytest.raises(InputError, match="There is no"):
        prepare(context(tmp_path / "none"))
    with pytest.raises(InputError):
        prepare(context(tmp_path))
    picture = np.zeros((32, 32, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    with pytest.raises(InputError, match="1 usable samples"):
        prepare(context(tmp_path))
    (tmp_path / "b.png").write_bytes(b"no picture")
    cv2.imwrite(str(tmp_path / "c.png"), picture)
    cv2.imwrite(str(tmp_path / "d.png"), picture)
    with pytest.raises(InputError, match=r"b.png cannot be read"):
        prepare(context(tmp_path))


def test_recipe_may_read_its_own(tmp_path):
    parts = prepare(context(tmp_path), lambda _: items(6))
    assert parts.calibration.labels == [0, 1]
    assert parts.report.labels == [3, 4, 5]


@pytest.mark.parametrize(("enough", "rule"), [(15, TEXTS), (12, PICTURES)])
def test_too_few_to_rank_are_told_before_anything_is_made(enough, rule):
    source = Source("text", None, None, "y.cosine_mean>=0.9, y.spearman>=0.99", None)
    few = split(items(enough - 1), rule, note="n")
    with pytest.raises(InputError, match=r"2 are searched on and \d are reported on"):
        source.check_ranks(few, searched=True)
    source.check_ranks(few, searched=False)
    source.check_ranks(split(items(enough), rule, note="n"), searched=True)
    replace(source, asked="cosine_mean>=0.9").check_ranks(few, searched=True)
