"""Bundles of real models, made once per test run and shared; tests must not write into them."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from hypothesis import settings

from jetlift.benchmarks.sentences import sentences
from jetlift.runtime.bundle import Bundle

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts background jobs with SIGINT ignored, which children would inherit, and the
    # tests of Ctrl-C would wait for ever.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No test may fail because the machine is busy.
settings.register_profile("jetlift", deadline=None)
settings.load_profile("jetlift")

SHARED = Path(__file__).resolve().parents[1] / ".." / "shared"
PHOTOGRAPHS = SHARED / "data" / "imagenet_samples"
SPEECH = SHARED / "data" / "speech" / "jfk.flac"


@pytest.fixture(scope="session")
def photographs() -> Path:
    """200 real photographs, one per ImageNet class."""
    if not PHOTOGRAPHS.is_dir():
        pytest.skip("the photographs of shared/data are not beside this checkout")
    return PHOTOGRAPHS


@pytest.fixture(scope="session")
def sentence_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """500 real sentences, one per line."""
    path = tmp_path_factory.mktemp("text") / "sentences.txt"
    path.write_text("\n".join(sentences(500)), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def dinov2_bundle(tmp_path_factory: pytest.TempPathFactory, photographs: Path) -> Bundle:
    """DINOv2-small at fp32, fp16 and int8, judged on 136 photographs."""
    from jetlift.export.make import Request, export_recipe
    from jetlift.export.recipes import recipe

    out = tmp_path_factory.mktemp("bundles") / "dinov2-small"
    return export_recipe(recipe("dinov2-small"), "package", Request(out, samples=photographs))


@pytest.fixture(scope="session")
def minilm_bundle(tmp_path_factory: pytest.TempPathFactory, sentence_file: Path) -> Bundle:
    """MiniLM at fp32, fp16 and int8, judged on 100 sentences."""
    from jetlift.export.make import Request, export_recipe
    from jetlift.export.recipes import recipe

    out = tmp_path_factory.mktemp("bundles") / "minilm"
    return export_recipe(recipe("minilm"), "package", Request(out, samples=sentence_file))


@pytest.fixture(scope="session")
def speech() -> Path:
    """11 s of real speech."""
    if not SPEECH.is_file():
        pytest.skip("the recording of shared/data is not beside this checkout")
    return SPEECH


@pytest.fixture(scope="session")
def whisper_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Whisper tiny.en at fp32."""
    from jetlift.export.make import Request, export_recipe
    from jetlift.export.recipes import recipe

    out = tmp_path_factory.mktemp("bundles") / "whisper-tiny-en"
    return export_recipe(recipe("whisper-tiny-en"), "package", Request(out, ("fp32",)))
