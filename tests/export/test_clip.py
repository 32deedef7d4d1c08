"""CLIP: parity with transformers, published names, tokens, pixels and cost."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers import vit as paper
from helpers.checkpoints import DATA, documented
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from jetlift.export import random_weights
from jetlift.export.make import Request, export_recipe
from jetlift.export.recipes import RECIPES, clip, clip_bpe
from jetlift.runtime.bundle import Bundle
from jetlift.runtime.errors import ArtefactError, InputError, MissingPackageError
from jetlift.runtime.prompts import build_prompts
from jetlift.runtime.session import open_session
from jetlift.runtime.sources import Frame
from jetlift.runtime.tasks import open_task
from jetlift.runtime.text import TextPreparer

SIZES = {"clip-vit-b32": clip.B32, "clip-vit-b16": clip.B16, "clip-vit-l14": clip.L14}
TINY = clip.recipe("clip-tiny", "CLIP, tiny", clip.TINY, "nobody/none", 0)
SEED = 3
START, END = clip.TINY.end - 1, clip.TINY.end


@pytest.fixture(scope="module")
def model():
    """transformers' own CLIP with the same weights as the bundle."""
    from transformers import CLIPModel

    return random_weights.drawn(CLIPModel, clip.config_of(clip.TINY), SEED)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    out = tmp_path_factory.mktemp("clip") / "bundle"
    return export_recipe(TINY, f"random:{SEED}", Request(out, ("fp32", "fp16", "int8")))


@pytest.fixture(scope="module")
def full_merges():
    try:
        return clip_bpe.merges(clip.B32.merges)
    except MissingPackageError as error:
        pytest.skip(str(error))


def largest_relative(got, wanted) -> float:
    return float(np.abs(got - wanted).max() / np.abs(wanted).max())


def unit(features: torch.Tensor) -> np.ndarray:
    return (features / features.norm(dim=-1, keepdim=True)).numpy()


# What the graphs say.


@pytest.mark.parametrize("target", ["cpu", "cpu-onnxruntime"])
def test_pictures_are_encoded_as_transformers_does(bundle, model, target):
    pixels = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    with torch.no_grad():
        features = model.get_image_features(torch.from_numpy(pixels)).pooler_output
    with open_session(bundle, "image", "fp32", target=target) as session:
        got = session.run({"pixel_values": pixels})["embedding"]
    assert largest_relative(got, unit(features)) < 1e-4
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, atol=1e-5)


IDS = {
    "one text": [[START, 5, 6, END]],
    "padding is the end token": [[START, 5, END, END, END], [START, 1, 2, 3, END]],
    "padding is 0": [[START, 5, END, 0, 0], [START, 1, 2, 3, END]],
    "an end token within": [[START, 5, END, 7, END]],
    "no end token": [[5, 6, 7]],
    "the longest": [[START, *range(75), END]],
}


@pytest.mark.parametrize("which", IDS)
def test_words_are_encoded_as_transformers_does(bundle, model, which):
    ids = np.array(IDS[which])
    with torch.no_grad():
        features = model.get_text_features(torch.from_numpy(ids)).pooler_output
    with open_session(bundle, "text", "fp32", target="cpu-onnxruntime") as session:
        got = session.run({"input_ids": ids})["embedding"]
    assert largest_relative(got, unit(features)) < 1e-4


def test_scores_are_those_of_transformers(bundle, model):
    words, picture = ("dog", "cat", "a red bus"), np.full((50, 40, 3), (30, 90, 200), np.uint8)
    with open_session(bundle, "text", "fp32", target="cpu-onnxruntime") as session:
        prompts = build_prompts(bundle, session, words, precision="fp32", target="cpu-onnxruntime")
    with open_session(bundle, "image", "fp32", target="cpu-onnxruntime") as session:
        task = open_task("classify", bundle, session, precision="fp32", prompts=prompts)
        got = task.process(Frame("p", 0, None, picture)).arrays["scores"]
    spec = bundle.part("text")[1].preprocess
    preparer = TextPreparer(spec, bundle.path(spec.tokenizer))
    ids = preparer([f"a photo of a {word}." for word in words])["input_ids"]
    from jetlift.runtime.preprocess import prepare_image

    pixels = prepare_image(picture, bundle.part("image")[1].preprocess)
    with torch.no_grad():
        answer = model(input_ids=torch.from_numpy(ids), pixel_values=torch.from_numpy(pixels))
    wanted = answer.logits_per_image.softmax(dim=1)[0].numpy()
    np.testing.assert_allclose(got, wanted, rtol=1e-3)


def test_what_stands_behind_the_end_changes_nothing(bundle):
    with open_session(bundle, "text", "fp32", target="cpu-onnxruntime") as session:
        plain = session.run({"input_ids": np.array([[START, 9, 8, END]])})["embedding"]
        padded = session.run({"input_ids": np.array([[START, 9, 8, END, 4, 4]])})["embedding"]
    np.testing.assert_allclose(padded, plain, atol=1e-6)


