"""BERT: parity with transformers, published names, masks, what is refused, cost, builds."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from helpers.checkpoints import documented
from helpers.trt_builds import need_builder
from safetensors.torch import save_file

from jetlift.__main__ import run
from jetlift.engines.build import build
from jetlift.export import random_weights
from jetlift.export.fidelity.classes import ClassMetric
from jetlift.export.make import Request, export_recipe
from jetlift.export.recipes import RECIPES, bert, metric_for, random_tokenizers, samples_for
from jetlift.runtime.bundle import Bundle
from jetlift.runtime.errors import ArtefactError, BundleError, InputError, UsageError
from jetlift.runtime.session import open_session
from jetlift.runtime.tasks import open_task
from jetlift.runtime.tasks.fill_mask import filled, mask_of
from jetlift.runtime.text import open_tokenizer
from jetlift.runtime.texts import TextItem

TINY = bert.recipe("bert-tiny", "BERT, tiny", bert.TINY, "nobody/none", 0)
SIZES = {
    "bert-base": bert.UNCASED,
    "bert-base-cased": bert.CASED,
    "bert-base-multilingual": bert.MULTILINGUAL,
}
SEED = 3
REFERENCE = "cpu-onnxruntime"


@pytest.fixture(scope="module")
def model():
    """transformers' own BERT with the same weights as the bundle."""
    from transformers import BertForMaskedLM

    return random_weights.drawn(BertForMaskedLM, bert.config_of(bert.TINY), SEED)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    out = tmp_path_factory.mktemp("bert") / "bundle"
    return export_recipe(TINY, f"random:{SEED}", Request(out, ("fp32", "fp16", "int8", "int4w")))


def filled_by(bundle, text, **more):
    with open_session(bundle, "text", "fp32", target=REFERENCE, threads=1) as session:
        task = open_task("fill-mask", bundle, session, precision="fp32", **more)
        return task.run(TextItem("t.txt", 2, text))


@pytest.mark.parametrize("target", ["cpu", REFERENCE])
def test_words_are_those_of_transformers(bundle, model, target):
    ids = np.random.default_rng(0).integers(110, 300, (2, 12))
    mask = np.ones_like(ids)
    mask[1, 9:] = 0
    places = np.array([[3, 7], [1, 8]])
    with torch.no_grad():
        every = model(torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)).logits.numpy()
    wanted = np.take_along_axis(every, places[:, :, None], axis=1)
    feeds = {"input_ids": ids, "attention_mask": mask, "mask_positions": places}
    with open_session(bundle, "text", "fp32", target=target) as session:
        got = session.run(feeds)["logits"]
    assert np.abs(got - wanted).max() <= 1e-4 * np.abs(wanted).max()


def test_each_mask_gets_its_words_in_order(bundle, model):
    text = "a [MASK] and b, [MASK]!"
    fields = filled_by(bundle, text, count=3)
    tokenizer = open_tokenizer(bundle.path(bert.TOKENIZER))
    ids = tokenizer.encode(text).ids
    with torch.no_grad():
        shares = model(torch.tensor([ids])).logits.softmax(-1)[0].numpy()
    places = [place for place, number in enumerate(ids) if number == 103]
    assert [mask["position"] for mask in fields["masks"]] == places
    for mask in fields["masks"]:
        best = np.argsort(-shares[mask["position"]])[:3]
        assert [item["id"] for item in mask["candidates"]] == best.tolist()
        for item in mask["candidates"]:
            assert item["word"] == tokenizer.id_to_token(item["id"])
            assert item["probability"] == pytest.approx(
                shares[mask["position"], item["id"]], abs=2e-6
            )
    assert "[MASK]" not in fields["text"]
    assert (fields["source"], fields["index"], fields["tokens"]) == ("t.txt", 2, len(ids))


def test_a_word_that_continues_another_joins_it():
    assert filled("play [MASK] now [MASK].", "[MASK]", ["##ing", "here"]) == "playing now here."


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("no gap here", "has 0 masks"),
        ("[MASK] " * 17, "has 17 masks"),
        ("[MASK] " + "a " * 70, "longer than the model reads"),
        ("   ", "blank text"),
    ],
)
def test_a_text_that_cannot_be_filled_is_told(bundle, text, told):
    with pytest.raises(InputError, match=told):
        filled_by(bundle, text)


def test_a_part_or_tokenizer_without_masks_is_refused(bundle, minilm_like):
    with pytest.raises(UsageError, match="words per mask"):
        filled_by(bundle, "[MASK]", count=0)
    with pytest.raises(BundleError, match="has no mask"):
        mask_of(minilm_like)


@pytest.fixture(scope="module")
def minilm_like():
    from tokenizers import Tokenizer

    return Tokenizer.from_str(random_tokenizers.byte_level(300, {}).decode())


def test_the_command_fills_a_sentence_from_the_command_line(bundle, capsys):
    asked = ["run", str(bundle.folder), "It is [MASK] .", "--target", REFERENCE, "--top-k", "2"]
    assert run(asked) == 3
    assert "random" in capsys.readouterr().err
    assert run([*asked, "--allow-random"]) == 0
    fields = json.loads(capsys.readouterr().out)
    assert (fields["source"], fields["weights"]) == ("argument", "random")
    assert [len(mask["candidates"]) for mask in fields["masks"]] == [2]


# Samples and metric.


