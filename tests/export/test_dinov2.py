"""DINOv2's sizes: parity with transformers, published names, the half that looks for anomalies."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from helpers import vit as paper
from helpers.checkpoints import documented
from safetensors.torch import save_file

from jetlift.export import random_weights
from jetlift.export.make import Request, export_recipe
from jetlift.export.recipes import RECIPES, dinov2
from jetlift.runtime.bundle import Bundle
from jetlift.runtime.errors import ArtefactError, UsageError
from jetlift.runtime.preprocess import prepare_image
from jetlift.runtime.session import open_session

SIZES = {
    "dinov2-small": dinov2.SMALL,
    "dinov2-small-half": dinov2.HALF,
    "dinov2-base": dinov2.BASE,
    "dinov2-large": dinov2.LARGE,
}
TINY = dinov2.recipe("dinov2-tiny", dinov2.TINY, 0, ("embed",))
TINY_HALF = dinov2.recipe("dinov2-tiny-half", dinov2.TINY_HALF, 0, ("anomaly",))
PICTURE = np.random.default_rng(0).integers(0, 255, (90, 70, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model():
    """transformers' own DINOv2 with the same weights as the bundles."""
    from transformers import Dinov2Model

    return random_weights.drawn(Dinov2Model, dinov2.config_of(dinov2.TINY), 3)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    """The half alone: the whole as ONNX is held against torch in test_models.py."""
    out = tmp_path_factory.mktemp("dinov2") / "half"
    return export_recipe(TINY_HALF, "random:3", Request(out, ("fp32", "fp16")))


def test_tokens_of_the_half_are_those_of_transformers(bundle, model):
    pixels = prepare_image(PICTURE, dinov2.PREPROCESS)
    with torch.no_grad():
        hidden = model(torch.from_numpy(pixels), output_hidden_states=True).hidden_states[2]
    with open_session(bundle, "image", "fp32", target="cpu-onnxruntime") as session:
        got = session.run({"pixel_values": pixels})
    scale = float(hidden.abs().max())
    for ours, theirs in (("embedding", hidden[:, 0]), ("patch_tokens", hidden[:, 1:])):
        assert np.abs(got[ours] - theirs.numpy()).max() / scale < 1e-4


def test_tokens_of_the_whole_are_those_of_transformers(model):
    pixels = torch.from_numpy(prepare_image(PICTURE, dinov2.PREPROCESS))
    with torch.no_grad():
        hidden = model(pixels).last_hidden_state
        embedding, tokens = TINY.load("random:3").modules["image"](pixels)
    torch.testing.assert_close(embedding, hidden[:, 0])
    torch.testing.assert_close(tokens, hidden[:, 1:])


def test_operations_of_the_half_are_those_on_paper(bundle):
    cost = bundle.variant("image", "fp32").cost
    macs = paper.products_macs(width=32, depth=2, patch=14, size=224)
    assert sum(cost.operations_by_precision.values()) == pytest.approx(2 * macs, rel=0.01)


@pytest.mark.parametrize("name", SIZES)
def test_parameters_are_those_of_transformers(name):
    from transformers import Dinov2Model

    size = SIZES[name]
    with torch.device("meta"):
        model = Dinov2Model(dinov2.config_of(size))
    kept = [
        parameter.numel()
        for key, parameter in model.named_parameters()
        if size.blocks == size.layers
        or (not key.startswith("layernorm") and _block(key) < size.blocks)
    ]
    assert sum(kept) == RECIPES[name].parameters


def _block(key: str) -> int:
    return int(key.split(".layer.")[1].partition(".")[0]) if ".layer." in key else -1


def test_documented_tensors_are_all_there_are():
    total = sum(int(np.prod(shape)) for shape in documented("dinov2-base").values())
    assert total == RECIPES["dinov2-base"].parameters


def published(folder, *, drop=(), **more):
    """A folder as the hub has it, with the names of the checkpoint, but tiny."""
    sizes = {768: 32, 3072: 128}
    random = torch.Generator().manual_seed(5)
    state = {
        name: torch.randn([sizes.get(axis, axis) for axis in shape], generator=random)
        for name, shape in documented("dinov2-base").items()
        if _block(name) < 4
    }
    folder.mkdir()
    kept = {name: value for name, value in (state | more).items() if name not in drop}
    save_file(kept, folder / "model.safetensors")
    return state


def test_a_checkpoint_is_read_with_every_key_used_once(tmp_path):
    state = published(tmp_path / "saved")
    loaded = TINY.load(str(tmp_path / "saved"))
    read = sorted(p.detach().numpy().tobytes() for p in loaded.modules["image"].parameters())
    assert read == sorted(value.numpy().tobytes() for value in state.values())
    half = TINY_HALF.load(str(tmp_path / "saved")).modules["image"]
    kept = {name: v for name, v in state.items() if _block(name) < 2 and "layernorm" not in name}
    read = sorted(p.detach().numpy().tobytes() for p in half.parameters())
    assert read == sorted(value.numpy().tobytes() for value in kept.values())


def test_a_checkpoint_that_does_not_fit_is_refused_by_the_half_too(tmp_path):
    last = "encoder.layer.3.mlp.fc2.bias"  # in a block that is cut off
    published(tmp_path / "short", drop=(last,))
    published(tmp_path / "long", **{"extra.weight": torch.zeros(2)})
    for name in ("short", "long"):
        for item in (TINY, TINY_HALF):
            with pytest.raises(ArtefactError, match="do not fit DINOv2, tiny"):
                item.load(str(tmp_path / name))


def test_only_small_has_packaged_weights():
    with pytest.raises(UsageError, match="No package ships"):
        RECIPES["dinov2-base"].load("package")
    assert RECIPES["dinov2-base"].packaged is None
    assert RECIPES["dinov2-small-half"].packaged == dinov2.PACKAGED


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (4320, 7680)])
def test_one_pixel_and_eight_thousand_give_tokens(bundle, shape):
    pixels = prepare_image(np.full((*shape, 3), 90, np.uint8), dinov2.PREPROCESS)
    with open_session(bundle, "image", "fp32", target="cpu-onnxruntime") as session:
        tokens = session.run({"pixel_values": pixels})["patch_tokens"]
    assert tokens.shape == (1, 256, 32)
    assert np.isfinite(tokens).all()


@pytest.mark.parametrize("target", ["rtx-sm86", "cpu"])
def test_fp32_and_fp16_build(bundle, tmp_path, target):
    _build(bundle, tmp_path, target, ["fp32", "fp16"])


@pytest.mark.long
@pytest.mark.parametrize("target", ["rtx-sm86", "cpu"])
def test_int8_builds(tmp_path, target):
    bundle = export_recipe(TINY_HALF, "random:3", Request(tmp_path / "bundle", ("fp32", "int8")))
    _build(bundle, tmp_path, target, ["int8"])


def _build(bundle, folder, target, precisions):
    from jetlift.engines.build import build

    pytest.importorskip("tensorrt_rtx" if target == "rtx-sm86" else "openvino")
    copy = Bundle.open(shutil.copytree(bundle.folder, folder / "copy"))
    results = build(copy, target, precisions)
    assert [(r.part, r.precision) for r in results] == [("image", name) for name in precisions]
    assert not any(result.shortfall for result in results)
