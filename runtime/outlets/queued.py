"""A sink for a slow or distant peer: a bounded queue, and a thread that empties it.

Rules:
    Q1  `write` never waits for the peer. Where the queue is full the oldest result goes, counted.
    Q2  A peer that fails is tried again, after longer and longer pauses, for as long as the run
        lasts; its trouble is told in `health` and never ends the run. What was on its way when it
        failed goes first the next time, so a result may arrive twice but is not lost unseen.
    Q3  What a peer refuses is counted as dropped and not sent again.
    Q4  At a normal end the queue is emptied for as long as the grace time lasts. After an error it
        is not. What is left is counted as dropped.
    Q5  The thread ends before `__exit__` returns: a call in progress is interrupted.
    Q6  Any other error is the program's or the set-up's, not the peer's: the next `write`, or the
        end of the block, raises it.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Generic

from jetlift.runtime.clock import SYSTEM_CLOCK
from jetlift.runtime.errors import UsageError
from jetlift.runtime.outlets.peers import Backoff, Payload, Peer, PeerAway, PeerRefused
from jetlift.runtime.pipeline.form import SinkHealth

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from typing_extensions import Self

    from jetlift.runtime.clock import Clock
    from jetlift.runtime.pipeline.form import Result

GRACE_S = 5.0
_IDLE_S = 1.0  # how often an idle thread looks whether its connection still stands
_NOTHING_FOR_IT = "A result held nothing that could be sent."


class QueuedSink(Generic[Payload]):
    """Results to a peer through a queue (rules Q1 to Q6). See `Sink`.

    Args:
        name: What it is, for counters and messages.
        peer: The far end; opened and closed by the sink's thread.
        capacity: Results that may wait.
        batch: Results handed over at once, at most.
        linger_s: How long to wait for a batch to fill.
        grace_s: How long a normal end may take to empty the queue.
        backoff: Pauses between tries.
        clock: What measures pauses, lingering and grace.

    Raises:
        UsageError: A number cannot be.
    """

    def __init__(
        self,
        name: str,
        peer: Peer[Payload],
        *,
        capacity: int = 256,
        batch: int = 1,
        linger_s: float = 0.0,
        grace_s: float = GRACE_S,
        backoff: Backoff | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if not 1 <= batch <= capacity or linger_s < 0 or grace_s < 0:
            raise UsageError(
                f"Sink {name} got a queue of {capacity}, batches of {batch}, "
                f"{linger_s} s to fill one and {grace_s} s of grace",
                expected="1 <= batch <= queue, and no negative times",
            )
        self._name, self._peer, self._clock = name, peer, clock
        self._capacity, self._batch = capacity, batch
        self._linger_s, self._grace_s = linger_s, grace_s
        self._backoff = backoff or Backoff()
        self._waiting: deque[Payload] = deque()
        self._lock = threading.Lock()  # guards the queue, the counters, and the four events below
        self._arrived, self._enough = threading.Event(), threading.Event()
        self._closing, self._stop, self._ended = (threading.Event() for _ in range(3))
        self._written = self._dropped = self._failures = 0
        self._connected, self._trouble = False, ""
        self._executor: ThreadPoolExecutor | None = None
        self._work_done: Future[None] | None = None

    @property
    def name(self) -> str:
        """See Sink.name."""
        return self._name

    @property
    def wants_pictures(self) -> bool:
        """See Sink.wants_pictures."""
        return self._peer.wants_pictures

    def __enter__(self) -> Self:
        if self._executor is not None:
            raise UsageError(f"Sink {self.name} was opened twice", expected="One with block")
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=f"sink-{self.name}")
        self._work_done = self._executor.submit(self._work)
        return self

    def write(self, result: Result) -> None:
        """Put one result into the queue (rule Q1).

        Raises:
            UsageError: The sink is not open.
            JetliftError: The thread cannot go on (rule Q6).
        """
        if self._work_done is None or self._closing.is_set():
            raise UsageError(f"A result was written to {self.name}", expected="A sink in a with")
        if self._work_done.done():
            self._work_done.result()  # raises what ended it
        payload = self._peer.prepare(result)
        with self._lock:
            if payload is None:
                self._dropped, self._trouble = self._dropped + 1, _NOTHING_FOR_IT
                return
            if len(self._waiting) >= self._capacity:
                self._waiting.popleft()
                self._dropped += 1
            self._waiting.append(payload)
            self._tell_waiting()

    def health(self) -> SinkHealth:
        """See Sink.health."""
        with self._lock:
            connected = self._connected and not self._peer.lost
            return SinkHealth(self.name, self._written, self._dropped, connected, self._trouble)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._executor is None or self._work_done is None or self._closing.is_set():
            return
        with self._lock:
            if kind is not None:
                self._stop.set()
            self._closing.set()
            self._tell_waiting()
        if kind is None:
            self._clock.wait(self._ended, self._grace_s)  # Q4
        self._stop.set()
        if not self._ended.is_set():
            self._peer.interrupt()  # Q5
        self._executor.shutdown(wait=True)
        with self._lock:
            self._dropped += len(self._waiting)
            self._waiting.clear()
        if kind is None:
            self._work_done.result()  # Q6

    def _work(self) -> None:
        """What the thread does, until it is told to stop or a normal end has emptied the queue."""
        try:
            while not self._stop.is_set():
                if not self._reachable():
                    continue
                payloads = self._take()
                if payloads:
                    self._send(payloads)
                elif self._closing.is_set():
                    return
        finally:
            self._disconnect()
            self._ended.set()

    def _reachable(self) -> bool:
        """Connect where there is no connection; after a failure, wait (rule Q2)."""
        if self._connected and not self._peer.lost:
            return True
        if self._closing.is_set() and not self._waiting:
            self._stop.set()  # nothing is left that would be worth a connection
            return False
        self._disconnect()
        try:
            self._peer.open()
        except PeerAway as away:
            self._pause(away)
            return False
        with self._lock:
            self._connected = True
        return True

    def _take(self) -> list[Payload]:
        if not self._arrived.wait(_IDLE_S):
            return []
        if self._linger_s and not self._closing.is_set():
            self._clock.wait(self._enough, self._linger_s)
        with self._lock:
            count = min(len(self._waiting), self._batch)
            taken = [self._waiting.popleft() for _ in range(count)]
            self._tell_waiting()
        return taken

    def _send(self, payloads: Sequence[Payload]) -> None:
        try:
            self._peer.send(payloads)
        except PeerAway as away:
            self._give_back(payloads)
            self._pause(away)
        except PeerRefused as refused:
            with self._lock:  # Q3
                self._dropped, self._trouble = self._dropped + len(payloads), str(refused)
        else:
            with self._lock:
                self._written, self._failures = self._written + len(payloads), 0

    def _give_back(self, payloads: Sequence[Payload]) -> None:
        """Put what did not arrive before what came since; the oldest go where there is no room."""
        with self._lock:
            room = self._capacity - len(self._waiting)
            kept = payloads[max(0, len(payloads) - room) :] if room else ()
            self._dropped += len(payloads) - len(kept)
            self._waiting.extendleft(reversed(kept))
            self._tell_waiting()

    def _pause(self, away: PeerAway) -> None:
        """Leave the peer alone for a while; a normal end cuts the pause short once."""
        with self._lock:
            self._failures += 1
            self._trouble = str(away)
        self._disconnect()
        closing = self._closing.is_set()
        pause_s = max(self._backoff.pause_s(self._failures), away.wait_s)
        ended = self._clock.wait(self._stop if closing else self._closing, pause_s)
        if ended and not closing:
            self._failures = 0  # the end has little time: pauses begin short again

    def _disconnect(self) -> None:
        with self._lock:
            self._connected = False
        self._peer.close()

    def _tell_waiting(self) -> None:
        """Set the events to what the queue holds. The caller holds the lock."""
        closing, count = self._closing.is_set(), len(self._waiting)
        for event, due in ((self._arrived, count > 0), (self._enough, count >= self._batch)):
            if due or closing:
                event.set()
            else:
                event.clear()
