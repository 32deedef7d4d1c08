from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jetlift.export.recipes.steps import STEPS, StepMetric, steps_of


@given(st.integers(1, 6), st.integers(0, 200))
def test_steps_are_of_the_text_and_hold_all_of_its_prompt(prompt: int, after: int) -> None:
    steps = steps_of(prompt + after, prompt)
    assert steps[:prompt] == list(range(prompt))
    assert steps[-1] == prompt + after - 1
    assert steps == sorted(set(steps))
    assert len(steps) <= prompt - 1 + STEPS


def test_the_first_token_is_a_step_where_nothing_is_given() -> None:
    assert steps_of(40)[0] == 0


def test_a_given_token_does_not_count_as_one_that_agrees() -> None:
    sure, other = np.array([[0.0, 9.0]], np.float32), np.array([[9.0, 0.0]], np.float32)
    keys = [np.ones((1, 2), np.float32)] * 2
    reference = {"logits": [sure, sure], "new_key_0": keys}
    got = {"logits": [other, sure], "new_key_0": keys}
    assert StepMetric([False, True]).figures(reference, got)["token_agreement"] == 1.0
    assert StepMetric([True, True]).figures(reference, got)["token_agreement"] == 0.5
