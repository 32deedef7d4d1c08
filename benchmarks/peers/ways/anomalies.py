"""Features of one picture in, a map of distances out: PaDiM's scoring, its features left out.

An input has `features`, float32 [pictures, patches, dims] of good pictures to fit on, `tokens`
float32 [patches, dims] of one to judge, and `grid_hw`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Inputs = Sequence[Mapping[str, Any]]
    Arguments = Mapping[str, Any]
    Run = Callable[[int], Mapping[str, Any]]

_GROWN = 14  # pixels of the map per patch


def jetlift(inputs: Inputs, _threads: int, _arguments: Arguments) -> Run:
    """Jetlift's Gaussians and its heat map."""
    padim: Any = importlib.import_module("jetlift.runtime.tasks.padim")
    fitted = padim.fit_gaussians(inputs[0]["features"])

    def run(index: int) -> Mapping[str, Any]:
        grid = [int(side) for side in inputs[index]["grid_hw"]]
        distances = fitted.distances(inputs[index]["tokens"])
        size_wh = (grid[1] * _GROWN, grid[0] * _GROWN)
        return {
            "distances": distances,
            "map": padim.heat_map(distances, (grid[0], grid[1]), size_wh, size_wh),
        }

    return run


def anomalib(inputs: Inputs, threads: int, _arguments: Arguments) -> Run:
    """Anomalib's Gaussians and its anomaly map."""
    torch: Any = importlib.import_module("torch")
    torch.set_num_threads(threads)
    gaussian: Any = importlib.import_module("anomalib.models.components").MultiVariateGaussian
    maps: Any = importlib.import_module("anomalib.models.image.padim.anomaly_map")
    grid = [int(side) for side in inputs[0]["grid_hw"]]
    fitted = gaussian()
    fitted.fit(_planes(torch, inputs[0]["features"], grid))
    generator = maps.AnomalyMapGenerator()
    planes = [_planes(torch, given["tokens"][None], grid) for given in inputs]
    stats = [fitted.mean, fitted.inv_covariance]

    def run(index: int) -> Mapping[str, Any]:
        with torch.inference_mode():
            distances = generator.compute_distance(embedding=planes[index], stats=stats)
            size = (grid[0] * _GROWN, grid[1] * _GROWN)
            grown = generator.smooth_anomaly_map(generator.up_sample(distances, size))
        return {"distances": distances.numpy().reshape(-1), "map": grown.numpy()[0, 0]}

    return run


def _planes(torch: Any, features: Any, grid: list[int]) -> Any:  # noqa: ANN401
    """[pictures, patches, dims] to [pictures, dims, rows, columns]."""
    pictures, _, dims = features.shape
    return torch.from_numpy(features).permute(0, 2, 1).reshape(pictures, dims, *grid).contiguous()


WAYS: dict[str, Callable[[Inputs, int, Arguments], Run]] = {
    "jetlift": jetlift,
    "anomalib": anomalib,
}
