"""A live source that heals: it connects, reads all the time, and comes back when it was lost.

Rules:
    H1  Where the first connection fails, or brings no picture, that is an InputError with advice.
    H2  A connection lost later is made again: at once, then after waits that double from
        FIRST_WAIT_S to LONGEST_WAIT_S, each shortened by chance by up to a half, so that many
        readers of one camera do not come all at once. A picture ends the doubling.
    H3  It tries for ever, or for `retry_s` seconds without a picture; then it is an InputError.
    H4  `reconnects` counts pictures that ended a loss; `lost_s` is the time from a loss to there.
    H5  Reading never waits for the taker. A picture that a newer one replaces before it was taken
        is counted in `dropped`, so what is taken is never old.
    H6  `close` ends `frames` at once, whatever the connection waits for. The thread that reads is
        told to hang up and ends with its connection, at the latest when that times out.
    H7  A picture of another size than the one before is passed on, and told in `trouble`.
    H8  A connection that says that it is finished (a pipeline at its end) ends the source.
"""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from jetlift.runtime.clock import SYSTEM_CLOCK
from jetlift.runtime.errors import InputError
from jetlift.runtime.pipeline.form import SourceHealth
from jetlift.runtime.sources import Frame
from jetlift.runtime.streams.handover import Handover

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    import numpy.typing as npt

    from jetlift.runtime.clock import Clock

FIRST_WAIT_S, LONGEST_WAIT_S = 0.25, 2.0
CLOSE_WAIT_S = 1.0  # how long `close` waits for the reading thread to end


def pause_s(attempt: int, chance: float) -> float:
    """Seconds to wait before an attempt to connect (rule H2).

    Args:
        attempt: 1 for the first after a loss.
        chance: A number of 0 to 1.
    """
    if attempt <= 1:
        return 0.0
    longest_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(attempt - 2, 16))
    return longest_s * (1 - chance / 2)


class LostError(Exception):
    """A connection failed or ended.

    Args:
        reason: What happened, as a clause.
        do: What the user can do about it.
    """

    def __init__(self, reason: str, *, do: str = "") -> None:
        self.reason, self.do = reason, do
        super().__init__(reason)


@dataclass(frozen=True, eq=False)
class Shot:
    """One picture of a connection.

    Attributes:
        image_bgr: uint8 [H, W, 3].
        captured_s: Its moment by the source's clock.
        trouble: What went wrong before it, as a sentence; empty where nothing did.
    """

    image_bgr: npt.NDArray[np.uint8]
    captured_s: float
    trouble: str = ""


class Link(Protocol):
    """One connection to a camera. All but `hang_up` are called by one thread."""

    @property
    def clock_note(self) -> str:
        """What moment `captured_s` is, as a clause; known for good after the first picture."""

    def open(self) -> None:
        """Connect; may wait.

        Raises:
            LostError: It does not work now; trying again makes sense.
            JetliftError: It can never work.
        """

    def read(self) -> Shot | None:
        """The next picture; may wait. None where it is finished (rule H8).

        Raises:
            LostError: There is none; the connection is useless from now on.
        """

    def hang_up(self) -> None:
        """Make an `open` or `read` that waits end soon, as far as that can be done."""

    def close(self) -> None:
        """Give back what is held. A second call does nothing."""


