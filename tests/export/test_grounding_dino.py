"""Grounding DINO: parity with transformers, tokens, pixels, published names, boxes and builds."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from helpers.checkpoints import documented
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from jetlift.export import random_weights
from jetlift.export.make import Request, export_recipe
from jetlift.export.recipes import grounding_dino as recipe
from jetlift.export.samples import ItemContext
from jetlift.runtime import prompt_tokens
from jetlift.runtime.bundle import Bundle
from jetlift.runtime.errors import ArtefactError, InputError, UsageError
from jetlift.runtime.preprocess import place, prepare_image
from jetlift.runtime.prompts import Prompts, build_prompts
from jetlift.runtime.session import open_session
from jetlift.runtime.tasks.open_detect import find, open_family

TINY = recipe.recipe("grounding-tiny", "Grounding DINO, tiny", recipe.TINY, "nobody/none", 0)
SEED = 3
TARGET = "cpu-onnxruntime"
WORDS = ("dog", "ear tag", "a b")


@pytest.fixture(scope="module")
def model():
    """transformers' own with its default attention: an eager BERT would add the mask as 0 and 1."""
    from transformers import GroundingDinoForObjectDetection

    drawn = random_weights.drawn(
        GroundingDinoForObjectDetection, recipe.config_of(recipe.TINY), SEED
    )
    own = GroundingDinoForObjectDetection._from_config(recipe.config_of(recipe.TINY))
    own.load_state_dict(drawn.state_dict())
    assert own.model.text_backbone.config._attn_implementation == "sdpa"
    return own.eval()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    out = tmp_path_factory.mktemp("grounding") / "bundle"
    return export_recipe(TINY, f"random:{SEED}", Request(out, ("fp32", "fp16")))


def words_of(bundle, *words, **options) -> Prompts:
    with open_session(bundle, "text", "fp32", target=TARGET) as session:
        return build_prompts(bundle, session, words, precision="fp32", target=TARGET, **options)


def tokens_of(bundle, words):
    path = bundle.path(recipe.TOKENIZER)
    return prompt_tokens.tokens_of(path, recipe.facts(recipe.TINY).grounding, words)


@pytest.fixture(scope="module")
def prompts(bundle) -> Prompts:
    return words_of(bundle, *WORDS)


@pytest.mark.parametrize("size_hw", [(90, 150), (60, 100), (100, 60), (7, 300), (1, 1)])
def test_boxes_and_scores_are_those_of_transformers(bundle, model, prompts, size_hw):
    from transformers.models.grounding_dino.image_processing_pil_grounding_dino import (
        center_to_corners_format,
    )

    image = np.random.default_rng(1).integers(0, 256, (*size_hw, 3), np.uint8)
    spec = bundle.part("image")[1].preprocess
    with open_session(bundle, "image", "fp32", target=TARGET) as session:
        found = find(open_family(bundle, session, {}), image, prompts)
    width, height = place((size_hw[1], size_hw[0]), spec).resized_wh
    mask = torch.zeros(1, 96, 150, dtype=torch.long)
    mask[:, :height, :width] = 1
    ids = torch.from_numpy(tokens_of(bundle, WORDS)[0])[None]
    with torch.no_grad():
        pixels = torch.from_numpy(prepare_image(image, spec))
        answer = model(pixel_values=pixels, input_ids=ids, pixel_mask=mask)
    scores = answer.logits.sigmoid().amax(-1)[0].numpy()
    boxes = center_to_corners_format(answer.pred_boxes)[0].numpy() * np.tile(size_hw[::-1], 2)
    boxes = np.clip(boxes, 0, np.tile(size_hw[::-1], 2))
    kept = np.flatnonzero((scores > 0.25) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1))
    kept = kept[np.argsort(-scores[kept], kind="stable")]
    assert len(found.scores) == len(kept) > 5
    np.testing.assert_allclose(found.scores, scores[kept], rtol=1e-3)
    order = np.lexsort(found.boxes_xyxy.T)
    wanted = boxes[kept][np.lexsort(boxes[kept].T)]
    np.testing.assert_allclose(found.boxes_xyxy[order], wanted, atol=2e-3 * max(size_hw))
    assert set(found.labels) <= {0, 1, 2}


def test_a_prompts_features_do_not_depend_on_the_others(bundle, prompts):
    alone = words_of(bundle, WORDS[0])
    np.testing.assert_allclose(alone.features[1:5], prompts.features[1:5], atol=1e-5)
    assert alone.head.spans == ((1, 4),)
    assert prompts.head.spans == ((1, 4), (5, 11), (12, 14))


