from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jetlift.export import fidelity
from jetlift.export.fidelity.boxes import BUDGET, BoxMetric, average_precision, match
from jetlift.runtime.boxes import Boxes, cells
from jetlift.runtime.errors import InputError
from jetlift.runtime.manifest import Detection

SIZE_WH, STRIDES, CLASSES = (96, 64), (8, 16, 32), 3
HEAD = Detection("yolox", STRIDES, "assets/labels.txt", 0.3, 0.45)
CORNERS, _ = cells(SIZE_WH, STRIDES)


def raw(*found: tuple[int, int, float], seed: int = 0) -> np.ndarray:
    """A raw output with boxes as large as their cells: (cell, class, score) each."""
    random = np.random.default_rng(seed)
    rows = random.uniform(0, 0.02, (1, len(CORNERS), 5 + CLASSES)).astype(np.float32)
    rows[..., :2], rows[..., 2:4] = 0.5, 0.0
    for cell, label, score in found:
        rows[0, cell, 4], rows[0, cell, 5 + label] = 1.0, score
    return rows


def figures(reference: list[np.ndarray], got: list[np.ndarray]) -> dict[str, float]:
    return BoxMetric("output", SIZE_WH, HEAD).figures({"output": reference}, {"output": got})


FP32 = [raw((3, 0, 0.9), (40, 1, 0.6), (99, 2, 0.4)), raw((10, 0, 0.5))]


def test_equal_outputs_are_perfect_and_the_loss_is_nothing():
    same = figures(FP32, FP32)
    for name in ("matched", "precision_to_fp32", "ap50_to_fp32"):
        assert same[name] == 1.0
    assert same["score_error"] == same["place_error"] == 0.0
    metric = BoxMetric("output", SIZE_WH, HEAD)
    assert metric.loss(same) == 0.0
    assert {name.rpartition(".")[2] for name in same} == set(metric.names)


def test_what_is_lost_found_in_addition_or_called_otherwise_is_counted():
    got = [raw((3, 0, 0.9), (40, 2, 0.6), (99, 2, 0.29)), raw((10, 0, 0.5), (60, 1, 0.35))]
    told = figures(FP32, got)
    assert told["matched"] == 0.5  # another class; below the threshold
    assert told["precision_to_fp32"] == 0.5  # another class; one of its own
    # Class 0 whole; class 1 lost; class 2: one false box before the right one.
    assert told["ap50_to_fp32"] == pytest.approx((1 + 0 + 0.5) / 3)
    assert told["score_error"] > 1


def test_a_box_that_moved_too_far_is_lost():
    near, far = raw((3, 0, 0.9)), raw((3, 0, 0.9))
    near[0, 3, 0] += 0.3  # IoU 0.7 / 1.3
    far[0, 3, 0] += 0.4  # IoU 0.6 / 1.4
    one = [raw((3, 0, 0.9))]
    assert figures(one, [near])["matched"] == 1.0
    assert figures(one, [near])["place_error"] == pytest.approx(1 - 0.7 / 1.3, abs=1e-5)
    assert figures(one, [far])["matched"] == 0.0
    assert figures(one, [far])["ap50_to_fp32"] == 0.0


def test_extras_of_the_same_object_are_no_matches():
    twice = raw((3, 0, 0.9), (4, 0, 0.8))
    twice[0, 4, 0] -= 0.62  # cell 4's box now overlaps cell 3's by IoU 0.45: not suppressed
    told = figures([raw((3, 0, 0.9))], [twice])
    assert told["matched"] == 1.0
    assert told["precision_to_fp32"] == 0.5


def test_nothing_found_matches_nothing_and_invents_nothing():
    told = figures(FP32, [raw(), raw()])
    assert told["matched"] == told["ap50_to_fp32"] == 0.0
    assert told["precision_to_fp32"] == 1.0


