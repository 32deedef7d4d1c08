"""Commands that measure: bench, and the report of what was measured."""

from __future__ import annotations

import itertools
import string
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from jetlift import console
from jetlift.cli.app import app
from jetlift.cli.clocks import FixClocksFlag, held_clocks
from jetlift.cli.more_options import (
    BatchOption,
    CallersOption,
    ColdStartsOption,
    ScenarioOption,
    ScenarioSecondsOption,
    ServerLimitOption,
    ServerRateOption,
    more_of,
)
from jetlift.cli.options import BundleArgument, JsonFlag, TargetOption, ThreadsOption, list_of
from jetlift.cli.verdicts import JunitOption, SummaryFlag, conclude, verdict_files

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jetlift.runtime.record import Record

BenchBudgetOption = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--budget",
        help="Limits to hold the fastest variant within fidelity against, or the one that "
        "--precision names (docs/budget.md); exit code 1 if missed.",
    ),
]


LayersFlag = Annotated[
    bool,
    typer.Option("--layers", help="Time each layer as well, in a run of its own."),
]


@app.command(epilog="Example: jetlift bench dinov2 -o report")
def bench(
    bundle: BundleArgument,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--out", "-o", help="Folder for record.json, report.html, report.md and results.csv."
        ),
    ] = None,
    *,
    target: TargetOption = "cpu",
    precision: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--precision", help="Variants to measure; all if not given."),
    ] = None,
    samples: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--samples", help="Real input to feed instead of seeded random arrays."),
    ] = None,
    threads: ThreadsOption = None,
    time_limit_s: Annotated[
        float, typer.Option(help="Longest time to measure one variant, in seconds.")
    ] = 30.0,
    cold_starts: ColdStartsOption = 0,
    batch: BatchOption = None,
    callers: CallersOption = None,
    scenario: ScenarioOption = None,
    scenario_seconds: ScenarioSecondsOption = 10.0,
    server_qps: ServerRateOption = None,
    server_limit_ms: ServerLimitOption = None,
    budget: BenchBudgetOption = None,
    junit: JunitOption = None,
    github_summary: SummaryFlag = False,
    fix_clocks: FixClocksFlag = False,
    layers: LayersFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Measure latency, throughput, TOPS and memory of every variant, each in its own process."""
    from jetlift.benchmarks.bench import bench as measure
    from jetlift.benchmarks.report import render_markdown
    from jetlift.runtime import jsonform
    from jetlift.runtime.budget import read_budget

    files = verdict_files(budget, junit, summary=github_summary)
    limits = None if budget is None else read_budget(budget)
    more = more_of(
        batch, callers, scenario, scenario_seconds, server_qps, server_limit_ms, cold_starts
    )
    more = replace(more, fix_clocks=fix_clocks)
    with held_clocks(wanted=fix_clocks), console.stages() as report:
        record = measure(
            bundle, target=target, precisions=list_of(precision), threads=threads,
            samples=samples, out=out, time_limit_s=time_limit_s, progress=report,
            budget=limits, more=more, layers=layers,
        )  # fmt: skip
    if as_json:
        console.show_json(jsonform.to_data(record))
    elif out is None:
        typer.echo(render_markdown(record))
    if out is not None:
        console.say(f"Report: {out / 'report.html'}")
    if record.budget is not None:
        conclude(record, record.budget, files)


@app.command(epilog="Example: jetlift report before after -o comparison")
def report(
    records: Annotated[
        list[Path],
        typer.Argument(
            help="record.json, or its folder, of 'bench' or 'run'; of several, the others are held "
            "against the first."
        ),
    ],
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--out", "-o", help="Folder for record.json, report.html, report.md and results.csv."
        ),
    ] = None,
    *,
    as_json: JsonFlag = False,
) -> None:
    """Show a record of a benchmark or a run, make its report, or compare several records."""
    from jetlift.benchmarks.report import render_markdown, write_report
    from jetlift.runtime import jsonform
    from jetlift.runtime.record import RECORD_NAME, read_record

    read = [read_record(path / RECORD_NAME if path.is_dir() else path) for path in records]
    if len(read) > 1:
        _compare(records, read, out, as_json=as_json)
        return
    found = read[0]
    if as_json:
        console.show_json(jsonform.to_data(found))
    elif out is None:
        typer.echo(render_markdown(found))
    if out is not None:
        write_report(found, out)
        console.say(f"Report: {out / 'report.html'}")


def _compare(paths: list[Path], read: list[Record], out: Path | None, *, as_json: bool) -> None:
    from jetlift.benchmarks import versus, versus_report
    from jetlift.runtime import jsonform
    from jetlift.runtime.record import RECORD_NAME

    shown = [(path.parent if path.name == RECORD_NAME else path).resolve() for path in paths]
    alike = len({path.name for path in shown}) < len(shown)
    named = [
        versus.Named(f"{letter}: {'/'.join(path.parts[-2 if alike else -1 :])}", record)
        for letter, path, record in zip(_letters(), shown, read, strict=False)
    ]
    found = versus.compare(named)
    if as_json:
        console.show_json(jsonform.to_data(found))
    elif out is None:
        typer.echo(versus_report.markdown(named, found))
    if out is not None:
        versus_report.write_comparison(named, out)
        console.say(f"Report: {out / 'report.html'}")


def _letters() -> Iterator[str]:
    """A to Z, then A1 to Z1, and so on."""
    for number in itertools.count():
        yield from (f"{letter}{number or ''}" for letter in string.ascii_uppercase)
