"""TensorRT-RTX engines, built for real where the builder is installed. It needs no GPU."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.raced import bundle_of, deep
from helpers.tiny_bundle import image, mlp, tiny_bundle
from helpers.trt_builds import X, compile_graph, graph_of, need_builder
from onnx import helper

from jetlift.engines.build import build
from jetlift.engines.build_one import layers_path
from jetlift.engines.trt.build import build_engine
from jetlift.engines.trt.options import BuildOptions
from jetlift.runtime.errors import (
    EngineLibraryError,
    MissingPackageError,
    PassportError,
    UsageError,
)
from jetlift.runtime.manifest import TensorSpec
from jetlift.runtime.passport import Profile, cuda_compute_capabilities
from jetlift.runtime.session import open_session


@pytest.fixture(scope="module", autouse=True)
def _builder() -> None:
    need_builder()


def test_a_bundle_becomes_engines_with_receipts(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "tiny")
    results = build(bundle, "rtx-sm86")
    assert len(results) == 6
    for result in results:
        assert (result.action, result.shortfall) == ("built", "")
        assert result.engine_path.stat().st_size == result.passport.engine_size_bytes > 1000
        assert result.passport.compute_capability == "8.6"
        assert (result.passport.arithmetic, result.passport.isa) == ("as typed", ())
        receipt = result.passport.receipt
        assert receipt.outcome == "as asked"
        assert receipt.operations_share == {result.precision: 1.0}
        assert receipt.seen == receipt.asked
        assert "does not prove which instructions" in receipt.proves
        products = {"mlp": 2, "image": 3}[result.part]
        assert receipt.int8_layers == (products if result.precision == "int8" else 0)
        if result.precision == "int8" and "8.6" not in cuda_compute_capabilities():
            assert result.passport.speed.verdict == "not measured"
            assert "rtx-sm86 is not this machine" in result.passport.speed.note
        assert receipt.memory_bytes["weights"] > 0
    assert {result.action for result in build(bundle, "rtx-sm86")} == {"kept"}


def test_the_passport_has_the_settings_and_the_layers_lie_beside(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "tiny", precisions=["int8"])
    result = build(bundle, "rtx-sm86", options=BuildOptions(optimization_level=2))[0]
    settings = result.passport.settings
    assert settings is not None
    assert settings.profile == {"x": Profile((1, 16), (1, 16), (4, 16))}
    assert (settings.optimization_level, settings.workspace_bytes) == (2, None)
    assert (settings.attempts, settings.dla_core, settings.timing_cache_sha256) == ((), None, None)
    told = json.loads(layers_path(result.engine_path).read_text())
    products = [line for line in told["Layers"] if "LayerType: gemm" in line]
    assert len(products) == result.passport.receipt.int8_layers == 2


def test_an_engine_without_what_is_asked_for_now_is_built_again(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "tiny", precisions=["fp32"])
    build(bundle, "rtx-sm86")
    again = build(bundle, "rtx-sm86", options=BuildOptions(optimization_level=1))
    assert [item.action for item in again] == ["built", "built"]
    assert again[0].reason == "it was built without optimisation level 1"
    assert {item.action for item in build(bundle, "rtx-sm86")} == {"kept"}  # no demand of its own


@pytest.mark.skipif("8.6" in cuda_compute_capabilities(), reason="this machine has such a GPU")
def test_an_engine_is_refused_where_its_gpu_is_not(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "tiny", precisions=["fp32"])
    build(bundle, "rtx-sm86")
    with pytest.raises(PassportError, match=r"compute capability 8\.6"):
        open_session(bundle, "mlp", "fp32", target="rtx-sm86")


def test_a_convolution_in_a_folder_with_a_space_builds(tmp_path: Path) -> None:
    (tmp_path / "a folder").mkdir()
    shape = (1, 3, 32, 32)
    pixels = TensorSpec("pixel_values", "float32", ("batch", *shape[1:]), shape, shape, shape)
    built, engine = compile_graph(image("int8"), tmp_path / "a folder", [pixels])
    assert engine.stat().st_size > 1000
    assert "onnx is not installed" in built.receipt.observed_by


def test_progress_is_what_the_builder_tells_and_never_goes_back(tmp_path: Path) -> None:
    told: list[tuple[str, float]] = []
    compile_graph(mlp(), tmp_path, tell=lambda doing, share: told.append((doing, share)))
    shares = [share for _doing, share in told]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert len([share for share in shares if 0 < share < 1]) > 3
    assert "Building engine" in {doing for doing, _share in told}


def test_wide_shapes_are_told_and_buckets_are_built(tmp_path: Path) -> None:
    wide = TensorSpec("x", "float32", ("batch", 16), (1, 16), (1, 16), (64, 16))
    notes: list[str] = []
    built, _ = compile_graph(mlp(), tmp_path, [wide], notify=notes.append)
    assert built.notices == tuple(notes)
    assert "graph.onnx: The profile is wide: batch 1 to 64, 64 times" in notes[0]
    assert "timed at the lightest" in notes[1]
    options = BuildOptions(profile_buckets=2)
    split, _ = compile_graph(mlp(), tmp_path, [wide], options=options)
    assert "2 profiles. Sessions of jetlift run the first, x (1, 16) to (8, 16)" in split.notices[0]
    assert split.settings is not None
    assert split.settings.profile["x"] == Profile((1, 16), (1, 16), (8, 16))


def test_the_engine_is_the_librarys_own_bytes(tmp_path: Path) -> None:
    """What trtexec --loadEngine and every other tool takes; TensorRT-RTX's begin with `vtrt`."""
    _, engine = compile_graph(mlp(), tmp_path)
    assert engine.read_bytes()[:4] == b"vtrt"


