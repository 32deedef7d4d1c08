"""What a user says of pictures to be made; None leaves a choice to the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jetlift.runtime.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class ImagingOptions:
    """How pictures are made.

    Attributes:
        prompts: What to make of a picture that is the input; empty where the inputs are words.
        negative: What the picture should not be.
        steps: Steps of the noise schedule.
        guidance: Weight of the words against none; 1 leaves them as they are.
        strength: How far a given picture is changed, 0 to 1.
        mask: uint8 [H, W], where a given picture is to be made anew: above 127.
        scheduler: Name of the noise schedule's solver.
        seed: Where draws begin; by chance, and told, where it is None.
        step_images: How many pictures on the way to show beside the last.
        count: How many pictures per input.

    Raises:
        UsageError: A value is outside its range.
    """

    prompts: tuple[str, ...] = ()
    negative: str | None = None
    steps: int | None = None
    guidance: float | None = None
    strength: float | None = None
    mask: npt.NDArray[np.uint8] | None = None
    scheduler: str | None = None
    seed: int | None = None
    step_images: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        _within("--steps", self.steps, 1, 1000)
        _within("--guidance", self.guidance, 0.0, 100.0)
        _within("--strength", self.strength, 0.0, 1.0)
        _within("--seed", self.seed, 0, 2**63 - 1)
        _within("--step-images", self.step_images, 0, 1000)
        _within("--count", self.count, 1, 64)


def _within(name: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not low <= value <= high:  # NaN is in no range
        raise UsageError(f"Got {name} {value:g}", expected=f"A number from {low:g} to {high:g}")
