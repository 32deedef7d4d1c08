"""A session that tells how long its runs took, so that a run can be a record."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from jetlift.runtime.clock import SYSTEM_CLOCK
from jetlift.runtime.closing import Closing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from jetlift.runtime.clock import Clock
    from jetlift.runtime.manifest import TensorSpec
    from jetlift.runtime.session.base import EngineInfo, Session

KEPT = 10_000  # latest runs: a service runs for months, and 80 KiB hold what a percentile needs


class TimedSession(Closing):
    """A session, and the time of each of its runs, arrays in to arrays out.

    A run that fails is not counted. As any session it is used by one thread at a time.

    Args:
        session: What computes; closed with this.
        clock: What the time is told by.

    Attributes:
        runs: How often it computed.
        samples_ms: Time of the latest KEPT runs.
        shapes: Dtype and shape per input of the first run; None before it.
        same_shapes: Whether every run had them.
        io_bytes: Bytes of the inputs and outputs of the first run.
    """

    def __init__(self, session: Session, clock: Clock = SYSTEM_CLOCK) -> None:
        self._session, self._clock = session, clock
        self.runs, self.same_shapes, self.io_bytes = 0, True, 0
        self.samples_ms: deque[float] = deque(maxlen=KEPT)
        self.shapes: dict[str, tuple[str, tuple[int, ...]]] | None = None

    @property
    def info(self) -> EngineInfo:
        """See Session.info."""
        return self._session.info

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        """See Session.inputs."""
        return self._session.inputs

    @property
    def outputs(self) -> Sequence[TensorSpec]:
        """See Session.outputs."""
        return self._session.outputs

    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """See Session.run; raises what that raises."""
        began_s = self._clock.now_s()
        answer = self._session.run(feeds)
        self.samples_ms.append(round((self._clock.now_s() - began_s) * 1e3, 5))
        self.runs += 1
        shapes = {name: (str(array.dtype), array.shape) for name, array in feeds.items()}
        if self.shapes is None:
            self.shapes = shapes
            self.io_bytes = sum(array.nbytes for array in (*feeds.values(), *answer.values()))
        elif shapes != self.shapes:
            self.same_shapes = False
        return answer

    def close(self) -> None:
        """Close the session. A second call does nothing."""
        self._session.close()
