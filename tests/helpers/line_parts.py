"""Parts of a line that do what a test tells them, and a sink that keeps everything."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType

from typing_extensions import Self

from jetlift.runtime.pipeline.form import Result, SinkHealth

PATIENCE_S = 30.0  # only ends a test that hangs


@dataclass(eq=False)
class Box:
    number: int
    since_s: float = 1000.0
    perishable: bool = True
    ages_ms: dict[str, float] = field(default_factory=dict)
    worked_ms: float = 0.0
    dropped: bool = False

    def drop(self) -> None:
        self.dropped = True


class Numbers:
    """Numbers from 0; `error` after the last; `hold` is waited for before it ends."""

    def __init__(self, count: int, *, live: bool = False, error: Exception | None = None) -> None:
        self.name, self.live, self._count, self._error = "numbers", live, count, error
        self.closed = threading.Event()
        self.endless = False

    def parcels(self) -> Iterator[Box]:
        for number in range(self._count):
            if self.closed.is_set():
                return
            yield Box(number)
        if self._error is not None:
            raise self._error
        if self.endless:
            self.closed.wait(PATIENCE_S)

    def close(self) -> None:
        self.closed.set()


class Do:
    """A stage that does something with each parcel."""

    def __init__(
        self, name: str, do: Callable[[Box], object] = lambda _: None, *, most: int = 1
    ) -> None:
        self.name, self.most, self.patience_s, self._do = name, most, 0.0, do
        self.interrupted = threading.Event()
        self.batches: list[int] = []

    def work(self, parcels: list[Box]) -> list[Box]:
        self.batches.append(len(parcels))
        return [parcel for parcel in parcels if self._do(parcel) is not False]

    def interrupt(self) -> None:
        self.interrupted.set()


class Kept:
    """A sink that keeps everything, and how it was left."""

    name = "kept"

    def __init__(self, *, pictures: bool = False, error: Exception | None = None) -> None:
        self.wants_pictures, self._error = pictures, error
        self.results: list[Result] = []
        self.left: list[type[BaseException] | None] = []
        self.entered = 0

    def write(self, result: Result) -> None:
        if self._error is not None and len(self.results) == 2:
            raise self._error
        self.results.append(result)

    def health(self) -> SinkHealth:
        return SinkHealth(self.name, len(self.results))

    def __enter__(self) -> Self:
        self.entered += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.left.append(kind)

    @property
    def values(self) -> list[float]:
        return [result.outcome.fields["value"] for result in self.results]
