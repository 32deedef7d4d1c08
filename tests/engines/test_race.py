"""The race: its judgement on given latencies, its rounds on a made-up clock, its child for real."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from helpers.tiny_bundle import tiny_bundle
from hypothesis import given, settings
from hypothesis import strategies as st

from jetlift.engines import race
from jetlift.engines.race import FEWEST_ROUNDS, MOST_ROUNDS, Contender, Race, decide, time_rounds
from jetlift.runtime.bundle import Bundle
from jetlift.runtime.manifest import TensorSpec
from jetlift.runtime.receipt import Speed

LATENCY = st.floats(0.001, 1e4)


class Clock:
    """A clock that only runs move."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_what_takes_a_third_of_the_time_is_faster() -> None:
    speed = decide([22.0 + i % 3 for i in range(50)], [66.0 + i % 5 for i in range(50)])
    assert speed.verdict == "faster"
    assert (speed.latency_ms_p50, speed.fp32_latency_ms_p50, speed.rounds) == (23.0, 68.0, 50)
    assert speed.ratio_low is not None
    assert speed.ratio_high is not None
    assert speed.ratio_low <= (speed.ratio or 0) <= speed.ratio_high < 0.4


def test_the_same_the_other_way_round_is_slower() -> None:
    speed = decide([68.0] * 20, [23.0] * 20)
    assert (speed.verdict, speed.ratio) == ("slower", round(68 / 23, 5))


def test_a_tie_is_no_win() -> None:
    assert decide([5.0] * 100, [5.0] * 100).verdict == "undecided"


def test_noise_is_no_win() -> None:
    """Equals under latencies with a long right tail: one win in a hundred is what is allowed."""
    random = np.random.default_rng(3)
    draws = np.exp(random.normal(0, 0.4, (2000, 2, 41)))
    verdicts = [decide(own.tolist(), fp32.tolist()).verdict for own, fp32 in draws]
    assert verdicts.count("faster") <= 0.01 * len(verdicts)
    assert verdicts.count("slower") <= 0.01 * len(verdicts)


def test_a_machine_that_slows_down_during_the_race_changes_nothing() -> None:
    """Only times of one round are compared, whatever the machine does from round to round."""
    mood = np.linspace(1, 5, 60)
    assert decide((0.9 * mood).tolist(), mood.tolist()).verdict == "faster"
    assert decide((1.1 * mood).tolist(), mood.tolist()).verdict == "slower"


@pytest.mark.parametrize("rounds", [1, 7])
def test_too_few_rounds_decide_nothing(rounds: int) -> None:
    speed = decide([1.0] * rounds, [9.0] * rounds)
    assert (speed.verdict, speed.ratio_low, speed.ratio_high) == ("undecided", None, None)
    assert "too few" in speed.note


@settings(deadline=None)
@given(st.lists(st.tuples(LATENCY, LATENCY), min_size=1, max_size=120))
def test_the_verdict_is_where_the_interval_lies(rounds: list[tuple[float, float]]) -> None:
    own, fp32 = zip(*rounds, strict=True)
    speed = decide(own, fp32)
    mirrored = {"faster": "slower", "slower": "faster", "undecided": "undecided"}
    assert decide(fp32, own).verdict == mirrored[speed.verdict]
    wins = sum(a < b for a, b in rounds)
    if speed.verdict == "faster":  # which a sign test would say as well
        assert wins > len(rounds) / 2
    if len(rounds) < 8:
        assert speed.verdict == "undecided"


def raced(costs_s: dict[str, float], limit_s: float) -> tuple[dict[str, int], list[str], float]:
    """Rounds per contender, the order of all runs, and the time it took."""
    clock, order = Clock(), list[str]()

    def of(name: str) -> race.Run:
        def run() -> None:
            order.append(name)
            clock.now_s += costs_s[name]

        return run

    times = time_rounds({name: of(name) for name in costs_s}, limit_s, clock)
    for name, own in times.items():
        assert own == pytest.approx([costs_s[name] * 1e3] * len(own))
    return {name: len(own) for name, own in times.items()}, order, clock.now_s


def test_each_goes_first_as_often_as_the_other() -> None:
    rounds, order, _ = raced({"fp32": 0.02, "int8": 0.01}, 4)
    assert rounds["fp32"] == rounds["int8"] > 50
    last = order[-80:]
    firsts = [last[i] for i in range(0, 80, 2)]
    assert firsts.count("fp32") == firsts.count("int8") == 20
    assert all({last[i], last[i + 1]} == {"fp32", "int8"} for i in range(0, 80, 2))


def test_a_race_ends_within_its_time() -> None:
    rounds, _, took_s = raced({"fp32": 0.1, "int8": 0.05, "int8-fp16": 0.06}, 5)
    assert took_s <= 5.3
    assert FEWEST_ROUNDS <= rounds["fp32"] < 5 / 0.21


def test_one_round_is_made_in_any_case() -> None:
    rounds, _, _ = raced({"fp32": 100.0, "int8": 90.0}, 5)
    assert set(rounds.values()) == {1}


