"""The short form of the fuzz bench, and the judge itself on children that misbehave."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from jetlift.benchmarks import fuzz_bench
from jetlift.benchmarks.fuzz_bench import BAD, Reader, judge
from jetlift.benchmarks.fuzz_inputs import DAMAGES, cases

ECHO = "import sys\nfor line in sys.stdin: print({!r}, line.strip(), flush=True)"


def test_no_damaged_input_ends_badly(tmp_path: Path) -> None:
    inputs = cases(84, 7, tmp_path)
    assert {case.damage for case in inputs} == set(DAMAGES)
    assert {case.suffix for case in inputs} == {".jpg", ".png", ".mp4", ".avi", ".wav"}
    verdicts = judge(inputs)
    assert [verdict for verdict in verdicts if verdict.outcome in BAD] == []
    counts = Counter(verdict.outcome for verdict in verdicts)
    assert counts["read"] > 5
    assert counts["refused"] > 5


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second, other = (cases(60, seed, tmp_path) for seed in (3, 3, 4))
    assert [case.content for case in first] == [case.content for case in second]
    assert [case.content for case in first] != [case.content for case in other]


@pytest.mark.parametrize(
    ("program", "outcome", "detail"),
    [
        ("import os\nos.abort()", "crashed", "exit code -6"),
        ("import sys\nsys.stdin.readline()", "crashed", "exit code 0"),
        ("import time\ntime.sleep(1000)", "hung", "no answer within 1 s"),
        (ECHO.format("other"), "other", "picture a.png"),
        (ECHO.format("refused"), "refused", "picture a.png"),
    ],
)
def test_what_a_child_does_is_seen_and_the_next_file_gets_another(program, outcome, detail):
    with Reader(1.0, ["-c", program]) as reader:
        for _ in range(2):
            verdict = reader.read("picture", Path("a.png"))
            assert (verdict.outcome, verdict.detail) == (outcome, detail)


def test_what_ended_badly_is_shown_kept_and_is_the_exit_code(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fuzz_bench.Reader.__init__, "__defaults__", (5.0, ["-c", "exit(3)"]))
    assert fuzz_bench.main(["--count", "3", "--keep", str(tmp_path / "kept")]) == 1
    assert "3 inputs (seed 0), 3 of them ended badly" in capsys.readouterr().out
    assert len(list((tmp_path / "kept").iterdir())) == 3
