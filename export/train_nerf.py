"""Trains a compact radiance field on a folder of pictures: the script behind the recipe `nerf`.

    python -m jetlift.export.scene -o scene
    python -m jetlift.export.train_nerf scene -o weights.safetensors
    jetlift export nerf --weights weights.safetensors --samples scene -o nerf

Rules:
    D1  A run that was stopped goes on where it was last kept, with the same arguments; with others
        it is refused. What is kept lies beside the weights, as WEIGHTS.resume.
    D2  The weights appear whole, at the end.
    D3  Held-out views are rendered as the exported graph renders them, and never trained on.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.export.radiance import (
    FieldConfig,
    RadianceFacts,
    Training,
    View,
    facts_of,
    read_views,
    save_weights,
)
from jetlift.runtime.errors import InputError, JetliftError, MissingPackageError, UsageError
from jetlift.runtime.poses import about
from jetlift.runtime.task_forms import Radiance

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jetlift.export.radiance_trainer import Rays, Trainer

    Tell = Callable[[str], None]

# A share of the cameras' distance: Blender's scenes, seen from 4.03, lie within 1.5 of the middle.
BOX_SHARE = 0.375
NEAR_SHARE = 0.01
_KEEP_EVERY_S = 60.0
_TELL_EVERY = 100


@dataclass(frozen=True)
class Request:
    """What to train.

    Attributes:
        folder: Pictures with transforms.json.
        out: The weights' file.
        steps: Steps in all.
        samples: Samples along a ray, in training and in the exported graph.
        config: The network.
        half_side: Half the side of the scene's box; None takes BOX_SHARE.
        seed: Of every draw.
        rate: First learning rate.
        points: Samples computed per step, about.
    """

    folder: Path
    out: Path
    steps: int = 4000
    samples: int = 96
    config: FieldConfig = FieldConfig()
    half_side: float | None = None
    seed: int = 0
    rate: float = 2e-2
    points: int = 12_000

    @property
    def kept(self) -> Path:
        """Where a run under way is kept (rule D1)."""
        return self.out.with_name(f"{self.out.name}.resume")


def train(request: Request, tell: Tell = lambda _line: None) -> RadianceFacts:
    """Train, and write the weights (rules D1 to D3).

    Raises:
        UsageError: A number is out of its range.
        InputError: The folder has no pictures to train on, or another run is kept.
        MissingPackageError: torch or safetensors is not installed.
    """
    _check(request)
    try:
        from jetlift.export.radiance_trainer import Pace, Trainer
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            error.name or "torch", extra="export", purpose="to train a radiance field"
        ) from error
    views, held_out = read_views(request.folder)
    if not views:
        raise InputError(f"{request.folder} has no view to train on", expected="At least 2 views")
    tell(f"{len(views)} views to train on, {len(held_out)} held out")
    trainer = Trainer(
        request.config,
        scene_of(views, request),
        request.seed,
        Pace(request.steps, request.rate, request.points),
    )
    seconds = _go_on(trainer, request, tell)
    seconds = _steps(trainer, rays_of(views), request, seconds, tell)
    psnr, ssim = held_out_figures(trainer, held_out)
    training = Training(
        trainer.step, request.seed, round(seconds, 1), len(views), len(held_out), psnr, ssim
    )
    facts = RadianceFacts(request.config, trainer.scene, training)
    grid = {"occupancy": trainer.occupied()}
    save_weights(request.out, trainer.network.state_dict() | grid, facts)
    request.kept.unlink(missing_ok=True)
    tell(_told(training))
    return facts


def _check(request: Request) -> None:
    if (
        request.steps < 1
        or not 4 <= request.samples <= 512
        or min(request.rate, request.points) <= 0
    ):
        raise UsageError(
            f"Got {request.steps} steps, {request.samples} samples, rate {request.rate:g}",
            expected="At least 1 step, 4 to 512 samples, a rate above 0",
        )
    if request.half_side is not None and request.half_side <= 0:
        raise UsageError(f"Got a box of {request.half_side:g}", expected="Above 0")


def scene_of(views: Sequence[View], request: Request) -> Radiance:
    """The scene's box and camera, from where its pictures were taken."""
    centre, radius, elevation = about([view.pose for view in views])
    half = request.half_side or BOX_SHARE * radius
    height, width = views[0].rgba.shape[:2]
    transparent = any(bool((view.rgba[..., 3] < 1).any()) for view in views)
    return Radiance(
        rays="rays",
        points="field",
        size_wh=(width, height),
        focal_px=views[0].capture.lens((width, height)).focal_px[0],
        near=NEAR_SHARE * radius,
        background_rgb=(1.0, 1.0, 1.0) if transparent else (0.0, 0.0, 0.0),
        centre_xyz=tuple(map(float, centre)),
        half_xyz=(half,) * 3,
        march_low_xyz=tuple(float(value - half) for value in centre),
        march_high_xyz=tuple(float(value + half) for value in centre),
        samples=request.samples,
        orbit_radius=radius,
        orbit_elevation_deg=elevation,
    )


def rays_of(views: Sequence[View]) -> Rays:
    """All pixels of the views as rays."""
    import torch

    from jetlift.export.radiance_trainer import Rays

    pairs = [view.rays() for view in views]
    rgba = np.concatenate([view.rgba.reshape(-1, 4) for view in views])
    origins, directions = (np.concatenate(rows) for rows in zip(*pairs, strict=True))
    has_alpha = bool((rgba[:, 3] < 1).any())
    first, second, third = (torch.from_numpy(rows) for rows in (origins, directions, rgba))
    return Rays(first, second, third, has_alpha)


