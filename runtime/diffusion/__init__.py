"""Noise schedules and their solvers for the device, in numpy; which there are, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jetlift.runtime.diffusion.base import Scheduler
from jetlift.runtime.diffusion.solvers import Ddim, DpmSolver, Euler, Solver
from jetlift.runtime.errors import UnknownNameError

if TYPE_CHECKING:
    from jetlift.runtime.task_forms import Diffusion

__all__ = ["SCHEDULERS", "Scheduler", "make_scheduler"]

SCHEDULERS: dict[str, type[Ddim | Euler | DpmSolver]] = {
    "ddim": Ddim,
    "euler": Euler,
    "dpm++": DpmSolver,
}


def make_scheduler(facts: Diffusion, name: str, steps: int, start: int = 0) -> Solver:
    """A solver of the checkpoint's schedule, for one picture.

    Args:
        facts: The checkpoint's schedule.
        name: One of SCHEDULERS.
        steps: Number of steps of the whole schedule.
        start: How many of them to leave out at its begin.

    Raises:
        UnknownNameError: There is no such solver.
        UsageError: There are more steps than the model was trained with, or none.
    """
    if name not in SCHEDULERS:
        raise UnknownNameError(
            f"There is no scheduler {name!r}", expected=f"One of {', '.join(SCHEDULERS)}"
        )
    return SCHEDULERS[name](facts, steps, start)
