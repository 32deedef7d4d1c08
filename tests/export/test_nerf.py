"""The radiance field as a bundle: parity with torch, both marches, gates, engines, the run."""

from __future__ import annotations

import copy
import gc
import json
import weakref
from collections.abc import Mapping
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from jetlift.cli import app
from jetlift.export import scene
from jetlift.export.make import Request, export_recipe
from jetlift.export.radiance import FieldConfig
from jetlift.export.recipes import nerf
from jetlift.export.recipes.base import PartRecipe
from jetlift.export.recipes.nerf_samples import SIDE, point_items, ray_items
from jetlift.export.samples import ItemContext
from jetlift.export.train_nerf import Request as TrainRequest
from jetlift.export.train_nerf import train
from jetlift.runtime.errors import ArtefactError, InputError
from jetlift.runtime.poses import orbit
from jetlift.runtime.rays import camera_rays
from jetlift.runtime.session import open_session

CONFIG = FieldConfig(resolutions=(8, 16), channels=4, hidden=16, geometry=7)
OPT = 64
SCENE = replace(nerf.RANDOM_SCENE, samples=12, size_wh=(20, 12), focal_px=20.0)


def tiny(source: str | None):
    return nerf.random_field(int(source.partition(":")[2]), CONFIG, SCENE)


def small(part: PartRecipe) -> PartRecipe:
    """The same part, made and measured at fewer rays or points."""
    return replace(part, inputs=tuple(replace(i, opt_shape=(OPT, 3)) for i in part.inputs))


