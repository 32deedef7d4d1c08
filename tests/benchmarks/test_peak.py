from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetlift.benchmarks import measure, peak
from jetlift.runtime.errors import UsageError
from jetlift.runtime.manifest import Cost
from jetlift.runtime.record import ComputePeak, Figure, Peak


def _peak(**tops: float | None) -> Peak:
    compute = {
        name: ComputePeak(Figure(value) if value else Figure.missing("not in it"), "")
        for name, value in tops.items()
    }
    return Peak(compute, Figure(20.0), "copies", "openvino", "1", 2)


PEAK = _peak(fp32=0.2, int8=0.8)
FP32 = Cost(1e10, {"fp32": 9e9}, weight_bytes=80e6, activation_bytes=300e6)
INT8 = Cost(1e10, {"int8": 8e9, "fp32": 1e9}, weight_bytes=20e6, activation_bytes=300e6)


def test_a_model_of_one_precision_has_its_plain_share_of_peak() -> None:
    work = peak.place(FP32, "f32", 100.0, PEAK, io_bytes=0, at_opt_shape=True)
    assert work.achieved_tops.value == 0.1
    assert work.share_of_peak.value == 0.5
    assert work.bound_ms.value == 50
    assert work.binds == "compute"
    assert work.moved_bytes.value == 80_000_000
    assert work.intensity.value == 125


def test_a_mixed_model_is_held_to_the_peak_of_each_precision() -> None:
    work = peak.place(INT8, "f32", 40.0, PEAK, io_bytes=0, at_opt_shape=True)
    compute_ms = 8e9 / 0.8e9 + 2e9 / 0.2e9
    assert work.bound_ms.value == compute_ms
    assert work.share_of_peak.value == compute_ms / 40


def test_fp16_that_is_computed_in_f32_is_held_to_the_peak_of_fp32() -> None:
    cost = Cost(1e10, {"fp16": 9e9}, weight_bytes=40e6, activation_bytes=0)
    work = peak.place(cost, "f32", 100.0, PEAK, io_bytes=0, at_opt_shape=True)
    assert work.share_of_peak.value == 0.5


def test_memory_binds_where_weights_take_longer_than_operations() -> None:
    cost = Cost(1e8, {"fp32": 1e8}, weight_bytes=400e6, activation_bytes=0)
    work = peak.place(cost, "f32", 100.0, PEAK, io_bytes=0, at_opt_shape=True)
    assert work.binds == "memory"
    assert work.bound_ms.value == 20


def test_inputs_and_outputs_have_to_move_too() -> None:
    work = peak.place(FP32, "f32", 100.0, PEAK, io_bytes=20_000_000, at_opt_shape=True)
    assert work.moved_bytes.value == 100_000_000


@pytest.mark.parametrize(
    ("arithmetic", "reached", "told"),
    [
        ("f32", None, "this machine's peak was not measured"),
        ("bf16", PEAK, "the peak of bf16 was not measured"),
        ("f32", _peak(fp32=0.2, int8=None), "the peak of int8 was not measured"),
    ],
)
def test_without_a_peak_there_is_no_share_and_the_reason_is_told(
    arithmetic: str, reached: Peak | None, told: str
) -> None:
    work = peak.place(INT8, arithmetic, 40.0, reached, io_bytes=0, at_opt_shape=True)
    assert work.share_of_peak.value is None
    assert told in work.share_of_peak.reason
    assert told in work.bound_ms.reason
    assert work.binds is None
    assert work.achieved_tops.value == 0.25


def test_operations_that_were_counted_for_other_shapes_are_not_used() -> None:
    work = peak.place(FP32, "f32", 100.0, PEAK, io_bytes=0, at_opt_shape=False)
    assert work.operations.value is None
    assert "other shapes were fed" in work.achieved_tops.reason
    nothing = Cost(0, {}, 0, 0)
    work = peak.place(nothing, "f32", 100.0, PEAK, io_bytes=0, at_opt_shape=True)
    assert "counts no operations" in work.achieved_tops.reason


