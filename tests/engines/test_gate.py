"""INT8 earns its place: real engines, timed for real, whose difference no noise hides."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from helpers.raced import bundle_of, deep, early
from helpers.tiny_bundle import tiny_bundle

from jetlift.engines import race
from jetlift.engines.build import BuildResult, build
from jetlift.engines.gate import sentence
from jetlift.runtime.bundle import Bundle
from jetlift.runtime.choice import choose_precision
from jetlift.runtime.passport import here, read_passport, write_passport
from jetlift.runtime.receipt import Speed
from jetlift.runtime.session import open_session

pytest.importorskip("openvino")


def int8_of(results: list[BuildResult]) -> BuildResult:
    return next(result for result in results if result.precision == "int8")


@pytest.fixture(scope="module")
def lost(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, list[BuildResult]]:
    graphs = {name: early(name) for name in ("fp32", "int8")}
    bundle = bundle_of(tmp_path_factory.mktemp("lost") / "bundle", graphs)
    return bundle, build(bundle, "cpu", race_limit_s=30)


def test_int8_that_loses_gives_way_to_fp32(lost: tuple[Bundle, list[BuildResult]]) -> None:
    bundle, results = lost
    speed = int8_of(results).passport.speed
    assert speed.verdict == "slower"
    assert (speed.ratio_low or 0) > 1
    assert speed.processor == here().cpu_name
    assert choose_precision(bundle, "main", "cpu") == "fp32"


def test_the_build_says_so_with_both_medians(lost: tuple[Bundle, list[BuildResult]]) -> None:
    bundle, results = lost
    result = int8_of(results)
    speed, told = result.passport.speed, sentence(bundle, result)
    assert "main int8 is slower than fp32 here, so fp32 keeps its place" in told
    assert f"{speed.latency_ms_p50:.3g} ms against {speed.fp32_latency_ms_p50:.3g} ms" in told
    assert [sentence(bundle, item) for item in results if item.precision == "fp32"] == [""]


def test_the_verdict_is_in_the_passport_and_the_engine_still_runs(
    lost: tuple[Bundle, list[BuildResult]],
) -> None:
    bundle, results = lost
    result = int8_of(results)
    assert read_passport(result.engine_path) == result.passport
    with open_session(bundle, "main", "int8") as session:
        assert session.info.library == "openvino"


def test_a_verdict_is_kept_with_its_engine(lost: tuple[Bundle, list[BuildResult]]) -> None:
    bundle, results = lost
    again = build(bundle, "cpu", race_limit_s=30)
    assert [item.action for item in again] == ["kept", "kept"]
    assert [item.passport for item in again] == [item.passport for item in results]


def test_int8_that_wins_is_what_runs(tmp_path: Path) -> None:
    graphs = {name: deep(name) for name in ("fp32", "int8")}
    bundle = bundle_of(tmp_path / "bundle", graphs)
    assert choose_precision(bundle, "main", "cpu") == "fp32"  # nothing is proven yet
    result = int8_of(build(bundle, "cpu", race_limit_s=30))
    assert result.passport.speed.verdict == "faster"
    assert (result.passport.speed.ratio_high or 9) < 1
    assert choose_precision(bundle, "main", "cpu") == "int8"
    assert "earns its place" in sentence(bundle, result)


@pytest.mark.parametrize(
    ("met", "why"), [(False, "misses its fidelity budget"), (None, "fidelity was not measured")]
)
def test_int8_that_wins_but_may_not_run_says_why(tmp_path: Path, met, why: str) -> None:
    bundle = bundle_of(tmp_path / "b", {name: deep(name) for name in ("fp32", "int8")}, met=met)
    result = int8_of(build(bundle, "cpu", race_limit_s=30))
    assert result.passport.speed.verdict == "faster"
    assert choose_precision(bundle, "main", "cpu") == "fp32"
    assert "is faster here, but fp32 keeps its place, since it" in sentence(bundle, result)
    assert why in sentence(bundle, result)


def test_int8_alone_is_timed_against_the_graph_of_fp32(tmp_path: Path) -> None:
    graphs = {name: deep(name) for name in ("fp32", "int8")}
    bundle = bundle_of(tmp_path / "bundle", graphs)
    (result,) = build(bundle, "cpu", ["int8"], race_limit_s=30)
    assert result.passport.speed.verdict == "faster"
    assert not bundle.engine_path("cpu", "main", "fp32").exists()


def test_a_verdict_of_another_processor_is_made_anew(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "tiny", precisions=["fp32", "int8"])
    made = {r.part: r for r in build(bundle, "cpu", ["int8"], race_limit_s=0)}
    elsewhere = Speed("faster", "there", 1.0, 9.0, 0.1, 0.1, 0.1, 0.99, 99, "Another Processor")
    result = made["mlp"]
    write_passport(replace(result.passport, speed=elsewhere), result.engine_path)
    again = {r.part: r for r in build(bundle, "cpu", ["int8"], race_limit_s=0.5)}
    assert again["mlp"].action == "kept"
    assert again["mlp"].passport.speed.processor == here().cpu_name


def test_a_fp32_engine_that_may_not_load_takes_no_part(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "tiny", precisions=["fp32", "int8"])
    built = build(bundle, "cpu", ["fp32"])
    for result in built:
        result.engine_path.write_bytes(b"altered")
    for result in build(bundle, "cpu", ["int8"], race_limit_s=0.5):
        assert result.passport.speed.rounds >= 1


def test_a_race_that_fails_is_told_and_fails_no_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other_race.py").write_text("raise SystemExit('out of luck')")
    monkeypatch.setattr(race, "_MODULE", "other_race")
    monkeypatch.syspath_prepend(str(tmp_path))
    bundle = tiny_bundle(tmp_path / "tiny", precisions=["fp32", "int8"])
    result = int8_of(build(bundle, "cpu"))
    assert result.passport.speed.verdict == "not measured"
    assert "out of luck" in sentence(bundle, result)
    assert choose_precision(bundle, "mlp", "cpu") == "fp32"


def test_without_fp32_there_is_nothing_to_be_timed_against(tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path / "bundle", {"int8": deep("int8")})
    (result,) = build(bundle, "cpu")
    assert result.passport.speed.verdict == "not measured"
    assert "no fp32" in result.passport.speed.note
