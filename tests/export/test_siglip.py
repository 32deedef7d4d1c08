"""SigLIP: parity with transformers, published names, tokens, pixels and cost."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from helpers import vit as paper
from helpers.checkpoints import DATA, documented
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from tokenizers import Tokenizer

from jetlift.export import random_weights
from jetlift.export.make import Request, export_recipe
from jetlift.export.recipes import RECIPES, siglip, siglip_tokens
from jetlift.runtime.bundle import Bundle
from jetlift.runtime.errors import ArtefactError, BundleError, InputError
from jetlift.runtime.prompts import build_prompts
from jetlift.runtime.session import open_session
from jetlift.runtime.sources import Frame
from jetlift.runtime.tasks import open_task
from jetlift.runtime.text import TextPreparer

SIZES = {
    "siglip-base": siglip.BASE, "siglip-base-384": siglip.BASE_384,
    "siglip-so400m": siglip.SO400M, "siglip2-base": siglip.BASE_2,
}  # fmt: skip
TINY = siglip.recipe("siglip-tiny", "SigLIP, tiny", siglip.TINY, "nobody/none", 0)
SEED = 3


@pytest.fixture(scope="module")
def model():
    """transformers' own SigLIP with the same weights as the bundle."""
    from transformers import SiglipModel

    return random_weights.drawn(SiglipModel, siglip.config_of(siglip.TINY), SEED)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    out = tmp_path_factory.mktemp("siglip") / "bundle"
    return export_recipe(TINY, f"random:{SEED}", Request(out, ("fp32", "fp16")))


def unit(features: torch.Tensor) -> np.ndarray:
    return (features / features.norm(dim=-1, keepdim=True)).numpy()


def largest_relative(got, wanted) -> float:
    return float(np.abs(got - wanted).max() / np.abs(wanted).max())


# What the graphs say.


def test_pictures_are_encoded_as_transformers_does(bundle, model):
    pixels = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    with torch.no_grad():
        features = model.get_image_features(torch.from_numpy(pixels)).pooler_output
    for target in ("cpu", "cpu-onnxruntime"):
        with open_session(bundle, "image", "fp32", target=target) as session:
            got = session.run({"pixel_values": pixels})["embedding"]
        assert largest_relative(got, unit(features)) < 1e-4


def test_words_are_encoded_as_transformers_does(bundle, model):
    ids = np.ones((2, siglip.CONTEXT), np.int64)
    ids[0, :4], ids[1, :60] = (5, 6, 7, 8), np.arange(60) + 3
    with torch.no_grad():
        features = model.get_text_features(torch.from_numpy(ids)).pooler_output
    with open_session(bundle, "text", "fp32", target="cpu-onnxruntime") as session:
        got = session.run({"input_ids": ids})["embedding"]
    assert largest_relative(got, unit(features)) < 1e-4


@pytest.mark.parametrize("words", [("dog",), ("dog", "cat", "a red bus")])
def test_scores_are_those_of_transformers(bundle, model, words):
    """One word alone is scored too: each is judged by itself."""
    from jetlift.runtime.preprocess import prepare_image

    picture = np.full((50, 40, 3), (30, 90, 200), np.uint8)
    with open_session(bundle, "text", "fp32", target="cpu-onnxruntime") as session:
        prompts = build_prompts(bundle, session, words, precision="fp32", target="cpu-onnxruntime")
    with open_session(bundle, "image", "fp32", target="cpu-onnxruntime") as session:
        task = open_task("classify", bundle, session, precision="fp32", prompts=prompts)
        got = task.process(Frame("p", 0, None, picture)).arrays["scores"]
    spec = bundle.part("text")[1].preprocess
    preparer = TextPreparer(spec, bundle.path(spec.tokenizer))
    ids = preparer([f"This is a photo of {word}." for word in words])["input_ids"]
    assert ids.shape == (len(words), 64)
    pixels = prepare_image(picture, bundle.part("image")[1].preprocess)
    with torch.no_grad():
        answer = model(input_ids=torch.from_numpy(ids), pixel_values=torch.from_numpy(pixels))
    np.testing.assert_allclose(got, answer.logits_per_image.sigmoid()[0].numpy(), rtol=1e-3)


def test_a_prompt_that_is_too_long_is_told(bundle):
    with (
        open_session(bundle, "text", "fp32", target="cpu-onnxruntime") as session,
        pytest.raises(InputError, match="longer than the 64 tokens"),
    ):
        build_prompts(bundle, session, ["x" * 80, "y"], precision="fp32", target="cpu-onnxruntime")


# Published checkpoints: the loader was not run on a published file, but on files of their form.


