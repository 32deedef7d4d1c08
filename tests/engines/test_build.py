"""Engines for the CPU, built for real; and what a build leaves behind when it is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from helpers.tiny_bundle import PRECISIONS, tiny_bundle

from jetlift.engines import openvino
from jetlift.engines.build import BuildOptions, build, build_for, is_elsewhere
from jetlift.engines.handover import Handover
from jetlift.runtime.bundle import Bundle, sha256_of
from jetlift.runtime.errors import (
    EngineLibraryError,
    MissingPackageError,
    StorageError,
    UnknownNameError,
    UsageError,
)
from jetlift.runtime.passport import (
    cuda_compute_capabilities,
    here,
    judge,
    onnx_sha256,
    passport_path,
    read_passport,
    write_passport,
)
from jetlift.runtime.receipt import Speed
from jetlift.runtime.session import open_session

if TYPE_CHECKING:
    from pathlib import Path

    from jetlift.engines.ops import GraphCost
    from jetlift.engines.receipt import Built

pytest.importorskip("openvino")


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return tiny_bundle(tmp_path / "tiny")


def files_of(bundle: Bundle) -> set[str]:
    folder = bundle.folder / "engines"
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_every_variant_becomes_an_engine_that_loads(bundle: Bundle) -> None:
    told: list[tuple[str, float]] = []
    results = build(
        bundle, "cpu", race_limit_s=0.5, progress=lambda doing, share: told.append((doing, share))
    )
    assert [(r.part, r.precision) for r in results] == [
        (part, precision) for part in ("mlp", "image") for precision in PRECISIONS
    ]
    for result in results:
        assert result.action == "built"
        assert result.shortfall == ""
        assert read_passport(result.engine_path) == result.passport
        expected = onnx_sha256(bundle, result.part, result.precision)
        verdict = judge(result.passport, here(), result.engine_path, onnx_sha256=expected)
        assert verdict.action == "load"
        with open_session(bundle, result.part, result.precision) as session:
            assert session.info.library == "openvino"
    shares = [share for _doing, share in told]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert "mlp fp32" in told[0][0]
    assert [doing for doing, _share in told if "against" in doing] == [
        "mlp: time int8 against fp32", "image: time int8 against fp32",
    ]  # fmt: skip


def test_a_bundle_is_still_whole_beside_its_engines(bundle: Bundle) -> None:
    build(bundle, "cpu", ["fp32"])
    assert Bundle.open(bundle.folder).sha256 == bundle.sha256


def test_the_passport_says_where_the_engine_comes_from(bundle: Bundle) -> None:
    result = build(bundle, "cpu", ["int8"], race_limit_s=0)[0]
    passport, host = result.passport, here()
    assert passport.engine_sha256 == sha256_of(result.engine_path)
    assert passport.engine_size_bytes == result.engine_path.stat().st_size
    assert passport.bundle_sha256 == bundle.sha256
    assert (passport.model, passport.part, passport.variant) == ("tiny", "mlp", "int8")
    assert (passport.target, passport.library) == ("cpu", "openvino")
    assert passport.library_version == host.libraries["openvino"]
    assert (passport.machine, passport.isa) == (host.machine, host.isa)
    assert (passport.arithmetic, passport.compute_capability) == ("f32", None)
    assert passport.speed == Speed.not_measured("it was given no time")


def test_the_receipt_shows_int8_where_it_was_asked(bundle: Bundle) -> None:
    results = build(bundle, "cpu", race_limit_s=0)
    by_precision = {(r.part, r.precision): r.passport.receipt for r in results}
    for part in ("mlp", "image"):
        int8 = by_precision[part, "int8"]
        assert (int8.outcome, int8.operations_share) == ("as asked", {"int8": 1.0})
        assert int8.asked == int8.seen
        assert int8.int8_layers >= {"mlp": 2, "image": 3}[part]
        assert by_precision[part, "fp32"].operations_share == {"fp32": 1.0}
        assert by_precision[part, "fp32"].outcome == "as asked"


def test_fp16_that_the_cpu_computes_in_fp32_is_told_with_its_layers(bundle: Bundle) -> None:
    for result in build(bundle, "cpu", ["fp16"]):
        receipt = result.passport.receipt
        assert receipt.asked is not None
        assert receipt.asked.weighted_operations == {"fp16": 1.0}
        assert (receipt.outcome, receipt.operations_share.keys()) == ("wider than asked", {"fp32"})
        assert result.shortfall == ""  # it is a rule of this target, not what the builder made
        assert result.widened.startswith("fp16 was asked and fp32 runs for")
        assert {"mlp": "fc1 (80.0%)", "image": "conv1 ("}[result.part] in result.widened


def test_an_engine_that_may_load_is_kept(bundle: Bundle) -> None:
    first = build(bundle, "cpu", ["fp32"])
    stamps = [result.engine_path.stat().st_mtime_ns for result in first]
    second = build(bundle, "cpu", ["fp32"])
    assert [result.action for result in second] == ["kept", "kept"]
    assert [result.engine_path.stat().st_mtime_ns for result in second] == stamps
    assert [result.passport for result in second] == [result.passport for result in first]


def test_an_engine_that_may_not_load_is_built_again(bundle: Bundle) -> None:
    mlp, image = build(bundle, "cpu", ["fp32"])
    write_passport(replace(mlp.passport, library_version="2020.1.0"), mlp.engine_path)
    image.engine_path.write_bytes(b"tampered")
    again = build(bundle, "cpu", ["fp32"])
    assert [result.action for result in again] == ["built", "built"]
    assert "2020.1.0" in again[0].reason
    assert "bytes where its passport says" in again[1].reason


@pytest.mark.parametrize("content", [None, b"{", b"{}"])
def test_an_engine_whose_passport_is_no_use_is_built_again(
    bundle: Bundle, content: bytes | None
) -> None:
    result = build(bundle, "cpu", ["fp32"])[0]
    if content is None:
        passport_path(result.engine_path).unlink()
    else:
        passport_path(result.engine_path).write_bytes(content)
    again = build(bundle, "cpu", ["fp32"])[0]
    assert (again.action, read_passport(again.engine_path)) == ("built", again.passport)


def test_only_the_precisions_asked_for_are_built(bundle: Bundle) -> None:
    build(bundle, "cpu", ["int8", "int8"], race_limit_s=0)
    assert {name for name in files_of(bundle) if name.endswith(".engine")} == {
        "mlp.int8.engine",
        "image.int8.engine",
    }


def test_unknown_names_are_refused_before_anything_is_built(bundle: Bundle) -> None:
    with pytest.raises(UnknownNameError, match="fp32, fp16, int8"):
        build(bundle, "cpu", ["fp32", "int4w"])
    with pytest.raises(UnknownNameError, match="orin-nano-8gb"):
        build(bundle, "orin-nano")
    assert not (bundle.folder / "engines").exists()


ELSEWHERE = ["orin-nano-8gb", "gpu-sm86", "gpu"]


@pytest.mark.skipif(bool(cuda_compute_capabilities()), reason="this machine has an NVIDIA GPU")
@pytest.mark.parametrize("name", ELSEWHERE)
def test_what_builds_on_its_own_gpu_is_refused_elsewhere(bundle: Bundle, name: str) -> None:
    with pytest.raises(UsageError, match=f"not {name}, and TensorRT builds for the GPU it runs on"):
        build(bundle, name)
    assert not (bundle.folder / "engines").exists()


def test_a_board_elsewhere_is_handed_over_to(bundle: Bundle) -> None:
    assert is_elsewhere("orin-nano-8gb")
    assert not is_elsewhere("cpu")
    options = BuildOptions(optimization_level=4, dla_core=None, version_compatible=True)
    done = build_for(bundle, "orin-nano-8gb", ["fp32"], options=options)
    assert isinstance(done, Handover)
    assert done.path.is_file()
    assert "--target orin-nano-8gb --precision fp32" in done.recipe.command
    assert "--optimization-level 4 --version-compatible" in done.recipe.command
    assert not [name for name in files_of(bundle) if name.endswith(".engine")]


def test_a_dla_that_a_board_does_not_have_is_refused(bundle: Bundle) -> None:
    with pytest.raises(UsageError, match=r"DLA core 0 was asked for and the .* has 0"):
        build_for(bundle, "orin-nano-8gb", options=BuildOptions(dla_core=0))


def test_options_of_tensorrt_are_refused_for_a_cpu(bundle: Bundle) -> None:
    with pytest.raises(UsageError, match="none of --optimization-level, --refit"):
        build(bundle, "cpu", options=BuildOptions(optimization_level=1, refittable=True))
    assert build(bundle, "cpu", ["fp32"], options=BuildOptions())[0].action == "built"


def test_the_reference_has_nothing_to_build(bundle: Bundle) -> None:
    with pytest.raises(UsageError, match="nothing to build"):
        build(bundle, "cpu-onnxruntime")


def test_without_onnx_an_engine_is_built_and_its_receipt_says_so(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    result = build(bundle, "cpu", ["int8"], race_limit_s=0)[0]
    assert "onnx is not installed" in result.passport.receipt.observed_by
    assert result.passport.receipt.unobserved_share == 1.0
    assert result.shortfall == ""


def test_without_the_library_the_extra_is_named(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingPackageError, match=r"jetlift\[cpu\]"):
        build(bundle, "cpu", ["fp32"])
    assert files_of(bundle) == set()


def test_a_graph_that_the_library_refuses_leaves_nothing(bundle: Bundle) -> None:
    bundle.path("mlp.fp32.onnx").write_bytes(b"damaged after it was verified")
    with pytest.raises(EngineLibraryError, match=r"mlp\.fp32\.onnx"):
        build(bundle, "cpu", ["fp32"])
    assert files_of(bundle) == set()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_refuses_the_write_is_told(bundle: Bundle) -> None:
    (bundle.folder / "engines").mkdir()
    (bundle.folder / "engines").chmod(0o500)
    with pytest.raises(StorageError):
        build(bundle, "cpu", ["fp32"])


def test_a_full_disk_leaves_nothing(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines are written to /dev/full, where every write fails as on a full disk."""
    real = openvino.build_engine

    def onto_a_full_disk(onnx: Path, destination: Path, cost: GraphCost | None) -> Built:
        destination.symlink_to("/dev/full")
        return real(onnx, destination, cost)

    monkeypatch.setattr(openvino, "build_engine", onto_a_full_disk)
    with pytest.raises(StorageError, match="No space left"):
        build(bundle, "cpu", ["fp32"])
    assert files_of(bundle) == set()


