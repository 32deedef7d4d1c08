"""What a line is made of: parcels, what makes them, stages that work on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from jetlift.runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType


class Parcel(Protocol):
    """One item on its way.

    Attributes:
        since_s: The moment that its age begins.
        perishable: Whether it is worth less with age, as what a camera saw.
        ages_ms: Its age at the end of each stage so far.
        worked_ms: Time that stages worked on it so far, waiting left out; its share where several
            were worked on at once.
    """

    since_s: float
    perishable: bool
    ages_ms: dict[str, float]
    worked_ms: float

    def drop(self) -> None:
        """It goes no further: give back what it holds."""


P = TypeVar("P", bound=Parcel)
P_co = TypeVar("P_co", bound=Parcel, covariant=True)


class Feeder(Protocol[P_co]):
    """What makes parcels of a source."""

    @property
    def name(self) -> str:
        """The source, as it was named."""

    @property
    def live(self) -> bool:
        """Whether it goes on whether or not anybody takes its frames."""

    def parcels(self) -> Iterator[P_co]:
        """Parcels as they come."""

    def close(self) -> None:
        """Make `parcels` end soon; see FrameSource.close."""


class Stage(Protocol[P]):
    """One station. `work` is only called by the stage's own thread."""

    @property
    def name(self) -> str:
        """What it does, as in `infer`."""

    @property
    def most(self) -> int:
        """Parcels that it takes at once, at most."""

    @property
    def patience_s(self) -> float:
        """How long the first of several waits for the others."""

    def work(self, parcels: list[P]) -> list[P]:
        """Do it; gives back those that go on."""

    def interrupt(self) -> None:
        """Make `work` end soon where it waits for something; called by another thread."""


@dataclass(frozen=True)
class LineOptions:
    """How a line is run.

    Attributes:
        live: Whether fresh matters more than complete: nothing waits between stages (channel.py,
            rule C3).
        room: Items that wait between two stages, where not live.
        max_age_s: Perishable items older than this are not worth the stage `costly` (rule N6).
        costly: Index of that stage.
        hang_limit_s: Longest that a stage may work on one batch (rule N4).
        grace_s: How long `close` waits for threads to end.
    """

    live: bool = False
    room: int = 2
    max_age_s: float | None = None
    costly: int = 0
    hang_limit_s: float | None = None
    grace_s: float = 10.0

    def __post_init__(self) -> None:
        for name in ("max_age_s", "hang_limit_s"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(f"Got {name} of {value}", expected="A time above 0, in seconds")
        if self.room < 1:
            raise UsageError(f"Got room for {self.room} items", expected="1 or more")


def drop_all(parcels: Sequence[Parcel]) -> None:
    """They go no further."""
    for parcel in parcels:
        parcel.drop()


class Told:
    """The edge of a thread: however it ends, that is told, and nothing is printed.

    Args:
        left: Called with the name, and with what it failed of, if with anything.
        name: What the thread does.
    """

    def __init__(self, left: Callable[[str, BaseException | None], None], name: str) -> None:
        self._left, self._name = left, name

    def __enter__(self) -> None:
        """Nothing to begin with."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        self._left(self._name, error)
        return True
