from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny_bundle import tiny_bundle

from jetlift.benchmarks import layers, measure
from jetlift.benchmarks.layers import LayersAnswer, LayersJob
from jetlift.runtime.errors import MachineError
from jetlift.runtime.record import Record, read_record

GOLDEN = Path(__file__).parents[1] / "runtime" / "golden" / "record.json"


def test_layers_of_a_real_graph_have_times_and_operations(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle")
    part, described = next(iter(bundle.manifest.parts.items()))
    variant = next(iter(described.variants))
    job = LayersJob("layers", str(bundle.folder), part, variant, 1, 0)
    answer = measure.run_child(job, LayersAnswer, limit_s=120, worker=layers._WORKER)
    times = [layer.time_ms for layer in answer.layers]
    assert times == sorted(times, reverse=True)
    assert any(layer.operations.value for layer in answer.layers)
    assert all(layer.operations.value or layer.operations.reason for layer in answer.layers)


@pytest.mark.parametrize("library", ["openvino", "tensorrt"])
def test_what_cannot_be_told_leaves_the_record_as_it_was(
    library: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    record: Record = read_record(GOLDEN)
    results = tuple(
        replace(item, engine=replace(item.engine, library=library)) for item in record.results
    )
    record = replace(record, results=results)

    def dies(*_: Any, **__: Any) -> Any:
        raise MachineError("the child was killed")

    monkeypatch.setattr(measure, "run_child", dies)
    bundle = tiny_bundle(tmp_path / "bundle")
    found = layers.with_layers(record, bundle, threads=1, seed=0)
    assert found.results == record.results
    assert found.command.endswith("--layers")