class HealingSource:
    """A FrameSource on connections that come and go (rules H1 to H8).

    Args:
        name: The source as it may be shown, without passwords.
        connect: Makes a connection, not opened yet.
        clock_note: What `captured_s` is, until a connection says it better.
        retry_s: Give up after so long without a picture; None tries for ever.
        clock: What times are told by and what waits between attempts.
        chance: Gives numbers of 0 to 1.
    """

    live, fps = True, None

    def __init__(
        self,
        name: str,
        connect: Callable[[], Link],
        *,
        clock_note: str,
        retry_s: float | None = None,
        clock: Clock = SYSTEM_CLOCK,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.name, self._connect, self._retry_s = name, connect, retry_s
        self._clock, self._chance = clock, chance
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._health = SourceHealth(name, live=True, clock=clock_note, connected=False)
        self._lost_since_s: float | None = None
        self._link: Link | None = None
        self._thread: threading.Thread | None = None
        self._slot: Handover[Frame] = Handover()

    def frames(self) -> Iterator[Frame]:
        """See FrameSource.frames."""
        with self._lock:
            if not self._stop.is_set():
                self._thread = threading.Thread(
                    target=self._work, name=f"jetlift reads {self.name}", daemon=True
                )
                self._thread.start()
        try:
            while (frame := self._slot.take()) is not None:
                self._note(captured=self._health.captured + 1)
                yield frame
        finally:
            self._end()

    def health(self) -> SourceHealth:
        """See FrameSource.health."""
        with self._lock:
            health, since_s = self._health, self._lost_since_s
        running_s = 0.0 if since_s is None else self._clock.now_s() - since_s
        return replace(
            health,
            lost_s=health.lost_s + running_s,
            dropped=self._slot.replaced,
            connected=health.connected and not self._stop.is_set(),
        )

    def close(self) -> None:
        """See FrameSource.close (rule H6)."""
        self._end()
        if self._thread is not None:
            self._thread.join(CLOSE_WAIT_S)

    def _end(self) -> None:
        """Tell everybody to end, and wait for nobody."""
        with self._lock:
            self._stop.set()
            link = self._link
        self._slot.close()
        if link is not None:
            link.hang_up()

    def _work(self) -> None:
        """Connect, read and connect again, in a thread of its own."""
        with self._slot.feeding():
            attempt = index = 0
            while not self._stop.is_set():
                before = index
                try:
                    for shot in self._connection():
                        self._slot.put(self._frame(index, shot))
                        index += 1
                except LostError as error:
                    self._lose(error, index)
                else:
                    return
                attempt = 1 if index > before else attempt + 1
                self._clock.wait(self._stop, pause_s(attempt, self._chance()))

    def _connection(self) -> Iterator[Shot]:
        """Pictures of one connection, until it is finished or nobody wants more."""
        link = self._connect()
        with self._lock:
            self._link = link
        try:
            if not self._stop.is_set():
                link.open()
            while not self._stop.is_set():
                if (shot := link.read()) is None:
                    return
                self._note(clock=link.clock_note)
                yield shot
        finally:
            with self._lock:
                self._link = None
            link.close()

    def _frame(self, index: int, shot: Shot) -> Frame:
        """Number a picture, and note what it says of the connection (rules H4 and H7)."""
        size_wh = (shot.image_bgr.shape[1], shot.image_bgr.shape[0])
        if index == 0:
            self._start_s, self._size_wh = shot.captured_s, size_wh
        if self._lost_since_s is not None:
            lost_s = self._health.lost_s + self._clock.now_s() - self._lost_since_s
            self._note(lost_s=lost_s, reconnects=self._health.reconnects + 1)
        if not self._health.connected:
            self._lost_since_s = None
            self._note(connected=True)
        if shot.trouble:
            self._note(trouble=shot.trouble)
        if size_wh != self._size_wh:
            was, now = ("{}x{}".format(*size) for size in (self._size_wh, size_wh))
            self._note(trouble=f"its pictures changed from {was} to {now}")
            self._size_wh = size_wh
        return Frame(
            self.name, index, shot.captured_s - self._start_s, shot.image_bgr, shot.captured_s
        )

    def _lose(self, error: LostError, delivered: int) -> None:
        """Note a loss, or give up (rules H1 and H3)."""
        if self._stop.is_set():
            return
        now_s = self._clock.now_s()
        if self._lost_since_s is None and delivered:
            self._lost_since_s = now_s
        self._note(trouble=error.reason, connected=False)
        if not delivered:
            raise InputError(f"{self.name} cannot be read: {error.reason}", do=error.do) from error
        lost_s = now_s - (self._lost_since_s or now_s)
        if self._retry_s is not None and lost_s >= self._retry_s:
            raise InputError(
                f"{self.name} is lost for {lost_s:.0f} s: {error.reason}",
                expected=f"A picture again within {self._retry_s:g} s",
                do=error.do,
            ) from error

    def _note(self, **changes: object) -> None:
        with self._lock:
            self._health = replace(self._health, **changes)  # type: ignore[arg-type]  # its fields