def test_broken_cells_are_lost_and_never_an_error():
    broken = [FP32[0].copy(), FP32[1].copy()]
    broken[0][0, 3, 0] = np.nan
    broken[0][0, 40, 6] = np.inf
    told = figures(FP32, broken)
    assert told["matched"] == 0.5
    assert all(np.isfinite(value) for value in told.values())
    nothing = figures(FP32, [np.full_like(array, np.nan) for array in FP32])
    assert nothing["matched"] == 0.0
    assert BoxMetric("output", SIZE_WH, HEAD).loss(nothing) > BoxMetric(
        "output", SIZE_WH, HEAD
    ).loss(told)


def test_fp32_without_boxes_can_judge_nothing():
    with pytest.raises(InputError, match=r"finds no box of score 0\.3 or more on 2 samples"):
        figures([raw(), raw()], FP32)


def test_a_new_reference_is_not_taken_for_the_old_one():
    metric = BoxMetric("output", SIZE_WH, HEAD)
    other = [raw((20, 1, 0.8)), raw((21, 1, 0.8))]
    assert metric.figures({"output": FP32}, {"output": FP32})["matched"] == 1.0
    assert metric.figures({"output": other}, {"output": FP32})["matched"] == 0.0


def test_the_default_budget_is_about_its_own_figures():
    metric = BoxMetric("output", SIZE_WH, HEAD)
    lines = fidelity.parse_budget(BUDGET, metric.names)
    assert [(line.metric, line.limit) for line in lines] == [
        ("matched", 0.95),
        ("precision_to_fp32", 0.9),
    ]


@st.composite
def outputs(draw: st.DrawFn) -> list[np.ndarray]:
    found = st.lists(
        st.tuples(
            st.integers(0, len(CORNERS) - 1), st.integers(0, CLASSES - 1), st.floats(0.05, 1.0)
        ),
        max_size=6,
    )
    return [raw(*draw(found), seed=draw(st.integers(0, 5))) for _ in range(2)]


@settings(max_examples=50)
@given(outputs(), outputs())
def test_figures_are_shares_and_each_side_sees_the_other(first, second):
    for one, other in ((first, second), (second, first)):
        one[0] = raw((5, 0, 0.9))
        other[0] = raw((5, 0, 0.8))
    there, back = figures(first, second), figures(second, first)
    for told in (there, back):
        for name in ("matched", "precision_to_fp32", "ap50_to_fp32"):
            assert 0 <= told[name] <= 1
        assert 0 <= told["place_error"] <= 1
    assert there["matched"] == pytest.approx(back["precision_to_fp32"])
    assert back["matched"] == pytest.approx(there["precision_to_fp32"])


def boxes(rows: list[tuple[float, float, int]]) -> Boxes:
    """Squares of 10 pixels: (left, score, class) each, best first."""
    rows = sorted(rows, key=lambda row: -row[1])
    edges = np.array([[left, 0, left + 10, 10] for left, _, _ in rows], np.float32).reshape(-1, 4)
    return Boxes(
        edges,
        np.array([score for _, score, _ in rows], np.float32),
        np.array([label for _, _, label in rows], np.int64),
    )


def test_each_box_is_matched_once_and_the_best_score_chooses_first():
    wanted = boxes([(0, 0.9, 0), (2, 0.8, 0)])
    assert match(wanted, boxes([(1, 0.9, 0)])).tolist() == [True, False]
    assert match(wanted, boxes([(1, 0.9, 1)])).tolist() == [False, False]
    assert match(wanted, boxes([])).tolist() == [False, False]
    assert match(boxes([]), wanted).tolist() == []


def test_average_precision_of_a_known_ranking():
    truth = [boxes([(0, 1, 0), (100, 1, 0)]), boxes([(0, 1, 0)])]
    # Right, wrong, right; the third true box is never found: 1/3 x 1 + 1/3 x 2/3.
    found = [boxes([(0, 0.9, 0), (50, 0.8, 0), (100, 0.7, 0)]), boxes([])]
    assert average_precision(truth, found) == pytest.approx(5 / 9)
    # A false box after every right one costs nothing.
    late = [boxes([(0, 0.9, 0), (100, 0.7, 0), (50, 0.1, 0)]), boxes([(0, 0.8, 0)])]
    assert average_precision(truth, late) == pytest.approx(1.0)
