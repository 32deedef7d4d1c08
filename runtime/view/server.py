"""The server of the page: uvicorn with a loop of its own, in a thread of its own.

Rules:
    P1  When the `with` block is entered the page answers; where the port is taken, that is an
        error before any thread was started.
    P2  When the block is left no thread of the view is left either, within a few seconds, however
        many viewers there are and whether or not they read. They get the last figures first.
    P3  Bound to another address than this machine's own, the page asks for a token (auth.py).
"""

from __future__ import annotations

import asyncio
import importlib
import threading
from typing import TYPE_CHECKING, Any

from jetlift.runtime.closing import Closing
from jetlift.runtime.errors import MachineError, MissingPackageError
from jetlift.runtime.view import pictures
from jetlift.runtime.view.address import Address, host_names, listen
from jetlift.runtime.view.app import build_app
from jetlift.runtime.view.auth import Access, checked_token, new_token
from jetlift.runtime.view.desk import PromptDesk
from jetlift.runtime.view.feed import Feed
from jetlift.runtime.view.live import Seats
from jetlift.runtime.view.worker import Worker

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from typing_extensions import Self
    from uvicorn import Server

    from jetlift.runtime.view.board import ViewBoard
    from jetlift.runtime.view.form import Shot

_SWEEP_S = 1.0
_SILENT_S = 10.0  # a connection that has asked for nothing for so long is closed
_SPARE_CONNECTIONS = 64
_JOIN_S = 10.0


class ViewServer(Closing):
    """Serves a board as a page, between entering and leaving its `with` block (rules P1 to P3).

    Args:
        board: What is shown.
        at: HOST:PORT, or a part of it; see Address.parse.
        token: Asked of every visitor. Where it is None, a random one is made if the page is bound
            to another address than this machine's own.
        names: Further host names by which visitors may call this machine.
        shoot: Encodes pictures; tests give another.

    Raises:
        UsageError: `at` or `token` is of another form.
    """

    def __init__(
        self,
        board: ViewBoard,
        at: str = "",
        *,
        token: str | None = None,
        names: Sequence[str] = (),
        shoot: Callable[..., Shot] = pictures.shoot,
    ) -> None:
        self._board, self._shoot, self.address = board, shoot, Address.parse(at)
        if token is not None:
            checked_token(token)
        self._token = token or (None if self.address.is_local else new_token())
        own = {"localhost", self.address.host.lower()}
        own |= set() if self.address.is_local else host_names()
        self._names = frozenset(own | {name.lower() for name in names})
        self._running: _Running | None = None

    @property
    def url(self) -> str:
        """What to open in a browser. Where there is a token it is in it: tell its user alone."""
        bare = self.address.url()
        return bare if self._token is None else f"{bare}?token={self._token}"

    def __enter__(self) -> Self:
        """Begin to serve.

        Raises:
            MissingPackageError: uvicorn or Starlette is not installed.
            MachineError: The port is taken or may not be used.
        """
        _need_packages()
        listener = listen(self.address)
        self.address = Address(self.address.host, listener.getsockname()[1])
        access = Access(self._token, self._names, self.address.port)
        running = _Running(self._board, access, self._shoot)
        running.start(listener)
        self._running = running
        return self

    def close(self) -> None:
        """Stop serving (rule P2). A second call does nothing.

        Raises:
            MachineError: A thread could not be ended.
            BaseException: What ended one of the view's threads too early.
        """
        running, self._running = self._running, None
        failure = None if running is None else running.stop()
        if failure is not None:
            raise failure

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        running, self._running = self._running, None
        failure = None if running is None else running.stop()
        if failure is not None and error is None:  # an error of the block says more
            raise failure


