from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.fake_engines import AFFINE
from helpers.tiny_bundle import tiny_bundle

from jetlift.benchmarks import bench, layers, measure, report
from jetlift.benchmarks.layers import LayersAnswer, LayersJob
from jetlift.runtime.errors import ArtefactError, JetliftError, MachineError, UsageError
from jetlift.runtime.record import Record, read_record
from jetlift.runtime.session.fake_cuda import FakeDevice
from jetlift.runtime.session.fake_tensorrt import FakeLibrary
from jetlift.runtime.session.trt_layers import LayerSession

GOLDEN = Path(__file__).parents[1] / "runtime" / "golden" / "record.json"


def test_layers_of_a_real_graph_have_times_and_operations(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle")
    part, described = next(iter(bundle.manifest.parts.items()))
    variant = next(iter(described.variants))
    job = LayersJob("layers", str(bundle.folder), part, variant, "cpu", 1, 0)
    answer = measure.run_child(job, LayersAnswer, limit_s=120, worker=layers._WORKER)
    times = [layer.time_ms for layer in answer.layers]
    assert times == sorted(times, reverse=True)
    assert any(layer.operations.value for layer in answer.layers)
    assert all(layer.operations.value or layer.operations.reason for layer in answer.layers)


@pytest.mark.parametrize(
    ("library", "error", "told"),
    [
        ("openvino", MachineError("the child was killed"), "the child was killed"),
        ("openvino", ArtefactError("the bundle was altered"), "the bundle was altered"),
        ("onnxruntime", MachineError("never raised"), "onnxruntime was not asked"),
    ],
)
def test_what_cannot_be_told_leaves_the_results_and_is_told(
    library: str, error: JetliftError, told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    record: Record = read_record(GOLDEN)
    results = tuple(
        replace(item, engine=replace(item.engine, library=library)) for item in record.results
    )
    record = replace(record, results=results)

    def dies(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(measure, "run_child", dies)
    bundle = tiny_bundle(tmp_path / "bundle")
    stages: list[str] = []
    found = layers.with_layers(record, bundle, threads=1, seed=0, tell=stages.append)
    assert found.results == record.results
    assert found.command.endswith("--layers")
    assert len(stages) == len(found.not_done) == len(record.results)
    assert all(item.what == "time per layer" and told in item.reason for item in found.not_done)
    assert told in report.render_markdown(found)


def test_a_child_that_dies_does_not_end_the_benchmark(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bundle = tiny_bundle(tmp_path / "bundle")
    monkeypatch.setattr(layers, "_WORKER", (sys.executable, "-c", "raise SystemExit(3)"))
    monkeypatch.setattr(bench, "_PEAK_S", 0.1)
    monkeypatch.setattr(bench, "SIZES", (64,))
    monkeypatch.setattr(bench, "_COPY_BYTES", 2**20)
    shares: list[float] = []
    record = bench.bench(
        bundle, precisions=["fp32"], threads=1, time_limit_s=0.2, layers=True,
        progress=lambda _stage, share: shares.append(share),
    )  # fmt: skip
    assert record.results
    assert {item.what for item in record.not_done} == {"time per layer"}
    assert all("ended with code 3" in item.reason for item in record.not_done)
    assert shares == sorted(shares)
    assert shares[-1] < 1


def layered(**how: Any) -> Any:
    device = FakeDevice()
    return LayerSession(FakeLibrary(device, AFFINE), device, AFFINE.plan, library="tensorrt", **how)


@pytest.mark.parametrize("how", [{}, {"overlap": True}, {"mapped": True}], ids=str)
def test_tensorrt_tells_its_layers(how: dict[str, bool]) -> None:
    feeds = {"x": np.ones((2, 4), np.float32)}
    with layered(**how) as session:
        np.testing.assert_array_equal(session.run(feeds)["y"], 3 * feeds["x"])
        assert session.take_layers() == {"/fc/MatMul + /fc/Add": [0.75], "Reformat": [0.25]}
        assert session.take_layers() == {}
        found = layers.profiled(session, feeds, {"/fc/MatMul": 8.0, "/fc/Add": 4.0})
    assert found.times == {"/fc/MatMul + /fc/Add": [0.75] * 10, "Reformat": [0.25] * 10}
    assert found.nodes == {"/fc/MatMul + /fc/Add": ("/fc/MatMul", "/fc/Add")}


def test_half_known_names_count_no_operations() -> None:
    with layered() as session:
        found = layers.profiled(session, {"x": np.ones((2, 4), np.float32)}, {"/fc/MatMul": 8.0})
    assert found.nodes == {}


def test_layers_and_a_graph_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="a CUDA graph is wanted as well"):
        layered(cuda_graph=True)
