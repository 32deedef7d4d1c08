from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

import jetlift.runtime

HEAVY = {
    "torch",
    "transformers",
    "onnx",
    "onnxruntime",
    "openvino",
    "tensorrt",
    "tokenizers",
    "matplotlib",
    "jinja2",
    "typer",
    "rich",
    "PIL",
    "scipy",
}


def loaded_by(program: str) -> set[str]:
    """Top-level packages that a fresh Python has loaded after a program."""
    program += (
        "\nimport json, sys\nprint(json.dumps(sorted({n.split('.')[0] for n in sys.modules})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONSAFEPATH": "1"},
    )
    return set(json.loads(done.stdout))


def test_importing_the_runtime_loads_nothing_heavy() -> None:
    assert not loaded_by("import jetlift.runtime") & HEAVY


def test_everything_it_offers_needs_numpy_and_cv2_alone() -> None:
    program = (
        "import jetlift.runtime as runtime\n"
        "for name in runtime.__all__: getattr(runtime, name)\n"
        "import jetlift.runtime.tasks.search, jetlift.runtime.tasks.embed\n"
        "import jetlift.runtime.tasks.anomaly_fit"
    )
    loaded = loaded_by(program)
    assert not loaded & HEAVY
    assert {"numpy", "cv2"} <= loaded


def test_every_name_is_there_and_listed() -> None:
    for name in jetlift.runtime.__all__:
        assert getattr(jetlift.runtime, name).__name__ == name
    assert set(jetlift.runtime.__all__) <= set(dir(jetlift.runtime))
    assert sorted(jetlift.runtime.__all__) == sorted(jetlift.runtime._HOME_OF)


def test_an_unknown_name_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = jetlift.runtime.nothing