def test_the_place_of_the_end_is_exact_in_sixteen_bits(model):
    from jetlift.export.recipes.clip_modules import TextEncoder

    encoder = TextEncoder(model, end=END, longest=77)
    for dtype in (torch.float16, torch.bfloat16):
        ranks = torch.cat([encoder.rank, encoder.rank + encoder._above])
        assert torch.equal(ranks.to(dtype).float(), ranks)


# Published checkpoints: the loader was not run on a published file, but on files of their form.


@pytest.mark.parametrize("name", ["clip-vit-b32", "clip-vit-l14"])
def test_documented_names_are_transformers_own(name):
    from transformers import CLIPModel

    with torch.device("meta"):
        own = CLIPModel(clip.config_of(SIZES[name])).state_dict()
    assert {key: tuple(value.shape) for key, value in own.items()} == documented(name)
    assert set(documented(name, "numbers")) == set(clip_bpe._PLACES)


@pytest.mark.parametrize("name", SIZES)
def test_parameters_are_those_of_transformers(name):
    from transformers import CLIPModel

    with torch.device("meta"):
        model = CLIPModel(clip.config_of(SIZES[name]))
    total = sum(parameter.numel() for parameter in model.parameters())
    assert RECIPES[name].parameters == total - 1  # the logit scale is in the manifest


def published(folder, model, *, drop=(), dtype=torch.float32, **more) -> str:
    """A folder as a checkpoint has it, position numbers and all."""
    state = {name: value.detach().to(dtype) for name, value in model.state_dict().items()}
    state |= {
        "text_model.embeddings.position_ids": torch.arange(77)[None],
        "vision_model.embeddings.position_ids": torch.arange(17)[None],
    }
    folder.mkdir()
    kept = {name: value.contiguous() for name, value in (state | more).items() if name not in drop}
    save_file(kept, folder / "model.safetensors")
    (folder / "config.json").write_text(model.config.to_json_string())
    (folder / "tokenizer.json").write_bytes(clip_bpe.tokenizer_json([]))
    return str(folder)


def test_a_checkpoint_is_read_with_every_key_used_once(tmp_path, model):
    folder = published(tmp_path / "saved", model)
    (tmp_path / "saved" / "open_clip_model.safetensors").write_bytes(b"of another program")
    loaded = TINY.load(folder)
    assert not loaded.weights.random
    assert loaded.zero_shot.logit_scale == pytest.approx(float(model.logit_scale.detach().exp()))
    read = {
        value.detach().numpy().tobytes()
        for module in loaded.modules.values()
        for value in module.parameters()
    }
    theirs = {
        value.detach().numpy().tobytes()
        for name, value in model.named_parameters()
        if name != "logit_scale"
    }
    assert read == theirs


def test_a_checkpoint_in_half_precision_computes_in_float32(tmp_path, model):
    loaded = TINY.load(published(tmp_path / "half", model, dtype=torch.float16))
    assert {p.dtype for m in loaded.modules.values() for p in m.parameters()} == {torch.float32}


def test_another_activation_is_taken_from_the_checkpoint(tmp_path, model):
    folder = published(tmp_path / "laion", model)
    config = json.loads((tmp_path / "laion" / "config.json").read_text())
    for part in ("text_config", "vision_config"):
        config[part]["hidden_act"] = "gelu"
    (tmp_path / "laion" / "config.json").write_text(json.dumps(config))
    pixels = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 3, 32, 32))).float()
    with torch.no_grad():
        quick = unit(model.get_image_features(pixels).pooler_output)
        exact = TINY.load(folder).modules["image"](pixels).numpy()
    assert 1e-5 < np.abs(quick - exact).max() < 0.5


def test_a_checkpoint_that_does_not_fit_is_refused(tmp_path, model):
    def refused(name, kind, told, recipe=TINY, **options):
        with pytest.raises(kind, match=told):
            recipe.load(published(tmp_path / name, model, **options))

    refused("short", ArtefactError, "do not fit", drop=("text_projection.weight",))
    refused("long", ArtefactError, "do not fit", **{"extra.weight": torch.zeros(2)})
    turned = {"text_model.embeddings.position_ids": torch.arange(76, -1, -1)[None]}
    refused("turned", ArtefactError, "numbers its places otherwise", **turned)
    refused("size", InputError, r"text_config.hidden_size 24", RECIPES["clip-vit-b32"])
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "model.safetensors").write_bytes(b"")
    for there, lacking in (("config.json", "tokenizer.json"), ("model.safetensors", "config.json")):
        (bare / "config.json").unlink(missing_ok=True)
        (bare / there).write_bytes(b"{")
        with pytest.raises(InputError, match=f"has no {lacking}"):
            TINY.load(str(bare))
    (bare / "config.json").write_bytes(b"{")
    (bare / "tokenizer.json").write_bytes(b"{}")
    with pytest.raises(InputError, match=r"no config\.json of a CLIP"):
        TINY.load(str(bare))


