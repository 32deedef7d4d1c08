"""What stands at the far end of a queue: a broker, a server, a child process.

A peer is slow, away, or both at times. It tells so by two signals that QueuedSink knows, and each
of its calls comes back within a time-out of its own, so that no thread waits for ever.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from jetlift.runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jetlift.runtime.pipeline.form import Result

Payload = TypeVar("Payload")

_SECONDS_PER_DAY = 86_400


class PeerSignal(Exception):  # noqa: N818 - the two below say what happened
    """What a peer tells its queue. It never leaves the queue: its words become `trouble`."""


class PeerAway(PeerSignal):
    """The peer cannot be reached, or not now: the same results are worth another try.

    Args:
        why: A sentence for the user, without secrets.
        wait_s: How long the peer asks to be left alone; 0 where it says nothing.
    """

    def __init__(self, why: str, *, wait_s: float = 0.0) -> None:
        super().__init__(why)
        self.wait_s = wait_s


class PeerRefused(PeerSignal):
    """The peer does not want these results, and never will."""


class Peer(ABC, Generic[Payload]):
    """Where a queue's results go. `prepare` runs in the pipeline's thread, the rest in the queue's.

    Errors other than the two signals end the run: they are faults of the set-up or the program.
    """

    @property
    def wants_pictures(self) -> bool:
        """See Sink.wants_pictures."""
        return False

    @property
    def lost(self) -> bool:
        """Whether an open connection turned out to be gone, as far as is known without a send."""
        return False

    @abstractmethod
    def prepare(self, result: Result) -> Payload | None:
        """What of a result waits in the queue, as small as can be, made in microseconds.

        Returns:
            None where the result holds nothing for this peer; it is then counted as dropped.
        """

    @abstractmethod
    def open(self) -> None:
        """Connect, within a time-out.

        Raises:
            PeerAway: It cannot be reached.
        """

    @abstractmethod
    def send(self, payloads: Sequence[Payload]) -> None:
        """Hand over one or more results in order, within a time-out.

        Raises:
            PeerAway: They did not arrive.
            PeerRefused: It does not want them.
        """

    def close(self) -> None:
        """End the connection, politely unless interrupted, within a time-out. May be repeated."""

    def interrupt(self) -> None:
        """Make a call in progress, and any later one, end at once. Called by another thread."""


def json_bytes(result: Result) -> bytes:
    """The fields of a result as UTF-8, as in a line of results.jsonl."""
    text = json.dumps(result.outcome.fields, ensure_ascii=False, allow_nan=False)
    # Half a character, as a file's name can hold, becomes the escape that JSON reads back.
    return text.encode(errors="backslashreplace")


@dataclass(frozen=True)
class Backoff:
    """How long to leave a peer alone after each failure in a row.

    Attributes:
        first_s: After the first.
        factor: By which each further one is longer.
        most_s: The longest.
    """

    first_s: float = 0.5
    factor: float = 2.0
    most_s: float = 30.0

    def __post_init__(self) -> None:
        if not (0 < self.first_s <= self.most_s <= _SECONDS_PER_DAY and self.factor >= 1):
            raise UsageError(
                f"Got {self}",
                expected="0 < first_s <= most_s, at most a day, and a factor of 1 or more",
            )

    def pause_s(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row, 1 or more."""
        # By logarithms, since the power itself overflows after a night without a network.
        grown = (failures - 1) * math.log(self.factor)
        if grown >= math.log(self.most_s / self.first_s):
            return self.most_s
        return min(self.first_s * math.exp(grown), self.most_s)
