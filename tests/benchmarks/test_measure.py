from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.tiny_bundle import tiny_bundle

from jetlift.benchmarks import measure, stop, worker
from jetlift.benchmarks.measure import VariantAnswer, VariantJob
from jetlift.runtime import errors, jsonform
from jetlift.runtime.bundle import Bundle
from jetlift.runtime.errors import (
    BundleError,
    EngineLibraryError,
    MachineError,
    MissingPackageError,
    UnknownNameError,
    UsageError,
)
from jetlift.runtime.probe import FakeProbe, Reading
from jetlift.runtime.record import Figure

FEW = stop.StopRules(min_runs=10, max_runs=10, time_limit_s=5)
PATIENCE_S = 120.0


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


def _job(folder: Path, *, variant: str = "int8", part: str = "mlp") -> VariantJob:
    return VariantJob("variant", str(folder), part, variant, "cpu", 1, 0, FEW, None)


def _child(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def _run(bundle: Bundle, code: str, limit_s: float = PATIENCE_S) -> VariantAnswer:
    job = _job(bundle.folder)
    return measure.run_child(job, VariantAnswer, limit_s=limit_s, worker=_child(code))


def test_a_variant_is_measured_in_a_process_of_its_own(bundle: Bundle) -> None:
    job = _job(bundle.folder, part="image")
    answer = measure.run_child(job, VariantAnswer, limit_s=PATIENCE_S)
    assert answer.engine.library == "openvino"
    assert answer.engine.arithmetic == "f32"
    assert answer.engine.threads == 1
    assert answer.engine.size_bytes.value is None
    assert len(answer.latency.samples_ms) == 10
    assert [(item.name, item.shape) for item in answer.inputs] == [("pixel_values", (1, 3, 32, 32))]
    assert answer.io_bytes == 4 * (3 * 32 * 32 + 8 + 16 * 8)
    memory = answer.memory
    loaded, before = memory.rss_after_load_bytes.value, memory.rss_before_load_bytes.value
    assert 0 < (before or 0) < (loaded or 0) <= (memory.rss_peak_bytes.value or 0)
    assert answer.power_w.value is None


def test_a_child_imports_one_engine_library_and_nothing_of_export(bundle: Bundle) -> None:
    code = (
        "import sys; from jetlift.benchmarks import worker; worker.main();"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'transformers', 'matplotlib', 'jinja2', 'typer'};"
        "sys.stderr.write(' '.join(sorted(heavy & set(sys.modules)))); sys.exit(3)"
    )
    with pytest.raises(MachineError, match=r"ended with code 3 and no answer. It said nothing"):
        _run(bundle, code)


def test_what_a_library_prints_is_not_taken_for_the_answer(bundle: Bundle) -> None:
    code = (
        "import os; from jetlift.benchmarks import worker\n"
        "do = worker._do\n"
        "def loud(text):\n"
        "    print('hello from a library'); os.write(1, b'hello from C'); return do(text)\n"
        "worker._do = loud; worker.main()"
    )
    assert len(_run(bundle, code).latency.samples_ms) == 10


def test_a_killed_child_is_told_as_out_of_memory(bundle: Bundle) -> None:
    with pytest.raises(MachineError, match=r"mlp int8 was killed.*memory ran out.*GiB were free"):
        _run(bundle, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")


def test_a_crash_names_its_signal(bundle: Bundle) -> None:
    with pytest.raises(MachineError, match=r"crashed with SIGILL. Its last words: bad opcode"):
        _run(
            bundle,
            "import os, signal, sys; sys.stderr.write('bad opcode'); sys.stderr.flush();"
            "os.kill(os.getpid(), signal.SIGILL)",
        )


def test_a_child_that_breaks_gives_its_last_words(bundle: Bundle) -> None:
    with pytest.raises(MachineError, match=r"ended with code 1 and no answer.*KeyError: 'gone'"):
        _run(bundle, "raise KeyError('gone')")


@pytest.mark.parametrize("text", ["hello", "{}", "[]", '{"ok": {"engine": 3}}'])
def test_an_answer_that_cannot_be_read_is_an_error(bundle: Bundle, text: str) -> None:
    with pytest.raises(MachineError, match="answered something unreadable"):
        _run(bundle, f"print({text!r})")


def test_memory_that_runs_out_in_python_is_told_as_that(bundle: Bundle) -> None:
    code = (
        "from jetlift.benchmarks import worker\n"
        "def full(text): raise MemoryError\n"
        "worker._do = full; worker.main()"
    )
    with pytest.raises(MachineError, match="Memory ran out"):
        _run(bundle, code)


def test_a_slow_child_is_ended_and_gone(bundle: Bundle, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    with pytest.raises(MachineError, match="gave no answer within 2 s and was ended"):
        _run(bundle, _sleeper(pid_file), limit_s=2)
    assert not Path(f"/proc/{pid_file.read_text()}").exists()


def test_ctrl_c_ends_the_child_too(bundle: Bundle, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    code = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from jetlift.benchmarks import measure, stop\n"
        "rules = stop.StopRules()\n"
        "job = measure.VariantJob("
        "'variant', sys.argv[1], 'mlp', 'int8', 'cpu', 1, 0, rules, None)\n"
        f"child = [sys.executable, '-c', {_sleeper(pid_file)!r}]\n"
        "measure.run_child(job, measure.VariantAnswer, limit_s=300, worker=child)"
    )
    home = str(Path(measure.__file__).parents[2])
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(bundle.folder), home], stderr=subprocess.PIPE
    )
    with parent:
        _wait_for(pid_file)
        parent.send_signal(signal.SIGINT)
        _, stderr = parent.communicate(timeout=60)
    assert b"KeyboardInterrupt" in stderr
    assert not Path(f"/proc/{pid_file.read_text()}").exists()


