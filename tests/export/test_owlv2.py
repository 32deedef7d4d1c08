"""OWLv2: parity with transformers, published names, pixels, boxes and builds."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from helpers import vit as paper
from helpers.checkpoints import documented
from safetensors.torch import save_file

from jetlift.export.make import Request, export_recipe
from jetlift.export.recipes import RECIPES, clip_bpe, owlv2
from jetlift.runtime.bundle import Bundle
from jetlift.runtime.errors import ArtefactError, InputError, UsageError
from jetlift.runtime.preprocess import prepare_image
from jetlift.runtime.prompts import build_prompts
from jetlift.runtime.session import open_session
from jetlift.runtime.sources import Frame
from jetlift.runtime.tasks import input_part, open_task, other_parts
from jetlift.runtime.tasks.open_detect import find, open_family
from jetlift.runtime.text import TextPreparer

SIZES = {"owlv2-base": owlv2.BASE, "owlv2-large": owlv2.LARGE}
TINY = owlv2.recipe("owlv2-tiny", "OWLv2, tiny", owlv2.TINY, "nobody/none", 0)
SEED = 5
TARGET = "cpu-onnxruntime"
WORDS = ("dog", "ear tag", "a red bus")


@pytest.fixture(scope="module")
def model():
    """transformers' own OWLv2 with the same weights as the bundle."""
    return owlv2.drawn(owlv2.TINY, SEED)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    out = tmp_path_factory.mktemp("owlv2") / "bundle"
    return export_recipe(TINY, f"random:{SEED}", Request(out, ("fp32", "fp16")))


@pytest.fixture(scope="module")
def prompts(bundle):
    with open_session(bundle, "text", "fp32", target=TARGET) as session:
        return build_prompts(bundle, session, WORDS, precision="fp32", target=TARGET)


@torch.no_grad()
def test_random_heads_leave_boxes_that_float32_can_tell(model):
    """Every layer draws a spread that keeps what passes through it in size."""
    for head in (model.class_head, model.box_head, model.objectness_head):
        for layer in (item for item in head.modules() if isinstance(item, torch.nn.Linear)):
            spread = float(layer.weight.square().mean().sqrt())
            assert spread == pytest.approx(layer.in_features**-0.5, rel=0.5)


def ids_of(bundle, sentences) -> np.ndarray:
    spec = bundle.part("text")[1].preprocess
    return TextPreparer(spec, bundle.path(spec.tokenizer))(sentences)["input_ids"]


def largest_relative(got, wanted) -> float:
    return float(np.abs(got - wanted).max() / np.abs(wanted).max())


@pytest.mark.parametrize("target", ["cpu", TARGET])
def test_both_parts_answer_as_transformers_does(bundle, model, target):
    pixels = np.random.default_rng(0).standard_normal((1, 3, 48, 48)).astype(np.float32)
    ids = ids_of(bundle, ["dog", "cat"])
    with torch.no_grad():
        answer = model(torch.from_numpy(ids), torch.from_numpy(pixels))
    with open_session(bundle, "image", "fp32", target=target) as session:
        got = session.run({"pixel_values": pixels})
    with open_session(bundle, "text", "fp32", target=target) as session:
        words = session.run({"input_ids": ids})["embedding"]
    assert largest_relative(got["boxes_cxcywh"], answer.pred_boxes.numpy()) < 1e-4
    assert largest_relative(got["objectness"][..., 0], answer.objectness_logits.numpy()) < 1e-3
    assert largest_relative(words, answer.text_embeds[0].numpy()) < 1e-4
    unit = words / (np.linalg.norm(words, axis=1, keepdims=True) + 1e-6)
    logits = (got["class_embeddings"] @ unit.T + got["logit_shift"]) * got["logit_scale"]
    assert largest_relative(logits, answer.logits.numpy()) < 1e-3


