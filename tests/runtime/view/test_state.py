"""What the page is told: rules T1 to T3, and the history."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from helpers.view_scene import BUDGET, Scene
from hypothesis import given
from hypothesis import strategies as st

from jetlift.runtime.clock import FakeClock
from jetlift.runtime.pipeline.form import SourceHealth
from jetlift.runtime.record import Figure
from jetlift.runtime.view.board import ViewBoard
from jetlift.runtime.view.history import NAMES, History, Point, nearest_rank
from jetlift.runtime.view.state import (
    LONGEST_LIST,
    LONGEST_TEXT,
    Losses,
    point_of,
    shown,
    state_of,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner),
)


def _state(run: Scene, **told: object) -> dict:
    board = ViewBoard(run.told(**told), clock=run.clock)
    board.write(run.result())
    snapshot = run.snapshot()
    return state_of(board, snapshot, [None] * len(snapshot.sources))


@given(JSON)
def test_whatever_a_task_says_can_be_sent(value: object) -> None:
    json.dumps(shown(value), allow_nan=False)


@given(st.lists(st.floats(0, 1e6), max_size=50), st.floats(0.01, 1.0))
def test_nearest_rank_is_a_value_that_enough_do_not_exceed(
    values: list[float], share: float
) -> None:
    found = nearest_rank(values, share)
    if not values:
        assert found is None
        return
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9
    assert sum(value < found for value in values) < share * len(values) + 1e-9


@given(st.lists(st.integers(0, 999), max_size=40), st.integers(2, 9))
def test_history_keeps_the_newest_points(values: list[int], room: int) -> None:
    history = History(room)
    for value in values:
        history.add(Point(value, value, value, value, None))
    whole = history.whole()
    assert whole["columns"]["per_s"] == values[-room:]
    assert whole["number"] == len(values)
    assert history.newest()["number"] == len(values)
    if values:
        assert history.newest()["values"] == [values[-1]] * 4 + [None]


def test_history_before_the_first_point() -> None:
    assert History().newest() == {"number": 0, "values": None}
    assert History().whole()["columns"] == {name: [] for name in NAMES}


def test_long_lists_and_texts_say_that_they_were_cut() -> None:
    cut = shown({"embedding": [0.5] * 768, "text": "a" * 9000, "deep": [[[[[1]]]]]})
    assert isinstance(cut, dict)
    assert len(cut["embedding"]) == LONGEST_LIST + 1
    assert cut["embedding"][-1] == "… and 668 more"
    assert len(cut["text"]) == LONGEST_TEXT + 2
    assert cut["deep"] == [[["…"]]]


def test_numbers_that_json_has_none_of_are_named() -> None:
    assert shown([math.nan, math.inf, -math.inf, 1.5]) == ["nan", "inf", "-inf", 1.5]


def test_masks_are_left_out() -> None:
    run = Scene(FakeClock())
    board = ViewBoard(run.told(), clock=run.clock)
    result = run.result()
    result.outcome.fields["masks"] = ["long code"]
    board.write(result)
    assert "masks" not in state_of(board, None, [])["result"]


def test_what_was_not_measured_is_null_with_its_reason() -> None:
    run = Scene(FakeClock(), budget=BUDGET, power=Figure.missing("this board has no rails"))
    state = _state(run)
    assert state["now"]["power_w"] == {"value": None, "reason": "this board has no rails"}
    assert state["budget"][-1]["value"] is None
    assert state["budget"][-1]["ok"] is None
    assert state["budget"][-1]["reason"] == "no samples were given"
    assert point_of([], None) == Point(None, None, None, None, None)
    assert point_of([4.0, 2.0], run.snapshot()).p50_ms == 2.0


def test_figures_of_a_run() -> None:
    clock = FakeClock()
    run = Scene(clock, reconnects=2)
    board = ViewBoard(run.told(), clock=clock)
    board.write(run.result())
    clock.advance(1.5)
    state = state_of(board, run.snapshot(), [None])
    assert state["now"]["latency_ms"] == pytest.approx(41, abs=0.01)
    assert state["now"]["age_ms"] == pytest.approx(1541, abs=0.01)
    assert state["now"]["since_s"] == pytest.approx(1.5)
    assert state["now"]["work_ms"] == pytest.approx(32.8)
    assert state["counters"] == {
        "done": 1, "dropped": 3, "stale": 0, "skipped": 0, "reconnects": 2
    }  # fmt: skip
    assert state["run"]["state"] == "running"
    assert state["stages"][0]["name"] == "capture"


def test_before_there_is_a_pipeline() -> None:
    run = Scene(FakeClock())
    state = state_of(ViewBoard(run.told(), clock=run.clock), None, [])
    assert state["run"]["state"] == "starting"
    assert state["result"] is None
    assert state["now"]["rss_bytes"]["reason"] == "the run has not begun"


def test_a_run_that_ended() -> None:
    run = Scene(FakeClock())
    board = ViewBoard(run.told(), clock=run.clock)
    with pytest.raises(ValueError, match="odd"), board:
        raise ValueError("odd")
    assert state_of(board, None, [])["run"] == {
        "state": "failed", "message": "odd", "running_s": None, "trouble": ""
    }  # fmt: skip


def test_prompts_that_cannot_be_changed_say_why() -> None:
    state = _state(Scene(FakeClock()), prompts="Its labels are fixed.")
    assert state["prompts"]["why_not"] == "Its labels are fixed."
    assert _state(Scene(FakeClock()))["prompts"]["current"] == ["crate", "drum", "parcel"]


def test_losses_begin_when_they_are_first_seen() -> None:
    camera = SourceHealth("csi://0", live=True, clock="when the driver filled the buffer")
    lost, losses = replace(camera, connected=False), Losses()
    assert losses.lost_for_s([camera, lost], 10.0) == [None, 0.0]
    assert losses.lost_for_s([lost, lost], 12.0) == [0.0, 2.0]
    assert losses.lost_for_s([lost, camera], 15.0) == [3.0, None]
    assert losses.lost_for_s([camera, lost], 20.0) == [None, 0.0]
