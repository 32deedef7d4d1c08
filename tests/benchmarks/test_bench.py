from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.tiny_bundle import tiny_bundle

from jetlift.benchmarks import bench as module
from jetlift.benchmarks import fidelity_view, measure, results
from jetlift.benchmarks.bench import bench
from jetlift.benchmarks.stop import StopRules
from jetlift.engines.build import build
from jetlift.runtime.bundle import Bundle
from jetlift.runtime.errors import (
    BundleError,
    InputError,
    MachineError,
    UnknownNameError,
    UsageError,
)
from jetlift.runtime.record import Peak, Record, read_record

QUICK = StopRules(min_runs=10, max_runs=12, time_limit_s=5, warmup_max_runs=10)
GOLDEN = Path(__file__).parents[1] / "runtime" / "golden" / "record.json"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny", precisions=("fp32", "int8"))


@pytest.fixture(scope="module")
def _quick_peak() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_PEAK_S", 0.1)
        patch.setattr(module, "SIZES", (128,))
        patch.setattr(module, "_COPY_BYTES", 16 * 2**20)
        yield


@pytest.fixture(scope="module")
def measured(
    bundle: Bundle, tmp_path_factory: pytest.TempPathFactory, _quick_peak: None
) -> tuple[Record, Path, list[tuple[str, float]]]:
    out, stages = tmp_path_factory.mktemp("out") / "report", []
    record = bench(
        bundle, out=out, rules=QUICK, threads=1, progress=lambda *stage: stages.append(stage)
    )
    return record, out, stages


def test_every_variant_of_every_part_is_measured(measured: tuple[Record, Path, Any]) -> None:
    record = measured[0]
    assert [(item.part, item.variant) for item in record.results] == [
        ("mlp", "fp32"), ("mlp", "int8"), ("image", "fp32"), ("image", "int8"),
    ]  # fmt: skip
    assert record.failed == ()
    for result in record.results:
        assert 10 <= len(result.latency.samples_ms) <= 12
        assert result.recheck is not None
        assert result.engine.threads == 1
        assert result.work.achieved_tops.value
        assert result.work.binds in ("compute", "memory")
        assert result.power_w.value is None
        assert result.throughput_per_s == pytest.approx(1e3 / result.latency.mean_ms, rel=1e-3)


def test_the_record_says_what_was_measured_and_how(
    measured: tuple[Record, Path, Any], bundle: Bundle
) -> None:
    record = measured[0]
    assert record.bundle_sha256 == bundle.sha256
    assert record.weights == bundle.manifest.weights
    assert record.command == (
        "jetlift bench tiny --target cpu --threads 1 --time-limit-s 5 -o report"
    )
    assert set(record.packages) == {"jetlift", "numpy", "openvino"}
    assert record.settings.max_runs == 12
    assert record.peak is not None
    assert any(text.startswith("Not run on a Jetson") for text in record.not_shown)


def test_fidelity_is_the_bundle_s_or_said_to_be_missing(
    measured: tuple[Record, Path, Any],
) -> None:
    fp32, int8, *_ = measured[0].results
    assert int8.fidelity is None
    for result in (fp32, int8):
        assert result.fidelity_note == "not judged: random weights are structure"
        assert fidelity_view.state_of(result) == "structure"


def test_what_is_written_is_what_is_returned(measured: tuple[Record, Path, Any]) -> None:
    record, out, _ = measured
    assert {path.name for path in out.iterdir()} == {
        "record.json",
        "report.html",
        "report.md",
        "results.csv",
    }
    assert read_record(out / "record.json") == record
    text = (out / "record.json").read_text()
    assert str(out.parent) not in text


def test_progress_goes_from_nothing_to_nearly_all(measured: tuple[Record, Path, Any]) -> None:
    stages = measured[2]
    shares = [share for _, share in stages]
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[-1] < 1
    assert stages[-1][0] == "write the report"
    assert "image int8 again" in [stage for stage, _ in stages]


@pytest.mark.usefixtures("_quick_peak")
def test_a_built_engine_is_measured_with_its_size(tmp_path: Path) -> None:
    own = tiny_bundle(tmp_path / "tiny", precisions=("fp32",))
    build(own, "cpu", ["fp32"])
    record = bench(own, rules=QUICK, threads=1)
    for result in record.results:
        path = own.engine_path("cpu", result.part, "fp32")
        assert result.engine.size_bytes.value == path.stat().st_size


