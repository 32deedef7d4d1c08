"""Sinks that write files: part after part, and source by source where each needs its own.

They are written by the pipeline's sink thread itself: a file is no distant peer, and nothing of it
is dropped. A full disk is a StorageError with the sink's name, and ends the run.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from jetlift.runtime.clock import SYSTEM_CLOCK
from jetlift.runtime.errors import StorageError, UsageError
from jetlift.runtime.outlets.parts import Keeper, Naming, Parts, Rotation
from jetlift.runtime.pipeline.form import SinkHealth

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Self

    from jetlift.runtime.clock import Clock
    from jetlift.runtime.pipeline.form import Result
    from jetlift.runtime.tasks.base import Item


class Part(Protocol):
    """One file while it is written. A context manager whose end gives the file its name."""

    @property
    def size_bytes(self) -> int:
        """Bytes so far, near enough to end a part by."""

    def fits(self, result: Result) -> bool:
        """Whether a result can go into this file; otherwise it begins the next part."""

    def put(self, result: Result) -> None:
        """Write a result.

        Raises:
            UsageError: The task gives nothing of the kind.
            StorageError: The disk is full.
        """

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class PartedSink:
    """Results to a file, part after part (see `parts`). See `Sink`.

    Args:
        name: What it is, for counters and messages.
        parts: Where the parts lie and when they end.
        open_part: Opens one.
        wants_pictures: See Sink.wants_pictures.
    """

    def __init__(
        self,
        name: str,
        parts: Parts,
        open_part: Callable[[Path], Part],
        *,
        wants_pictures: bool = False,
    ) -> None:
        self._name, self._wants_pictures = name, wants_pictures
        self._parts, self._open_part = parts, open_part
        self._part: Part | None = None
        self._path = Path()
        self._written = 0

    @property
    def name(self) -> str:
        """See Sink.name."""
        return self._name

    @property
    def wants_pictures(self) -> bool:
        """See Sink.wants_pictures."""
        return self._wants_pictures

    @property
    def removed(self) -> int:
        """Old parts that made room for new ones."""
        return self._parts.keeper.removed

    def __enter__(self) -> Self:
        with named(self.name):
            self._begin()
        return self

    def write(self, result: Result) -> None:
        """Write one result, into a new part where it is time for one; see Sink.write."""
        if self._part is None:
            raise UsageError(f"A result was written to {self.name}", expected="A sink in a with")
        with named(self.name):
            if not self._part.fits(result) or self._parts.due(self._part.size_bytes):
                self._end(None)
                self._part = self._begin()
            self._part.put(result)
        self._written += 1

    def health(self) -> SinkHealth:
        """See Sink.health."""
        return SinkHealth(self.name, self._written)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with named(self.name):
            self._end(error)

    def _begin(self) -> Part:
        self._path = self._parts.begin()
        part = self._open_part(self._path)
        self._part = part.__enter__()
        return self._part

    def _end(self, error: BaseException | None) -> None:
        part, self._part = self._part, None
        if part is not None:
            part.__exit__(None if error is None else type(error), error, None)
            self._parts.keeper.end(self._path)


class PerSourceSink:
    """Live sources side by side, each with files of its own. See `Sink`.

    The first has the name that was asked for, any other NAME.SOURCE.SUFFIX. Inputs that come one
    after another, as files do, share the first.

    Args:
        name: What it is, for counters and messages.
        path: The name that was asked for.
        make: Makes the sink of one source.
        rotation: When parts end; what is kept holds for all sources together.
        clock: What measures a part's age.
        wants_pictures: See Sink.wants_pictures.
    """

    def __init__(
        self,
        name: str,
        path: Path,
        make: Callable[[Parts], PartedSink],
        *,
        rotation: Rotation | None = None,
        clock: Clock = SYSTEM_CLOCK,
        wants_pictures: bool = False,
    ) -> None:
        self._name, self._path, self._make = name, path, make
        self._rotation, self._clock = rotation or Rotation(), clock
        self._wants_pictures = wants_pictures
        self._keeper = Keeper(Naming.of(path), self._rotation)
        self._sinks: dict[str, PartedSink] = {}
        self._stems: set[str] = set()
        self._stack = ExitStack()

    @property
    def name(self) -> str:
        """See Sink.name."""
        return self._name

    @property
    def wants_pictures(self) -> bool:
        """See Sink.wants_pictures."""
        return self._wants_pictures

    @property
    def removed(self) -> int:
        """Old parts that made room for new ones."""
        return self._keeper.removed

    def __enter__(self) -> Self:
        return self

    def write(self, result: Result) -> None:
        """Write one result to the file of its source; see Sink.write."""
        key = result.item.source if is_live(result.item) else ""
        sink = self._sinks.get(key)
        if sink is None:
            parts = Parts(self._path_of(key), self._rotation, self._clock, self._keeper)
            sink = self._stack.enter_context(self._make(parts))
            self._sinks[key] = sink
        sink.write(result)

    def health(self) -> SinkHealth:
        """See Sink.health."""
        return SinkHealth(self.name, sum(sink.health().written for sink in [*self._sinks.values()]))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def _path_of(self, source: str) -> Path:
        if not self._sinks:
            return self._path
        stem, number = source_stem(source), 1
        while (unique := stem if number == 1 else f"{stem}-{number}").casefold() in self._stems:
            number += 1
        self._stems.add(unique.casefold())
        return self._path.with_name(f"{self._path.stem}.{unique}{self._path.suffix}")


def is_live(item: Item) -> bool:
    """Whether an input comes from a source that goes on whether or not anybody takes it."""
    return getattr(item, "captured_s", None) is not None


def source_stem(source: str) -> str:
    """A short name of a source for the name of a file, without anything that could be secret."""
    stem = Path(source.partition("?")[0].partition("#")[0]).stem.rpartition("@")[2]
    kept = "".join(sign if sign.isalnum() or sign in "-_" else "_" for sign in stem)
    return kept[:60] or "source"


def drawn_picture(result: Result) -> npt.NDArray[np.uint8]:
    """The picture of a result, uint8 [H, W, 3].

    Raises:
        UsageError: The task draws none.
    """
    if result.drawn_bgr is None:
        raise UsageError(
            "The task draws no pictures of its results",
            expected="A task that does, such as detect, classify or anomaly, on pictures or video",
            do="Send its results elsewhere, as to results.jsonl",
        )
    return result.drawn_bgr


@contextmanager
def named(sink: str) -> Iterator[None]:
    """Tell which sink met a full disk.

    Raises:
        StorageError: As inside, with the sink's name before it.
    """
    try:
        yield
    except StorageError as error:
        raise StorageError(f"Sink {sink}: {error.got}", expected=error.expected, do=error.do) from (
            error
        )
