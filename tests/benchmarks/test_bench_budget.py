from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from jetlift.benchmarks import bench_budget, report
from jetlift.benchmarks.more import More
from jetlift.cli.verdicts import VerdictFiles, conclude
from jetlift.runtime.budget import reasons_of, refuse_missed
from jetlift.runtime.budget_form import BudgetFile, BudgetVerdict, Head, Limit, Limits
from jetlift.runtime.errors import GateError
from jetlift.runtime.figure import Figure
from jetlift.runtime.record import Failed, Record, read_record
from jetlift.runtime.scenario_form import ColdStart, NotDone

GOLDEN = Path(__file__).parents[1] / "runtime" / "golden" / "record.json"
WIDE = Limits(latency_p50_ms=1e6, throughput_per_s=1e-6, memory_mib=1e6)


@pytest.fixture(scope="module")
def record() -> Record:
    return read_record(GOLDEN)


def judged(record: Record, limits: Limits, **head: str) -> BudgetVerdict:
    budget = BudgetFile(Head("a-budget", **head), limits)
    verdict = bench_budget.held(record, budget, device="orin-nano-8gb", power_mode="15W").budget
    assert verdict is not None
    return verdict


def value(verdict: BudgetVerdict, name: str) -> Figure:
    return next(line.value for line in verdict.lines if line.name == name)


def test_the_recommended_variant_is_judged_and_named(record: Record) -> None:
    verdict = judged(record, WIDE)
    assert verdict.met
    assert verdict.judged == ("main int8",)
    best = next(result for result in record.results if result.variant == "int8")
    assert value(verdict, "latency_p50_ms").value == best.latency.p50_ms
    refuse_missed(verdict)


def test_a_missed_limit_is_a_no(record: Record) -> None:
    verdict = judged(record, replace(WIDE, latency_p50_ms=1e-3))
    assert not verdict.met
    with pytest.raises(GateError, match="latency_p50_ms missed"):
        refuse_missed(verdict)


def test_of_several_parts_the_worst_counts_and_memory_is_added_up(record: Record) -> None:
    slow = replace(
        record.results[0],
        part="text",
        latency=replace(record.results[0].latency, p50_ms=1e5),
    )
    both = judged(replace(record, results=(*record.results, slow)), WIDE)
    assert both.judged == ("main int8", "text fp32")
    assert value(both, "latency_p50_ms").value == 1e5
    one = value(judged(record, WIDE), "memory_mib").value
    assert (value(both, "memory_mib").value or 0) > (one or 0)


def test_a_part_that_was_not_measured_makes_the_verdict_no(record: Record) -> None:
    lost = replace(record, failed=(Failed("text", "int8", "It was killed."),))
    verdict = judged(lost, WIDE)
    assert not verdict.met
    assert "text could not be measured" in value(verdict, "latency_p50_ms").reason


def test_a_failed_variant_of_a_measured_part_leaves_the_verdict(record: Record) -> None:
    assert judged(replace(record, failed=(Failed("main", "bf16", "No."),)), WIDE).met


def test_a_cold_start_is_the_judged_variant_s(record: Record) -> None:
    none = Figure.missing("not told")
    start = ColdStart("main", "int8", (1.0, 2.0, 3.0), 2.0, none, none, none, "the files")
    other = replace(start, variant="fp32", p50_s=9.0)
    timed = replace(record, cold_starts=(other, start))
    limits = Limits(cold_start_s=5.0)
    assert value(judged(timed, limits), "cold_start_s").value == 2.0
    assert "--cold-starts" in value(judged(record, limits), "cold_start_s").reason
    failed = replace(record, not_done=(NotDone("main", "int8", "cold start", "it hung"),))
    assert value(judged(failed, limits), "cold_start_s").reason == "it hung"


def test_a_limit_on_cold_starts_asks_for_them() -> None:
    budget = BudgetFile(Head("door"), Limits(cold_start_s=5.0))
    asked = bench_budget.asked_more(More(), budget)
    assert asked.words() == ["--cold-starts", "5"]
    assert asked.cold_starts_why == ", which budget door limits"
    given = More(cold_starts=2)
    assert bench_budget.asked_more(given, budget) is given
    plain = More()
    assert bench_budget.asked_more(plain, None) is plain
    assert bench_budget.asked_more(plain, BudgetFile(Head("door"), WIDE)) is plain


def noisy(record: Record, variant: str) -> Record:
    results = tuple(replace(item, noisy=item.variant == variant) for item in record.results)
    return replace(record, results=results)


def test_a_verdict_says_that_it_was_judged_on_noise(
    record: Record, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    budget = BudgetFile(Head("a-budget"), WIDE)
    loud = bench_budget.held(noisy(record, "int8"), budget, device=None, power_mode=None)
    verdict = loud.budget
    assert verdict is not None
    assert verdict.met
    assert verdict.noisy == ("main int8",)
    conclude(loud, verdict, VerdictFiles(tmp_path / "junit.xml", tmp_path / "summary.md"))
    told = (
        " ".join(capsys.readouterr().err.split()),
        report.render_html(loud),
        report.render_markdown(loud),
        (tmp_path / "junit.xml").read_text("utf-8"),
        (tmp_path / "summary.md").read_text("utf-8"),
    )
    assert all("Judged on a noisy measurement: main int8." in text for text in told)
    assert all("met, judged on a noisy measurement" in text for text in told[1:])


def test_noise_beside_what_is_judged_is_not_the_verdict_s(record: Record) -> None:
    verdict = judged(noisy(record, "fp32"), WIDE)
    assert verdict.noisy == ()
    assert not any("noisy" in reason for reason in reasons_of(verdict))


def test_what_a_benchmark_cannot_tell_is_missing(record: Record) -> None:
    verdict = judged(record, Limits(age_p99_ms=1.0, dropped_share=Limit(0.1, optional=True)))
    assert [line.state for line in verdict.lines] == ["not measured"] * 2
    assert not verdict.met


def test_a_board_and_mode_are_asked_for(record: Record) -> None:
    assert judged(record, WIDE, device="orin-nano-8gb", power_mode="15W").met
    assert not judged(record, WIDE, device="orin-nano-8gb", power_mode="7W").met


def test_the_report_shows_the_verdict(record: Record) -> None:
    limits = Limits(latency_p50_ms=1e-3, power_w=Limit(5.0, optional=True))
    held = bench_budget.held(
        record, BudgetFile(Head("a-budget"), limits), device=None, power_mode=None
    )
    for text in (report.render_html(held), report.render_markdown(held)):
        assert "Budget a-budget: not met" in text
        assert "Judged: main int8." in text
    assert "Budget" not in report.render_markdown(record)