@pytest.mark.parametrize("size_hw", [(60, 90), (90, 60), (48, 48)])
def test_boxes_are_those_of_transformers(bundle, model, prompts, size_hw):
    module = pytest.importorskip("transformers.models.owlv2.image_processing_pil_owlv2")
    image = np.random.default_rng(1).integers(0, 256, (*size_hw, 3), np.uint8)
    with open_session(bundle, "image", "fp32", target=TARGET) as session:
        found = find(open_family(bundle, session, {}), image, prompts)
    pixels = torch.from_numpy(prepare_image(image, bundle.part("image")[1].preprocess))
    ids = torch.from_numpy(ids_of(bundle, [f"a photo of a {word}" for word in WORDS]))
    with torch.no_grad():
        answer = model(ids, pixels)
    wanted = module.Owlv2ImageProcessorPil().post_process_object_detection(
        answer, threshold=0.1, target_sizes=[size_hw]
    )[0]
    boxes = np.clip(wanted["boxes"].numpy(), 0, np.array([size_hw[1], size_hw[0]] * 2))
    large = np.flatnonzero((boxes[:, 2:] - boxes[:, :2]).min(axis=1) > 0.01)
    ours = (found.boxes_xyxy[:, 2:] - found.boxes_xyxy[:, :2]).min(axis=1) > 0.01
    order = large[np.argsort(-wanted["scores"].numpy()[large], kind="stable")]
    assert len(order) > 3
    np.testing.assert_allclose(found.scores[ours], wanted["scores"].numpy()[order], atol=1e-4)
    np.testing.assert_allclose(found.boxes_xyxy[ours], boxes[order], atol=0.01)
    np.testing.assert_array_equal(found.labels[ours], wanted["labels"].numpy()[order])


def test_a_picture_of_one_pixel_and_a_large_one_give_finite_results(bundle, prompts):
    with open_session(bundle, "image", "fp32", target=TARGET) as session:
        task = open_task("detect", bundle, session, precision="fp32", prompts=prompts)
        for shape in ((1, 1), (1080, 7680)):
            fields = task.run(Frame("p", 0, None, np.full((*shape, 3), 90, np.uint8)))
            assert len(fields["boxes_xyxy"]) == len(fields["scores"]) == len(fields["labels"])
        with pytest.raises(InputError, match="8192"):
            task.run(Frame("p", 0, None, np.zeros((2, 8193, 3), np.uint8)))
        with pytest.raises(UsageError, match="without its prompts"):
            open_task("detect", bundle, session, precision="fp32")


def test_published_sizes_take_sixteen_tokens():
    for size in SIZES.values():
        assert owlv2.parts(size)["text"].preprocess.max_tokens == 16


def test_the_task_needs_the_picture_part_alone(bundle):
    assert input_part(bundle, "detect") == "image"
    assert other_parts(bundle, "detect", "image") == ()


def test_a_prompt_beyond_the_longest_is_refused_and_never_cut(bundle):
    spec = bundle.part("text")[1].preprocess
    preparer = TextPreparer(spec, bundle.path(spec.tokenizer))
    assert preparer.prepare(["x" * 38]).truncated == (False,)
    with open_session(bundle, "text", "fp32", target=TARGET) as session:
        made = {"precision": "fp32", "target": TARGET, "templates": ["{}"]}
        build_prompts(bundle, session, ["x" * 38], **made)
        with pytest.raises(InputError, match="longer than the 40 tokens"):
            build_prompts(bundle, session, ["x" * 39], **made)


