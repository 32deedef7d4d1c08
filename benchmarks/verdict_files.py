"""A budget's verdict for who builds software: JUnit XML, and a summary on GitHub's page of a job.

Rules:
    U1  One test case per line of the verdict. What is missed, or was to be measured and was not, is
        a `failure`; what is optional and was not measured is `skipped`. Nothing is an `error`. What
        a reader has to know beside (what was judged, noise) is the suite's `system-out`.
    U2  The file has `testsuites`, `testsuite`, `testcase`, `failure`, `skipped` and `system-out`
        alone, as the schema of Jenkins' xUnit plugin describes them
        (jenkinsci/xunit-plugin@031e285ef3b60dee7aaf36e9096d7dcd95ffae83:src/main/resources/org/
        jenkinsci/plugins/xunit/types/model/xsd/junit-10.xsd).
    U3  A summary is appended, since a step may have written there before
        (https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands
        #adding-a-job-summary).
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from jetlift.runtime import atomic
from jetlift.runtime.budget import reasons_of, row_of, rows_of, said_of
from jetlift.runtime.errors import StorageError, UsageError

if TYPE_CHECKING:
    from jetlift.runtime.budget_form import BudgetVerdict, Condition, LimitLine

SUMMARY_VARIABLE = "GITHUB_STEP_SUMMARY"
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_junit(verdict: BudgetVerdict, path: Path, *, model: str, measured_utc: str) -> None:
    """Write a verdict as JUnit XML, atomically (rules U1 and U2).

    Args:
        verdict: The verdict.
        path: The file.
        model: What was judged; becomes the class of each test case.
        measured_utc: When the measuring began, as records have it.

    Raises:
        StorageError: The disk is full or not writable.
    """
    atomic.write_bytes(path, junit(verdict, model=model, measured_utc=measured_utc).encode())


def junit(verdict: BudgetVerdict, *, model: str, measured_utc: str) -> str:
    """A verdict as JUnit XML (rules U1 and U2)."""
    name = f"jetlift budget {verdict.budget}"
    suite = ET.Element("testsuite", name=_clean(name))
    for item in verdict.conditions:
        _case(suite, model, item.name, _condition_text(item), failed=item.state != "ok")
    for line in verdict.lines:
        failed = line.state != "ok" and not (line.state == "not measured" and line.optional)
        skipped = line.state == "not measured" and line.optional
        _case(suite, model, line.name, _line_text(line), failed=failed, skipped=skipped)
    counts = {
        "tests": str(len(suite.findall("testcase"))),
        "failures": str(len(suite.findall("testcase/failure"))),
        "errors": "0",
    }
    suite.attrib |= {
        **counts,
        "skipped": str(len(suite.findall("testcase/skipped"))),
        "time": "0",
        "timestamp": measured_utc.removesuffix("Z"),
    }
    ET.SubElement(suite, "system-out").text = _clean("\n".join(_beside(verdict)))
    suites = ET.Element("testsuites", {"name": _clean(name), **counts, "time": "0"})
    suites.append(suite)
    ET.indent(suites)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(suites, encoding="unicode")}\n'


def _beside(verdict: BudgetVerdict) -> tuple[str, ...]:
    judged = (f"Judged: {', '.join(verdict.judged)}.",) if verdict.judged else ()
    return (f"Budget {verdict.budget}: {said_of(verdict)}.", *judged, *reasons_of(verdict))


def _case(
    suite: ET.Element, model: str, name: str, text: str, *, failed: bool, skipped: bool = False
) -> None:
    case = ET.SubElement(
        suite, "testcase", name=_clean(name), classname=_clean(f"jetlift.{model}"), time="0"
    )
    if failed:
        ET.SubElement(case, "failure", message=_clean(text), type="budget").text = _clean(text)
    elif skipped:
        ET.SubElement(case, "skipped", message=_clean(text))
    else:
        ET.SubElement(case, "system-out").text = _clean(text)


def _condition_text(item: Condition) -> str:
    return f"asked {item.asked}, found {item.found or 'nothing that tells it'}: {item.state}"


def _line_text(line: LimitLine) -> str:
    _, value, limit, margin, state = row_of(line)
    told = f"{value}, limit {limit}" + (f", margin {margin}" if margin else "")
    why = f" ({line.value.reason})" if line.value.value is None else ""
    return f"{told}: {state}{why}"


def _clean(text: str) -> str:
    """Text without characters that no XML file may have (https://www.w3.org/TR/xml/#charsets)."""
    return _NOT_XML.sub("\ufffd", text)


def summary_file() -> Path:
    """The file that GitHub shows on a job's page.

    Raises:
        UsageError: This is no job of GitHub's: the variable is not set.
    """
    name = os.environ.get(SUMMARY_VARIABLE, "")
    if not name:
        raise UsageError(
            f"--github-summary was given, and {SUMMARY_VARIABLE} is not set",
            expected="A job of GitHub Actions, which sets it",
            do=f"Leave the option out, or set {SUMMARY_VARIABLE} to a file",
        )
    return Path(name)


def append_summary(verdict: BudgetVerdict, path: Path, *, model: str) -> None:
    """Append a verdict to a job's summary (rule U3).

    Raises:
        StorageError: The file cannot be written.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(summary(verdict, model=model))
    except OSError as error:
        raise StorageError(
            f"The summary {path} cannot be written: {error.strerror}",
            expected=f"A file that {SUMMARY_VARIABLE} names and this user may write",
        ) from error


def summary(verdict: BudgetVerdict, *, model: str) -> str:
    """A verdict as Markdown."""
    mark = "\u2705" if verdict.met else "\u274c"
    rows = ["| | figure | limit | margin | verdict |", "|---|---:|---:|---:|---|"]
    rows += ["| " + " | ".join(map(_cell, row)) + " |" for row in rows_of(verdict)]
    judged = f"Judged: {_cell(', '.join(verdict.judged))}.\n\n" if verdict.judged else ""
    reasons = "".join(f"- {_cell(text)}\n" for text in reasons_of(verdict))
    table = "\n".join(rows)
    title = f"{_cell(model)}, budget {_cell(verdict.budget)}: {mark} {said_of(verdict)}"
    return f"### {title}\n\n{judged}{table}\n\n{reasons}\n"


def _cell(text: str) -> str:
    """Text that stays text in a table of Markdown."""
    line = " ".join(text.split()).replace("\\", "\\\\")
    return re.sub(r"([|<>`*_\[\]])", r"\\\1", line)
