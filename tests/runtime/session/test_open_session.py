"""Which engine `open_session` opens, and which it refuses."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers.tiny_bundle import tiny_bundle

from jetlift.engines.build import build
from jetlift.runtime.bundle import Bundle, sha256_of
from jetlift.runtime.errors import (
    EngineLibraryError,
    MissingPackageError,
    PassportError,
    UnknownNameError,
)
from jetlift.runtime.passport import passport_path, read_passport, write_passport
from jetlift.runtime.session import open_session

if TYPE_CHECKING:
    from pathlib import Path

    from jetlift.runtime.passport import Passport

pytest.importorskip("openvino")
pytest.importorskip("onnxruntime")

FEEDS = {"x": np.linspace(-2, 2, 32, dtype=np.float32).reshape(2, 16)}


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return tiny_bundle(tmp_path / "tiny", precisions=("fp32", "int8"))


@pytest.fixture
def built(bundle: Bundle) -> Bundle:
    build(bundle, "cpu", ["fp32"])
    return bundle


def engine_of(bundle: Bundle) -> Path:
    return bundle.engine_path("cpu", "mlp", "fp32")


def passport_of(bundle: Bundle) -> Passport:
    passport = read_passport(engine_of(bundle))
    assert passport is not None
    return passport


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_without_an_engine_the_graph_is_compiled(bundle: Bundle, precision: str) -> None:
    notices: list[str] = []
    with (
        open_session(bundle, "mlp", precision, notices=notices) as session,
        open_session(bundle, "mlp", precision, target="cpu-onnxruntime") as reference,
    ):
        assert (session.info.library, reference.info.library) == ("openvino", "onnxruntime")
        assert session.inputs == reference.inputs == bundle.manifest.parts["mlp"].inputs
        np.testing.assert_allclose(
            session.run(FEEDS)["y"],
            reference.run(FEEDS)["y"],
            atol=0.1 if precision == "int8" else 1e-5,
        )
    assert notices == []


def test_a_built_engine_is_loaded_and_the_graph_left_alone(built: Bundle) -> None:
    with open_session(built, "mlp", "fp32", target="cpu-onnxruntime") as reference:
        wanted = reference.run(FEEDS)["y"]
    built.path("mlp.fp32.onnx").unlink()
    with open_session(built, "mlp", "fp32") as session:
        np.testing.assert_allclose(session.run(FEEDS)["y"], wanted, atol=1e-5)


def test_threads_reach_a_loaded_engine(built: Bundle) -> None:
    with open_session(built, "mlp", "fp32", threads=1) as session:
        assert session.info.threads == 1


def test_an_engine_without_a_passport_is_refused(built: Bundle) -> None:
    passport_path(engine_of(built)).unlink()
    with pytest.raises(PassportError, match="no passport"):
        open_session(built, "mlp", "fp32")


def test_an_altered_engine_is_refused(built: Bundle) -> None:
    content = bytearray(engine_of(built).read_bytes())
    content[len(content) // 2] ^= 1
    engine_of(built).write_bytes(content)
    with pytest.raises(PassportError, match="altered"):
        open_session(built, "mlp", "fp32")


def test_an_engine_of_another_processor_is_refused(built: Bundle) -> None:
    write_passport(replace(passport_of(built), isa=("avx2",)), engine_of(built))
    with pytest.raises(PassportError, match=r"jetlift build \S*/tiny --target cpu"):
        open_session(built, "mlp", "fp32")


def test_an_engine_that_lies_under_another_name_is_refused(built: Bundle) -> None:
    other = built.engine_path("cpu", "image", "fp32")
    other.write_bytes(engine_of(built).read_bytes())
    write_passport(passport_of(built), other)
    with pytest.raises(PassportError, match="another graph"):
        open_session(built, "image", "fp32")


def test_without_openvino_the_reference_computes_and_says_so(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    notices: list[str] = []
    with open_session(bundle, "mlp", "fp32", notices=notices) as session:
        assert session.info.library == "onnxruntime"
    (notice,) = notices
    assert "jetlift[cpu]" in notice


def test_without_any_library_the_extra_is_named(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingPackageError, match=r"jetlift\[cpu\]"):
        open_session(bundle, "mlp", "fp32")


def test_a_target_whose_engine_is_not_built_is_refused(bundle: Bundle) -> None:
    with pytest.raises(PassportError, match=r"jetlift build .* --target rtx-sm86"):
        open_session(bundle, "mlp", "fp32", target="rtx-sm86")


def rtx_engine(bundle: Bundle, like: Passport, capability: str) -> None:
    """A file with the passport of a TensorRT-RTX engine. No library ever sees it."""
    path = bundle.engine_path("rtx-sm86", "mlp", "fp32")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"engine")
    passport = replace(
        like,
        engine_sha256=sha256_of(path),
        engine_size_bytes=path.stat().st_size,
        target="rtx-sm86",
        library="tensorrt_rtx",
        isa=(),
        compute_capability=capability,
    )
    write_passport(passport, path)


def test_an_engine_for_a_gpu_that_is_not_here_is_refused(built: Bundle) -> None:
    rtx_engine(built, passport_of(built), "3.0")  # no driver of today knows it
    with pytest.raises(PassportError, match=r"compute capability 3\.0"):
        open_session(built, "mlp", "fp32", target="rtx-sm86")


def test_an_engine_of_another_target_is_refused(built: Bundle) -> None:
    write_passport(replace(passport_of(built), target="rtx-sm86"), engine_of(built))
    with pytest.raises(PassportError, match="target rtx-sm86, not cpu"):
        open_session(built, "mlp", "fp32")


@pytest.mark.parametrize(
    ("part", "precision", "target"),
    [("nose", "fp32", "cpu"), ("mlp", "fp8", "cpu"), ("mlp", "fp32", "abacus")],
)
def test_unknown_names_are_refused(bundle: Bundle, part: str, precision: str, target: str) -> None:
    with pytest.raises(UnknownNameError):
        open_session(bundle, part, precision, target=target)


def test_a_graph_that_was_lost_after_verification_is_named(bundle: Bundle) -> None:
    bundle.path("mlp.fp32.onnx").write_bytes(b"")
    with pytest.raises(EngineLibraryError, match=r"mlp\.fp32\.onnx"):
        open_session(bundle, "mlp", "fp32")
