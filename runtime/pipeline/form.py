"""What passes through a pipeline, and what stands at its ends: sources, sinks, what they count.

Rules:
    F1  Ages are told by one clock (jetlift.runtime.clock) and begin at `captured_s`. What that
        moment is differs by source and is said in `SourceHealth.clock`.
    F2  A counter never goes down. What was lost is counted where it was lost, once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from jetlift.runtime.record import Figure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Self

    from jetlift.runtime.sources import Frame
    from jetlift.runtime.tasks.base import Item, Outcome


@dataclass(frozen=True)
class SourceHealth:
    """How a source has fared so far.

    Attributes:
        name: The source, as it was named.
        live: Whether it goes on whether or not anybody takes its frames.
        clock: What moment `captured_s` is, as a clause: 'when the driver filled the buffer'.
        captured: Frames that it delivered.
        skipped: Inputs or frames that could not be read.
        reconnects: Times that it came back after it was lost.
        lost_s: Seconds in all without a connection, after the first.
        connected: Whether it delivers now.
        trouble: The last thing that went wrong, as a sentence; empty where nothing did.
        dropped: Frames that a newer one replaced before they could be delivered.
    """

    name: str
    live: bool
    clock: str
    captured: int = 0
    skipped: int = 0
    reconnects: int = 0
    lost_s: float = 0.0
    connected: bool = True
    trouble: str = ""
    dropped: int = 0


class FrameSource(Protocol):
    """Frames, one after another. `frames` is called once, in a thread of the source's own."""

    @property
    def name(self) -> str:
        """The source, as it was named."""

    @property
    def live(self) -> bool:
        """Whether it goes on whether or not anybody takes its frames."""

    def frames(self) -> Iterator[Frame]:
        """Frames as they come. Ends where the source ends or `close` was called.

        Raises:
            InputError: It is lost for good, or nothing in it could be read.
        """

    def health(self) -> SourceHealth:
        """How it has fared; may be asked by any thread at any time."""

    def close(self) -> None:
        """Make `frames` end soon, whatever it waits for, and give back what is held.

        May be called by any thread, at any time, more than once.
        """


@dataclass(frozen=True, eq=False)
class Result:
    """What came of one input.

    Attributes:
        item: The input.
        outcome: What the task found.
        drawn_bgr: The outcome as a picture, uint8 [H, W, 3]; None where the task draws nothing or
            no sink asked for pictures.
        ages_ms: Age at the end of each stage so far, by the stage's name; empty for an input
            without a moment of capture.
    """

    item: Item
    outcome: Outcome
    drawn_bgr: npt.NDArray[np.uint8] | None = None
    ages_ms: Mapping[str, float] = field(default_factory=dict)


class Sink(Protocol):
    """Where results go. A context manager; only the pipeline's sink thread writes to it."""

    @property
    def name(self) -> str:
        """What it is, for counters and messages, as in `jsonl` or `mqtt`."""

    @property
    def wants_pictures(self) -> bool:
        """Whether the next result is to be drawn for it. May change: a view without a viewer."""

    def write(self, result: Result) -> None:
        """Take one result. A slow peer never holds this up: such a sink has a queue of its own.

        Raises:
            StorageError: The disk is full.
            JetliftError: It cannot go on.
        """

    def health(self) -> SinkHealth:
        """How it has fared; may be asked by any thread at any time."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


@dataclass(frozen=True)
class SinkHealth:
    """How a sink has fared so far.

    Attributes:
        name: What it is.
        written: Results that it took and passed on.
        dropped: Results that its queue had no room for, or that its peer refused.
        connected: Whether it reaches its peer now; True for files.
        trouble: The last thing that went wrong, as a sentence; empty where nothing did.
    """

    name: str
    written: int = 0
    dropped: int = 0
    connected: bool = True
    trouble: str = ""


@dataclass(frozen=True)
class AgeSummary:
    """Ages of frames at the end of a stage, in milliseconds.

    Attributes:
        count: Frames that were counted.
        mean_ms: Arithmetic mean.
        p50_ms: Median.
        p90_ms: 90th percentile.
        p99_ms: 99th percentile.
        max_ms: Oldest.
    """

    count: int
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True)
class StageSummary:
    """What one stage did.

    Attributes:
        name: The stage.
        done: Items that it finished.
        busy_share: Share of the running time that it worked, 0 to 1; several workers add up.
        service: Time per item, in milliseconds, as ages are summed up; None before the first.
        age: Age of frames at its end; None where no frame had a moment of capture.
    """

    name: str
    done: int
    busy_share: float
    service: AgeSummary | None
    age: AgeSummary | None


@dataclass(frozen=True)
class Snapshot:
    """A pipeline at one moment. Plain data that any thread may keep.

    Attributes:
        running_s: Since it was started.
        done: Inputs with a result.
        per_s: Results per second over the last few seconds.
        dropped: Frames that a newer one replaced before anybody took them (live sources).
        stale: Frames that were too old to be worth computing, where a limit was set.
        skipped: Inputs that could not be read or used.
        stages: In the order of flow.
        sources: As given.
        sinks: As given.
        rss_bytes: Memory of this process resident now.
        power_w: Power drawn now.
    """

    running_s: float
    done: int
    per_s: float
    dropped: int
    stale: int
    skipped: int
    stages: tuple[StageSummary, ...]
    sources: tuple[SourceHealth, ...]
    sinks: tuple[SinkHealth, ...]
    rss_bytes: Figure = Figure.missing("no probe was given")
    power_w: Figure = Figure.missing("no probe was given")