def test_a_timing_cache_is_kept_used_and_named(tmp_path: Path) -> None:
    options = BuildOptions(timing_cache=tmp_path / "timing")
    first, _ = compile_graph(mlp(), tmp_path, options=options, device="A GPU")
    assert first.settings is not None
    assert first.settings.timing_cache_sha256 is None  # there was none before
    (kept,) = (tmp_path / "timing").glob("*.cache")
    assert kept.name.startswith("tensorrt-rtx_")
    assert kept.name.endswith("_sm86_a-gpu.cache")
    second, _ = compile_graph(mlp(), tmp_path, options=options, device="A GPU")
    assert second.settings is not None
    assert second.settings.timing_cache_sha256 is not None
    kept.write_bytes(b"damaged")
    third, _ = compile_graph(mlp(), tmp_path, options=options, device="A GPU")
    assert "is damaged and was set aside" in third.notices[0]
    assert kept.read_bytes() != b"damaged"
    options = BuildOptions(timing_cache=tmp_path / "none", keep_timing_cache=False)
    compile_graph(mlp(), tmp_path, options=options)
    assert not (tmp_path / "none").exists()


REFUSED = [
    (
        graph_of([helper.make_node("Mystery", ["x"], ["y"], name="strange", domain="own")]),
        "node strange (Mystery)",
        "no such operator",
    ),
    (
        graph_of([helper.make_node("Unique", ["x"], ["y"], name="uniq")]),
        "node uniq (Unique)",
        "not supported",
    ),
    (
        graph_of(
            [
                helper.make_node("DequantizeLinear", ["b", "s", "z"], ["bd"], name="bias_dq"),
                helper.make_node("Add", ["x", "bd"], ["y"], name="add"),
            ],
            b=np.ones(16, np.int32),
            s=np.float32(0.1),
            z=np.int32(0),
        ),
        "node bias_dq (DequantizeLinear)",
        "must have type FP8, FP4, Int4, Int8, or UInt8",
    ),
    (
        graph_of(
            [helper.make_node("MatMul", ["x", "w"], ["y"], name="mixed")],
            w=np.ones((16, 4), np.float16),
        ),
        "node mixed (MatMul)",
        "same input types",
    ),
]


@pytest.mark.parametrize(("model", "node", "why"), REFUSED, ids=[item[1] for item in REFUSED])
def test_what_the_parser_refuses_is_one_sentence_that_names_the_node(
    model: onnx.ModelProto, node: str, why: str, tmp_path: Path
) -> None:
    with pytest.raises(EngineLibraryError) as caught:
        compile_graph(model, tmp_path)
    told = str(caught.value)
    assert node in told
    assert why in told
    assert "graph.onnx" in told
    assert "settings were tried" not in told  # it was no want of memory
    assert "\n" not in told
    assert not (tmp_path / "graph.engine").exists()


