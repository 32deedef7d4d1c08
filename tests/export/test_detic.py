"""Detic: what the original finds, published names, the weights' two sources."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch
from helpers.checkpoints import DATA, documented
from helpers.detic import found_by_torch, picture, seeded, shapes_of, words_of
from safetensors.torch import save_file

from jetlift.export.recipes import RECIPES, clip, clip_bpe, detic, detic_sizes, detic_weights
from jetlift.export.recipes.detic_modules import Detic
from jetlift.runtime.errors import ArtefactError, InputError, UsageError

SIZES = {"detic-r50": detic_sizes.R50, "detic-swinb": detic_sizes.SWIN_B}
SWIN, RESNET = detic_sizes.TINY_SWIN, detic_sizes.TINY_R50
TINY = detic.recipe("detic-tiny", "Detic, tiny", RESNET, "none.pth", 0)


# Against the original.


def test_what_the_original_finds_is_found():
    """Swin, pyramid, proposals, cascade, masks and all between, as the original's own code."""
    golden = json.loads((DATA / "detic.golden.json").read_text(encoding="utf-8"))
    model = Detic(SWIN).eval()
    detic_weights.fill(model, seeded(shapes_of(model)), "tiny")
    found, masks = found_by_torch(model, SWIN, picture(192, 160, 5), words_of(6, 16, 6))
    assert found.labels.tolist() == golden["labels"]
    np.testing.assert_allclose(found.scores, golden["scores"], atol=1e-4)
    np.testing.assert_allclose(found.boxes_xyxy, golden["boxes_xyxy"], atol=0.02)
    pixels = np.array([mask.sum() for mask in masks])
    np.testing.assert_allclose(pixels, golden["mask_pixels"], atol=2)
    np.testing.assert_allclose(masks[0].sum(1), golden["mask_rows_of_first"], atol=1)
    np.testing.assert_allclose(masks[0].sum(0), golden["mask_columns_of_first"], atol=1)


