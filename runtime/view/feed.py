"""What flows from the board to the viewers: encoded pictures, and figures a few times per second.

Rules:
    E1  A picture is encoded once, in a thread of its own, at most so often as the options say, and
        only while somebody looks. All viewers share it.
    E2  Figures are put into words once per beat, in a thread of their own, and shared likewise.
    E3  A picture that cannot be encoded, or figures that cannot be had, are told as the view's
        trouble, and the next ones are tried. Any other failure ends the view's thread, is told
        likewise, and is raised when the view is closed. None of them touches the pipeline.
"""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

from jetlift.runtime.errors import JetliftError, UsageError
from jetlift.runtime.view import pictures
from jetlift.runtime.view.broadcast import Broadcast
from jetlift.runtime.view.history import EVERY_S, History
from jetlift.runtime.view.state import Losses, point_of, state_of
from jetlift.runtime.view.worker import Worker

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from jetlift.runtime.view.board import ViewBoard
    from jetlift.runtime.view.form import Shot

BEAT_S, QUIET_BEAT_S = 1 / 3, 1.0
_GRACE_S = 5.0


class Feed:
    """The two threads between a board and its viewers (rules E1 to E3).

    Args:
        board: Where results come from.
        loop: The event loop of the viewers.
        shoot: Encodes a picture; tests give another.
    """

    def __init__(
        self,
        board: ViewBoard,
        loop: asyncio.AbstractEventLoop,
        shoot: Callable[..., Shot] = pictures.shoot,
    ) -> None:
        self._board, self._clock, self._shoot = board, board.clock, shoot
        self.shots, self.states = Broadcast["Shot"](loop), Broadcast[str](loop)
        self.history, self.listening = History(), 0
        self._losses, self._next_point_s = Losses(), board.clock.now_s()
        self._stop = threading.Event()
        self._workers = [
            Worker("view pictures", self._encode, self._failed),
            Worker("view figures", self._beat, self._failed),
        ]

    def start(self) -> None:
        """Start both threads."""
        self._board.open_view()
        for worker in self._workers:
            worker.start()

    def stop(self) -> None:
        """End both threads, and let every viewer have the last figures.

        Raises:
            MachineError: A thread could not be ended.
        """
        self._stop.set()
        self._board.close_view()
        for worker in self._workers:
            worker.join(_GRACE_S)
        if self.error is None:
            self.tell()
        self.shots.close()
        self.states.close()

    @property
    def error(self) -> BaseException | None:
        """What ended one of the threads too early; None where nothing did."""
        return next((worker.error for worker in self._workers if worker.error is not None), None)

    def tell(self) -> None:
        """Send the figures of this moment to every listener (rule E2)."""
        told, now_s = self._board.told, self._clock.now_s()
        try:
            snapshot = told.snapshot()
            sources = snapshot.sources if snapshot is not None else ()
            lost_s = self._losses.lost_for_s(sources, now_s)
            state = state_of(self._board, snapshot, lost_s)
        except JetliftError as error:
            self._board.complain("figures", str(error))
            return
        self._board.complain("figures", "")
        if now_s >= self._next_point_s and self._board.ended is None:
            self._next_point_s = max(self._next_point_s + EVERY_S, now_s)
            self.history.add(point_of(self._board.take_ages_ms(), snapshot))
        state["point"] = self.history.newest()
        self.states.post(json.dumps(state, ensure_ascii=False, allow_nan=False))

    def _beat(self) -> None:
        while True:
            self.tell()
            watched = self._board.watching or self.listening
            if self._clock.wait(self._stop, BEAT_S if watched else QUIET_BEAT_S):
                return

    def _encode(self) -> None:
        options, seen = self._board.options, 0
        while (newest := self._board.next_picture(seen)) is not None:
            began_s, seen = self._clock.now_s(), newest.number
            try:
                shot = self._shoot(
                    newest.number,
                    newest.picture_bgr,
                    quality=options.quality,
                    longest_side=options.longest_side,
                )
            except UsageError as error:
                self._board.complain("pictures", str(error))
            else:
                self._board.complain("pictures", "")
                self.shots.post(shot)
            left_s = 1 / options.max_fps - (self._clock.now_s() - began_s)
            if self._clock.wait(self._stop, max(0.0, left_s)):
                return

    def _failed(self, error: BaseException) -> None:
        kind = type(error).__name__
        self._board.complain("thread", f"A thread of the view failed with {kind}: {error}")
