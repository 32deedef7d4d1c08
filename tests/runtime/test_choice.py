"""Which variant runs where nobody names one. The passports are real, their verdicts given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from helpers.raced import bundle_of, early

from jetlift.engines.build import build
from jetlift.runtime.bundle import Bundle
from jetlift.runtime.choice import choose_precision
from jetlift.runtime.errors import UnknownNameError
from jetlift.runtime.passport import here, passport_path, read_passport, write_passport
from jetlift.runtime.receipt import Speed

pytest.importorskip("openvino")


def built(folder: Path, **options: bool) -> Bundle:
    graphs = {name: early(name) for name in ("fp32", "int8", "int4w")}
    bundle = bundle_of(folder / "bundle", graphs, **options)
    build(bundle, "cpu", race_limit_s=0)
    return bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return built(tmp_path)


def give(bundle: Bundle, name: str, verdict: str, ratio: float, **changes: object) -> None:
    """Write a verdict into a passport."""
    engine = bundle.engine_path("cpu", "main", name)
    passport = read_passport(engine)
    assert passport is not None
    speed = Speed(
        verdict,  # type: ignore[arg-type]
        "given", 1.0, 1.0 / ratio, ratio, ratio, ratio, 0.99, 99, here(gpu=False).cpu_name,
    )  # fmt: skip
    write_passport(replace(passport, speed=replace(speed, **changes)), engine)  # type: ignore[arg-type]


def test_fp32_runs_until_something_is_proven(bundle: Bundle) -> None:
    assert choose_precision(bundle, "main", "cpu") == "fp32"


def test_the_fastest_of_those_that_earned_it_runs(bundle: Bundle) -> None:
    give(bundle, "int8", "faster", 0.5)
    assert choose_precision(bundle, "main", "cpu") == "int8"
    give(bundle, "int4w", "faster", 0.4)
    assert choose_precision(bundle, "main", "cpu") == "int4w"
    give(bundle, "int4w", "faster", 0.6)
    assert choose_precision(bundle, "main", "cpu") == "int8"


@pytest.mark.parametrize("verdict", ["slower", "undecided", "not measured"])
def test_nothing_less_than_a_win_counts(bundle: Bundle, verdict: str) -> None:
    give(bundle, "int8", verdict, 0.5)
    assert choose_precision(bundle, "main", "cpu") == "fp32"


def test_a_win_on_another_processor_does_not_count(bundle: Bundle) -> None:
    give(bundle, "int8", "faster", 0.5, processor="Another Processor")
    assert choose_precision(bundle, "main", "cpu") == "fp32"


def test_a_win_on_another_target_does_not_count(bundle: Bundle) -> None:
    give(bundle, "int8", "faster", 0.5)
    assert choose_precision(bundle, "main", "cpu-onnxruntime") == "fp32"


def test_a_win_of_another_graph_does_not_count(bundle: Bundle) -> None:
    give(bundle, "int8", "faster", 0.5)
    engine = bundle.engine_path("cpu", "main", "int8")
    passport = read_passport(engine)
    assert passport is not None
    write_passport(replace(passport, onnx_sha256="0" * 64), engine)
    assert choose_precision(bundle, "main", "cpu") == "fp32"


def test_speed_does_not_make_up_for_fidelity(tmp_path: Path) -> None:
    bundle = built(tmp_path, met=False)
    give(bundle, "int8", "faster", 0.1)
    assert choose_precision(bundle, "main", "cpu") == "fp32"


def test_a_passport_that_cannot_be_read_proves_nothing(bundle: Bundle) -> None:
    give(bundle, "int8", "faster", 0.5)
    passport_path(bundle.engine_path("cpu", "main", "int8")).write_text("{}")
    assert choose_precision(bundle, "main", "cpu") == "fp32"


def test_an_unknown_part_is_refused(bundle: Bundle) -> None:
    with pytest.raises(UnknownNameError):
        choose_precision(bundle, "nose", "cpu")