def test_text_is_tokenised_and_blocked_as_transformers_does(bundle):
    from tokenizers import Tokenizer
    from transformers.models.grounding_dino.modeling_grounding_dino import (
        SPECIAL_TOKENS,
        generate_masks_with_special_tokens_and_transfer_map,
    )
    from transformers.models.grounding_dino.processing_grounding_dino import (
        _merge_candidate_labels_text,
    )

    ids, spans = tokens_of(bundle, WORDS)
    tokenizer = Tokenizer.from_file(str(bundle.path(recipe.TOKENIZER)))
    assert ids.tolist() == tokenizer.encode(_merge_candidate_labels_text(list(WORDS))).ids
    seen, places = generate_masks_with_special_tokens_and_transfer_map(
        torch.from_numpy(ids)[None], torch.tensor(SPECIAL_TOKENS)
    )
    positions, blocks = prompt_tokens.places(spans, len(ids))
    np.testing.assert_array_equal(positions, places[0].numpy())
    np.testing.assert_array_equal(blocks[:, None] == blocks[None], seen[0].numpy())
    assert set(SPECIAL_TOKENS) == set(recipe.facts(recipe.TINY).grounding.breaks)


def test_prompts_that_do_not_fit_are_refused_and_never_cut(bundle, tmp_path):
    with pytest.raises(InputError, match="split it in two"):
        words_of(bundle, "dog. cat")
    with pytest.raises(InputError, match="41 tokens together"):
        words_of(bundle, "x" * 38)
    words_of(bundle, "x" * 37)
    with pytest.raises(UsageError, match="One template at most"):
        words_of(bundle, "dog", templates=["a {}", "the {}"])
    one = words_of(bundle, "dog.", templates=["a {}"])
    assert one.head.spans == ((1, 5),)
    one.save(tmp_path / "p.prompts")
    assert Prompts.load(tmp_path / "p.prompts").head.spans == one.head.spans
    Prompts(one.head, one.features[:4]).save(tmp_path / "p.prompts")
    with pytest.raises(ArtefactError, match="do not fit"):
        Prompts.load(tmp_path / "p.prompts")


def test_pixels_and_sizes_are_those_of_the_image_processor():
    module = pytest.importorskip(
        "transformers.models.grounding_dino.image_processing_pil_grounding_dino"
    )
    spec = recipe.preprocess(recipe.SWIN_T)
    for shape in ((480, 640), (270, 480)):
        rgb = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
        theirs = module.GroundingDinoImageProcessorPil()(rgb, return_tensors="np")["pixel_values"]
        ours = prepare_image(np.ascontiguousarray(rgb[..., ::-1]), spec)
        height, width = theirs.shape[2:]
        np.testing.assert_array_equal(ours[..., :height, :width], theirs)
        assert not ours[..., height:, :].any()
        assert not ours[..., width:].any()


@settings(deadline=None)
@given(st.integers(1, 4000), st.integers(1, 4000))
def test_sizes_on_the_canvas_are_those_of_transformers(long, short):
    from transformers.image_transforms import get_size_with_aspect_ratio

    short, long = sorted((short, long))
    spec = recipe.preprocess(recipe.SWIN_T)
    height, width = get_size_with_aspect_ratio((short, long), 800, 1333)
    if height < 1 or width > 1333:  # thinner than a pixel, or a pixel beyond by rounding
        return
    assert place((long, short), spec).resized_wh == (width, height)
    upright = place((short, long), spec).resized_wh
    assert 1 <= upright[0] <= 1333
    assert 1 <= upright[1] <= 800


def test_samples_of_both_parts_are_what_runs(bundle, prompts, tmp_path):
    cv2 = pytest.importorskip("cv2")
    cv2.imwrite(str(tmp_path / "p.png"), np.full((60, 90, 3), 99, np.uint8))
    (tmp_path / "words.txt").write_text("\n".join(WORDS))
    files = {name: bundle.path(f"{name}.fp32.onnx") for name in ("image", "text")}
    for name, count in (("image", 1), ("text", 3)):
        part = bundle.part(name)[1]
        context = ItemContext(tmp_path, part, bundle.folder, files)
        items = TINY.parts[name].items(context)
        assert len(items) == count
        for item in items:
            assert item.feeds[0].keys() == {spec.name for spec in part.inputs}
    image = (
        TINY.parts["image"]
        .items(ItemContext(tmp_path, bundle.part("image")[1], bundle.folder, files))[0]
        .feeds[0]
    )
    rows = len(prompts.features)
    np.testing.assert_allclose(image["text_features"][0, :rows], prompts.features, atol=1e-5)
    assert image["text_mask"].sum() == rows
    assert image["valid_wh"].tolist() == [[144, 96]]