def test_short_runs_are_timed_several_at_a_time() -> None:
    rounds, order, _ = raced({"fp32": 1e-5, "int8": 4e-3}, 10)
    assert set(rounds.values()) == {MOST_ROUNDS}
    assert order.count("fp32") > 90 * MOST_ROUNDS
    assert order.count("int8") < 2 * MOST_ROUNDS


@settings(max_examples=40, deadline=None)  # a busy machine is no failure
@given(st.floats(1e-6, 20), st.floats(1e-6, 20), st.floats(0.1, 60))
def test_the_number_of_rounds_is_bounded(fp32_s: float, int8_s: float, limit_s: float) -> None:
    rounds, _, took_s = raced({"fp32": fp32_s, "int8": int8_s}, limit_s)
    assert 1 <= rounds["fp32"] == rounds["int8"] <= MOST_ROUNDS
    assert took_s <= limit_s + 12 * (max(fp32_s, 2e-3) + max(int8_s, 2e-3))


@pytest.mark.parametrize(
    ("speed", "words"),
    [
        (decide([22.0] * 99, [66.0] * 99), ["earns its place", "22 ms against 66 ms", "0.333"]),
        (decide([66.0] * 99, [22.0] * 99), ["is slower than fp32 here", "fp32 keeps its place"]),
        (decide([5.0] * 99, [5.0] * 99), ["is not clearly faster", "1 of its time", "99 inter"]),
        (Speed.not_measured("no GPU"), ["was not timed against fp32: no GPU."]),
    ],
)
def test_the_finding_is_one_sentence_with_both_medians(speed: Speed, words: list[str]) -> None:
    told = race.told("image", "int8", speed)
    assert told.startswith("image int8 ")
    assert told.endswith(".")
    assert all(word in told for word in words), told


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    pytest.importorskip("openvino")
    return tiny_bundle(tmp_path_factory.mktemp("race") / "tiny")


def race_of(bundle: Bundle, **changes: object) -> Race:
    part = bundle.part("mlp")[1]
    graphs = {name: str(bundle.path(variant.file)) for name, variant in part.variants.items()}
    contenders = tuple(
        Contender(name, path, built=False, onnx=path) for name, path in graphs.items()
    )
    made = Race(dataclasses.replace(part, variants={}), contenders, limit_s=0.4)
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def test_a_real_race_gives_every_contender_a_verdict(bundle: Bundle) -> None:
    speeds = race.race(race_of(bundle), "this processor")
    assert speeds.keys() == {"fp16", "int8"}
    for speed in speeds.values():
        assert speed.verdict in ("faster", "slower", "undecided")
        assert speed.rounds >= 1
        assert speed.processor == "this processor"
        assert min(speed.latency_ms_p50 or 0, speed.fp32_latency_ms_p50 or 0) > 0


def test_what_cannot_be_opened_is_told_and_judges_nobody(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "no.onnx").write_text("these are notes")
    contenders = (
        *race_of(bundle).contenders[:1],
        Contender("int8", f"{tmp_path}/no.onnx", built=False, onnx=f"{tmp_path}/no.onnx"),
    )
    speed = race.race(race_of(bundle, contenders=contenders), "p")["int8"]
    assert (speed.verdict, speed.processor) == ("not measured", None)
    assert "no.onnx" in speed.note


def test_a_gpus_race_takes_engines_alone(bundle: Bundle) -> None:
    """What is not built for a GPU cannot be timed on it, and is not timed on anything else."""
    speed = race.race(race_of(bundle, library="tensorrt"), "p")["int8"]
    assert speed.verdict == "not measured"
    assert "no fp32 engine that may load" in speed.note


def test_a_part_without_a_shape_to_measure_at_is_told(bundle: Bundle) -> None:
    part = dataclasses.replace(
        race_of(bundle).part, inputs=(TensorSpec("x", "float32", ("batch", 16)),)
    )
    speed = race.race(race_of(bundle, part=part), "p")["int8"]
    assert "no opt_shape" in speed.note


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os; os.kill(os.getpid(), 9)", "signal 9"),
        ("raise SystemExit('out of luck')", "status 1: out of luck"),
        ("print('not JSON')", "ended with status 0"),
    ],
)
def test_a_child_that_dies_or_talks_nonsense_judges_nobody(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, words: str
) -> None:
    (tmp_path / "other_race.py").write_text(code)
    monkeypatch.setattr(race, "_MODULE", "other_race")
    monkeypatch.syspath_prepend(str(tmp_path))
    speed = race.race(race_of(bundle), "p")["int8"]
    assert speed.verdict == "not measured"
    assert words in speed.note


def test_a_child_that_never_answers_is_ended(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other_race.py").write_text("import time; time.sleep(600)")
    monkeypatch.setattr(race, "_MODULE", "other_race")
    monkeypatch.setattr(race, "_LOAD_LIMIT_S", 0.5)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "gave no answer" in race.race(race_of(bundle, limit_s=0.1), "p")["int8"].note