@pytest.mark.usefixtures("_quick_peak")
def test_real_samples_are_fed_and_operations_are_counted_at_their_shapes(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = replace_parts(bundle, "mlp")
    monkeypatch.setattr(module, "_choose", lambda *_: (("mlp", "fp32"),))
    for index in range(4):
        np.savez(tmp_path / f"{index}.npz", x=np.full((3, 16), index, np.float32))
    record = bench(chosen, rules=QUICK, samples=tmp_path, threads=1)
    result = record.results[0]
    assert result.batch == 3
    assert record.settings.inputs.startswith("up to 16 real samples of")
    at_one = chosen.manifest.parts["mlp"].variants["fp32"].cost.operations
    assert result.work.operations.value == 3 * at_one
    assert not any("random arrays" in text for text in record.not_shown)


def replace_parts(bundle: Bundle, *names: str) -> Bundle:
    parts = {name: bundle.manifest.parts[name] for name in names}
    return replace(bundle, manifest=replace(bundle.manifest, parts=parts))


@pytest.mark.usefixtures("_quick_peak")
def test_a_variant_that_this_machine_cannot_measure_is_told_and_the_rest_goes_on(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = measure.run_child

    def dies(job: Any, *rest: Any, **named: Any) -> Any:
        if getattr(job, "variant", "") == "fp32":
            raise MachineError("It was killed", do="Close other programs")
        return real(job, *rest, **named)

    monkeypatch.setattr(measure, "run_child", dies)
    record = bench(replace_parts(bundle, "mlp"), rules=QUICK, threads=1)
    assert [item.variant for item in record.results] == ["int8"]
    assert [(item.part, item.variant) for item in record.failed] == [("mlp", "fp32")]
    assert record.failed[0].reason == "It was killed. Close other programs."
    with pytest.raises(MachineError, match="It was killed"):
        bench(bundle, precisions=["fp32"], rules=QUICK)


def test_a_peak_that_fails_leaves_a_note_and_a_recheck_that_fails_leaves_a_mark(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = measure.run_child, []

    def dies(job: Any, answer: Any, **named: Any) -> Any:
        if answer is Peak or job.variant in seen:
            raise MachineError("no library")
        seen.append(job.variant)
        return real(job, answer, **named)

    monkeypatch.setattr(measure, "run_child", dies)
    record = bench(replace_parts(bundle, "mlp"), precisions=["fp32"], rules=QUICK, threads=1)
    assert record.peak is None
    assert record.peak_note == "no library."
    result = record.results[0]
    assert result.recheck is None
    assert result.noisy
    assert "it could not be measured a second time" in result.noisy_reasons
    assert "peak was not measured" in result.work.share_of_peak.reason


def test_wrong_calls_are_refused_before_anything_is_measured(
    bundle: Bundle, tmp_path: Path
) -> None:
    with pytest.raises(UnknownNameError, match="no int4w variant"):
        bench(bundle, precisions=["int4w"])
    with pytest.raises(UsageError, match="No variant is left"):
        bench(bundle, precisions=[])
    with pytest.raises(InputError, match="is not a bundle"):
        bench(tmp_path)
    (tmp_path / "taken").write_text("")
    with pytest.raises(InputError, match="is a file"):
        bench(bundle, out=tmp_path / "taken")
    with pytest.raises(InputError, match="cannot be read"):
        bench(bundle, out=tmp_path / "new", gallery=[(tmp_path / "no.png", "")])


def test_an_altered_bundle_is_refused(tmp_path: Path) -> None:
    own = tiny_bundle(tmp_path / "tiny", precisions=("fp32",))
    graph = own.folder / "mlp.fp32.onnx"
    content = bytearray(graph.read_bytes())
    content[100] ^= 1
    graph.write_bytes(content)
    with pytest.raises(BundleError, match="altered"):
        bench(own.folder)


@pytest.mark.usefixtures("_quick_peak")
def test_an_unknown_target_is_refused(bundle: Bundle) -> None:
    with pytest.raises(UnknownNameError, match="toaster"):
        bench(replace_parts(bundle, "mlp"), target="toaster", rules=QUICK)


def test_noise_is_told_with_its_reason() -> None:
    record = read_record(GOLDEN)
    first = record.results[0]
    quiet = replace(record.machine, busy_before=replace(record.machine.busy_before, value=0.01))
    answer = measure.VariantAnswer(
        first.engine, first.inputs, replace(first.latency, warmup_settled=True), first.memory,
        first.power_w, replace(first.others_busy, value=0.02), 0,
    )  # fmt: skip
    assert first.recheck is not None
    still = replace(first.recheck, moved_percent=9.9)
    assert results.noise(answer, still, quiet) == ()
    busy = replace(quiet, busy_before=replace(quiet.busy_before, value=0.5))
    assert "50% busy before" in results.noise(answer, still, busy)[0]
    crowded = replace(answer, others_busy=replace(answer.others_busy, value=0.3))
    assert "took 30% of the cores" in results.noise(crowded, still, quiet)[0]
    moved = replace(still, moved_percent=-12.0)
    assert "moved by -12%" in results.noise(answer, moved, quiet)[0]
    restless = replace(answer, latency=replace(answer.latency, warmup_settled=False))
    assert "had not settled" in results.noise(restless, still, quiet)[0]
