"""A budget's verdict on the command line: told, written for a build, and its exit code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from jetlift import console

if TYPE_CHECKING:
    from jetlift.runtime.budget_form import BudgetVerdict
    from jetlift.runtime.record import Record

JunitOption = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--junit", metavar="FILE", help="Write the budget's verdict as JUnit XML, a case per line."
    ),
]
SummaryFlag = Annotated[
    bool,
    typer.Option(
        "--github-summary",
        help="Append the budget's verdict to the page of a job, where $GITHUB_STEP_SUMMARY says.",
    ),
]


@dataclass(frozen=True)
class VerdictFiles:
    """Where a verdict is written.

    Attributes:
        junit: File of JUnit XML; None writes none.
        summary: File that GitHub shows; None writes none.
    """

    junit: Path | None = None
    summary: Path | None = None


def verdict_files(budget: Path | None, junit: Path | None, *, summary: bool) -> VerdictFiles:
    """What was asked for, looked at before anything is measured.

    Raises:
        UsageError: There is no budget to write a verdict of, or no file for the summary.
        InputError: The JUnit file is a folder, or its folder is a file.
    """
    from jetlift.benchmarks.verdict_files import summary_file
    from jetlift.runtime.errors import InputError, UsageError

    if junit is None and not summary:
        return VerdictFiles()
    if budget is None:
        given = "--junit" if junit is not None else "--github-summary"
        raise UsageError(
            f"{given} was given without --budget",
            expected="A budget, whose verdict it writes",
            do="Add --budget FILE; benchmarks/budgets has some to start from",
        )
    if junit is not None and (junit.is_dir() or junit.parent.is_file()):
        raise InputError(f"--junit {junit} is no place for a file", expected="A file, new or old")
    return VerdictFiles(junit, summary_file() if summary else None)


def conclude(record: Record, verdict: BudgetVerdict, files: VerdictFiles) -> None:
    """Tell a verdict, write it, and raise where it is no.

    Raises:
        GateError: The budget is not met.
        StorageError: A file cannot be written.
    """
    from jetlift.benchmarks.verdict_files import append_summary, write_junit
    from jetlift.runtime.budget import reasons_of, refuse_missed, rows_of

    columns = ("limit of", "got", "limit", "margin", "")
    console.tell_table(f"Budget {verdict.budget}", columns, rows_of(verdict))
    if verdict.judged:
        console.say(f"Judged: {', '.join(verdict.judged)}.")
    for reason in reasons_of(verdict):
        console.say(reason)
    if files.junit is not None:
        write_junit(verdict, files.junit, model=record.model, measured_utc=record.measured_utc)
    if files.summary is not None:
        append_summary(verdict, files.summary, model=record.model)
    refuse_missed(verdict)
