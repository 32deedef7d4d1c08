"""A compact radiance field: camera rays to colours, trained on one's own pictures of one scene.

Mildenhall et al., NeRF, arXiv 2003.08934; planes of features after Fridovich-Keil et al.,
K-Planes, arXiv 2301.10241, or a hash grid after Mueller et al., arXiv 2201.05989. The network is
this project's own (export/radiance_modules.py), and so are its weights: there is no published
checkpoint, `python -m jetlift.export.train_nerf` makes one (docs/nerf.md).

Parts: `rays` has the march inside, so that one run of the engine is a batch of finished pixels.
`field` tells density and colour of points, for a march outside that leaves out what an occupancy
grid knows to be empty. The weights decide the network, the scene and the camera; batches are the
same for all.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jetlift.export import random_weights
from jetlift.export.radiance import FieldConfig, RadianceFacts, facts_of
from jetlift.export.recipes import nerf_samples
from jetlift.export.recipes.base import Loaded, PartRecipe, Recipe
from jetlift.export.weights import PACKAGE_WORD, read_safetensors
from jetlift.runtime import jsonform
from jetlift.runtime.bundle import sha256_of
from jetlift.runtime.errors import ArtefactError, InputError
from jetlift.runtime.manifest import TensorSpec, Weights
from jetlift.runtime.task_forms import PosePreprocess, Radiance

if TYPE_CHECKING:
    import torch

    from jetlift.export.radiance_modules import Network

TITLE = "Radiance field"
OCCUPANCY = "assets/occupancy.npy"
_GRID = "occupancy"
# 40 dB is a difference of one hundredth of the range, root mean square: 2.5 of 255 levels. Where
# it is independent of fp32's own error it costs a view of 31 dB half a decibel, which is what the
# second line allows at most.
BUDGET = "psnr_to_fp32_mean>=40, psnr>=-0.5, ssim>=-0.01"
_MAKE = "Train one with: python -m jetlift.export.train_nerf FOLDER -o weights.safetensors"
# Stands in for a trained scene where weights are random: a box of 3 around the origin.
RANDOM_SCENE = Radiance(
    rays="rays", points="field", size_wh=(128, 128), focal_px=177.8, near=0.04,
    background_rgb=(1.0, 1.0, 1.0), centre_xyz=(0.0, 0.0, 0.0), half_xyz=(1.5, 1.5, 1.5),
    march_low_xyz=(-1.5, -1.5, -1.5), march_high_xyz=(1.5, 1.5, 1.5), samples=96,
    orbit_radius=4.0, orbit_elevation_deg=30.0,
)  # fmt: skip
# Positions in the scene, read in the planes and, with a hash grid, in its tables: a distance of 4
# has steps of 0.004 in 16 bits. Found by a search, this took thousands of runs of the graph.
PLACES = {"GridSample": 1, "Gather": 1}


def vectors(name: str, axis: str, opt: int, most: int) -> TensorSpec:
    """An input of vectors, float32 [axis, 3]."""
    return TensorSpec(
        name=name,
        dtype="float32",
        shape=(axis, 3),
        min_shape=(1, 3),
        opt_shape=(opt, 3),
        max_shape=(most, 3),
    )


RAYS = PartRecipe(
    inputs=(vectors("origins", "rays", 4096, 16_384), vectors("directions", "rays", 4096, 16_384)),
    output_names=("rgb", "depth", "opacity"),
    preprocess=PosePreprocess("poses", positions="origins", directions="directions"),
    budget=BUDGET,
    metric=nerf_samples.ray_metric,
    items=nerf_samples.ray_items,
    runs_per="ray_batch",
    exact_inputs=PLACES,
)
FIELD = PartRecipe(
    inputs=(
        vectors("points", "points", 32_768, nerf_samples.MOST_POINTS),
        vectors("directions", "points", 32_768, nerf_samples.MOST_POINTS),
    ),
    output_names=("density", "colour"),
    preprocess=PosePreprocess("poses", positions="points", directions="directions"),
    budget=BUDGET,
    metric=nerf_samples.point_metric,
    items=nerf_samples.point_items,
    runs_per="ray_batch",
    exact_inputs=PLACES,
)


def load(source: str | None) -> Loaded:
    """Build the modules from a file of weights, or the word 'random'.

    Raises:
        InputError: There is no such file, or it is none of a radiance field.
        ArtefactError: The weights do not fit what the file says of them.
    """
    seed = random_weights.seed_of(source)
    if seed is not None:
        return random_field(seed, FieldConfig(), RANDOM_SCENE)
    if source is None or source == PACKAGE_WORD:
        raise InputError(
            "A radiance field has no published weights: each is of one scene", do=_MAKE
        )
    file = Path(source).expanduser()
    if not file.is_file():
        raise InputError(f"There is no file {file}", do=_MAKE)
    facts = facts_of(file)
    state = read_safetensors(file)
    grid = state.pop(_GRID, None)
    described = Weights(
        source=file.name,
        licence="that of the pictures it was trained on",
        sha256=sha256_of(file),
        note=_note(facts),
        random=False,
    )
    return _loaded(described, _network(facts, state, file), facts, grid)


def random_field(seed: int, config: FieldConfig, scene: Radiance) -> Loaded:
    """A field with random weights, every cell of its scene occupied."""
    import torch

    from jetlift.export.radiance_modules import Network

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network(config)
    facts = RadianceFacts(config, scene)
    grid = np.ones((16, 16, 16), bool)
    return _loaded(random_weights.describe(seed, TITLE), network, facts, grid)


def _loaded(
    described: Weights, network: Network, facts: RadianceFacts, grid: np.ndarray | None
) -> Loaded:
    from dataclasses import replace

    from jetlift.export.radiance_modules import FieldPart, RaysPart

    assets: dict[str, Path | bytes] = {nerf_samples.FACTS: jsonform.dumps(facts).encode()}
    scene = facts.radiance
    if grid is not None:
        buffer = io.BytesIO()
        np.save(buffer, grid.astype(bool), allow_pickle=False)
        assets[OCCUPANCY] = buffer.getvalue()
        scene = replace(scene, occupancy=OCCUPANCY)
    modules: dict[str, torch.nn.Module] = {
        "rays": RaysPart(network, scene).eval(),
        "field": FieldPart(network, scene).eval(),
    }
    return Loaded(described, modules, assets, radiance=scene)


def _network(facts: RadianceFacts, state: dict[str, np.ndarray], file: Path) -> Network:
    import torch

    from jetlift.export.radiance_modules import Network

    network = Network(facts.field_config)
    try:
        network.load_state_dict({name: torch.from_numpy(np.array(a)) for name, a in state.items()})
    except RuntimeError as error:
        raise ArtefactError(
            f"The weights in {file} do not fit what it says of them: {str(error).splitlines()[-1]}",
            do=_MAKE,
        ) from error
    return network


def _note(facts: RadianceFacts) -> str:
    training = facts.training
    if training is None or training.held_out_psnr is None:
        return "A radiance field of one scene; no views were held out"
    return (
        f"A radiance field of one scene, {training.steps} steps on {training.views} pictures; "
        f"{training.held_out_views} held-out views: PSNR {training.held_out_psnr:.2f} dB, "
        f"SSIM {training.held_out_ssim:.3f}"
    )


def parameters(config: FieldConfig) -> int:
    """Trained parameters of a network with planes, by its sizes."""
    features = config.channels * len(config.resolutions)
    planes = 3 * config.channels * sum(side**2 for side in config.resolutions)
    width = config.hidden
    trunk = (features + 1) * width + (config.layers - 1) * (width + 1) * width
    shape = (width + 1) * (config.geometry + 1)
    return planes + trunk + shape + (config.geometry + 9) * width + (width + 1) * 3


RECIPE = Recipe(
    name="nerf",
    title=TITLE,
    tasks=("render",),
    hub_id="none: train_nerf makes weights of your own pictures",
    licence="none: the weights are your own",
    packaged=None,
    parameters=parameters(FieldConfig()),
    parts={"rays": RAYS, "field": FIELD},
    load=load,
    random=True,
)
