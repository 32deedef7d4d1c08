"""Responses without an end: the stream of pictures and the events.

Rules:
    L1  Every viewer waits for the next thing by its number and skips what came while it was busy.
    L2  There are only so many seats. Who finds none is told so (503).
    L3  A viewer that takes nothing for too long is sent away, so that its seat is free again.
    L4  A viewer that comes is not shown a picture of long ago: it waits for the next, unless the
        last one is of the newest result.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING

from jetlift.runtime.view.pictures import BOUNDARY, OPENING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

    from starlette.types import Message, Receive, Scope, Send

    from jetlift.runtime.view.board import ViewBoard
    from jetlift.runtime.view.feed import Feed
    from jetlift.runtime.view.form import Shot

_RETRY_MS = 1000


class Viewer:
    """One connection that is served without end.

    Attributes:
        client: Its address and port.
        since_s: Since when a send to it has been waiting; None while none does.
    """

    def __init__(self, client: object) -> None:
        self.client = client
        self.since_s: float | None = None


class FullError(Exception):
    """Every seat is taken."""


class Seats:
    """The seats of one kind of viewer (rules L2 and L3). For the loop's thread alone."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._taken: set[Viewer] = set()

    @contextlib.contextmanager
    def seat(self, client: object) -> Iterator[Viewer]:
        """A seat for as long as the block runs.

        Raises:
            FullError: There is none.
        """
        if len(self._taken) >= self.most:
            raise FullError
        viewer = Viewer(client)
        self._taken.add(viewer)
        try:
            yield viewer
        finally:
            self._taken.discard(viewer)

    def stalled(self, now_s: float, limit_s: float) -> list[Viewer]:
        """Those that have taken nothing for `limit_s`."""
        return [
            viewer
            for viewer in self._taken
            if viewer.since_s is not None and now_s - viewer.since_s > limit_s
        ]


class _Live:
    """An ASGI endpoint that sends chunks until they end or the viewer is gone."""

    headers: tuple[tuple[bytes, bytes], ...] = ()

    def __init__(self, board: ViewBoard, feed: Feed, seats: Seats) -> None:
        self._board, self._feed, self._seats = board, feed, seats

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "HEAD":
            await send(self._start())
            await send({"type": "http.response.body", "body": b""})
            return
        try:
            with self._seats.seat(scope["client"]) as viewer:
                await self._serve(viewer, receive, send)
        except FullError:
            await _refuse(send, self._seats.most)

    async def _serve(self, viewer: Viewer, receive: Receive, send: Send) -> None:
        await send(self._start())
        sending = asyncio.create_task(self._send(viewer, send))
        leaving = asyncio.create_task(_gone(receive))
        try:
            await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, leaving):
                task.cancel()
            results = await asyncio.gather(sending, leaving, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _send(self, viewer: Viewer, send: Send) -> None:
        now_s: Callable[[], float] = self._board.clock.now_s
        async with contextlib.aclosing(self.chunks()) as chunks:
            async for chunk in chunks:
                viewer.since_s = now_s()
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                viewer.since_s = None
        await send({"type": "http.response.body", "body": b""})

    def _start(self) -> Message:
        return {"type": "http.response.start", "status": 200, "headers": list(self.headers)}

    def chunks(self) -> AsyncGenerator[bytes, None]:
        """What is sent, piece by piece."""
        raise NotImplementedError


class PictureStream(_Live):
    """The pictures as multipart/x-mixed-replace."""

    headers = ((b"content-type", f"multipart/x-mixed-replace; boundary={BOUNDARY}".encode()),)

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """One part per picture (rules L1 and L4)."""
        shots = self._feed.shots
        with self._board.viewer():
            yield OPENING
            number = shots.number
            if _is_of_newest_result(self._board, shots.value):
                number -= 1
            while (found := await shots.after(number)) is not None:
                number, shot = found
                yield shot.part


class Events(_Live):
    """The history once, then the figures at each beat, as Server-Sent Events."""

    headers = ((b"content-type", b"text/event-stream"), (b"x-accel-buffering", b"no"))

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """One event per beat (rule L1)."""
        feed, number = self._feed, 0
        feed.listening += 1
        try:
            yield f"retry: {_RETRY_MS}\n\n".encode()
            yield _event("history", json.dumps(feed.history.whole()))
            while (found := await feed.states.after(number)) is not None:
                number, state = found
                yield _event("state", state)
        finally:
            feed.listening -= 1


def _event(name: str, data: str) -> bytes:
    return f"event: {name}\ndata: {data}\n\n".encode()


def _is_of_newest_result(board: ViewBoard, shot: Shot | None) -> bool:
    newest = board.newest
    return shot is not None and newest is not None and shot.number == newest.number


async def _gone(receive: Receive) -> None:
    """Wait until the viewer has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _refuse(send: Send, most: int) -> None:
    body = f"All {most} seats of this view are taken. Try again when somebody has left.\n".encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"retry-after", b"5")]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body})