PARTS = {"rays": small(nerf.RAYS), "field": small(nerf.FIELD)}
TINY = replace(nerf.RECIPE, load=tiny, parts=PARTS)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    out = tmp_path_factory.mktemp("nerf") / "bundle"
    return export_recipe(TINY, "random:7", Request(out, ("fp32",)))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder of pictures, and weights of a few steps on them."""
    folder = tmp_path_factory.mktemp("nerf") / "scene"
    scene.write_scene(folder, views=24, size=24)
    weights = folder.parent / "w.safetensors"
    facts = train(TrainRequest(folder, weights, 30, 12, CONFIG))
    return folder, weights, facts


def feeds_of(count: int) -> dict[str, np.ndarray]:
    rays = [camera_rays(pose, (20, 12), 20.0) for pose in orbit(3, SCENE)]
    origins, directions = (np.concatenate(rows)[:count] for rows in zip(*rays, strict=True))
    return {"origins": origins, "directions": directions}


@pytest.mark.parametrize("target", ["cpu", "cpu-onnxruntime"])
def test_graphs_answer_as_torch_does(bundle, target):
    modules, rays = tiny("random:7").modules, feeds_of(500)
    points = rays["origins"] + 3.6 * rays["directions"]
    spots = {"points": points, "directions": rays["directions"]}
    for part, feeds in (("rays", rays), ("field", spots)):
        with torch.no_grad():
            wanted = modules[part](*(torch.from_numpy(array) for array in feeds.values()))
        with open_session(bundle, part, "fp32", target=target) as session:
            got = session.run(feeds)
            few = session.run({name: array[:1] for name, array in feeds.items()})
        for (name, array), reference in zip(got.items(), wanted, strict=True):
            largest = max(1.0, float(reference.abs().max()))
            assert np.abs(array - reference.numpy()).max() / largest < 1e-4, (part, name)
            np.testing.assert_allclose(few[name], array[:1], atol=1e-4)


def test_parameters_and_cost_are_those_on_paper(bundle):
    assert nerf.parameters(CONFIG) == bundle.part("rays")[1].parameters
    assert nerf.parameters(FieldConfig()) == nerf.RECIPE.parameters
    per_point = 8 * 16 + 16 * 8 + 7 * 16 + 16 * 3
    cost = bundle.variant("rays", "fp32").cost
    assert not cost.uncounted
    macs = OPT * (12 * per_point + 8 * 16)
    assert sum(cost.weighted_operations_by_precision.values()) == pytest.approx(2 * macs, rel=1e-6)


def test_run_makes_a_film_of_an_orbit_and_pictures_of_a_file(bundle, tmp_path):
    runner = CliRunner()
    folder, out = str(bundle.folder), tmp_path / "out"
    refused = runner.invoke(app, ["run", folder, "orbit:2", "-o", str(out)])
    assert refused.exit_code != 0
    done = runner.invoke(app, ["run", folder, "orbit:3", "-o", str(out), "--allow-random"])
    assert done.exit_code == 0, done.output
    lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert [line["index"] for line in lines] == [0, 1, 2]
    assert {line["weights"] for line in lines} == {"random"}
    assert lines[1]["time_s"] == pytest.approx(1 / 30)
    film = cv2.VideoCapture(str(out / "annotated.mp4"))
    assert film.get(cv2.CAP_PROP_FRAME_COUNT) == 3
    film.release()
    arrays = arrays_of(out)
    assert arrays["depth"].shape == (3, 12, 20)
    outside = ["run", folder, "orbit:3", "--part", "field", "-o", str(tmp_path / "field")]
    done = runner.invoke(app, [*outside, "--allow-random"])
    assert done.exit_code == 0, done.output
    again = arrays_of(tmp_path / "field")
    np.testing.assert_allclose(again["opacity"], arrays["opacity"], atol=1e-4)
    np.testing.assert_allclose(again["depth"], arrays["depth"], atol=1e-3)


def arrays_of(folder):
    with np.load(folder / "results.npz") as archive:
        return dict(archive)


def test_a_file_of_poses_gives_pictures(bundle, trained, tmp_path):
    poses, out = trained[0] / "transforms.json", tmp_path / "views"
    asked = ["run", str(bundle.folder), str(poses), "--limit", "2", "-o", str(out)]
    done = CliRunner().invoke(app, [*asked, "--allow-random"])
    assert done.exit_code == 0, done.output
    assert len(list((out / "pictures").glob("transforms_*.render.png"))) == 2
    assert not (out / "annotated.mp4").exists()


def test_weights_carry_their_network_scene_and_figures(trained):
    _, weights, facts = trained
    loaded = nerf.load(str(weights))
    assert loaded.radiance == replace(facts.radiance, occupancy=nerf.OCCUPANCY)
    assert not loaded.weights.random
    assert "held-out views: PSNR" in loaded.weights.note
    assert loaded.modules["rays"].samples == 12
    with pytest.raises(InputError, match="no published weights"):
        nerf.load(None)
    with pytest.raises(InputError, match="no file"):
        nerf.load("nowhere.safetensors")


def test_weights_that_are_others_are_refused(trained, tmp_path):
    from safetensors.torch import load_file, save_file

    from jetlift.export.radiance import save_weights

    _, weights, facts = trained
    state = load_file(weights)
    save_file(state, tmp_path / "bare.safetensors")
    with pytest.raises(InputError, match="no radiance field"):
        nerf.load(str(tmp_path / "bare.safetensors"))
    short = {name: value for name, value in state.items() if name != "paint.bias"}
    save_weights(tmp_path / "short.safetensors", short, facts)
    with pytest.raises(ArtefactError, match="do not fit"):
        nerf.load(str(tmp_path / "short.safetensors"))


def test_samples_are_seen_views_then_held_out_ones(bundle, trained):
    context = ItemContext(trained[0], bundle.part("rays")[1], bundle.folder, {})
    rays, points = ray_items(context), point_items(context)
    assert len(rays) == len(points) == 6
    assert rays[0].feeds[0]["origins"].shape == (24 * 24, 3)
    assert SIDE == 24
    assert points[0].feeds[0]["points"].shape == (24 * 24 * 12, 3)
    assert len({item.digest for item in rays}) == 6


def test_variants_are_judged_by_held_out_views(trained, tmp_path):
    folder, weights, _ = trained
    request = Request(tmp_path / "out", ("fp32", "fp16", "int8"), samples=folder, keep=True)
    one = replace(nerf.RECIPE, parts={"rays": PARTS["rays"]})
    made = export_recipe(one, str(weights), request)
    for precision in ("fp16", "int8"):
        fidelity = made.variant("rays", precision).fidelity
        assert fidelity.samples.count == 3
        assert {"psnr", "psnr_fp32", "psnr_to_fp32_mean"} <= fidelity.figures.keys()
    assert made.variant("rays", "fp16").fidelity.met
    kept = made.variant("rays", "fp16").kept_wide
    assert kept
    assert all("makes the places that" in told for told in kept)
    assert made.variant("rays", "int8").quantisation.int8_share > 0.9
    assert made.manifest.radiance.occupancy == nerf.OCCUPANCY


class MadeAnew(Mapping):
    """Modules that are made when they are asked for; it knows which are still there."""

    def __init__(self, modules):
        self.modules, self.made, self.left = modules, [], []

    def __getitem__(self, part):
        gc.collect()
        self.left.append([name for name, module in self.made if module() is not None])
        module = copy.deepcopy(self.modules[part])
        self.made.append((part, weakref.ref(module)))
        return module

    def __iter__(self):
        return iter(self.modules)

    def __len__(self):
        return len(self.modules)


def test_without_samples_one_part_is_in_memory_at_a_time(tmp_path):
    loaded = tiny("random:7")
    modules = MadeAnew(loaded.modules)
    recipe = replace(TINY, load=lambda _source: replace(loaded, modules=modules))
    export_recipe(recipe, "random:7", Request(tmp_path / "out", ("fp32", "fp16")))
    assert [name for name, _ in modules.made] == ["rays", "field"]
    assert modules.left == [[], []]


@pytest.mark.parametrize("target", ["rtx-sm86", "cpu"])
def test_every_part_builds(bundle, target, tmp_path):
    import shutil

    from jetlift.engines.build import build
    from jetlift.runtime.bundle import Bundle

    if target == "rtx-sm86":
        pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    copy = Bundle.open(shutil.copytree(bundle.folder, tmp_path / "copy"))
    results = build(copy, target, ["fp32"])
    assert [result.part for result in results] == ["rays", "field"]
    assert not any(result.shortfall for result in results)


@pytest.mark.long
@pytest.mark.parametrize("target", ["rtx-sm86", "cpu"])
def test_every_variant_builds(target, tmp_path):
    from jetlift.engines.build import build

    if target == "rtx-sm86":
        pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    made = export_recipe(TINY, "random:7", Request(tmp_path / "all", ("fp32", "fp16", "int8")))
    for result in build(made, target, ["fp16", "int8"]):
        assert not result.shortfall, result
