from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from jetlift.benchmarks import versus, versus_report
from jetlift.benchmarks.versus import Named, Versus, compare
from jetlift.cli import app
from jetlift.runtime.record import Recheck, Record, Result, read_record, write_record

GOLDEN = Path(__file__).parents[1] / "runtime" / "golden" / "record.json"


def like(result: Result, factor: float, *, moved: float = 0.5, noisy: bool = False) -> Result:
    """A result of 200 steady runs around a median of `factor` ms."""
    samples = tuple((np.random.default_rng(3).normal(1.0, 0.01, 200) * factor).tolist())
    median = float(np.median(samples))
    return replace(
        result,
        noisy=noisy,
        noisy_reasons=("a neighbour",) if noisy else (),
        latency=replace(result.latency, samples_ms=samples, p50_ms=median),
        recheck=Recheck(40, median, moved),
    )


def made(factor: float, *, moved: float = 0.5, noisy: bool = False) -> Record:
    record = read_record(GOLDEN)
    results = tuple(like(result, factor, moved=moved, noisy=noisy) for result in record.results)
    return replace(record, results=results, noisy=noisy)


def against(first: Record, second: Record) -> Versus:
    return compare([Named("A: before", first), Named("B: after", second)])


@pytest.mark.parametrize(
    ("factor", "word"), [(0.5, "faster"), (2.0, "slower"), (1.0, "no difference shown")]
)
def test_a_clear_difference_is_told_and_none_is_not(factor: float, word: str) -> None:
    found = against(made(1.0), made(factor))
    assert {pair.word for pair in found.pairs} == {word}
    assert found.warnings == ()


def test_a_noisy_one_is_never_called_faster() -> None:
    found = against(made(1.0, noisy=True), made(0.1))
    assert {pair.word for pair in found.pairs} == {"noisy"}
    assert "A: before" in found.pairs[0].why
    assert "noisy" in versus_report.headline(found)


def test_a_difference_that_one_record_alone_moves_by_is_none() -> None:
    found = against(made(1.0, moved=9.0), made(0.95))
    assert {pair.word for pair in found.pairs} == {"no difference shown"}
    assert "9.0 %" in found.pairs[0].why


def test_too_few_runs_have_no_interval() -> None:
    short = made(0.5)
    few = tuple(
        replace(item, latency=replace(item.latency, samples_ms=(0.5,) * 5))
        for item in short.results
    )
    found = against(made(1.0), replace(short, results=few))
    assert {pair.word for pair in found.pairs} == {"no difference shown"}
    assert "10 runs" in found.pairs[0].why


def test_another_model_stands_beside_without_a_verdict() -> None:
    found = against(made(1.0), replace(made(0.1), model="another"))
    assert {pair.word for pair in found.pairs} == {"not comparable"}
    assert "another model" in found.warnings[0]
    assert all(pair.ratio.value is None for pair in found.pairs)
    assert versus_report.headline(found) == "Side by side, not to be judged"


def test_other_inputs_are_not_judged() -> None:
    other = made(0.1)
    fed = tuple(
        replace(item, inputs=(replace(item.inputs[0], shape=(9, 9)),)) for item in other.results
    )
    found = against(made(1.0), replace(other, results=fed))
    assert {pair.word for pair in found.pairs} == {"not comparable"}
    assert "9x9" in found.pairs[0].why


def test_without_a_variant_in_common_the_recommended_are_compared() -> None:
    first, second = made(1.0), made(0.5)
    found = against(
        replace(first, results=first.results[:1]), replace(second, results=second.results[-1:])
    )
    assert found.pairs[0].variants == ("fp32", "int8")


def test_differences_of_machines_are_told() -> None:
    second = made(1.0)
    second = replace(second, target="thor-t5000", machine=replace(second.machine, cpu="Thor"))
    told = {item.what: item.values for item in against(made(1.0), second).differences}
    assert told["target"] == ("cpu", "thor-t5000")
    assert told["machine"][1] == "Thor"


@given(st.lists(st.floats(0.1, 100), min_size=10, max_size=60), st.floats(0.2, 5))
def test_the_interval_is_of_a_ratio(samples: list[float], factor: float) -> None:
    scaled = [value * factor for value in samples]
    low, high = versus.ratio_interval(samples, scaled)
    assert 0 < low <= high
    assert low == versus.ratio_interval(samples, scaled)[0]


def test_the_command_writes_a_comparison(tmp_path: Path) -> None:
    for name, factor in (("before", 1.0), ("after", 0.5)):
        write_record(made(factor), tmp_path / name / "record.json")
    out = tmp_path / "out"
    done = CliRunner().invoke(
        app, ["report", str(tmp_path / "before"), str(tmp_path / "after"), "-o", str(out)]
    )
    assert done.exit_code == 0, done.output
    assert json.loads((out / "comparison.json").read_text())["pairs"][0]["word"] == "faster"
    assert len((out / "results.csv").read_text().splitlines()) == 7
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "B is 2.00\u00d7 as fast as A" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert "no difference" not in (out / "report.md").read_text(encoding="utf-8")
