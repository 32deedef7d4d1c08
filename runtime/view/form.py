"""What the page of a run is told, beside the forms of the pipeline itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from jetlift.runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    import numpy.typing as npt

    from jetlift.runtime.pipeline.form import Result, Snapshot
    from jetlift.runtime.record import Figure

Shows = Literal["drawn", "input", "nothing"]


@dataclass(frozen=True)
class BudgetLine:
    """One limit of a budget and where the run stands.

    Attributes:
        name: What is limited, as in `latency p99`.
        value: Where it stands now; missing with a reason where it was not measured.
        limit: The limit.
        unit: Of both, as in `ms`.
        better: Which side of the limit is allowed.
        ok: Whether it is kept; None where it was not measured.
    """

    name: str
    value: Figure
    limit: float
    unit: str
    better: Literal["lower", "higher"]
    ok: bool | None


@dataclass(frozen=True)
class Prompting:
    """How a viewer changes what a task looks for.

    Attributes:
        current: The prompts in force; asked by any thread.
        change: Puts others in force; called in a thread of the view's own, one call at a time. A
            JetliftError that it raises is shown to the viewer as it is told.
        most: Prompts at most.
        longest: Characters per prompt at most.
    """

    current: Callable[[], Sequence[str]]
    change: Callable[[list[str]], None]
    most: int = 100
    longest: int = 200


@dataclass(frozen=True)
class Told:
    """What the pipeline's owner tells about a run.

    Attributes:
        title: What runs, as in `yolox-s`.
        task: What it does, as in `detect`.
        snapshot: The pipeline now; None while there is none yet.
        budget: The limits and where the run stands; empty where there is no budget.
        prompts: How prompts are changed, or a sentence that says why they cannot be.
        shows: What a viewer sees: the drawn result, the input picture where the task draws
            nothing, or nothing at all, for texts and sounds.
    """

    title: str
    task: str
    snapshot: Callable[[], Snapshot | None]
    budget: Callable[[], Sequence[BudgetLine]] = tuple
    prompts: Prompting | str = "This task takes no prompts."
    shows: Shows = "drawn"


@dataclass(frozen=True)
class ViewOptions:
    """How much a view may cost.

    Attributes:
        max_fps: Pictures per second that are encoded at most.
        quality: Of the JPEG stream, 1 to 100.
        longest_side: Larger pictures are made smaller for the stream; snapshots are not.
        most_viewers: Streams at most, and as many listeners for figures.
        stalled_s: A viewer that takes nothing for so long is sent away.
        grace_s: How long pictures are still wanted after the last viewer left.
        stop_grace_s: How long viewers may take to read the last of it when the server stops.
    """

    max_fps: float = 25.0
    quality: int = 80
    longest_side: int = 1280
    most_viewers: int = 256
    stalled_s: float = 20.0
    grace_s: float = 2.0
    stop_grace_s: float = 1.0

    def __post_init__(self) -> None:
        for name in ("max_fps", "longest_side", "most_viewers", "stalled_s"):
            if not getattr(self, name) > 0:
                raise UsageError(f"Got {name} of {getattr(self, name)}", expected="More than 0")
        if not 1 <= self.quality <= 100:
            raise UsageError(f"Got a JPEG quality of {self.quality}", expected="1 to 100")


@dataclass(frozen=True)
class Ended:
    """How a run ended.

    Attributes:
        well: Whether without an error.
        message: The error as it is told; empty where there was none.
    """

    well: bool
    message: str = ""


@dataclass(frozen=True, eq=False)
class Newest:
    """The newest result on the board.

    Attributes:
        number: Results so far, this one included.
        result: As the pipeline wrote it.
        picture_bgr: What a viewer sees of it, uint8 [H, W, 3]; None where there is nothing.
        written_s: When it was written.
        age_ms: Its age then; None for an input without a moment of capture.
    """

    number: int
    result: Result
    picture_bgr: npt.NDArray[np.uint8] | None
    written_s: float
    age_ms: float | None


@dataclass(frozen=True, eq=False)
class Shot:
    """One encoded picture, shared by all viewers.

    Attributes:
        number: Of the result that it shows.
        jpeg: The encoded picture.
        part: The same as a part of the stream, with the boundary that follows it.
    """

    number: int
    jpeg: bytes
    part: bytes
