"""The GPU's own clock around one run: how long its copies and its computation took.

Rules:
    T1  Four stamps on the streams of the run: before the first copy in, before the computation,
        after it, after the last copy out. Without copies (`mapped`) the outer two lie at the inner
        ones, and the copies take next to nothing.
    T2  What the processor does is not in these times, but a GPU that waits for it to launch waits
        between the stamps: small engines look slower without a CUDA graph than their kernels are.
    T3  Stamps are taken for one run and given back after it, so that a session which is not asked
        for times never records any.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from jetlift.runtime.session.trt_slot import take_all

if TYPE_CHECKING:
    from jetlift.runtime.session.device import Device, Stamp, Stream

Mark = Literal[0, 1, 2, 3]
BEGUN: Mark = 0
FED: Mark = 1
COMPUTED: Mark = 2
RETURNED: Mark = 3


@dataclass(frozen=True)
class GpuRun:
    """Times of one run by the GPU's clock, in milliseconds (rules T1, T2)."""

    copy_in_ms: float
    compute_ms: float
    copy_out_ms: float
    with_copies_ms: float


class GpuClock:
    """Four stamps for one run.

    Args:
        device: Whose events they are; its context is current, here and in every method.

    Raises:
        EngineLibraryError: The device refuses an event.
    """

    def __init__(self, device: Device) -> None:
        self._stamps: list[Stamp] = take_all([device.stamp] * 4)

    def mark(self, mark: Mark, stream: Stream) -> None:
        """Put a stamp behind what a stream has queued."""
        self._stamps[mark].record(stream)

    def read(self) -> GpuRun:
        """The times, once the run is over.

        Raises:
            EngineLibraryError: A stamp was not passed.
        """
        begun, fed, computed, returned = self._stamps
        return GpuRun(
            copy_in_ms=fed.since_ms(begun),
            compute_ms=computed.since_ms(fed),
            copy_out_ms=returned.since_ms(computed),
            with_copies_ms=returned.since_ms(begun),
        )

    def free(self) -> None:
        """Give the stamps back."""
        with contextlib.ExitStack() as stack:
            for stamp in self._stamps:
                stack.callback(stamp.free)
        self._stamps = []