def test_documented_names_are_transformers_own():
    from transformers import SiglipModel

    with torch.device("meta"):
        own = SiglipModel(siglip.config_of(siglip.BASE)).state_dict()
    assert {key: tuple(value.shape) for key, value in own.items()} == documented("siglip-base")


@pytest.mark.parametrize("name", SIZES)
def test_parameters_are_those_of_transformers(name):
    from transformers import SiglipModel

    with torch.device("meta"):
        model = SiglipModel(siglip.config_of(SIZES[name]))
    total = sum(parameter.numel() for parameter in model.parameters())
    assert RECIPES[name].parameters == total - 2  # scale and bias are in the manifest


def published(folder, model, *, drop=(), **more) -> str:
    """A folder as a checkpoint has it, with a SentencePiece model."""
    state = {name: value.detach() for name, value in model.state_dict().items()}
    folder.mkdir()
    kept = {name: value.contiguous() for name, value in (state | more).items() if name not in drop}
    save_file(kept, folder / "model.safetensors")
    (folder / "config.json").write_text(model.config.to_json_string())
    shutil.copy(DATA / "siglip_tiny.spiece.model", folder / "spiece.model")
    return str(folder)


def test_a_checkpoint_is_read_with_every_key_used_once(tmp_path, model):
    loaded = TINY.load(published(tmp_path / "saved", model))
    read = {
        value.detach().numpy().tobytes()
        for module in loaded.modules.values()
        for value in module.parameters()
    }
    theirs = {
        value.detach().numpy().tobytes()
        for name, value in model.named_parameters()
        if not name.startswith("logit_")
    }
    assert read == theirs
    facts = loaded.zero_shot
    assert facts.scores == "sigmoid"
    assert facts.logit_scale == pytest.approx(float(model.logit_scale.detach().exp()))
    assert facts.logit_bias == pytest.approx(float(model.logit_bias.detach()))


def test_a_checkpoint_that_does_not_fit_is_refused(tmp_path, model):
    def refused(name, kind, told, recipe=TINY, **options):
        with pytest.raises(kind, match=told):
            recipe.load(published(tmp_path / name, model, **options))

    refused("short", ArtefactError, "do not fit", drop=("vision_model.head.probe",))
    refused("long", ArtefactError, "do not fit", **{"extra.weight": torch.zeros(2)})
    refused("size", InputError, r"text_config\.hidden_size 32", RECIPES["siglip-base"])
    folder = tmp_path / "filter"
    published(folder, model)
    (folder / "preprocessor_config.json").write_text('{"resample": 2}')
    with pytest.raises(InputError, match="Pillow's filter 2"):
        TINY.load(str(folder))


def test_a_tokenizer_that_does_not_fit_is_refused(tmp_path, model):
    folder = tmp_path / "saved"
    published(folder, model)
    pieces = folder / "spiece.model"
    pieces.unlink()
    with pytest.raises(InputError, match=r"no tokenizer\.json and no spiece\.model"):
        TINY.load(str(folder))
    pieces.write_bytes(b"\xff\xff nothing of the kind")
    with pytest.raises(InputError, match="cannot be read"):
        TINY.load(str(folder))
    pieces.write_bytes(b"")
    with pytest.raises(InputError, match="of another kind"):
        TINY.load(str(folder))
    (folder / "tokenizer.json").write_bytes(b"{")
    with pytest.raises(BundleError, match="cannot be read as a tokenizer"):
        TINY.load(str(folder))
    other = siglip_tokens.drawn(600, end=1, pad=1, punctuation=False)
    (folder / "tokenizer.json").write_bytes(other)
    with pytest.raises(ArtefactError, match="has 600 tokens"):
        TINY.load(str(folder))
    other = siglip_tokens.drawn(256, end=5, pad=1, punctuation=False)
    (folder / "tokenizer.json").write_bytes(other)
    with pytest.raises(ArtefactError, match=r"ends 'a' with \[5\]"):
        TINY.load(str(folder))


# Tokens and pixels.


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("pieces")
    shutil.copy(DATA / "siglip_tiny.spiece.model", folder / "spiece.model")
    made = siglip_tokens.published(folder, end=1, vocabulary=200, punctuation=False)
    return Tokenizer.from_str(made.decode())


def test_tokens_are_those_of_transformers_and_sentencepiece(tokenizer):
    content = json.loads((DATA / "siglip_tokens.json").read_text(encoding="utf-8"))
    for text, ids in content["texts"]:
        assert tokenizer.encode(text).ids == ids, text


def test_what_a_user_types_is_never_a_special_token(tokenizer):
    assert tokenizer.encode("</s> end").ids == tokenizer.encode("s end").ids