def test_pixels_are_those_of_the_image_processor():
    pytest.importorskip("scipy")
    module = pytest.importorskip("transformers.models.owlv2.image_processing_pil_owlv2")
    rng = np.random.default_rng(0)
    processor, spec = module.Owlv2ImageProcessorPil(), owlv2.preprocess(owlv2.BASE)
    for shape in ((1, 1), (3, 7), (480, 640), (970, 500), (1080, 1920)):
        rgb = rng.integers(0, 256, (*shape, 3), np.uint8)
        rgb[: shape[0] // 2] = 128  # an even part as well, whose edges ring
        theirs = processor(rgb, return_tensors="np", input_data_format="channels_last")
        ours = prepare_image(np.ascontiguousarray(rgb[..., ::-1]), spec)
        np.testing.assert_array_equal(ours, theirs["pixel_values"], err_msg=str(shape))


# Published checkpoints: the loader was not run on a published file, but on files of their form.


def test_documented_names_are_transformers_own():
    from transformers import Owlv2ForObjectDetection

    with torch.device("meta"):
        own = Owlv2ForObjectDetection(owlv2.config_of(owlv2.BASE)).state_dict()
    assert {key: tuple(value.shape) for key, value in own.items()} == documented("owlv2-base")


@pytest.mark.parametrize("name", SIZES)
def test_parameters_are_those_of_transformers(name):
    from transformers import Owlv2ForObjectDetection

    with torch.device("meta"):
        model = Owlv2ForObjectDetection(owlv2.config_of(SIZES[name]))
    total = sum(parameter.numel() for parameter in model.parameters())
    unused = model.owlv2.visual_projection.weight.numel() + model.owlv2.logit_scale.numel()
    assert RECIPES[name].parameters == total - unused


def published(folder, model, *, drop=(), **more) -> str:
    """A folder as the checkpoint has it: vocabulary and merges, no tokenizer.json."""
    folder.mkdir()
    state = {name: value.detach().contiguous() for name, value in model.state_dict().items()}
    kept = {name: value for name, value in (state | more).items() if name not in drop}
    save_file(kept, folder / "model.safetensors")
    (folder / "config.json").write_text(model.config.to_json_string())
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return str(folder)


def test_a_checkpoint_is_read_with_every_key_used(tmp_path, model):
    loaded = TINY.load(published(tmp_path / "saved", model))
    assert not loaded.weights.random
    assert loaded.assets[owlv2.TOKENIZER] == clip_bpe.tokenizer_json([])
    read = {
        value.detach().numpy().tobytes()
        for module in loaded.modules.values()
        for value in module.parameters()
    }
    unused = ("owlv2.logit_scale", "owlv2.visual_projection.weight")
    theirs = {v.detach().numpy().tobytes() for n, v in model.named_parameters() if n not in unused}
    assert read == theirs
    (tmp_path / "saved" / "tokenizer.json").write_bytes(b"{}")
    found = TINY.load(str(tmp_path / "saved")).assets[owlv2.TOKENIZER]
    assert found == tmp_path / "saved" / "tokenizer.json"


def test_a_checkpoint_that_does_not_fit_is_refused(tmp_path, model):
    with pytest.raises(ArtefactError, match="do not fit"):
        TINY.load(published(tmp_path / "short", model, drop=("class_head.dense0.bias",)))
    with pytest.raises(ArtefactError, match="do not fit"):
        TINY.load(published(tmp_path / "long", model, extra=torch.zeros(2)))
    with pytest.raises(InputError, match="projection_dim 24"):
        RECIPES["owlv2-base"].load(str(tmp_path / "short"))
    config = json.loads((tmp_path / "short" / "config.json").read_text())
    config["vision_config"]["patch_size"] = 32
    (tmp_path / "short" / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"vision_config\.patch_size 32"):
        TINY.load(str(tmp_path / "short"))
    (tmp_path / "long" / "merges.txt").unlink()
    with pytest.raises(InputError, match=r"neither tokenizer\.json nor merges\.txt"):
        TINY.load(str(tmp_path / "long"))


def test_operations_are_those_on_paper(bundle):
    size, cost = owlv2.TINY, bundle.variant("image", "fp32").cost
    width, patches = size.picture.width, (size.picture_px // size.patch_px) ** 2
    macs = paper.products_macs(width=width, depth=2, patch=size.patch_px, size=size.picture_px)
    heads = width * size.text.width + 2 * width + 2 * (2 * width**2) + 5 * width
    macs += patches * heads
    assert sum(cost.operations_by_precision.values()) == pytest.approx(2 * macs, rel=1e-6)
    assert not cost.uncounted


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
