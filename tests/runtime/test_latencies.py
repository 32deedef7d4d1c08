from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jetlift.runtime.latencies import latency_of, outliers

TIMES = st.lists(st.floats(0.01, 1e4), min_size=20, max_size=200)


def test_a_run_beyond_the_fence_is_counted_and_kept() -> None:
    samples = [10.0, 11.0, 12.0, 13.0] * 10 + [50.0]
    latency = latency_of(samples, stopped_by="precision")
    assert latency.samples_ms == tuple(samples)
    low, high = np.percentile(samples, (25, 75))
    assert latency.outlier_above_ms.value == round(high + 3 * (high - low), 5)
    assert latency.outlier_share.value == round(1 / 41, 6)
    assert latency.mean_ms > 12


def test_few_runs_have_no_outliers() -> None:
    above, share = outliers([1.0] * 19)
    assert above.reason == share.reason == "19 timed runs, and outliers ask for 20"


@given(TIMES)
def test_a_quarter_at_most_lies_beyond(samples: list[float]) -> None:
    above, share = outliers(samples)
    assert 0 <= (share.value or 0) <= 0.25
    assert (above.value or 0) >= round(float(np.percentile(samples, 75)), 5)


@given(TIMES, st.floats(0.1, 10))
def test_the_share_does_not_depend_on_the_unit(samples: list[float], unit: float) -> None:
    whole = [float(round(sample)) + 1 for sample in samples]
    assert outliers(whole)[1] == outliers([sample * 2 for sample in whole])[1]
    assert unit > 0
