from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetlift.benchmarks import verdict_files
from jetlift.runtime.budget import Figures, judge
from jetlift.runtime.budget_form import BudgetFile, BudgetVerdict, Head, Limit, Limits
from jetlift.runtime.errors import StorageError, UsageError
from jetlift.runtime.figure import Figure

UTC = "2026-01-02T03:04:05Z"

# The facts of a schema that says what Jenkins reads (MIT licence; read, not shipped):
# jenkinsci/xunit-plugin@031e285ef3b60dee7aaf36e9096d7dcd95ffae83:src/main/resources/org/jenkinsci/
# plugins/xunit/types/model/xsd/junit-10.xsd
# Per element: attributes that must be there, those that may be, and the children.
FACTS: dict[str, tuple[set[str], set[str], set[str]]] = {
    "testsuites": (set(), {"name", "time", "tests", "failures", "errors"}, {"testsuite"}),
    "testsuite": (
        {"name", "tests", "failures", "errors"},
        {"group", "time", "skipped", "timestamp", "hostname", "id", "package", "file", "log",
         "url"},
        {"testsuite", "properties", "testcase", "system-out", "system-err"},
    ),
    "testcase": (
        {"name"},
        {"time", "classname", "group"},
        {"skipped", "error", "failure", "rerunFailure", "rerunError", "flakyFailure", "flakyError",
         "system-out", "system-err"},
    ),
    "failure": (set(), {"type", "message"}, set()),
    "skipped": (set(), {"type", "message"}, set()),
    "system-out": (set(), set(), set()),
}  # fmt: skip
WITHOUT_TEXT = ("testsuites", "testsuite", "testcase")
SECONDS = re.compile(r"(([0-9]{0,3},)*[0-9]{3}|[0-9]{0,3})*(\.[0-9]*)?")


def wrong_by_the_schema(root: ET.Element) -> list[str]:
    """What the schema would refuse."""
    wrong = [] if root.tag == "testsuites" else ["the root is no testsuites"]
    for element in root.iter():
        if element.tag not in FACTS:
            wrong.append(f"no such element: {element.tag}")
            continue
        needed, allowed, children = FACTS[element.tag]
        names = set(element.attrib)
        wrong += [f"{element.tag} lacks {name}" for name in needed - names]
        wrong += [f"{element.tag} has {name}" for name in names - needed - allowed]
        wrong += [f"{child.tag} in {element.tag}" for child in element if child.tag not in children]
        beside = [element.text, *(child.tail for child in element)]
        if element.tag in WITHOUT_TEXT and any((text or "").strip() for text in beside):
            wrong.append(f"text in {element.tag}")
        if element.tag != "testcase" and not SECONDS.fullmatch(element.get("time", "")):
            wrong.append(f"{element.tag} took {element.get('time')}")
    return wrong


def verdict(name: str = "door", reason: str = "no sensor") -> BudgetVerdict:
    """One line kept, one missed, one optional without a figure, one board that is another."""
    limits = Limits(
        latency_p50_ms=10.0, memory_mib=100.0, power_w=Limit(5.0, optional=True), size_mib=1.0
    )
    values = {
        "latency_p50_ms": Figure(20.0),
        "memory_mib": Figure(50.0),
        "power_w": Figure.missing(reason),
    }
    return judge(BudgetFile(Head(name, device="thor-t5000"), limits), Figures(values=values))


def test_junit_has_a_case_per_line_and_the_counts_agree(tmp_path: Path) -> None:
    path = tmp_path / "new" / "junit.xml"
    verdict_files.write_junit(verdict(), path, model="minilm", measured_utc=UTC)
    root = ET.fromstring(path.read_text(encoding="utf-8"))  # noqa: S314 - our own file
    assert root.tag == "testsuites"
    suite = root[0]
    cases = suite.findall("testcase")
    assert suite.tag == "testsuite"
    assert suite.get("tests") == root.get("tests") == str(len(cases)) == "5"
    assert suite.get("failures") == root.get("failures") == "3"
    assert suite.get("skipped") == "1"
    assert suite.get("timestamp") == "2026-01-02T03:04:05"
    found = {case.get("name"): [item.tag for item in case] for case in cases}
    assert found == {
        "device": ["failure"],
        "latency_p50_ms": ["failure"],
        "memory_mib": ["system-out"],
        "power_w": ["skipped"],
        "size_mib": ["failure"],
    }
    assert all(case.get("classname") == "jetlift.minilm" for case in cases)


@given(st.text(min_size=1), st.text(min_size=1))
def test_whatever_is_named_the_file_is_xml(name: str, reason: str) -> None:
    text = verdict_files.junit(verdict(name, reason), model=name, measured_utc=UTC)
    # A lone surrogate is no text that a file could hold, and is replaced like other non-characters.
    root = ET.fromstring(text.encode())  # noqa: S314
    assert len(root[0].findall("testcase")) == 5
    assert wrong_by_the_schema(root) == []


@pytest.mark.parametrize(
    ("good", "bad", "told"),
    [
        (' name="jetlift budget door"', "", "testsuite lacks name"),
        ("<skipped ", "<skip ", "no such element: skip"),
        ('time="0" timestamp', 'time="soon" timestamp', "testsuite took soon"),
        ("<testcase ", '<testcase line="3" ', "testcase has line"),
    ],
)
def test_the_check_itself_finds_what_the_schema_refuses(good: str, bad: str, told: str) -> None:
    text = verdict_files.junit(verdict(), model="minilm", measured_utc=UTC)
    assert good in text
    root = ET.fromstring(text.replace(good, bad).encode())  # noqa: S314
    assert told in wrong_by_the_schema(root)


def test_a_summary_is_appended(tmp_path: Path) -> None:
    path = tmp_path / "summary.md"
    path.write_text("before\n", encoding="utf-8")
    verdict_files.append_summary(verdict("a|b"), path, model="mini_lm")
    verdict_files.append_summary(verdict(), path, model="mini_lm")
    text = path.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.count("not met") == 2
    assert "a\\|b" in text
    assert "mini\\_lm" in text


def test_a_summary_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be written"):
        verdict_files.append_summary(verdict(), tmp_path, model="m")


def test_outside_of_a_job_there_is_no_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    with pytest.raises(UsageError, match="GITHUB_STEP_SUMMARY is not set"):
        verdict_files.summary_file()
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "/a/file")
    assert verdict_files.summary_file() == Path("/a/file")