# Published checkpoints: the loader was not run on a published file, but on files of their form.


def test_parameters_are_those_of_transformers():
    from transformers import GroundingDinoForObjectDetection

    with torch.device("meta"):
        model = GroundingDinoForObjectDetection(recipe.config_of(recipe.SWIN_T))
    named = dict(model.named_parameters())
    unused = sum(value.numel() for name, value in named.items() if "swin.layernorm" in name)
    assert recipe.RECIPE.parameters == sum(v.numel() for v in named.values()) - unused


def test_documented_names_are_those_that_transformers_writes():
    from transformers import GroundingDinoForObjectDetection
    from transformers.core_model_loading import revert_weight_conversion

    with torch.device("meta"):
        model = GroundingDinoForObjectDetection(recipe.config_of(recipe.SWIN_T))
    written = revert_weight_conversion(model, model.state_dict())
    shared = ("model.decoder.bbox_embed.", *(f"bbox_embed.{n}." for n in range(1, 6)))
    own = {
        name: tuple(value.shape)
        for name, value in written.items()
        if not name.startswith(shared) and "swin.layernorm" not in name
    }
    assert own == documented("grounding-dino-tiny")


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    """A folder as the checkpoint has it: older names, numbers of places, no unused layer."""
    folder = tmp_path_factory.mktemp("saved") / "checkpoint"
    model.save_pretrained(folder)
    state = load_file(folder / "model.safetensors")
    state = {name: value for name, value in state.items() if "swin.layernorm" not in name}
    inside = "model.backbone.conv_encoder.model.encoder.layers.0.blocks.0.attention.self."
    state[f"{inside}relative_position_index"] = torch.zeros(16, 16, dtype=torch.long)
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    (folder / "tokenizer.json").write_bytes(recipe._random_tokenizer(1100))
    return folder


def test_a_checkpoint_is_read_with_every_key_used(saved, model):
    loaded = TINY.load(str(saved))
    read = {
        value.detach().numpy().tobytes()
        for module in loaded.modules.values()
        for value in module.parameters()
    }
    theirs = {
        value.detach().numpy().tobytes()
        for name, value in model.named_parameters()
        if "swin.layernorm" not in name
    }
    assert read == theirs


def test_a_checkpoint_that_does_not_fit_is_refused(saved, tmp_path):
    state = load_file(saved / "model.safetensors")
    copy = shutil.copytree(saved, tmp_path / "copy")
    save_file(state | {"extra.weight": torch.zeros(2)}, copy / "model.safetensors")
    with pytest.raises(ArtefactError, match="do not fit"):
        TINY.load(str(copy))
    state.pop("model.text_projection.bias")
    save_file(state, copy / "model.safetensors")
    with pytest.raises(ArtefactError, match="do not fit"):
        TINY.load(str(copy))
    with pytest.raises(InputError, match="d_model 32"):
        recipe.RECIPE.load(str(copy))
    config = json.loads((copy / "config.json").read_text()) | {"num_queries": 31}
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="num_queries 31"):
        TINY.load(str(copy))


def built(folder, target, asked) -> None:
    from jetlift.engines.build import build

    if target == "rtx-sm86":
        pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    results = build(Bundle.open(folder), target, asked)
    wanted = [(part, precision) for part in ("image", "text") for precision in asked]
    assert [(r.part, r.precision) for r in results] == wanted
    assert not any(result.shortfall for result in results)


@pytest.mark.parametrize("target", ["rtx-sm86", "cpu"])
def test_the_wide_variants_build(bundle, tmp_path, target):
    copy = shutil.copytree(bundle.folder, tmp_path / "copy")
    built(copy, target, ["fp32", "fp16"] if target == "rtx-sm86" else ["fp32"])


@pytest.mark.long
def test_int8_builds_too(tmp_path):
    out = tmp_path / "bundle"
    export_recipe(TINY, f"random:{SEED}", Request(out, ("fp32", "int8")))
    for target in ("rtx-sm86", "cpu"):
        built(out, target, ["int8"])
