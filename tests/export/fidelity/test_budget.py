from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetlift.export import fidelity
from jetlift.runtime.errors import UsageError


def test_budget_lines_with_and_without_output():
    budget = fidelity.parse_budget("embedding.cosine_min>=0.9, cosine_mean >= 0.99")
    figures = {
        "embedding.cosine_min": 0.95,
        "embedding.cosine_mean": 0.995,
        "tokens.cosine_mean": 0.9,
    }
    assert fidelity.breaches(figures, budget) == ["tokens.cosine_mean is 0.9000, asked >= 0.99"]
    nan = figures | {"embedding.cosine_min": float("nan")}
    assert len(fidelity.breaches(nan, budget)) == 2


@pytest.mark.parametrize(
    "text",
    ["", " , ", "cosine_min", "cosine_min>0.9", "wer<=+x", "cosine_min>=1e", "a b>=1"],
)
def test_unreadable_budget_is_refused(text):
    with pytest.raises(UsageError):
        fidelity.parse_budget(text)


def test_budget_on_what_was_not_measured_is_refused():
    with pytest.raises(UsageError, match=r"logits.cosine_min"):
        fidelity.breaches({"y.cosine_min": 1.0}, fidelity.parse_budget("logits.cosine_min>=0.5"))
    with pytest.raises(UsageError, match="spearman"):
        fidelity.breaches({"y.cosine_min": 1.0}, fidelity.parse_budget("spearman>=0.5"))


def test_signed_number_is_a_distance_from_fp32():
    budget = fidelity.parse_budget("wer<=+0.5")
    assert fidelity.breaches({"wer": 24.1, "wer_fp32": 23.7}, budget) == []
    missed = fidelity.breaches({"wer": 24.4, "wer_fp32": 23.7}, budget)
    assert missed == ["wer is 24.4000 (fp32 23.7), asked <= +0.5 of fp32's"]
    lower = fidelity.parse_budget("auroc>=-0.01")
    assert fidelity.breaches({"auroc": 0.95, "auroc_fp32": 0.955}, lower) == []
    with pytest.raises(UsageError, match="wer_fp32"):
        fidelity.breaches({"wer": 24.1}, budget)


def test_slack_is_the_share_of_the_room_that_is_left():
    lines = fidelity.parse_budget("cosine_min>=0.9, wer<=+2")
    figures = {"y.cosine_min": 0.95, "wer": 11.0, "wer_fp32": 10.0}
    assert fidelity.worst_slack(figures, lines) == pytest.approx(0.5)
    assert fidelity.worst_slack(figures | {"wer": 10.0}, lines) == pytest.approx(0.5)
    assert fidelity.worst_slack(figures | {"wer": 13.0}, lines) == pytest.approx(-0.5)
    assert fidelity.worst_slack(figures | {"wer": math.nan}, lines) == -math.inf


@given(st.floats(0, 1), st.floats(0, 0.99))
def test_slack_is_negative_exactly_where_the_budget_is_missed(value, limit):
    lines = fidelity.parse_budget(f"cosine_min>={limit:.6f}")
    figures = {"y.cosine_min": value}
    missed = bool(fidelity.breaches(figures, lines))
    assert missed == (fidelity.worst_slack(figures, lines) < 0)


def test_unknown_metric_is_refused_where_the_metrics_are_known():
    with pytest.raises(UsageError, match="metrics: cosine_mean"):
        fidelity.parse_budget("psnr>=30", fidelity.VectorMetric.names)
