from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import roc_auc_score

from jetlift.export.fidelity.anomaly import AnomalyMetric, Truth, auroc
from jetlift.runtime.errors import UsageError
from jetlift.runtime.tasks import padim

# Whole numbers, so that many scores are equal.
scored = st.integers(2, 60).flatmap(
    lambda count: st.tuples(
        hnp.arrays(np.float64, count, elements=st.integers(-4, 4).map(float)),
        hnp.arrays(bool, count),
    )
)
GOOD = np.zeros((8, 8))
DEFECT = np.zeros((8, 8))
DEFECT[2:4, 2:4] = 5.0
MASK = DEFECT > 0
TRUTHS = [Truth(defective=False), Truth(defective=True, mask=MASK)]


def as_maps(outputs):
    return list(outputs["maps"])


def figures(reference, got, truths=TRUTHS):
    return AnomalyMetric(as_maps, truths).figures({"maps": reference}, {"maps": got})


@given(scored)
def test_the_area_is_scikit_learns_ties_and_all(drawn):
    scores, positive = drawn
    assume(0 < positive.sum() < len(positive))
    assert auroc(scores, positive) == pytest.approx(roc_auc_score(positive, scores), abs=1e-12)


@given(scored)
def test_turned_round_the_area_is_what_was_missing(drawn):
    scores, positive = drawn
    assume(0 < positive.sum() < len(positive))
    area = auroc(scores, positive)
    assert 0 <= area <= 1
    assert auroc(-scores, positive) == pytest.approx(1 - area)
    assert auroc(scores, ~positive) == pytest.approx(1 - area)
    assert auroc(np.exp(scores), positive) == pytest.approx(area)


def test_scores_that_are_all_equal_tell_nothing():
    assert auroc(np.zeros(7), np.arange(7) < 3) == 0.5


@pytest.mark.parametrize("positive", [np.zeros(4, bool), np.ones(4, bool)])
def test_an_area_needs_both_kinds(positive):
    with pytest.raises(UsageError, match="Some, and not all"):
        auroc(np.arange(4.0), positive)
    with pytest.raises(UsageError, match="one good and one defective"):
        AnomalyMetric(as_maps, [Truth(bool(item)) for item in positive])


def test_maps_equal_to_fp32s_are_perfect():
    told = figures([GOOD, DEFECT], [GOOD, DEFECT])
    assert told == {
        "image_auroc": 1.0, "image_auroc_fp32": 1.0,
        "pixel_auroc": 1.0, "pixel_auroc_fp32": 1.0, "map_error": 0.0,
    }  # fmt: skip
    assert set(told) == set(AnomalyMetric(as_maps, TRUTHS).names)


def test_a_map_in_another_unit_is_no_error_and_a_blind_one_is():
    scaled = figures([GOOD, DEFECT], [3 * GOOD + 2, 3 * DEFECT + 2])
    assert scaled["map_error"] < 1e-12
    blind = figures([GOOD, DEFECT], [GOOD, GOOD])
    assert (blind["image_auroc"], blind["pixel_auroc"], blind["image_auroc_fp32"]) == (0.5, 0.5, 1)
    assert blind["map_error"] == pytest.approx(1.0)


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_broken_map_never_looks_near(index, value):
    got = [GOOD.copy(), DEFECT.copy()]
    got[index][5, 5] = value
    told = figures([GOOD, DEFECT], got)
    assert told["image_auroc"] == 0.0
    assert told["pixel_auroc"] < 0.6
    assert np.isfinite(told["map_error"])
    assert told["map_error"] > 0.2


def test_without_masks_only_pictures_are_judged():
    truths = [Truth(defective=False), Truth(defective=True)]
    told = figures([GOOD, DEFECT], [GOOD, DEFECT], truths)
    assert set(told) == {"image_auroc", "image_auroc_fp32", "map_error"}
    assert set(told) == set(AnomalyMetric(as_maps, truths).names)


def test_what_does_not_fit_together_is_refused():
    with pytest.raises(UsageError, match="There are 1 maps for 2 pictures"):
        figures([GOOD], [GOOD])
    wide = [Truth(defective=False), Truth(defective=True, mask=np.ones((2, 2), bool))]
    with pytest.raises(UsageError, match=r"A mask is \[2, 2\]"):
        figures([GOOD, DEFECT], [GOOD, DEFECT], wide)


def test_with_padim_a_little_noise_costs_little_and_much_noise_much():
    """Tokens of 12 good pictures fit the Gaussians, 8 more pictures are judged."""
    random = np.random.default_rng(0)
    tokens = random.normal(size=(20, 36, 6)).astype(np.float32)
    tokens[16:, 14:16] += 4.0  # a defect on two patches of the last four
    mask = np.zeros((6, 6), bool)
    mask.reshape(-1)[14:16] = True
    truths = [Truth(defective=False)] * 4 + [Truth(defective=True, mask=mask)] * 4

    def maps_of(outputs):
        rows = np.concatenate(outputs["patch_tokens"])
        fitted = padim.fit_gaussians(rows[:12])
        return [fitted.distances(row).reshape(6, 6) for row in rows[12:]]

    def told(noise):
        got = tokens + random.normal(scale=noise, size=tokens.shape).astype(np.float32)
        outputs = ({"patch_tokens": [row[None] for row in rows]} for rows in (tokens, got))
        return AnomalyMetric(maps_of, truths).figures(*outputs)

    little, much = told(0.05), told(20.0)
    assert little["image_auroc_fp32"] > 0.9
    assert abs(little["pixel_auroc"] - little["pixel_auroc_fp32"]) < 0.02
    assert much["pixel_auroc"] < little["pixel_auroc"] - 0.1
    assert little["map_error"] < 0.2 < much["map_error"]
