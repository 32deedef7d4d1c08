"""Every task on a device: numpy, OpenCV, tokenizers and one engine library, and nothing of export.

The command line itself runs in an environment of its own, on real (tiny) bundles of random weights,
so each answer is computed and none means anything.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.house import ROOT, Environment, build, copy_sources
from helpers.tiny_zoo import USES, tiny

from jetlift.runtime.tasks import TASKS

CONSTRAINTS = ("-c", ROOT / "constraints.txt")
NEVER_THERE = {"torch", "transformers", "diffusers", "onnx", "onnxsim", "scipy", "usearch"}
TRIED_BY_ANOTHER = {"similarity"}  # the same part and session as embed, on two texts


@pytest.fixture(scope="module")
def device(tmp_path_factory) -> Environment:
    folder = tmp_path_factory.mktemp("device")
    wheel = build(copy_sources(folder / "sources"), "wheel")
    environment = Environment(folder / "venv")
    environment.pip("install", *CONSTRAINTS, wheel, "tokenizers", "onnxruntime")
    return environment


@pytest.fixture(scope="module")
def bundle_of(tmp_path_factory) -> Callable[[str], Path]:
    """The folder of a model's bundle, exported when it is first asked for."""
    folder = tmp_path_factory.mktemp("zoo")
    return functools.cache(lambda model: tiny(model, folder / model).folder)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("inputs")
    pictures = folder / "pictures"
    pictures.mkdir()
    draws = np.random.default_rng(0)
    for number in range(4):
        pixels = draws.integers(0, 256, (48, 56, 3), np.uint8)
        assert cv2.imwrite(str(pictures / f"{number}.png"), pixels)
    return {
        "{pictures}": str(pictures),
        "{picture}": str(pictures / "0.png"),
        "{sound}": str(_sound(folder / "sound.wav")),
        "{made}": str(folder / "made"),
    }


def _sound(path: Path) -> Path:
    import wave

    times_s = np.arange(16000) / 16000
    loudness = np.sin(2 * np.pi * 220 * times_s) * (1 + np.sin(2 * np.pi * 3 * times_s))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes((8000 * loudness).astype("<i2").tobytes())
    return path


def test_nothing_of_export_is_there(device: Environment) -> None:
    listed = device.run("python", "-m", "pip", "list", "--format", "json")
    assert not {item["name"].lower() for item in json.loads(listed.stdout)} & NEVER_THERE


def test_every_task_is_tried() -> None:
    assert set(USES) | TRIED_BY_ANOTHER == set(TASKS)


@pytest.mark.parametrize("task", USES)
def test_the_task_does_its_job(task, device, bundle_of, files, tmp_path) -> None:
    use = USES[task]
    places = files | {"{bundle}": str(bundle_of(use.model)), "{made}": files["{made}"] + task}

    def jetlift(*arguments: str) -> None:
        filled = [places.get(word, word) for word in arguments]
        engine = ("--target", "cpu-onnxruntime", "--allow-random")
        done = device.run("jetlift", *filled, *engine)
        assert done.returncode == 0, done.stderr

    if use.before:
        jetlift(*use.before)
    jetlift("run", "{bundle}", "--task", task, *use.arguments, "-o", str(tmp_path / "out"))
    lines = (tmp_path / "out" / "results.jsonl").read_text().splitlines()
    assert lines
    for line in lines:
        assert json.loads(line)["weights"] == "random"