def test_ctrl_c_leaves_nothing(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    real = openvino.build_engine

    def interrupted(onnx: Path, destination: Path, cost: GraphCost | None) -> Built:
        real(onnx, destination, cost)
        assert destination.stat().st_size > 0
        os.kill(os.getpid(), signal.SIGINT)
        return real(onnx, destination, cost)

    monkeypatch.setattr(openvino, "build_engine", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build(bundle, "cpu", ["fp32"])
    assert files_of(bundle) == set()


KILLED_AT = {
    "before the rename": (
        "from jetlift.engines import openvino as module; real = module.build_engine\n"
        "def killed(*given):\n    real(*given); os.kill(os.getpid(), signal.SIGKILL)\n"
        "module.build_engine = killed\n"
    ),
    "before the passport": (
        "from jetlift.engines import build_one as module\n"
        "def killed(*given):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        "module.write_passport = killed\n"
    ),
}


@pytest.mark.parametrize("moment", KILLED_AT)
@pytest.mark.parametrize("kind", ["first build", "rebuild"])
def test_a_killed_build_leaves_nothing_that_would_load(
    bundle: Bundle, moment: str, kind: str
) -> None:
    path = bundle.engine_path("cpu", "mlp", "fp32")
    if kind == "rebuild":
        old = build(bundle, "cpu", ["fp32"])[0]
        write_passport(replace(old.passport, library_version="2020.1.0"), path)
    code = (
        f"import os, signal\n{KILLED_AT[moment]}"
        "from jetlift.engines.build import build\nfrom jetlift.runtime.bundle import Bundle\n"
        f"build(Bundle.open({str(bundle.folder)!r}), 'cpu', ['fp32'])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    verdict = judge(read_passport(path), here(), path, target="cpu")
    assert verdict.action != "load"
    assert build(bundle, "cpu", ["fp32"])[0].action == "built"
    assert not [name for name in files_of(bundle) if name.startswith(".mlp")]
    with open_session(bundle, "mlp", "fp32") as session:
        assert session.info.library == "openvino"
