"""The script that asks whether a measurement repeats: its verdict, and what it refuses."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from jetlift.benchmarks import repeat_bench
from jetlift.benchmarks.repeat_bench import Repeat, passes, spread_percent


@pytest.mark.parametrize(
    ("medians_ms", "noise", "passed"),
    [((10, 10.2, 10.4), (), True), ((10, 10.2, 11), (), False), ((10, 10.2, 11), ("busy",), True)],
)
def test_medians_have_to_agree_unless_the_machine_is_told_to_be_noisy(
    medians_ms: tuple[float, ...], noise: tuple[str, ...], *, passed: bool
) -> None:
    assert passes([Repeat(value, noise) for value in medians_ms]) is passed


def test_the_spread_is_from_the_smallest_to_the_largest() -> None:
    assert spread_percent([9.0, 10.0, 12.0]) == pytest.approx(30.0)


def test_what_is_no_bundle_is_told_in_a_paragraph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["repeat_bench", str(tmp_path / "none")])
    assert repeat_bench.main() == 2
    assert "is not a bundle" in capsys.readouterr().err
