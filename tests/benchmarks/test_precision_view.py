"""How INT8 was made, told from real searches on a small graph."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import graphs

from jetlift.benchmarks import precision_charts, precision_view, report
from jetlift.benchmarks.report_view import by_part
from jetlift.export.fidelity import VectorMetric, parse_budget
from jetlift.export.precision.evaluate import Evaluator
from jetlift.export.precision.int8 import SearchOptions, to_int8
from jetlift.runtime import jsonform
from jetlift.runtime.manifest import Quantisation
from jetlift.runtime.record import Record, Result, read_record

GOLDEN = Path(__file__).parents[1] / "runtime" / "golden" / "record.json"
RANDOM = np.random.default_rng(3)
SAMPLES = [{"x": RANDOM.standard_normal((1, 16)).astype(np.float32)} for _ in range(16)]
OPERATIONS = {"fc1": 1024.0, "fc2": 512.0}


def searched(budget: str, *, explore: bool) -> Quantisation:
    """A real search of the two products of a small graph."""
    source = graphs.mlp()
    evaluator = Evaluator(source, SAMPLES[-4:], VectorMetric(), parse_budget(budget))
    options = SearchOptions(explore=explore)
    return to_int8(source, SAMPLES[:-4], evaluator, OPERATIONS, options=options).quantisation


@pytest.fixture(scope="module")
def explored() -> Quantisation:
    """A real search, whose second block is said to have been kept wide."""
    made = searched("cosine_min>=0.5", explore=True)
    first, second = (replace(block, precision="int8") for block in made.blocks)
    blocks = (first, replace(second, precision="fp32"))
    return replace(made, blocks=blocks, int8_share=round(OPERATIONS["fc1"] / 1536, 6))


@pytest.fixture(scope="module")
def plain() -> Quantisation:
    return searched("cosine_min>=0.5", explore=False)


@pytest.fixture(scope="module")
def record() -> Record:
    return read_record(GOLDEN)


def result_of(record: Record, made: Quantisation | None, budget: str = "") -> Result:
    """The golden int8 result, as if it had been made so."""
    int8 = next(result for result in record.results if result.variant == "int8")
    assert int8.fidelity is not None
    fidelity = replace(int8.fidelity, budget=budget or "y.cosine_min>=0.99995, cosine_mean>=0.9")
    return replace(int8, quantisation=made, fidelity=fidelity)


def page_of(record: Record, *results: Result) -> str:
    return report.render_html(replace(record, results=(record.results[0], *results)))


def test_the_shares_and_the_wide_blocks_are_told(record: Record, explored: Quantisation) -> None:
    view = precision_view.view("int8", result_of(record, explored))
    assert view is not None
    narrow = next(block for block in explored.blocks if block.precision == "int8")
    wide = next(block for block in explored.blocks if block.precision == "fp32")
    share = OPERATIONS[narrow.nodes[0]] / 1536
    assert view.sentences[0].startswith(f"{share:.1%} of the operations of weighted GEMM")
    assert f"1 of 2 blocks were kept wide: {wide.nodes[0]} (" in view.sentences[1]
    assert "Sensitivity, the highest first: " in view.sentences[2]
    assert [(row.nodes, row.operations, row.precision) for row in view.blocks] == [
        (block.nodes[0], f"{block.operations / 1536:.1%}", block.precision)
        for block in explored.blocks
    ]
    assert all(re.fullmatch(r"[+-]\d+\.\d%", row.sensitivity) for row in view.blocks)


def test_the_curve_has_the_budgets_figures(record: Record, explored: Quantisation) -> None:
    view = precision_view.view("int8", result_of(record, explored))
    assert view is not None
    first, second = view.lines
    assert (first.plain, first.threshold) == ("y: lowest cosine", 0.99995)
    assert (second.plain, second.threshold) == ("y: mean cosine", 0.9)
    assert first.shares == tuple(point.int8_share for point in explored.curve)
    assert first.values == tuple(point.figures["y.cosine_min"] for point in explored.curve)
    assert [row[0] for row in view.points] == [f"{p.int8_share:.1%}" for p in explored.curve]
    assert {len(row) for row in view.points} == {3}


def test_a_limit_relative_to_fp32_lies_beside_fp32s_own_figure(
    record: Record, explored: Quantisation
) -> None:
    curve = tuple(
        replace(point, figures={"wer": 24.0 + index, "wer_fp32": 23.5})
        for index, point in enumerate(explored.curve)
    )
    result = result_of(record, replace(explored, curve=curve), "wer<=+1")
    (line,) = precision_view.curve_lines(result)
    assert (line.threshold, line.limit) == (24.5, "\u2264\u00a0fp32\u00a0+\u00a01")
    bare = tuple(replace(point, figures={"wer": 24.0}) for point in curve)
    assert list(precision_view.curve_lines(result_of(record, replace(explored, curve=bare)))) == []


def test_where_everything_fitted_there_is_little_to_draw(
    record: Record, plain: Quantisation
) -> None:
    result = result_of(record, plain)
    view = precision_view.view("int8", result)
    assert view is not None
    assert view.sentences[1] == "All 2 blocks are in INT8."
    assert "--explore measures it" in view.sentences[2]
    assert [row.sensitivity for row in view.blocks] == ["\u2013", "\u2013"]
    assert (view.lines, view.points) == ((), ())
    assert precision_charts.blocks("b", result) is None
    assert precision_charts.curve("c", result) is None
    assert "how int8 was made</h2>" in page_of(record, result)


def test_charts_say_the_same_in_words(record: Record, explored: Quantisation) -> None:
    result = result_of(record, explored)
    blocks, curve = precision_charts.blocks("b", result), precision_charts.curve("c", result)
    assert blocks is not None
    assert curve is not None
    wide = next(block for block in explored.blocks if block.precision == "fp32")
    assert f"1 of 2 blocks kept wide: {wide.nodes[0]}" in blocks.wide
    assert "y: lowest cosine, asked \u2265\u00a00.99995: " in curve.narrow
    assert [key.label for key in blocks.legend] == ["INT8", "FP32"]
    for chart in (blocks, curve):
        for svg in (chart.wide, chart.narrow):
            assert 'role="img"' in svg
            assert not re.search(r"#[0-9a-f]{6}\b", svg), "a colour that is not the page's"


@pytest.mark.parametrize("count", [1, 2, 97])
def test_any_number_of_blocks_is_drawn(record: Record, explored: Quantisation, count: int) -> None:
    block = explored.blocks[0]
    values = [None, -0.5, 0.0, 0.2]
    many = tuple(
        replace(block, precision=("int8", "fp32")[i % 2], sensitivity=values[i % 4])
        for i in range(1, count + 1)
    )
    chart = precision_charts.blocks("b", result_of(record, replace(explored, blocks=many)))
    assert chart is not None
    assert "<svg" in chart.narrow


def test_the_page_shows_it_once_for_variants_that_share_it(
    record: Record, explored: Quantisation
) -> None:
    int8 = result_of(record, explored)
    page = page_of(record, int8, replace(int8, variant="int8-fp16", rest="fp16"))
    assert page.count("how int8, int8-fp16 was made</h2>") == 1
    assert page.count("All 2 blocks in a table") == 1
    assert page.count('role="img"') == 2 * (4 + 2)


def test_a_page_without_int8_says_nothing_of_it(record: Record) -> None:
    page = page_of(record, result_of(record, None))
    assert "was made</h2>" not in page
    assert "<details" not in page


def test_markdown_has_the_tables_too(record: Record, explored: Quantisation) -> None:
    told = report.render_markdown(replace(record, results=(result_of(record, explored),)))
    assert "### How int8 was made" in told
    rows = [line for line in told.splitlines() if line.startswith("| fc")]
    assert len(rows) == 2
    assert "| INT8 share | y: lowest cosine, asked \u2265 0.99995 |" in told
    for title in ("| nodes |", "| INT8 share |"):
        table = told[told.index(title) :].split("\n\n")[0].splitlines()
        assert len(table) >= 4
        assert len({line.count("|") for line in table}) == 1


def test_hostile_names_stay_text(record: Record, explored: Quantisation) -> None:
    evil = "</table><script>alert(1)</script>|`x`"
    blocks = tuple(replace(block, nodes=(evil,), name=evil) for block in explored.blocks)
    result = result_of(record, replace(explored, blocks=blocks))
    assert "<script" not in page_of(record, result)
    told = report.render_markdown(replace(record, results=(result,)))
    assert "|`x`" not in told
    assert "<script" not in told.replace("\\<script", "")


def test_a_record_keeps_it(record: Record, explored: Quantisation) -> None:
    results = (result_of(record, explored),)
    kept = jsonform.loads(Record, jsonform.dumps(replace(record, results=results)))
    assert kept.results[0].quantisation == explored
    assert list(by_part(kept)) == [results[0].part]
