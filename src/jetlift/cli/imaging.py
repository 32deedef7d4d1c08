"""Options of the tasks that make pictures."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

TASKS = ("text-to-image", "image-to-image", "inpaint", "variations")

NegativeOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--negative", help="For pictures that are made: what they should not show."),
]
StepsOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--steps", help="Steps from noise to a picture; the model's own if not given."),
]
GuidanceOption = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option("--guidance", help="How much the words weigh; 1 adds nothing to them."),
]
StrengthOption = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option("--strength", help="How far a given picture is changed, 0 to 1."),
]
MaskOption = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--mask", help="For --task inpaint: a picture that is white where to paint."),
]
SchedulerOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--scheduler", help="Solver of the noise schedule, as in ddim or euler."),
]
StepImagesOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--step-images", help="How many pictures on the way to keep as well."),
]
CountOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--count", help="How many pictures to make of each input; 1 if not given."),
]


@dataclass(frozen=True)
class Imaging:
    """What a user says of how to make pictures; None where nothing."""

    negative: str | None = None
    steps: int | None = None
    guidance: float | None = None
    strength: float | None = None
    mask: Path | None = None
    scheduler: str | None = None
    step_images: int | None = None
    count: int | None = None


def artefacts(
    task: str, imaging: Imaging, prompts: tuple[str, ...], seed: int | None
) -> dict[str, Any]:
    """What a task takes of these options.

    Args:
        task: Name of the task.
        imaging: What was given.
        prompts: Words for a picture that is the input.
        seed: Where draws begin.

    Raises:
        UsageError: Another task got one of them, or one is out of its range.
        InputError: The mask cannot be read.
    """
    from jetlift.runtime.errors import UsageError

    given = {
        item.name: value
        for item in fields(Imaging)
        if (value := getattr(imaging, item.name)) is not None
    }
    if task not in TASKS:
        if given:
            named = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise UsageError(
                f"Task {task} got {named}", expected=f"These for --task {', '.join(TASKS)}"
            )
        return {}
    from jetlift.runtime.imaging import ImagingOptions

    if imaging.mask is not None:
        given["mask"] = _grey(imaging.mask)
    return {"options": ImagingOptions(prompts=prompts, seed=seed, **given)}


def _grey(path: Path) -> npt.NDArray[np.uint8]:
    """A mask as uint8 [H, W]."""
    import cv2
    import numpy as np

    from jetlift.runtime.sources import frame_at

    return np.asarray(cv2.cvtColor(frame_at(str(path), 0), cv2.COLOR_BGR2GRAY), np.uint8)
