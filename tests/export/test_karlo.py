"""karlo: parity with diffusers, part by part and as whole pipelines, names, sizes and refusals."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from helpers import karlo as helper
from helpers.checkpoints import DATA, documented

from jetlift.engines.build import build
from jetlift.export.make import Request, export_recipe
from jetlift.export.recipes import RECIPES, karlo, karlo_models, karlo_weights
from jetlift.export.recipes.karlo_models import KARLO, TINY
from jetlift.export.recipes.published import check_config
from jetlift.export.samples import ItemContext
from jetlift.runtime.bundle import Bundle
from jetlift.runtime.errors import ArtefactError, InputError, UsageError
from jetlift.runtime.session import open_session
from jetlift.runtime.session.base import check_feeds

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
SEED = helper.SEED


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    return helper.bundle_in(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    """diffusers' and transformers' own models with the bundle's weights."""
    return helper.models()


def relative(got, wanted) -> float:
    return float(np.abs(got - wanted).max() / np.abs(wanted).max())


# What the graphs say.


def feeds_of(bundle: Bundle, part: str, seed: int = 0) -> dict[str, Any]:
    source = np.random.default_rng(seed)
    feeds = {}
    for spec in bundle.part(part)[1].inputs:
        if spec.dtype == "float32":
            feeds[spec.name] = source.standard_normal(spec.shape).astype(np.float32)
        elif spec.name == "timestep":
            feeds[spec.name] = np.array([917])
        elif spec.name == "attention_mask":
            feeds[spec.name] = np.ones(spec.shape, np.int64)
            feeds[spec.name][:, -7:] = 0
        else:
            ids = [TINY.clip.end - 1, 5, 6, 7] + [TINY.clip.end] * (spec.shape[1] - 4)
            feeds[spec.name] = np.array([ids])
    return feeds


def wanted_of(part: str, model: Any, feeds: dict[str, Any]) -> dict[str, np.ndarray]:
    """What the reference says of the same input."""
    x = {name: torch.from_numpy(array) for name, array in feeds.items()}
    with torch.no_grad():
        if part == "text":
            said = model(x["input_ids"])
            return {"embedding": said.text_embeds.numpy(), "hidden": said[1].numpy()}
        if part == "image":
            return {"embedding": model(x["pixel_values"]).image_embeds.numpy()}
        if part == "prior":
            said = model(
                x["latents"], 917, x["text_embedding"], x["text_hidden"], x["attention_mask"].bool()
            )
            return {"predicted": said.predicted_image_embedding.numpy()}
        if part == "text_proj":
            context, time_term = model(
                image_embeddings=x["image_embedding"], prompt_embeds=x["text_embedding"],
                text_encoder_hidden_states=x["text_hidden"], do_classifier_free_guidance=True,
            )  # fmt: skip
            return {"context": context.numpy(), "time_term": time_term.numpy()}
        if part == "decoder":
            said = model(
                x["sample"], 917, x["context"], class_labels=x["time_term"],
                attention_mask=x["attention_mask"].bool(),
            )  # fmt: skip
            return {"noise": said.sample.numpy()}
        return {"noise": model(x["sample"], 917).sample.numpy()}


@pytest.mark.parametrize("target", ["cpu", "cpu-onnxruntime"])
@pytest.mark.parametrize("part", karlo_weights.FOLDERS)
def test_each_part_says_what_its_reference_says(bundle, models, part, target):
    feeds = feeds_of(bundle, part)
    with open_session(bundle, part, "fp32", target=target) as session:
        got = session.run(feeds)
    wanted = wanted_of(part, models[part], feeds)
    assert set(got) == set(wanted)
    for name, array in wanted.items():
        assert relative(got[name], array) < 1e-3, name


def test_the_largest_timestep_is_exact_in_half_precision(bundle):
    feeds = feeds_of(bundle, "decoder") | {"timestep": np.array([999])}
    with open_session(bundle, "decoder", "fp16", target="cpu-onnxruntime") as session:
        near = session.run(feeds)["noise"]
    with open_session(bundle, "decoder", "fp32", target="cpu-onnxruntime") as session:
        exact = session.run(feeds)["noise"]
    assert relative(near, exact) < 0.02


def test_padding_behind_the_prompt_is_not_read_by_the_prior(bundle):
    feeds = feeds_of(bundle, "prior")
    other = dict(feeds)
    other["text_hidden"] = feeds["text_hidden"].copy()
    other["text_hidden"][:, -7:] += 3
    with open_session(bundle, "prior", "fp32", target="cpu-onnxruntime") as session:
        first, second = session.run(feeds), session.run(other)
    np.testing.assert_allclose(first["predicted"], second["predicted"], atol=1e-6)