@settings(max_examples=200)
@given(st.text(st.characters(codec="ascii"), max_size=40))
def test_case_punctuation_and_space_say_nothing(tokenizer, text):
    import re
    import string

    plain = re.sub(r"\s+", " ", text.lower().translate(str.maketrans("", "", string.punctuation)))
    # \x1c to \x1f are white space to Python and not to the tokenizer.
    if not set(text) & set("\x1c\x1d\x1e\x1f"):
        assert tokenizer.encode(text).ids == tokenizer.encode(plain.strip()).ids


def test_a_tokenizer_file_is_made_canonical_once(tmp_path, tokenizer):
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_str())
    again = siglip_tokens.published(tmp_path, end=1, vocabulary=200, punctuation=False)
    text = "  A Photo, of a DOG!"
    assert Tokenizer.from_str(again.decode()).encode(text).ids == tokenizer.encode(text).ids


def test_siglip_2_keeps_punctuation_and_pads_with_its_own_token():
    made = siglip_tokens.drawn(256, end=1, pad=0, punctuation=True)
    tokenizer = Tokenizer.from_str(made.decode())
    assert tokenizer.encode("A, b").ids == tokenizer.encode("a, b").ids
    assert tokenizer.encode("a, b").ids != tokenizer.encode("a b").ids
    spec = siglip.parts(siglip.BASE_2)["text"].preprocess
    assert (spec.pad_id, spec.pad_to) == (0, 64)


def test_pixels_are_those_of_the_image_processor():
    data = pytest.importorskip("skimage.data")
    module = pytest.importorskip("transformers.models.siglip.image_processing_pil_siglip")
    image_module = pytest.importorskip("PIL.Image")
    from jetlift.runtime.preprocess import prepare_image

    processors = {
        "siglip-base": module.SiglipImageProcessorPil(),
        "siglip2-base": module.SiglipImageProcessorPil(resample=2),
    }
    for size, processor in processors.items():
        spec = siglip.preprocess(SIZES[size])
        for name in ("astronaut", "chelsea"):
            whole = getattr(data, name)()
            for rgb in (whole, whole[:301, :333], whole[:97, :36], whole[:1, :1]):
                picture = image_module.fromarray(np.ascontiguousarray(rgb))
                theirs = processor(picture, return_tensors="np")["pixel_values"]
                ours = prepare_image(rgb[..., ::-1], spec)
                np.testing.assert_array_equal(ours, theirs, err_msg=f"{name} {rgb.shape}")


# Cost.


def test_operations_are_those_on_paper(bundle):
    def of(part: str) -> float:
        return sum(bundle.variant(part, "fp32").cost.operations_by_precision.values())

    wide, inner, patches = 32, 64, 16
    layer = 4 * wide**2 + 2 * wide * inner
    picture = patches * (3 * 64 * wide + 2 * layer + 2 * 2 * patches * wide)
    # The head: one query, all patches as keys and values, and an MLP on one vector.
    head = 2 * wide**2 + 2 * patches * wide**2 + 2 * patches * wide + 2 * wide * inner
    # What the query is before it sees a picture is a constant that simplifying folds.
    assert of("image") / 2 in (picture + head, picture + head - wide**2)
    tokens = siglip.CONTEXT
    text = tokens * (2 * layer + 2 * 2 * tokens * wide) + wide**2
    assert of("text") == pytest.approx(2 * text, rel=1e-6)


def test_full_size_operations_are_within_two_percent_of_an_independent_count():
    # shared/jetson/workloads.csv: clip-vit-base-patch16, which has the same tower without a head.
    macs = 196 * (3 * 256 * 768 + 12 * (12 * 768**2 + 2 * 196 * 768))
    assert macs / 1e9 == pytest.approx(17.5638, rel=0.02)
    assert macs == pytest.approx(
        paper.products_macs(width=768, depth=12, patch=16, size=224), rel=0.01
    )


@pytest.mark.parametrize("target", ["rtx-sm86", "cpu"])
def test_variants_build(bundle, tmp_path, target):
    from jetlift.engines.build import build

    if target == "rtx-sm86":
        pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    copy = Bundle.open(shutil.copytree(bundle.folder, tmp_path / "copy"))
    asked = ["fp32", "fp16"] if target == "rtx-sm86" else ["fp32"]
    results = build(copy, target, asked)
    assert [(r.part, r.precision) for r in results] == [
        (part, precision) for part in ("image", "text") for precision in asked
    ]
    assert not any(result.shortfall for result in results)


@pytest.mark.long
def test_int8_builds(tmp_path):
    from jetlift.engines.build import build

    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    made = export_recipe(TINY, "random", Request(tmp_path / "all", ("fp32", "int8", "int8-fp16")))
    assert not any(item.shortfall for item in build(made, "rtx-sm86", ["int8", "int8-fp16"]))