def _sleeper(pid_file: Path) -> str:
    aside = f"{pid_file}.aside"
    return (
        f"import os, time; open({aside!r}, 'w').write(str(os.getpid()));"
        f"os.rename({aside!r}, {str(pid_file)!r}); time.sleep(300)"
    )


def _wait_for(path: Path) -> None:
    for _ in range(1200):
        if path.exists():
            return
        time.sleep(0.05)
    pytest.fail(f"{path} never came")


def test_errors_of_the_child_are_raised_again_as_the_same_class(
    bundle: Bundle, tmp_path: Path
) -> None:
    with pytest.raises(UnknownNameError, match="has no int4w variant"):
        measure.run_child(_job(bundle.folder, variant="int4w"), VariantAnswer, limit_s=PATIENCE_S)
    altered = tiny_bundle(tmp_path / "tiny", precisions=("fp32",))
    (altered.folder / "mlp.fp32.onnx").write_bytes(b"not a graph")
    with pytest.raises(BundleError, match=r"mlp\.fp32\.onnx"):
        measure.run_child(_job(altered.folder, variant="fp32"), VariantAnswer, limit_s=PATIENCE_S)


@pytest.mark.parametrize("name", ["UsageError", "PassportError", "EngineLibraryError"])
def test_every_class_travels_with_its_three_parts(name: str) -> None:
    kind = getattr(errors, name)
    told = json.dumps(measure.envelope_of(kind("got", expected="expected", do="do")))
    with pytest.raises(kind) as caught:
        measure._answer(VariantAnswer, told.encode(), "x")
    assert (caught.value.got, caught.value.expected, caught.value.do) == ("got", "expected", "do")


def test_a_missing_package_keeps_its_sentence_and_exit_code() -> None:
    told = measure.envelope_of(MissingPackageError("openvino", extra="cpu", purpose="to run"))
    with pytest.raises(MachineError, match=r"'openvino' is not installed.*jetlift\[cpu\]"):
        measure._answer(VariantAnswer, json.dumps(told).encode(), "x")


def test_memory_is_read_before_and_after_loading_and_at_the_end(bundle: Bundle) -> None:
    looks = [Reading(Figure(n), Figure(10 * n), Figure(100 * n), Figure(7.5)) for n in (1, 2, 3)]
    memory = (answer := worker.measure_variant(_job(bundle.folder), FakeProbe(looks))).memory
    assert memory.rss_before_load_bytes.value == 1
    assert memory.rss_after_load_bytes.value == 2
    assert memory.rss_peak_bytes.value == 300
    assert memory.pss_after_runs_bytes.value == 30
    assert answer.power_w.value == 7.5


def test_samples_come_back_as_they_were_saved(tmp_path: Path) -> None:
    samples = [{"a/b": np.full((1, n), n), "c": np.ones(2, np.float32)} for n in range(1, 13)]
    measure.save_samples(tmp_path / "samples.npz", samples)
    back = measure.load_samples(tmp_path / "samples.npz")
    assert [list(item) for item in back] == [["a/b", "c"]] * 12
    assert all(np.array_equal(x["a/b"], y["a/b"]) for x, y in zip(samples, back, strict=True))


def test_real_samples_are_fed_in_turn(bundle: Bundle, tmp_path: Path) -> None:
    file = tmp_path / "samples.npz"
    measure.save_samples(file, [{"x": np.full((2, 16), n, np.float32)} for n in range(3)])
    job = VariantJob("variant", str(bundle.folder), "mlp", "fp32", "cpu", 1, 0, FEW, str(file))
    answer = worker.measure_variant(job, FakeProbe([Reading(Figure(1), Figure(1), Figure(1))]))
    assert answer.inputs[0].shape == (2, 16)


def test_a_sample_that_does_not_fit_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    file = tmp_path / "samples.npz"
    measure.save_samples(file, [{"x": np.zeros((2, 5), np.float32)}])
    job = VariantJob("variant", str(bundle.folder), "mlp", "fp32", "cpu", 1, 0, FEW, str(file))
    with pytest.raises(UsageError, match="Input x got"):
        measure.run_child(job, VariantAnswer, limit_s=PATIENCE_S)


def test_a_job_is_read_as_it_was_written(bundle: Bundle) -> None:
    job = _job(bundle.folder)
    assert jsonform.loads(VariantJob, jsonform.dumps(job)) == job


def test_patience_grows_with_the_limits() -> None:
    assert measure.patience_s(stop.StopRules(time_limit_s=600)) > 600 + measure.patience_s(FEW)


def test_a_failing_library_is_an_error_of_that_class(tmp_path: Path) -> None:
    broken = tiny_bundle(tmp_path / "tiny", precisions=("fp32",))
    text = (broken.folder / "bundle.json").read_text()
    graph = broken.folder / "mlp.fp32.onnx"
    old_sha, old_size = _digest(graph), graph.stat().st_size
    graph.write_bytes(b"\x00" * old_size)
    (broken.folder / "bundle.json").write_text(text.replace(old_sha, _digest(graph)))
    with pytest.raises(EngineLibraryError):
        measure.run_child(_job(broken.folder, variant="fp32"), VariantAnswer, limit_s=PATIENCE_S)


def _digest(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()
