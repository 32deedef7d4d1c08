"""What every task is: an input in, JSON-ready fields out, and a picture where there is one.

Rules:
    K1  `fields` is plain JSON data and begins with `source`, `index` and `time_s` (null for texts
        and sounds).
    K2  What is too big for JSON lies in `arrays`, for an .npz file.
    K3  A result is computed from finite numbers; an engine that returns NaN or infinity is an
        error, never a result.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeAlias

    import numpy as np
    import numpy.typing as npt

    from jetlift.runtime.poses import PoseItem
    from jetlift.runtime.session.base import Session
    from jetlift.runtime.sounds import SoundItem
    from jetlift.runtime.sources import Frame
    from jetlift.runtime.texts import TextItem

    Item: TypeAlias = Frame | TextItem | SoundItem | PoseItem
    Array: TypeAlias = npt.NDArray[Any]
    Feeds: TypeAlias = dict[str, Array]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a task found in one input.

    Attributes:
        fields: The line for results.jsonl (rule K1).
        arrays: Arrays by name (rule K2).
        files: Text files to write beside the results, by suffix, as in `.srt`.
        images: Pictures that the task made, by what they are, as in `image` or `step-05`: uint8
            [H, W, 3] in BGR.
    """

    fields: dict[str, Any]
    arrays: dict[str, Array]
    files: dict[str, str] = field(default_factory=dict)
    images: dict[str, npt.NDArray[np.uint8]] = field(default_factory=dict)


class Task(ABC):
    """One thing that `jetlift run` does with each input. Batch size 1."""

    name: ClassVar[str]

    @abstractmethod
    def process(self, item: Item) -> Outcome:
        """Compute everything about one input.

        Raises:
            UsageError: The part takes another kind of input.
            InputError: The input cannot be used.
            EngineLibraryError: The engine failed or returned no finite numbers.
        """

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of the inputs so far, each sentence once."""
        return ()

    def run(self, item: Item) -> dict[str, Any]:
        """The JSON-ready fields alone; raises what `process` raises."""
        return self.process(item).fields

    def draw(self, item: Item, outcome: Outcome) -> npt.NDArray[np.uint8] | None:
        """The outcome as a picture, uint8 [H, W, 3] in BGR; None where the task draws nothing."""
        del item, outcome
        return None


@dataclass(frozen=True, eq=False)
class Prepared:
    """An input as an engine takes it.

    Attributes:
        feeds: One array per input of the engine.
        tokens: Number of text tokens; None for a picture.
        truncated: Whether the text was cut; None for a picture.
    """

    feeds: Feeds
    tokens: int | None = None
    truncated: bool | None = None


class StepTask(Task):
    """A task whose work on one input is preparing, one run of one engine, and finishing.

    The three may be done by three threads, each of which does its own for one input after another,
    and several inputs may share a run (jetlift.runtime.pipeline).
    """

    @property
    @abstractmethod
    def engine(self) -> Session:
        """The engine between `prepare` and `finish`."""

    @abstractmethod
    def prepare(self, item: Item) -> Prepared:
        """What the engine is fed for one input.

        Raises:
            UsageError: The part takes another kind of input.
            InputError: The input cannot be used.
        """

    @abstractmethod
    def finish(self, item: Item, prepared: Prepared, outputs: Mapping[str, Array]) -> Outcome:
        """What the engine's outputs say of an input.

        Raises:
            InputError: The input cannot be used.
            EngineLibraryError: The outputs hold NaN or infinity.
        """

    def process(self, item: Item) -> Outcome:
        """Compute everything about one input; see Task.process."""
        prepared = self.prepare(item)
        return self.finish(item, prepared, self.engine.run(prepared.feeds))


def place_of(item: Item) -> dict[str, Any]:
    """The fields that say which input a result belongs to (rule K1)."""
    return {
        "source": item.source,
        "index": item.index,
        "time_s": getattr(item, "time_s", None),
    }


def short_floats(values: Array) -> list[float]:
    """float32 values as the shortest decimals that read back as the same float32."""
    return [float(str(value)) for value in values.astype("float32").reshape(-1)]