def test_the_resnet_is_transformers_own():
    from transformers import ResNetConfig, ResNetModel

    from jetlift.export.recipes.detic_resnet_modules import Base

    ours = Base(8, (1, 2, 1, 1)).eval()
    state = seeded({name: tuple(v.shape) for name, v in ours.state_dict().items()})
    ours.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    config = ResNetConfig(
        embedding_size=8, hidden_sizes=[32, 64, 128, 256], depths=[1, 2, 1, 1],
        layer_type="bottleneck",
    )  # fmt: skip
    theirs = ResNetModel(config).eval()
    theirs.load_state_dict(
        {_transformers_name(n): torch.from_numpy(v) for n, v in state.items()}, strict=False
    )
    pixels = torch.randn(1, 3, 96, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = theirs(pixels, output_hidden_states=True).hidden_states[2:]
        for got, level in zip(ours(pixels), wanted, strict=True):
            torch.testing.assert_close(got, level, rtol=1e-4, atol=1e-4)


def _transformers_name(name: str) -> str:
    name = name.removeprefix("base.")
    if not name.startswith("layer"):
        kind = "convolution" if name.startswith("conv1") else "normalization"
        return f"embedder.embedder.{kind}.{name.rpartition('.')[2]}"
    stage, block, part, *rest = name.split(".")
    start = f"encoder.stages.{int(stage[5:]) - 1}.layers.{block}"
    if part == "downsample":
        return f"{start}.shortcut.{('convolution', 'normalization')[int(rest[0])]}.{rest[1]}"
    kind = "convolution" if part.startswith("conv") else "normalization"
    return f"{start}.layer.{int(part[-1]) - 1}.{kind}.{rest[0]}"


# Published checkpoints: the loader was not run on a published file, but on files of their form.


@pytest.mark.parametrize("name", SIZES)
def test_documented_names_are_the_models_own(name):
    with torch.device("meta"):
        model = Detic(SIZES[name])
    assert shapes_of(model) == documented(name)
    for unused in documented(name, "unused"):
        assert detic_weights._UNUSED.fullmatch(unused), unused


@pytest.mark.parametrize("name", SIZES)
def test_parameters_are_those_of_the_checkpoint(name):
    from transformers import CLIPModel

    buffers = ("running_mean", "running_var", "relative_position_index")
    detector = sum(
        int(np.prod(shape)) for key, shape in documented(name).items() if not key.endswith(buffers)
    )
    with torch.device("meta"):
        words = CLIPModel(clip.config_of(clip.B32))
    reads = sum(
        value.numel() for key, value in words.named_parameters()
        if key.startswith(("text_model.", "text_projection."))
    )  # fmt: skip
    assert RECIPES[name].parameters == detector + reads


def checkpoint(size=RESNET, *, drop=(), **more) -> dict[str, np.ndarray]:
    """A checkpoint as published ones are, with what is not used."""
    with torch.device("meta"):
        shapes = shapes_of(Detic(size))
    state = seeded(shapes) | {
        "backbone.bottom_up.base.fc.weight": np.ones((5, 256), np.float32),
        "backbone.bottom_up.base.fc.bias": np.ones(5, np.float32),
        "backbone.bottom_up.base.bn1.num_batches_tracked": np.array(7),
        "roi_heads.box_predictor.1.cls_score.zs_weight": np.ones((16, 9), np.float32),
        "pixel_mean": np.float32(detic_weights.MEAN).reshape(3, 1, 1),
    }
    return {name: value for name, value in (state | more).items() if name not in drop}


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    """CLIP as transformers saves it, at the tiny size."""
    from transformers import CLIPModel

    from jetlift.export import random_weights

    folder = tmp_path_factory.mktemp("sources") / "clip"
    folder.mkdir()
    model = random_weights.drawn(CLIPModel, clip.config_of(clip.TINY), 1)
    save_file({n: v.contiguous() for n, v in model.state_dict().items()},
              folder / "model.safetensors")  # fmt: skip
    (folder / "config.json").write_text(model.config.to_json_string())
    (folder / "tokenizer.json").write_bytes(clip_bpe.tokenizer_json([]))
    return folder


def as_pkl(state, path) -> None:
    path.write_bytes(pickle.dumps({"model": state, "__author__": "x"}))


def as_pth(state, path) -> None:
    tensors = {name: torch.from_numpy(np.array(value)) for name, value in state.items()}
    torch.save({"model": tensors, "iteration": 1}, path)


def as_safetensors(state, path) -> None:
    save_file({name: torch.from_numpy(np.array(value)) for name, value in state.items()}, path)


@pytest.mark.parametrize("save", [as_pkl, as_pth, as_safetensors])
def test_a_checkpoint_is_read_with_every_key_used_once(tmp_path, clip_folder, save):
    state = checkpoint()
    (tmp_path / "clip").symlink_to(clip_folder)
    save(state, tmp_path / f"detic.{save.__name__[3:]}")
    loaded = TINY.load(str(tmp_path))
    read = [
        value.detach().numpy().tobytes()
        for part in ("proposals", "regions", "masks")
        for name, value in loaded.modules[part].state_dict().items()
    ]
    with torch.device("meta"):
        own = shapes_of(Detic(RESNET))
    assert sorted(read) == sorted(state[name].tobytes() for name in own)
    assert not loaded.weights.random
    assert "clip" in loaded.weights.note
    assert loaded.open_vocabulary.template == "a {}"


def test_places_in_windows_may_be_stored_and_are_checked():
    model = Detic(SWIN)
    state = seeded(shapes_of(model))
    name = "backbone.bottom_up.layers.0.blocks.0.attn.relative_position_index"
    places = model.state_dict()[name].numpy()
    detic_weights.fill(model, state | {name: places}, "tiny")
    with pytest.raises(ArtefactError, match="another backbone"):
        detic_weights.fill(model, state | {name: places[::-1].copy()}, "tiny")


def test_a_checkpoint_that_does_not_fit_is_refused():
    model = Detic(RESNET)
    for told, state in {
        "missing: proposal_generator.centernet_head.agn_hm.bias": checkpoint(
            drop=("proposal_generator.centernet_head.agn_hm.bias",)
        ),
        "left over: extra": checkpoint(extra=np.ones(1, np.float32)),
        "left over: roi_heads.box_predictor.0.cls_score.cls_bias": checkpoint(
            **{"roi_heads.box_predictor.0.cls_score.cls_bias": np.ones(1, np.float32)}
        ),
        "of another shape: backbone.fpn_lateral3.bias": checkpoint(
            **{"backbone.fpn_lateral3.bias": np.ones(3, np.float32)}
        ),
        "another pixel_mean": checkpoint(pixel_mean=np.ones(3, np.float32)),
    }.items():
        with pytest.raises(ArtefactError, match=told):
            detic_weights.fill(model, state, "tiny")


def test_sources_are_named_not_guessed(tmp_path):
    with pytest.raises(UsageError, match="on no hub"):
        TINY.load(None)
    with pytest.raises(InputError, match="has these checkpoints: none"):
        TINY.load(str(tmp_path / "absent"))
    for name in ("a.pth", "b.pkl"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(InputError, match=r"a\.pth, b\.pkl"):
        TINY.load(str(tmp_path))
    given = detic_weights.sources_of(str(tmp_path / "a.pth"), "url", "hub/id")
    assert (given.detector.name, given.clip) == ("a.pth", "hub/id")