# Tokens and pixels.


def test_tokens_are_those_of_open_clip(full_merges):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(clip_bpe.tokenizer_json(full_merges).decode())
    assert tokenizer.get_vocab_size() == clip.B32.vocabulary
    assert tokenizer.token_to_id(clip_bpe.END) == clip.B32.end
    content = json.loads((DATA / "clip_tokens.json").read_text(encoding="utf-8"))
    for text, ids in content["texts"]:
        assert tokenizer.encode(text).ids == ids, text


@pytest.fixture(scope="module")
def tokenizers():
    """Ours and transformers', with a few merges of English."""
    from tokenizers import Tokenizer
    from transformers import CLIPTokenizer

    words = ("t h", "th e</w>", "a n", "an d</w>", "i n", "in g</w>", "' s</w>", "r e</w>")
    merges = [tuple(pair.split()) for pair in words]
    ours = Tokenizer.from_str(clip_bpe.tokenizer_json(merges).decode())
    return ours, CLIPTokenizer(vocab=ours.get_vocab(), merges=merges)


@settings(deadline=None, max_examples=300)
@given(
    st.text(max_size=40) | st.sampled_from(["The thing's handing re-red", "<|endoftext|> a", ""])
)
def test_tokens_are_those_of_transformers(tokenizers, text):
    ours, theirs = tokenizers
    assert ours.encode(text).ids == theirs(text)["input_ids"]


def test_bytes_stand_for_themselves_where_they_are_visible():
    symbols = clip_bpe.byte_symbols()
    assert len(set(symbols)) == 256
    assert symbols[0] == "!"
    assert symbols[-1] == chr(256 + 67)
    assert all(a < b for a, b in pairwise(symbols))


def test_a_long_text_is_told_to_be_cut(bundle):
    spec = bundle.part("text")[1].preprocess
    preparer = TextPreparer(spec, bundle.path(spec.tokenizer))
    prepared = preparer.prepare(["x" * 75, "x" * 76])
    assert (prepared.tokens, prepared.truncated) == ((77, 77), (False, True))
    assert prepared.feeds.keys() == {"input_ids"}
    assert prepared.feeds["input_ids"][:, -1].tolist() == [END, END]


def test_pixels_are_those_of_the_image_processor():
    data = pytest.importorskip("skimage.data")
    module = pytest.importorskip("transformers.models.clip.image_processing_pil_clip")
    image_module = pytest.importorskip("PIL.Image")
    from jetlift.runtime.preprocess import prepare_image

    processor = module.CLIPImageProcessorPil()
    for name in ("astronaut", "chelsea", "immunohistochemistry"):
        whole = getattr(data, name)()
        for rgb in (whole, whole[:301, :333], whole[:97, :36], whole[:1, :1]):
            picture = image_module.fromarray(np.ascontiguousarray(rgb))
            theirs = processor(picture, return_tensors="np")["pixel_values"]
            ours = prepare_image(rgb[..., ::-1], clip.preprocess(clip.B32))
            np.testing.assert_array_equal(ours, theirs, err_msg=f"{name} {rgb.shape}")


# Cost.


def weighted(cost) -> float:
    return sum(cost.operations_by_precision.values())


def test_operations_are_those_on_paper(bundle):
    cost = bundle.variant("image", "fp32").cost
    size = clip.TINY
    macs = paper.products_macs(width=32, depth=2, patch=8, size=32) + 32 * size.embedding
    assert weighted(cost) == pytest.approx(2 * macs, rel=1e-6)
    tokens, width = size.context, size.text.width
    layer = 12 * tokens * width**2 + 2 * tokens**2 * width
    macs = size.text.layers * layer + width * size.embedding
    assert weighted(bundle.variant("text", "fp32").cost) == pytest.approx(2 * macs, rel=1e-6)


def test_full_size_operations_are_within_two_percent_of_an_independent_count():
    # shared/jetson/workloads.csv: clip-vit-base-patch32 and -patch16 with a head of 1000 classes.
    for size, gmacs in ((clip.B32, 4.4092), (clip.B16, 17.5638)):
        tower, patch = size.picture, size.patch_px
        macs = paper.products_macs(width=tower.width, depth=tower.layers, patch=patch, size=224)
        macs += tower.width * size.embedding
        assert macs / 1e9 == pytest.approx(gmacs, rel=0.02)


@pytest.mark.parametrize("target", ["rtx-sm86", "cpu"])
def test_every_variant_builds(bundle, tmp_path, target):
    import shutil

    from jetlift.engines.build import build

    if target == "rtx-sm86":
        pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    copy = Bundle.open(shutil.copytree(bundle.folder, tmp_path / "copy"))
    asked = ["fp32", "fp16", "int8"] if target == "rtx-sm86" else ["fp32", "int8"]
    results = build(copy, target, asked)
    assert [(r.part, r.precision) for r in results] == [
        (part, precision) for part in ("image", "text") for precision in asked
    ]
    assert not any(result.shortfall for result in results)