def test_words_are_masked_by_a_fixed_rule(bundle, tmp_path):
    tokenizer = open_tokenizer(bundle.path(bert.TOKENIZER))
    ids = tokenizer.encode("a b c d e").ids  # [CLS] a b c d e [SEP]
    assert bert.word_to_mask(ids, tokenizer) == 3
    assert bert.word_to_mask(tokenizer.encode("hello").ids, tokenizer) is None
    lines = [f"a b {letter} d e" for letter in "fghijklm"]
    (tmp_path / "s.txt").write_text("\n".join([*lines, "hello"]), encoding="utf-8")
    split = samples_for(_known(bundle), "text", tmp_path)
    labels = [*split.calibration.labels, *split.search.labels, *split.report.labels]
    assert labels == [tokenizer.token_to_id(letter) for letter in "fghijklm"]
    feeds = split.report.feeds[0]
    assert feeds["input_ids"][0, 3] == 103
    assert feeds["mask_positions"].tolist() == [[3]]
    metric = metric_for(_known(bundle), "text", split.report)
    assert isinstance(metric, ClassMetric)
    assert "top1" in metric.names


def _known(bundle) -> Bundle:
    """The bundle under the name of a recipe of the zoo, which brings samples and metric."""
    from dataclasses import replace

    return replace(bundle, manifest=replace(bundle.manifest, model="bert-base"))


# Published checkpoints: the loader was not run on a published file, but on files of their form.


@pytest.mark.parametrize("name", SIZES)
def test_parameters_are_those_of_transformers(name):
    from transformers import BertForMaskedLM

    with torch.device("meta"):
        own = BertForMaskedLM(bert.config_of(SIZES[name]))
    assert RECIPES[name].parameters == sum(parameter.numel() for parameter in own.parameters())


def test_documented_names_are_transformers_own():
    from transformers import BertForPreTraining

    with torch.device("meta"):
        own = BertForPreTraining(bert.config_of(bert.UNCASED)).state_dict()
    tied = ("cls.predictions.decoder.weight", "cls.predictions.decoder.bias")
    wanted = {key: tuple(value.shape) for key, value in own.items() if key not in tied}
    wanted.pop("bert.embeddings.position_ids", None)
    named = documented("bert-base") | documented("bert-base", "others")
    today = {
        name.replace("LayerNorm.gamma", "LayerNorm.weight").replace(
            "LayerNorm.beta", "LayerNorm.bias"
        ): shape
        for name, shape in named.items()
    }
    assert today == wanted
    assert {key for key in named if key.startswith(bert.LEFT_OUT)} == set(
        documented("bert-base", "others")
    )


def published(folder, model, *, drop=(), **more) -> str:
    """A folder as a published checkpoint has it: old names of norms, and the other task's head."""
    tied = ("cls.predictions.decoder.weight", "cls.predictions.decoder.bias")
    width = bert.TINY.width
    state = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): value.detach().contiguous()
        for name, value in model.state_dict().items()
        if name not in tied
    }
    state |= {
        "bert.pooler.dense.weight": torch.zeros(width, width),
        "cls.seq_relationship.bias": torch.zeros(2),
        "bert.embeddings.position_ids": torch.arange(bert.TINY.context)[None],
    }
    folder.mkdir()
    kept = {name: value for name, value in (state | more).items() if name not in drop}
    save_file(kept, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(bert._sizes(bert.TINY)))
    tokenizer = random_tokenizers.wordpiece(bert.TINY.vocabulary, lowercase=True)
    (folder / "tokenizer.json").write_bytes(tokenizer)
    return str(folder)


def test_a_checkpoint_is_read_with_every_key_used_once(tmp_path, model):
    loaded = TINY.load(published(tmp_path / "saved", model))
    assert not loaded.weights.random

    def contents(module):
        return {value.detach().numpy().tobytes() for value in module.parameters()}

    assert contents(loaded.modules["text"]) == contents(model)


def test_a_checkpoint_that_does_not_fit_is_refused(tmp_path, model):
    def refused(name, kind, told, recipe=TINY, **options):
        with pytest.raises(kind, match=told):
            recipe.load(published(tmp_path / name, model, **options))

    refused("short", ArtefactError, "do not fit", drop=("cls.predictions.bias",))
    refused("long", ArtefactError, "do not fit", **{"extra.weight": torch.zeros(2)})
    refused("size", InputError, "vocab_size 1024", RECIPES["bert-base"])
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "model.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match="config"):
        TINY.load(str(bare))
    (bare / "config.json").write_text("[]")
    with pytest.raises(InputError, match="no JSON object"):
        TINY.load(str(bare))
    (bare / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"no tokenizer\.json"):
        TINY.load(str(bare))


# Cost and builds.


def on_paper(size, sequence: int, masks: int) -> int:
    """Multiply-adds of every product: layers, and the head at the masks alone."""
    layer = 12 * sequence * size.width**2 + 2 * sequence**2 * size.width
    return size.layers * layer + masks * size.width * (size.width + size.vocabulary)


def test_operations_are_those_on_paper(bundle):
    cost = bundle.variant("text", "fp32").cost
    macs = on_paper(bert.TINY, min(64, bert.TINY.context), 1)
    assert sum(cost.operations_by_precision.values()) == pytest.approx(2 * macs, rel=1e-6)


def test_the_count_on_paper_is_within_two_percent_of_an_independent_one():
    # shared/jetson/workloads.csv: bert-large@384, 123.2119 GMACs, of 24 layers without a head.
    large = bert.Size(0, width=1024, layers=24, heads=16)
    assert on_paper(large, 384, 0) / 1e9 == pytest.approx(123.2119, rel=0.02)


@pytest.mark.parametrize("target", ["rtx-sm86", "cpu"])
def test_every_variant_builds(bundle, tmp_path, target):
    import shutil

    if target != "cpu":
        need_builder()
    copied = tmp_path / "copy"
    shutil.copytree(bundle.folder, copied)
    results = build(Bundle.open(copied), target, race_limit_s=0)
    assert {result.precision for result in results} == {"fp32", "fp16", "int8", "int4w"}
    assert all(not result.shortfall for result in results)
