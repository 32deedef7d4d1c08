"""What is tried next where a build runs out of memory.

Rules:
    J1  Steps go from what costs the engine least to what costs it most, and add up: a smaller
        workspace, then fewer optimisations, then fewer tactics.
    J2  The next step is taken only where memory ran out. A step that gave too little workspace is
        no failure of the graph: the steps after it go without.
    J3  Every failed attempt is told, with its cause; the last cause is the build's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, TypeVar

from jetlift.engines.trt.diagnosis import Diagnosis
from jetlift.engines.trt.memory import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jetlift.engines.trt.memory import Room
    from jetlift.engines.trt.options import BuildOptions

_SMALLEST_WORKSPACE = 16 * MIB
_FEW_OPTIMIZATIONS = 1  # level 1 drops the search of level 2 and up; 0 goes as far as it can
Made = TypeVar("Made")


@dataclass(frozen=True)
class Step:
    """One attempt.

    Attributes:
        name: What is special about it.
        options: What it is built with.
        fewer_tactics: Whether optional tactic sources are off and tactics are limited.
        shrinks_workspace: Whether it gives less workspace than was asked for.
    """

    name: str
    options: BuildOptions
    fewer_tactics: bool = False
    shrinks_workspace: bool = False


@dataclass(frozen=True)
class Climbed(Generic[Made]):
    """What came of it.

    Attributes:
        made: The result; None where every step failed.
        step: The step that made it, or the last.
        failures: One sentence per step that failed (rule J3).
        last: The last failure; None where the first step made it.
    """

    made: Made | None
    step: Step
    failures: tuple[str, ...]
    last: Diagnosis | None


def steps(options: BuildOptions, has: Room | None) -> list[Step]:
    """The attempts to make, as asked first (rule J1).

    Args:
        options: What was asked for.
        has: What the machine has left; None where it does not tell.
    """
    asked = options.workspace_bytes
    if asked is not None:
        smaller = asked // 2
    else:
        smaller = (has.available_bytes if has is not None else 2048 * MIB) // 4
    smaller = max(_SMALLEST_WORKSPACE, smaller)
    less = replace(options, workspace_bytes=smaller)
    found = [Step("as asked", options)]
    if asked is None or smaller < asked:
        found.append(Step(f"a workspace of {smaller // MIB} MiB", less, shrinks_workspace=True))
    else:
        less = options
    if options.optimization_level > _FEW_OPTIMIZATIONS:
        less = replace(less, optimization_level=_FEW_OPTIMIZATIONS)
        found.append(
            Step(
                f"optimisation level {_FEW_OPTIMIZATIONS} besides", less,
                shrinks_workspace=less.workspace_bytes != asked,
            )
        )  # fmt: skip
    fewest = replace(less, optimization_level=0)
    name = "optimisation level 0 and fewer tactics besides"
    shrinks = fewest.workspace_bytes != asked
    return [*found, Step(name, fewest, fewer_tactics=True, shrinks_workspace=shrinks)]


def climb(
    planned: Sequence[Step],
    attempt: Callable[[Step], Made | Diagnosis],
    notify: Callable[[str], None],
) -> Climbed[Made]:
    """Try one step after the other until one makes it (rules J2 and J3).

    Args:
        planned: The attempts, at least one.
        attempt: Makes one: gives its result, or why there is none.
        notify: Takes a sentence before each further attempt.
    """
    failures: list[str] = []
    last: Diagnosis | None = None
    too_little = False
    asked = planned[0].options.workspace_bytes
    step = planned[0]
    for index, own in enumerate(planned):
        if own.shrinks_workspace and too_little:  # J2
            step = replace(
                own, options=replace(own.options, workspace_bytes=asked), shrinks_workspace=False
            )
        else:
            step = own
        if index:
            notify(f"{failures[-1]}. Trying again with {step.name}")
        made = attempt(step)
        if not isinstance(made, Diagnosis):
            return Climbed(made, step, tuple(failures), last)
        last = made
        failures.append(f"{step.name}: {made.got}")
        too_little = too_little or (made.wants_workspace and step.shrinks_workspace)
        if not made.is_memory and not (made.wants_workspace and step.shrinks_workspace):
            break
    return Climbed(None, step, tuple(failures), last)