def _steps(trainer: Trainer, rays: Rays, request: Request, before_s: float, tell: Tell) -> float:
    """Step to the end, keeping the run now and then; seconds it took in all."""
    start = kept = time.monotonic()
    try:
        while trainer.step < request.steps:
            error = trainer.advance(rays)
            now = time.monotonic()
            if trainer.step % _TELL_EVERY == 0:
                noise = -10 * float(np.log10(max(error, 1e-12)))
                done = f"step {trainer.step} of {request.steps}"
                tell(f"{done}: {noise:.1f} dB on its rays, {before_s + now - start:.0f} s")
            if now - kept > _KEEP_EVERY_S:
                _keep(trainer, request, before_s + now - start)
                kept = now
    except KeyboardInterrupt:
        _keep(trainer, request, before_s + time.monotonic() - start)
        tell(f"Stopped at step {trainer.step}; the same command goes on from here")
        raise
    return before_s + time.monotonic() - start


def _keep(trainer: Trainer, request: Request, seconds: float) -> None:
    training = Training(trainer.step, request.seed, seconds, 0, 0, None, None)
    facts = RadianceFacts(request.config, trainer.scene, training)
    save_weights(request.kept, trainer.kept_state(), facts)


def _go_on(trainer: Trainer, request: Request, tell: Tell) -> float:
    """Load the kept run, if there is one; seconds it took so far (rule D1)."""
    if not request.kept.is_file():
        return 0.0
    from safetensors.torch import load_file

    facts = facts_of(request.kept)
    same = replace(
        facts.radiance,
        march_low_xyz=trainer.scene.march_low_xyz, march_high_xyz=trainer.scene.march_high_xyz,
    )  # fmt: skip
    training = facts.training
    if training is None or (facts.field_config, same, training.seed) != (
        request.config, trainer.scene, request.seed,
    ):  # fmt: skip
        raise InputError(
            f"{request.kept} is of a run with other arguments",
            do="Give its arguments again, or remove the file to begin anew",
        )
    trainer.restore(load_file(request.kept), facts.radiance, training.steps)
    tell(f"Going on from step {training.steps}")
    return training.seconds


def held_out_figures(
    trainer: Trainer, held_out: Sequence[View]
) -> tuple[float | None, float | None]:
    """Mean PSNR in dB and mean SSIM over held-out views (rule D3); None where there are none."""
    if not held_out:
        return None, None
    from jetlift.export.fidelity.pictures import psnr, ssim

    figures = []
    for view in held_out:
        wanted = view.over(trainer.scene.background_rgb).astype(np.float64)
        got = np.clip(picture_of(trainer, view), 0, 1).astype(np.float64)
        pair = (wanted.transpose(2, 0, 1), got.transpose(2, 0, 1))
        figures.append((psnr(*pair), ssim(*pair)))
    means = np.mean(figures, axis=0)
    return round(float(means[0]), 3), round(float(means[1]), 4)


def picture_of(trainer: Trainer, view: View) -> Any:  # noqa: ANN401 - float32 [H, W, 3]
    """A view as the field renders it, float32 [H, W, 3] RGB."""
    import torch

    from jetlift.export.radiance_trainer import rendered

    origins, directions = (torch.from_numpy(rows) for rows in view.rays())
    rgb = rendered(trainer.network, trainer.scene, origins, directions)
    return rgb.numpy().reshape(*view.rgba.shape[:2], 3)


def _told(training: Training) -> str:
    if training.held_out_psnr is None:
        return f"{training.steps} steps, {training.seconds:.0f} s; no views were held out"
    return (
        f"{training.steps} steps, {training.seconds:.0f} s; held-out views: PSNR "
        f"{training.held_out_psnr:.2f} dB, SSIM {training.held_out_ssim:.3f}"
    )


def _parsed(arguments: Sequence[str] | None) -> Request:
    parser = argparse.ArgumentParser(
        prog="python -m jetlift.export.train_nerf",
        description="Train a radiance field on a folder of pictures with transforms.json.",
    )
    standard, field = Request(Path(), Path()), FieldConfig()
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True, help="weights.safetensors")
    parser.add_argument("--steps", type=int, default=standard.steps)
    parser.add_argument("--samples", type=int, default=standard.samples, help="along a ray")
    parser.add_argument("--encoding", choices=("planes", "hash", "positional"), default="planes")
    parser.add_argument("--resolutions", type=int, nargs="+", default=field.resolutions)
    parser.add_argument("--channels", type=int, default=field.channels)
    parser.add_argument("--hidden", type=int, default=field.hidden)
    parser.add_argument("--layers", type=int, default=field.layers)
    parser.add_argument("--half-side", type=float, help="half the side of the scene's box")
    parser.add_argument("--rate", type=float, default=standard.rate)
    parser.add_argument("--points", type=int, default=standard.points, help="samples per step")
    parser.add_argument("--seed", type=int, default=standard.seed)
    given = parser.parse_args(arguments)
    config = FieldConfig(
        encoding=given.encoding, resolutions=tuple(given.resolutions), channels=given.channels,
        hidden=given.hidden, layers=given.layers,
    )  # fmt: skip
    return Request(
        given.folder, given.out, given.steps, given.samples, config, given.half_side, given.seed,
        given.rate, given.points,
    )  # fmt: skip


def _show(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """The script; its exit code."""
    try:
        train(_parsed(arguments), _show)
    except JetliftError as error:
        _show(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