def test_a_capability_that_the_builder_does_not_know_is_told(tmp_path: Path) -> None:
    with pytest.raises(EngineLibraryError, match=r"8\.7"):
        compile_graph(mlp(), tmp_path, compute_capability="8.7")


def test_a_file_that_is_no_graph_is_told(tmp_path: Path) -> None:
    notes = tmp_path / "notes.onnx"
    notes.write_text("these are notes\n" * 50)
    with pytest.raises(EngineLibraryError, match=r"notes\.onnx"):
        build_engine(notes, tmp_path / "e", None, inputs=[X], compute_capability="8.6")


def test_a_workspace_that_is_too_small_is_told_and_no_want_of_memory(tmp_path: Path) -> None:
    options = BuildOptions(workspace_bytes=2**20)
    with pytest.raises(EngineLibraryError, match=r"no kernel for .* within the workspace.*more"):
        compile_graph(mlp("int8"), tmp_path, options=options)


def test_a_dla_that_is_not_there_is_told_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no engine that is on a DLA"):
        compile_graph(mlp(), tmp_path, options=BuildOptions(dla_core=0))


def test_a_missing_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of that name that raises, first on the child's path, stands for its absence."""
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    absent = "raise ModuleNotFoundError('No module named polygraphy', name='polygraphy')\n"
    (blocked / "polygraphy.py").write_text(absent)
    monkeypatch.syspath_prepend(str(blocked))
    with pytest.raises(MissingPackageError, match=r"'polygraphy'.*jetlift\[rtx\]"):
        compile_graph(mlp(), tmp_path)


def test_tensorrt_itself_is_asked_for_by_its_own_extra(tmp_path: Path) -> None:
    try:
        import tensorrt  # noqa: F401
    except ImportError:
        with pytest.raises(MissingPackageError, match=r"'tensorrt'.*jetlift\[tensorrt\]"):
            compile_graph(mlp(), tmp_path, library="tensorrt")
    else:
        pytest.skip("TensorRT is installed here")


# What is asked, and the graph that is put in its place after the bundle was verified.
SWAPPED = [("int8", "fp32"), ("fp16", "fp32"), ("int8", "fp16")]


@pytest.mark.parametrize(("asked", "given"), SWAPPED)
def test_an_engine_of_the_wrong_precision_is_caught(tmp_path: Path, asked: str, given: str) -> None:
    bundle = tiny_bundle(tmp_path / "tiny", precisions=[asked])
    onnx.save(mlp(given), bundle.path(bundle.variant("mlp", asked).file))
    result = next(item for item in build(bundle, "rtx-sm86") if item.part == "mlp")
    assert result.passport.receipt.outcome == "wider than asked"
    assert f"{asked} was asked and {given} runs" in result.shortfall


@pytest.mark.parametrize("asked", ["int8", "fp16"])
def test_a_mistyped_graph_is_caught(tmp_path: Path, asked: str) -> None:
    """A bundle whose variant is fp32 in all but its name, hash and counts being right."""
    bundle = bundle_of(tmp_path / "bundle", {"fp32": deep("fp32"), asked: deep("fp32")})
    fp32, narrow = build(bundle, "rtx-sm86", race_limit_s=0)
    assert fp32.shortfall == ""
    assert narrow.passport.receipt.outcome == "wider than asked"
    assert narrow.shortfall.startswith(f"{asked} was asked and fp32 runs for 100.0%")


def test_a_cache_from_elsewhere_that_the_library_refuses_does_not_stop_a_build(
    tmp_path: Path,
) -> None:
    options = BuildOptions(timing_cache=tmp_path / "timing")
    compile_graph(mlp(), tmp_path, options=options)
    (kept,) = (tmp_path / "timing").glob("*.cache")
    kept.with_name(kept.name + ".sha256").unlink()
    kept.write_bytes(b"of another version")
    built, engine = compile_graph(mlp(), tmp_path, options=options)
    assert engine.stat().st_size > 1000
    assert built.settings is not None
