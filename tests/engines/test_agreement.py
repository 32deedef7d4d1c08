"""Whether an engine computes what its graph says: on arrays, and on engines that do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from helpers.raced import bundle_of, deep
from helpers.tiny_bundle import GraphWriter, tiny_bundle
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import numpy_helper

from jetlift.engines import race
from jetlift.engines.agreement import confirm, disagreement
from jetlift.engines.build import build
from jetlift.engines.gate import sentence
from jetlift.engines.race import Contender, Race
from jetlift.engines.receipt import Built
from jetlift.runtime.choice import choose_precision
from jetlift.runtime.manifest import Part

RANDOM = np.random.default_rng(5)
RIGHT = RANDOM.standard_normal((4, 64)).astype(np.float32)


def told(own: np.ndarray, expected: np.ndarray = RIGHT, least: float = 0.5) -> str:
    return disagreement({"y": own}, {"y": expected}, least)


def test_the_same_agrees_and_so_does_what_is_near() -> None:
    assert told(RIGHT) == ""
    assert told(RIGHT + 0.5 * RANDOM.standard_normal(RIGHT.shape).astype(np.float32)) == ""


@pytest.mark.parametrize(
    ("own", "words"),
    [
        (RANDOM.standard_normal(RIGHT.shape), "correlates by"),
        (-RIGHT, "correlates by -1.00"),
        (np.zeros_like(RIGHT), "is 0 everywhere"),
        (RIGHT * 100, "has 100 times the spread"),
        (RIGHT / 100, "has 0.01 times the spread"),
        (np.where(RIGHT > 1, np.nan, RIGHT), "is not finite"),
        (np.full_like(RIGHT, np.inf), "is not finite"),
        (RIGHT[:2], "has another shape"),
        (np.roll(RIGHT, 1), "correlates by"),
    ],
)
def test_garbage_does_not(own: np.ndarray, words: str) -> None:
    assert words in told(own)


def test_a_common_offset_hides_nothing() -> None:
    """Two outputs around a hundred have a cosine of 0.9999, whatever they hold."""
    garbage = RANDOM.standard_normal(RIGHT.shape)
    assert told(garbage + 100, RIGHT + 100).startswith("output y correlates by")
    assert told(RIGHT + 100, RIGHT + 100) == ""


def test_what_is_constant_is_compared_as_such() -> None:
    ones = np.ones((2, 3), np.float32)
    assert told(ones, ones) == ""
    assert told(np.zeros_like(ones), np.zeros_like(ones)) == ""
    assert "is off by" in told(-ones, ones)


def test_what_fp32_cannot_compute_either_is_passed_over() -> None:
    half = RIGHT.copy()
    half[0] = -np.inf  # as the logits that a mask rules out
    own = RIGHT.copy()
    own[0] = -1e9
    assert told(own, half) == ""


def test_indices_are_not_compared() -> None:
    assert told(np.arange(5), np.arange(5)[::-1]) == ""


@settings(deadline=None)
@given(arrays(np.float32, (3, 7), elements=st.floats(-1e3, 1e3, width=32)), st.floats(0.3, 3))
def test_an_array_agrees_with_itself_at_any_scale(values: np.ndarray, scale: float) -> None:
    assert told(values, values) == ""
    if np.ptp(values) > 1e-3 * max(1.0, np.abs(values).max()):
        assert told(values * np.float32(scale), values) == ""


def shuffled(seed: int = 7) -> onnx.ModelProto:
    """deep("int8") whose weights are another matrix's: as fast, and garbage."""
    model = deep("int8")
    random = np.random.default_rng(seed)
    for stored in model.graph.initializer:
        if stored.name.endswith("_int8"):
            codes = random.permuted(numpy_helper.to_array(stored).ravel())
            stored.CopyFrom(numpy_helper.from_array(codes.reshape(stored.dims), stored.name))
    return model


def single(precision: str) -> onnx.ModelProto:
    """deep's int8 graph with one product, in any precision: x [64, 512] -> y [64, 512]."""
    writer = GraphWriter(precision)
    writer.add("MatMul", [writer.data("x"), writer.weight("w0", (512, 512), 1)], "y")
    return writer.model({"x": [64, 512]}, {"y": [64, 512]})


def raced(folder: Path, int8: onnx.ModelProto, graph: onnx.ModelProto) -> str:
    """What is found of an engine of `int8` whose bundle says that its graph is `graph`."""
    for name, model in (("fp32", single("fp32")), ("int8", int8), ("graph", graph)):
        onnx.save(model, folder / f"{name}.onnx")
    bundle = bundle_of(folder / "bundle", {"fp32": single("fp32")})
    asked = Race(
        Part(bundle.part("main")[1].inputs, bundle.part("main")[1].outputs, 1, None, {}),
        (
            Contender("fp32", f"{folder}/fp32.onnx", built=False, onnx=f"{folder}/fp32.onnx"),
            Contender("int8", f"{folder}/int8.onnx", built=False, onnx=f"{folder}/graph.onnx"),
        ),
        limit_s=0.5,
    )
    speed = race.race(asked, "this processor")["int8"]
    return f"{speed.verdict}: {speed.note}" if speed.ratio is None else ""


@pytest.fixture(scope="module", autouse=True)
def _engine() -> None:
    pytest.importorskip("openvino")
    pytest.importorskip("onnxruntime")


def test_an_engine_that_computes_garbage_wins_nothing(tmp_path: Path) -> None:
    found = raced(tmp_path, shuffled(), single("int8"))
    assert found.startswith(
        "not measured: its outputs are wrong: against fp32, output y correlates"
    )
    assert "against ONNX Runtime on the same graph, output y correlates by" in found


def test_an_engine_that_computes_its_graph_is_judged_by_speed(tmp_path: Path) -> None:
    assert raced(tmp_path, single("int8"), single("int8")) == ""


def test_a_graph_that_is_far_off_by_itself_is_not_the_engines_doing(tmp_path: Path) -> None:
    """Its fidelity was judged at export, on real samples; the race's inputs are noise."""
    assert raced(tmp_path, shuffled(), shuffled()) == ""


def test_without_a_reference_garbage_wins_nothing_either(tmp_path: Path) -> None:
    part = Part((), (), 1, None, {})
    why = confirm({}, tmp_path / "none.onnx", part, 0, "output y correlates by 0.01")
    assert why.startswith("against fp32, output y correlates by 0.01, and the reference could not")


def test_a_build_whose_engine_is_garbage_keeps_fp32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenVINO is handed another graph than the bundle's, as if it had compiled it wrongly."""
    from jetlift.engines import openvino

    bundle = bundle_of(tmp_path / "bundle", {"fp32": deep("fp32"), "int8": single("int8")})
    onnx.save(shuffled(), tmp_path / "wrong.onnx")
    real = openvino.build_engine

    def mistaken(graph: Path, *rest: Any) -> Built:
        return real(tmp_path / "wrong.onnx" if "int8" in graph.name else graph, *rest)

    monkeypatch.setattr(openvino, "build_engine", mistaken)
    int8 = next(item for item in build(bundle, "cpu", race_limit_s=2) if item.precision == "int8")
    assert int8.passport.speed.verdict == "not measured"
    assert "its outputs are wrong" in sentence(bundle, int8)
    assert choose_precision(bundle, "main", "cpu") == "fp32"


def test_the_tiny_bundles_int8_agrees(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "tiny", precisions=["fp32", "int8"])
    for result in build(bundle, "cpu", race_limit_s=0.3):
        assert "wrong" not in result.passport.speed.note