@given(
    st.floats(1e6, 1e13), st.floats(0, 1), st.floats(1e3, 1e10), st.floats(1e-3, 1e5),
    st.integers(0, 10**9),
)  # fmt: skip
def test_a_bound_is_at_least_each_side_and_one_of_them(
    operations: float, narrow: float, weights: float, p50_ms: float, io_bytes: int
) -> None:
    cost = Cost(operations, {"int8": operations * narrow}, weights, 0.0)
    work = peak.place(cost, "f32", p50_ms, PEAK, io_bytes=io_bytes, at_opt_shape=True)
    compute_ms = operations * narrow / 0.8e9 + operations * (1 - narrow) / 0.2e9
    memory_ms = (weights + io_bytes) / 20e6
    assert work.bound_ms.value == pytest.approx(max(compute_ms, memory_ms), rel=1e-6, abs=1e-5)
    assert work.binds == ("compute" if compute_ms >= memory_ms else "memory")


def test_the_best_of_several_runs_leaves_the_first_out() -> None:
    now_s, took = 0.0, iter([0.001, 5.0, 3.0, 4.0, 9.0])

    def run() -> None:
        nonlocal now_s
        now_s += next(took)

    assert peak.best_of(run, limit_s=0, min_runs=3, clock=lambda: now_s) == pytest.approx(3.0)


def test_the_best_of_goes_on_to_the_time_limit() -> None:
    now_s, runs = 0.0, 0

    def run() -> None:
        nonlocal now_s, runs
        now_s, runs = now_s + 1.0, runs + 1

    peak.best_of(run, limit_s=20, min_runs=3, clock=lambda: now_s)
    assert runs == 21


def test_copies_are_larger_than_the_cache_and_smaller_than_memory() -> None:
    assert peak._copy_bytes(4 * 2**20, 8 * 2**30) == 64 * 2**20
    assert peak._copy_bytes(256 * 2**20, 64 * 2**30) == 1024 * 2**20
    assert peak._copy_bytes(256 * 2**20, 2**30) == 128 * 2**20
    assert peak._copy_bytes(None, None) == 64 * 2**20


def test_this_machine_has_a_peak() -> None:
    job = measure.PeakJob("peak", 1, 0.2, sizes=(128, 256), copy_bytes=32 * 2**20)
    told = measure.run_child(job, Peak, limit_s=120)
    assert told.threads == 1
    assert told.library == "openvino"
    assert set(told.compute) == {"fp32", "int8"}
    assert 0.0005 < (told.compute["fp32"].tops.value or 0) < 100
    assert "256" in told.compute["fp32"].how or "128" in told.compute["fp32"].how
    assert told.compute["int8"].tops.value or told.compute["int8"].tops.reason
    assert 0.1 < (told.memory_gb_per_s.value or 0) < 10_000
    assert "32 MiB by 1 threads" in told.memory_how


def test_a_product_counts_only_for_the_precision_it_ran_in() -> None:
    from jetlift.runtime.session.openvino import ExecutedLayer

    layers = [ExecutedLayer("FullyConnected", (), "i8")] * 2
    assert peak._ran_in(("i8", "u8"), layers)
    assert not peak._ran_in(("f32",), layers)
    assert not peak._ran_in(("i8",), layers[:1])
    assert not peak._ran_in(("i8",), [*layers, ExecutedLayer("MatMul", (), "f32")])
    missing = peak._compute_peak("int8", {})
    assert missing.tops.reason == "OpenVINO did not compute the int8 products in int8 here"


def test_a_peak_is_measured_in_a_child_and_errors_come_back() -> None:
    job = measure.PeakJob("peak", 0, 0.1, sizes=(128,), copy_bytes=2**20)
    with pytest.raises(UsageError, match="0 threads"):
        measure.run_child(job, Peak, limit_s=120)