class _Running:
    """A server between its start and its stop."""

    def __init__(self, board: ViewBoard, access: Access, shoot: Callable[..., Shot]) -> None:
        self._board, self._access, self._shoot = board, access, shoot
        self._seats = Seats(board.options.most_viewers), Seats(board.options.most_viewers)
        self._desk = PromptDesk(board.told.prompts)
        self._ready = threading.Event()
        self._silent_since_s: dict[Any, float] = {}
        # Made by the server's thread, before it is ready.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: Server | None = None
        self._feed: Feed | None = None

    def start(self, listener: socket.socket) -> None:
        """Start every thread, and return when the page answers."""

        def serve() -> None:
            try:
                asyncio.run(self._main(listener))
            finally:
                listener.close()
                self._ready.set()

        self._worker = Worker("view server", serve, self._failed)
        self._worker.start()
        self._ready.wait()
        if self._worker.error is not None:
            raise self._worker.error

    def stop(self) -> BaseException | None:
        """End every thread, and give back what went wrong in any of them."""
        feed, loop = self._feed, self._loop
        if feed is None or loop is None:
            return self._worker.error
        troubles = [_trouble_of(feed.stop), _trouble_of(self._desk.stop)]
        if not loop.is_closed():
            loop.call_soon_threadsafe(self._end)
        troubles.append(_trouble_of(lambda: self._worker.join(_JOIN_S)))
        told = [self._worker.error, feed.error, *troubles]
        return next((trouble for trouble in told if trouble is not None), None)

    async def _main(self, listener: socket.socket) -> None:
        import uvicorn

        self._loop = asyncio.get_running_loop()
        self._feed = feed = Feed(self._board, self._loop, self._shoot)
        app = build_app(self._board, feed, self._desk, self._seats, self._access)
        most = 2 * self._board.options.most_viewers + _SPARE_CONNECTIONS
        self._server = server = uvicorn.Server(
            uvicorn.Config(
                app,
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="error",
                access_log=False,
                server_header=False,
                limit_concurrency=most,
            )
        )
        feed.start()
        self._desk.start()
        sweeping = asyncio.create_task(self._sweep())
        self._ready.set()
        try:
            await server.serve(sockets=[listener])
        finally:
            sweeping.cancel()

    def _end(self) -> None:
        """Let uvicorn stop, and end what does not end by itself; in the loop's thread."""
        if self._server is None or self._loop is None:
            return
        self._server.should_exit = True
        self._loop.call_later(self._board.options.stop_grace_s, self._end_hard)

    def _end_hard(self) -> None:
        if self._server is None or self._loop is None:
            return
        for connection in self._connections():
            connection.transport.abort()
        # Some may still have been in the queue of the listener.
        self._loop.call_later(_SWEEP_S, self._end_hard)

    def _connections(self) -> list[Any]:
        return [] if self._server is None else list(self._server.server_state.connections)

    async def _sweep(self) -> None:
        """Send away who takes nothing, and who asks for nothing (live.py, rule L3)."""
        options, clock = self._board.options, self._board.clock
        while True:
            await asyncio.sleep(_SWEEP_S)
            now_s = clock.now_s()
            stalled = [
                viewer.client
                for seats in self._seats
                for viewer in seats.stalled(now_s, options.stalled_s)
            ]
            connections = self._connections()
            silent = {item: now_s for item in connections if item.cycle is None}
            self._silent_since_s = silent | {
                item: since_s for item, since_s in self._silent_since_s.items() if item in silent
            }
            for item in connections:
                since_s = self._silent_since_s.get(item, now_s)
                if item.client in stalled or now_s - since_s > _SILENT_S:
                    item.transport.abort()

    def _failed(self, error: BaseException) -> None:
        self._board.complain("server", f"The view's server failed with {error!r}")


def _need_packages() -> None:
    for package in ("uvicorn", "starlette"):
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise MissingPackageError(
                package, extra="view", purpose="to serve the live page"
            ) from error


def _trouble_of(step: Callable[[], None]) -> MachineError | None:
    """Take a step of the way out, so that one that fails does not keep the next from it."""
    try:
        step()
    except MachineError as error:
        return error
    return None
