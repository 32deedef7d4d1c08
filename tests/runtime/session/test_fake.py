from __future__ import annotations

import numpy as np
import pytest

from jetlift.runtime.errors import UsageError
from jetlift.runtime.manifest import TensorSpec
from jetlift.runtime.session import Session
from jetlift.runtime.session.fake import FakeSession

INPUTS = (TensorSpec("x", "float32", ("batch", 2)),)
OUTPUTS = (TensorSpec("y", "float32", ("batch", 2)),)


def doubled() -> FakeSession:
    return FakeSession(INPUTS, OUTPUTS, lambda feeds: {"y": feeds["x"] * 2})


def test_it_is_a_session() -> None:
    session: Session = doubled()  # for mypy
    assert session.info.library == "fake"


def test_it_answers_and_counts() -> None:
    with doubled() as session:
        np.testing.assert_array_equal(
            session.run({"x": np.ones((1, 2), np.float32)})["y"], np.full((1, 2), 2, np.float32)
        )
        assert session.runs == 1
        assert not session.closed
    assert session.closed


def test_it_checks_feeds_as_real_ones_do() -> None:
    with doubled() as session, pytest.raises(UsageError, match="float64"):
        session.run({"x": np.ones((1, 2))})
    assert session.runs == 0


def test_it_refuses_to_run_when_closed() -> None:
    session = doubled()
    session.close()
    with pytest.raises(UsageError, match="closed"):
        session.run({"x": np.ones((1, 2), np.float32)})


def test_what_the_function_raises_comes_out() -> None:
    def fails(_feeds: object) -> dict[str, np.ndarray]:
        raise RuntimeError("as told")

    with (
        FakeSession(INPUTS, OUTPUTS, fails) as session,
        pytest.raises(RuntimeError, match="as told"),
    ):
        session.run({"x": np.ones((1, 2), np.float32)})


def test_its_answers_belong_to_the_caller() -> None:
    shared = np.zeros((1, 2), np.float32)
    with FakeSession(INPUTS, OUTPUTS, lambda _feeds: {"y": shared}) as session:
        answer = session.run({"x": np.ones((1, 2), np.float32)})["y"]
    assert not np.shares_memory(answer, shared)