def test_parts_say_how_often_they_run(bundle):
    said = {name: part.runs_per for name, part in bundle.manifest.parts.items()}
    assert said == {
        "text": "prompt", "image": "input", "prior": "step", "text_proj": "prompt",
        "decoder": "step", "super_first": "step", "super_last": "prompt",
    }  # fmt: skip
    assert bundle.manifest.unclip == karlo.form(TINY)
    assert all(p.variants["fp32"].cost.uncounted == () for p in bundle.manifest.parts.values())


@pytest.mark.parametrize("part", karlo_weights.FOLDERS)
def test_operations_are_those_that_torch_counts(bundle, part):
    from torch.utils.flop_counter import FlopCounterMode

    described = bundle.part(part)[1]
    feeds = feeds_of(bundle, part)
    module = helper.RECIPE.load(f"random:{SEED}").modules[part]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(*(torch.from_numpy(feeds[spec.name]) for spec in described.inputs))
    counted = described.variants["fp32"].cost.operations_by_precision
    assert sum(counted.values()) == pytest.approx(counter.get_total_flops(), rel=0.02)


# Samples of the inner parts, made of prompts.


@pytest.fixture(scope="module")
def prompts(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("prompts")
    (folder / "prompts.txt").write_text("a red bus\na dog on grass\nan ear tag\n")
    return folder


def items_of(bundle: Bundle, part: str, folder: Path) -> list[Any]:
    described = bundle.part(part)[1]
    files = {n: bundle.path(p.variants["fp32"].file) for n, p in bundle.manifest.parts.items()}
    read = helper.RECIPE.parts[part].items
    return list(read(ItemContext(folder, described, bundle.folder, files)))


@pytest.mark.parametrize(
    ("part", "steps"), [("prior", [999, 666, 333, 0]), ("text_proj", None), ("super_last", [0])]
)
def test_inner_parts_are_sampled_on_the_way_to_a_picture(bundle, prompts, part, steps):
    items = items_of(bundle, part, prompts)
    assert len({item.digest for item in items}) == 3
    for feeds in (feeds for item in items for feeds in item.feeds):
        check_feeds(bundle.part(part)[1].inputs, feeds)
    if steps is not None:
        assert [int(feeds["timestep"][0]) for feeds in items[0].feeds] == steps


def test_the_same_prompts_give_the_same_samples(bundle, prompts):
    first, second = (items_of(bundle, "prior", prompts)[1].feeds for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert all(np.array_equal(one[name], other[name]) for name in one)


# The published checkpoint: the loader was not run on it, but on files of its form.


def group_of(part: str) -> str:
    """A part's tensors in the list; the two that enlarge have the same."""
    return "super_res" if part.startswith("super") else karlo_weights.FOLDERS[part]


@pytest.mark.parametrize("part", karlo_weights.FOLDERS)
def test_documented_names_are_the_models_own(part):
    with torch.device("meta"):
        if part in karlo_weights.ENCODERS:
            architecture = karlo_models.encoder_architecture(part)
            model = architecture(karlo_models.encoder_config(part, KARLO))
        else:
            model = karlo_models.make(part, KARLO)
    own = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    assert own == documented("karlo", group_of(part))


CONFIGS = json.loads((DATA / "karlo.configs.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("part", [p for p in karlo_weights.FOLDERS if p != "image"])
def test_published_configurations_are_those_of_the_recipe(tmp_path, part):
    published = CONFIGS["configs"][karlo_weights.FOLDERS[part]]
    (tmp_path / "config.json").write_text(json.dumps(published))
    wanted = karlo_weights.stated(part, KARLO)
    check_config(tmp_path, wanted)
    assert wanted.keys() <= published.keys()
    if part not in karlo_weights.ENCODERS:  # whatever else it says is the class's default
        more = published.keys() - wanted.keys() - {"sample_size"}
        with torch.device("meta"):
            defaults = dict(karlo_models.make(part, TINY).config)
        said = {n for n in more if not n.startswith("_") and n in defaults}
        assert {n: published[n] for n in said} == {n: defaults[n] for n in said}


def test_published_schedulers_are_those_of_the_stages():
    for name, said in CONFIGS["schedulers"].items():
        facts = karlo.form(KARLO)
        assert said["clip_sample"]
        assert said["clip_sample_range"] == (facts.prior_clip if name == "prior" else 1.0)
        assert said["num_train_timesteps"] == facts.train_steps
        assert (said["prediction_type"] == "sample") == (name == "prior")
        assert (said["variance_type"] == "learned_range") == (name == "decoder")


def test_parameters_are_those_of_the_definitions():
    total = 0
    for part in karlo_weights.FOLDERS:
        shapes = documented("karlo", group_of(part)).values()
        total += sum(int(np.prod(shape)) for shape in shapes)
    assert RECIPES["karlo"].parameters == total == karlo.PARAMETERS


def test_a_checkpoint_is_read_with_every_key_used_once(tmp_path, models):
    folder = helper.published(tmp_path / "saved", models)
    loaded = helper.RECIPE.load(str(folder))
    assert not loaded.weights.random
    assert loaded.weights.licence.startswith("not stated")
    for part, model in models.items():
        read = sorted(p.detach().numpy().tobytes() for p in loaded.modules[part].parameters())
        theirs = sorted(p.detach().numpy().tobytes() for p in model.parameters())
        assert read == theirs, part
    random = helper.RECIPE.load(f"random:{SEED}")
    assert loaded.assets == random.assets
    feeds = {"latents": torch.zeros(2, 24), "timestep": torch.tensor([3])}
    more = (torch.zeros(2, 24), torch.zeros(2, 77, 24), torch.ones(2, 77, dtype=torch.int64))
    with torch.no_grad():
        answers = [source.modules["prior"](*feeds.values(), *more) for source in (loaded, random)]
    torch.testing.assert_close(*answers)


def test_a_checkpoint_in_half_precision_computes_in_float32(tmp_path, models):
    folder = helper.published(tmp_path / "half", models, dtype=torch.float16)
    modules = helper.RECIPE.load(str(folder)).modules
    for part in ("text", "prior"):
        assert {p.dtype for p in modules[part].parameters()} == {torch.float32}


@pytest.mark.parametrize("change", ["drop", "add", "shape"])
def test_a_checkpoint_that_does_not_fit_is_refused(tmp_path, models, change):
    folder = helper.published(tmp_path / "saved", models)
    helper.damage(folder / "decoder", change)
    with pytest.raises(ArtefactError, match=r"conv_in\.(weight|more) *"):
        helper.RECIPE.load(str(folder)).modules["decoder"]


def test_another_size_is_refused_by_its_config(tmp_path, models):
    folder = helper.published(tmp_path / "saved", models)
    path = folder / "prior" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_layers": 5}))
    with pytest.raises(InputError, match="num_layers 5"):
        helper.RECIPE.load(str(folder)).modules["prior"]


def test_a_folder_without_a_model_is_refused(tmp_path, models):
    folder = helper.published(tmp_path / "saved", models)
    (folder / "prior").rename(tmp_path / "away")
    with pytest.raises(InputError, match="no folder prior"):
        helper.RECIPE.load(str(folder))


def test_another_tokenizer_is_refused(tmp_path, models):
    folder = helper.published(tmp_path / "saved", models)
    vocabulary = json.loads((folder / "tokenizer" / "vocab.json").read_text())
    first, second = list(vocabulary)[:2]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (folder / "tokenizer" / "vocab.json").write_text(json.dumps(vocabulary))
    with pytest.raises(InputError, match="another vocabulary"):
        helper.RECIPE.load(str(folder))


def test_packages_ship_no_such_weights():
    with pytest.raises(UsageError, match="No package"):
        helper.RECIPE.load("package")


def test_parts_are_made_anew_each_time():
    modules = helper.RECIPE.load(f"random:{SEED}").modules
    first, second = modules["text_proj"], modules["text_proj"]
    assert first is not second
    assert list(modules) == list(helper.RECIPE.parts)
    assert len(modules) == 7
    with pytest.raises(KeyError):
        modules["vae"]


# Engines.


@pytest.mark.parametrize("target", ["cpu", "rtx-sm86"])
def test_every_part_builds(bundle, tmp_path, target):
    build_all(bundle, tmp_path, target, ("fp16" if target == "rtx-sm86" else "fp32",))


@pytest.mark.long
@pytest.mark.parametrize("target", ["cpu", "rtx-sm86"])
def test_every_other_variant_builds(tmp_path, target):
    made = ("fp32", "int8", "int8w")
    bundle = export_recipe(helper.RECIPE, f"random:{SEED}", Request(tmp_path / "narrow", made))
    build_all(bundle, tmp_path, target, made if target == "rtx-sm86" else made[:2])


def build_all(bundle: Bundle, folder: Path, target: str, asked: tuple[str, ...]) -> None:
    if target == "rtx-sm86":
        pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    copy = Bundle.open(shutil.copytree(bundle.folder, folder / "copy"))
    results = build(copy, target, list(asked))
    wanted = [(part, precision) for part in copy.manifest.parts for precision in asked]
    assert sorted((r.part, r.precision) for r in results) == sorted(wanted)
    assert not any(result.shortfall for result in results)
