from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from helpers.house import ROOT
from hypothesis import given
from hypothesis import strategies as st

from jetlift.export.fidelity import parse_budget
from jetlift.jetson.facts import device
from jetlift.runtime import budget, jsonform
from jetlift.runtime.budget import Figures, judge, read_budget
from jetlift.runtime.budget_form import BudgetFile, BudgetVerdict, Head, Limit, Limits
from jetlift.runtime.errors import GateError, InputError
from jetlift.runtime.figure import Figure

READY = sorted((ROOT / "benchmarks" / "budgets").glob("*.toml"))
WHOLE = """
[budget]
name = "door"
device = "orin-nano-8gb"
power_mode = "15W"

[limits]
latency_p50_ms = 20
latency_p99_ms = 33
age_p99_ms = 100
throughput_per_s = 29
memory_mib = 1000
power_w = { limit = 15, optional = true }
energy_j_per_item = 0.5
cold_start_s = 10
size_mib = 50
dropped_share = 0

[limits.fidelity]
embedding.cosine_min = ">=0.98"
"wer" = { limit = "<=+0.5", optional = true }
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "budget.toml"
    path.write_text(text, encoding="utf-8")
    return path


def limits(**given: Any) -> BudgetFile:
    return BudgetFile(Head("b"), Limits(**given))


def told(verdict: BudgetVerdict) -> dict[str, str]:
    return {line.name: line.state for line in verdict.lines}


def test_a_whole_budget_is_read(tmp_path: Path) -> None:
    read = read_budget(written(tmp_path, WHOLE))
    assert read.budget == Head("door", "orin-nano-8gb", "15W")
    assert read.limits.power_w == Limit(15, optional=True)
    assert set(read.limits.fidelity or {}) == {"embedding.cosine_min", "wer"}
    schema = jsonform.schema(BudgetFile, title="budget")
    jsonschema.Draft202012Validator(schema).validate(jsonform.to_data(read))


@pytest.mark.parametrize(
    ("before", "after", "where", "hint"),
    [
        ("latency_p99_ms", "latency_p99_us", "limits.latency_p99_us", "the unit is ms, not us"),
        ("memory_mib", "memory_gb", "limits.memory_gb", "memory_mib: the unit is mib, not gb"),
        ("throughput_per_s", "throughput", "limits.throughput", "Perhaps throughput_per_s"),
        ("power_mode", "powermode", "budget.powermode", "Perhaps power_mode"),
        ("[limits]", "[limit]", "limit", "Perhaps limits"),
        ("size_mib", "colour", "limits.colour", "One of latency_p50_ms, "),
    ],
)
def test_unknown_names_and_units_are_refused_with_the_nearest(
    tmp_path: Path, before: str, after: str, where: str, hint: str
) -> None:
    path = written(tmp_path, WHOLE.replace(before, after, 1))
    with pytest.raises(InputError) as caught:
        read_budget(path)
    assert f"has {where}, which no budget knows" in str(caught.value)
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("= 33", '= "33 ms"', "'33 ms'"),
        ("= 33", "= true", "True"),
        ("= 33", "= -1", "latency_p99_ms to -1"),
        ("= 33", "= 0", "latency_p99_ms to 0"),
        ("= 33", "= nan", "nan"),
        ("= 33", "= inf", "inf"),
        ("dropped_share = 0", "dropped_share = 2", "A share from 0 to 1"),
        ("dropped_share = 0", "dropped_share = -0.5", "A share from 0 to 1"),
        ('">=0.98"', '"about 1"', "about 1"),
        ('">=0.98"', '">=1.2.3"', "1.2.3"),
        ('">=0.98"', "0.98", "0.98"),
        ("optional = true", "optionally = true", "optionally"),
        ('name = "door"', "", "the key is required"),
        ("[budget]", "[budget", "cannot be read as a budget"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, before: str, after: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        read_budget(written(tmp_path, WHOLE.replace(before, after, 1)))
    assert said in str(caught.value)
    assert "docs/budget.md" in str(caught.value)


@pytest.mark.parametrize("text", ["", "[budget]\nname='x'\n[limits]\n", "limits = 1\n"])
def test_a_budget_without_a_limit_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError):
        read_budget(written(tmp_path, text))


def test_no_file_and_no_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read as a budget"):
        read_budget(tmp_path / "no.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read as a budget"):
        read_budget(tmp_path / "bytes.toml")


def test_each_side_of_a_limit() -> None:
    asked = limits(latency_p99_ms=33.0, throughput_per_s=30.0)
    kept = judge(asked, Figures({"latency_p99_ms": Figure(33), "throughput_per_s": Figure(36)}))
    assert kept.met
    assert [line.margin_percent.value for line in kept.lines] == [0, 20]
    missed = judge(asked, Figures({"latency_p99_ms": Figure(66), "throughput_per_s": Figure(15)}))
    assert not missed.met
    assert [line.margin_percent.value for line in missed.lines] == [-100, -50]
    with pytest.raises(GateError, match="latency_p99_ms missed, throughput_per_s missed"):
        budget.refuse_missed(missed)
    budget.refuse_missed(kept)


def test_what_was_not_measured_is_no_pass_unless_it_may_be() -> None:
    none = Figures({"power_w": Figure.missing("no rail")})
    strict = judge(limits(power_w=10.0), none)
    assert (strict.met, told(strict)) == (False, {"power_w": "not measured"})
    lax = judge(limits(power_w=Limit(10.0, optional=True)), none)
    assert (lax.met, told(lax)) == (True, {"power_w": "not measured"})
    assert budget.row_of(lax.lines[0]) == ("power_w", "\u2013", "\u2264 10", "", "not measured")
    told_why = ("power_w was not measured: no rail. It is optional.",)
    assert (budget.reasons_of(lax), budget.reasons_of(strict)) == (
        told_why,
        ("power_w was not measured: no rail.",),
    )
    assert judge(limits(size_mib=1.0), Figures()).lines[0].value.reason == "nobody measured it"
    # Optional is no excuse for a figure that is there and too large.
    assert not judge(
        limits(power_w=Limit(10.0, optional=True)), Figures({"power_w": Figure(11)})
    ).met


@pytest.mark.parametrize(
    ("device", "mode", "states", "met"),
    [
        ("orin-nano-8gb", "15W", ["ok", "ok"], True),
        ("orin-nano-8gb", "7W", ["ok", "missed"], False),
        ("agx-orin-64gb", "15W", ["missed", "ok"], False),
        (None, None, ["not measured", "not measured"], False),
    ],
)
def test_a_budget_of_a_board_holds_nowhere_else(
    device: str | None, mode: str | None, states: list[str], *, met: bool
) -> None:
    asked = BudgetFile(Head("b", "orin-nano-8gb", "15W"), Limits(power_w=10.0))
    verdict = judge(asked, Figures({"power_w": Figure(5)}, device=device, power_mode=mode))
    assert [item.state for item in verdict.conditions] == states
    assert budget.rows_of(verdict)[1] == ("power mode", mode or "\u2013", "15W", "", states[1])
    if device is None:
        with pytest.raises(GateError, match="the device is not known here, and orin-nano-8gb is"):
            budget.refuse_missed(verdict)
    assert verdict.met == met


def test_fidelity_bounds_find_their_figures() -> None:
    figures = Figures(
        fidelity={
            "image": {"embedding.cosine_min": 0.97, "patch_tokens.cosine_min": 0.99},
            "text": {"embedding.cosine_min": 0.985, "wer": 6.2, "wer_fp32": 6.0},
        }
    )

    def line(name: str, bound: str) -> tuple[str, float | None, float]:
        found = judge(limits(fidelity={name: bound}), figures).lines[0]
        return found.state, found.value.value, found.limit

    assert line("cosine_min", ">=0.98") == ("missed", 0.97, 0.98)  # the worst of three
    assert line("patch_tokens.cosine_min", ">=0.98") == ("ok", 0.99, 0.98)
    assert line("wer", "<=+0.5") == ("ok", 6.2, 6.5)
    assert line("wer", "<= 5") == ("missed", 6.2, 5)
    assert line("psnr_min", ">=30")[0] == "not measured"
    assert line("embedding.cosine_min", ">=+0")[0] == "not measured"  # no figure of fp32's own


def test_fidelity_that_a_bundle_has_not() -> None:
    asked = limits(fidelity={"cosine_min": ">=0.98"})
    reference = judge(asked, Figures())  # all at fp32
    assert (reference.met, reference.lines[0].value.reason) == (True, "fp32 is the reference")
    assert budget.reasons_of(reference) == ("fidelity.cosine_min is kept: fp32 is the reference.",)
    unjudged = judge(
        asked,
        Figures(fidelity={"a": {"x.cosine_min": 1.0}}, unjudged=("the bundle has none of b",)),
    )
    assert (unjudged.met, unjudged.lines[0].value.reason) == (False, "the bundle has none of b")


def test_a_figure_that_is_no_number_never_passes() -> None:
    verdict = judge(limits(fidelity={"m": ">=0.5"}), Figures(fidelity={"a": {"m": math.nan}}))
    assert not verdict.met
    assert verdict.lines[0].state == "missed"


@given(
    st.sampled_from((">=", "<=")),
    st.sampled_from(("", "+", "-")),
    st.floats(0, 1e6, allow_nan=False).map(lambda value: f"{value:g}"),
    st.floats(-1e6, 1e6),
    st.floats(-1e6, 1e6),
)
def test_bounds_mean_what_an_export_means_by_them(
    sign: str, relative: str, number: str, value: float, base: float
) -> None:
    (line,) = parse_budget(f"m{sign}{relative}{number}")
    figures = Figures(fidelity={"part": {"m": value, "m_fp32": base}})
    verdict = judge(limits(fidelity={"m": f"{sign}{relative}{number}"}), figures)
    # Near the very limit two orders of adding may round apart.
    if abs(line.slack(value, base)) > 1e-6:
        assert verdict.met == line.holds(value, base)


@given(st.floats(1e-3, 1e6), st.floats(0, 1e6))
def test_a_margin_has_the_sign_of_the_verdict(limit: float, value: float) -> None:
    for name in ("power_w", "throughput_per_s"):
        line = judge(limits(**{name: limit}), Figures({name: Figure(value)})).lines[0]
        margin = line.margin_percent.value
        assert margin is not None
        assert (margin >= 0) if line.state == "ok" else (margin <= 0)


def test_a_verdict_is_written_and_read_again() -> None:
    verdict = judge(limits(power_w=10.0, fidelity={"m": ">=1"}), Figures(unjudged=("none of a",)))
    assert jsonform.loads(BudgetVerdict, jsonform.dumps(verdict)) == verdict


def test_there_are_ready_budgets() -> None:
    assert len(READY) >= 8
    assert {"cpu-smoke", "orin-nano-camera-30fps", "agx-orin-30w"} <= {path.stem for path in READY}


@pytest.mark.parametrize("path", READY, ids=lambda path: path.stem)
def test_a_ready_budget_is_one_and_says_that_it_was_not_measured(path: Path) -> None:
    read = read_budget(path)
    assert read.budget.name == path.stem
    assert read.budget.note
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# A starting point")
    assert "not measured on a board" in text
    if read.budget.device is not None:
        board = device(read.budget.device)
        assert read.budget.power_mode in {mode.name for mode in board.power_modes}
    schema = json.loads((ROOT / "docs/schemas/budget.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(jsonform.to_data(read))
