from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.fake_engines import AFFINE, opened, rows
from helpers.tiny_bundle import image, mlp, tiny_bundle

from jetlift.benchmarks import inside, worker
from jetlift.benchmarks.inside import gpu_time, heaps_peak, malloc_in_use, malloc_peak, memory_parts
from jetlift.benchmarks.live_set import peak_live_bytes, with_graph
from jetlift.benchmarks.measure import VariantJob
from jetlift.benchmarks.stop import StopRules
from jetlift.engines.shapes import bind
from jetlift.runtime.figure import Figure
from jetlift.runtime.probe import FakeProbe, Reading
from jetlift.runtime.session.fake import FakeSession

FEW = StopRules(min_runs=10, max_runs=10, time_limit_s=5)
ONE = Figure(1)


def _reading(available: int, nvmap: int) -> Reading:
    return Reading(ONE, ONE, ONE, available_bytes=Figure(available), nvmap_bytes=Figure(nvmap))


def test_a_gpu_s_clock_is_asked_in_runs_of_its_own() -> None:
    session, device, _ = opened(AFFINE)
    with session:
        told = gpu_time(session, [{"x": rows(2)}, {"x": rows(3)}], 7)
    assert told.runs == 7
    assert (told.copy_in_ms.value, told.compute_ms.value, told.copy_out_ms.value) == (1, 1, 1)
    assert told.with_copies_ms.value == 3
    assert device.live == []


def test_a_processor_has_no_gpu_time() -> None:
    told = gpu_time(FakeSession([], [], lambda _: {}), [{}], 7)
    assert told.runs == 0
    assert told.compute_ms == Figure.missing("no GPU computed")


def test_memory_of_a_gpu_is_told_by_library_device_and_board() -> None:
    session, _, _ = opened(AFFINE)
    with session:
        session.run({"x": rows(2)})
        parts = memory_parts(session, _reading(9000, 100), _reading(2000, 700))
    assert (parts.activation_bytes.value, parts.activations_how) == (1024, "the engine library")
    assert (parts.gpu_bytes.value or 0) > 1024
    assert (parts.unified_bytes.value, parts.nvmap_bytes.value) == (7000, 600)


def test_memory_of_a_pc_is_missing_with_reasons() -> None:
    look = Reading(ONE, ONE, ONE)
    parts = memory_parts(FakeSession([], [], lambda _: {}), look, look)
    assert parts.gpu_bytes.reason == "no GPU computed"
    assert "Jetson alone" in parts.unified_bytes.reason
    assert "Jetson alone" in parts.nvmap_bytes.reason


@pytest.mark.skipif(malloc_peak().value is None, reason="this C library is not glibc")
def test_the_allocator_s_mark_stays_where_memory_was() -> None:
    before = malloc_in_use().value or 0
    held = [bytearray(4000) for _ in range(20_000)]
    assert (malloc_in_use().value or 0) - before >= 20_000 * 4000 * 0.9
    assert (malloc_peak().value or 0) >= 20_000 * 4000 * 0.9
    high = malloc_peak().value
    del held
    assert malloc_peak().value == high
    assert (malloc_in_use().value or 0) - before < 20_000 * 4000 * 0.5


def test_another_c_library_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda *_: object())
    assert "not glibc" in malloc_peak().reason
    assert "not glibc" in malloc_in_use().reason
    assert "no mark" in heaps_peak("<malloc/>").reason
    assert heaps_peak('<system type="max" size="5"/><system type="max" size="9"/>').value == 9


def test_the_live_set_is_the_most_at_one_time() -> None:
    # fc1 [1, 32] and act [1, 32] live at once: 256 bytes; y [1, 4] comes when fc1 is gone
    graph = bind(mlp(), {"x": (1, 16)})
    assert peak_live_bytes(graph) == 2 * 32 * 4
    assert peak_live_bytes(bind(mlp(), {"x": (3, 16)})) == 3 * 2 * 32 * 4


def test_outputs_live_to_the_end() -> None:
    graph = bind(image(), {"pixel_values": (1, 3, 32, 32)})
    tensors = graph.tensors
    last = tensors["patch_tokens"].size_bytes + tensors["embedding"].size_bytes
    most = tensors["conv1"].size_bytes + tensors["act1"].size_bytes
    assert peak_live_bytes(graph) == max(last, most)


def test_what_an_engine_folds_is_not_live() -> None:
    make = onnx.helper.make_node
    nodes = [make("Add", ["w", "w"], ["folded"]), make("Add", ["x", "folded"], ["y"])]
    info = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [8]) for name in "xy"]
    weight = onnx.numpy_helper.from_array(np.ones(8, np.float32), "w")
    graph = onnx.helper.make_graph(nodes, "g", info[:1], info[1:], [weight])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])
    assert peak_live_bytes(bind(model, {})) == 32


def test_a_measured_variant_says_where_its_memory_went(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "tiny", precisions=("fp32",))
    job = VariantJob("variant", str(bundle.folder), "mlp", "fp32", "cpu", 1, 0, FEW, None)
    look = Reading(Figure(3), ONE, ONE)
    answer = worker.measure_variant(job, FakeProbe([look]))
    assert answer.gpu_time.compute_ms.reason == "no GPU computed"
    assert answer.memory.rss_after_runs_bytes.value == 3
    variant = bundle.variant("mlp", "fp32")
    parts = with_graph(answer.memory, bundle, variant, answer).parts
    assert parts.weight_bytes.value == variant.cost.weight_bytes
    assert parts.activation_bytes.value == 2 * 32 * 4
    assert parts.activations_how == "the graph, node after node, without fusion"


def test_without_onnx_the_graph_s_figure_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    bundle = tiny_bundle(tmp_path / "tiny", precisions=("fp32",))
    job = VariantJob("variant", str(bundle.folder), "mlp", "fp32", "cpu", 1, 0, FEW, None)
    answer = worker.measure_variant(job, FakeProbe([Reading(ONE, ONE, ONE)]))
    monkeypatch.setitem(sys.modules, "onnx", None)
    parts = with_graph(answer.memory, bundle, bundle.variant("mlp", "fp32"), answer).parts
    assert "onnx" in parts.activation_bytes.reason
    assert parts.activations_how == ""


def test_runs_on_a_gpu_are_fifty() -> None:
    assert inside.GPU_RUNS == 50
