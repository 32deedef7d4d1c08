from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jetlift.export.fidelity.classes import ClassMetric, first_classes
from jetlift.runtime.errors import UsageError

samples = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 6), st.integers(1, 9)),
    elements=st.floats(-20, 20, width=32),
)


def as_output(rows: np.ndarray) -> dict[str, list[np.ndarray]]:
    return {"scores": [row[None] for row in np.asarray(rows, np.float32)]}


@given(samples)
def test_a_classifier_agrees_with_itself(rows):
    told = ClassMetric("scores").figures(as_output(rows), as_output(rows))
    assert told["top1_agreement"] == told["top5_agreement"] == 1.0
    assert ClassMetric("scores").loss(told) < 1e-3


@given(samples, st.integers(0, 2**32 - 1))
def test_the_first_five_hold_the_first_and_agree_no_less(rows, seed):
    other = np.random.default_rng(seed).permuted(rows, axis=1)
    told = ClassMetric("scores").figures(as_output(rows), as_output(other))
    assert 0 <= told["top1_agreement"] <= told["top5_agreement"] <= 1
    first = first_classes(as_output(other)["scores"])
    np.testing.assert_array_equal(first[:, 0], other.argmax(axis=1))
    if rows.shape[1] <= 5:
        assert told["top5_agreement"] == 1.0


@given(samples)
def test_classes_are_ranked_as_sorted(rows):
    first = first_classes(as_output(rows)["scores"])
    for row, best in zip(rows, first, strict=True):
        ranked = sorted(range(len(row)), key=lambda label: (-row[label], label))
        assert best.tolist() == ranked[:5]


def test_known_classes_give_both_sides_accuracy():
    fp32 = np.eye(8)[[0, 1, 2, 3]]
    got = np.eye(8)[[0, 1, 7, 3]]
    metric = ClassMetric("scores", [0, 1, 2, 4])
    told = metric.figures(as_output(fp32), as_output(got))
    assert told["top1_agreement"] == 0.75
    assert (told["top1"], told["top1_fp32"]) == (0.5, 0.75)
    # Equal scores rank by number: class 2 is among 7, 0, 1, 2, 3 and class 4 among 3, 0, 1, 2, 4.
    assert (told["top5"], told["top5_fp32"]) == (1.0, 1.0)
    assert {name.rpartition(".")[2] for name in told} == set(metric.names)


def test_what_a_classifier_gives_beside_its_scores_is_judged_too():
    scores, vectors = as_output(np.eye(4)), [np.ones((1, 3), np.float32)] * 4
    turned = [np.array([[1.0, -1.0, 0.0]], np.float32)] * 4
    metric = ClassMetric("scores")
    same = metric.figures(scores | {"embedding": vectors}, scores | {"embedding": vectors})
    told = metric.figures(scores | {"embedding": vectors}, scores | {"embedding": turned})
    assert (same["embedding.cosine_mean"], told["embedding.cosine_mean"]) == pytest.approx((1, 0))
    assert told["top1_agreement"] == 1.0
    assert {name.rpartition(".")[2] for name in told} == set(metric.names)


def test_a_dead_variant_agrees_by_chance_only():
    fp32 = np.eye(10)
    told = ClassMetric("scores").figures(as_output(fp32), as_output(np.zeros((10, 10))))
    assert (told["top1_agreement"], told["top5_agreement"]) == (0.1, 0.5)


def test_broken_scores_agree_with_nothing_not_even_with_broken_ones():
    broken = np.eye(4)
    broken[1, 2], broken[2, 0] = np.nan, np.inf
    metric = ClassMetric("scores", [0, 1, 2, 3])
    told = metric.figures(as_output(np.eye(4)), as_output(broken))
    assert told["top1_agreement"] == told["top5_agreement"] == told["top1"] == 0.5
    both = metric.figures(as_output(broken), as_output(broken))
    assert both["top1_agreement"] == 0.5


def test_one_true_class_per_sample():
    with pytest.raises(UsageError, match="2 true classes for 3 samples"):
        ClassMetric("scores", [0, 1]).figures(as_output(np.eye(3)), as_output(np.eye(3)))
