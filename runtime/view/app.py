"""The page's addresses, and the gate before them.

/                page           /stream.mjpg   pictures        /events        figures
/snapshot.jpg    one picture    /api/state     figures once    /api/prompts   changes prompts
/healthz         whether it works
"""

from __future__ import annotations

import asyncio
import contextlib
import html
import json
import re
from datetime import datetime
from importlib import resources
from typing import TYPE_CHECKING

from jetlift.runtime.errors import BusyError, JetliftError
from jetlift.runtime.view import pictures
from jetlift.runtime.view.auth import Access, Request, Verdict
from jetlift.runtime.view.live import Events, PictureStream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.requests import Request as HttpRequest
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from jetlift.runtime.view.board import ViewBoard
    from jetlift.runtime.view.desk import PromptDesk
    from jetlift.runtime.view.feed import Feed
    from jetlift.runtime.view.live import Seats

_KINDS = {
    "index.html": "text/html; charset=utf-8",
    "view.css": "text/css; charset=utf-8",
    "view.js": "text/javascript; charset=utf-8",
    "figures.js": "text/javascript; charset=utf-8",
    "charts.js": "text/javascript; charset=utf-8",
    "pictures.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_POLICY = (
    "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
_LARGEST_BODY_BYTES = 64 * 1024
_PICTURE_WAIT_S = 3.0


def build_app(
    board: ViewBoard, feed: Feed, desk: PromptDesk, seats: tuple[Seats, Seats], access: Access
) -> ASGIApp:
    """The application behind its gate.

    Args:
        board: The newest result.
        feed: What flows to viewers.
        desk: Where prompts are changed.
        seats: Of the stream and of the events.
        access: Who may come in.
    """
    from starlette.applications import Starlette
    from starlette.routing import Route

    answers = _Answers(board, feed, desk)
    stream, events = PictureStream(board, feed, seats[0]), Events(board, feed, seats[1])
    routes = [
        Route("/", answers.page("index.html")),
        *(Route(f"/{name}", answers.page(name)) for name in _KINDS if name != "index.html"),
        Route("/stream.mjpg", stream, methods=["GET"]),
        Route("/events", events, methods=["GET"]),
        Route("/snapshot.jpg", answers.snapshot),
        Route("/api/state", answers.state),
        Route("/api/prompts", answers.prompts, methods=["POST"]),
        Route("/healthz", answers.health),
    ]
    return _Gate(Starlette(routes=routes), access)


class _Answers:
    """The requests that have an end."""

    def __init__(self, board: ViewBoard, feed: Feed, desk: PromptDesk) -> None:
        self._board, self._feed, self._desk = board, feed, desk

    def page(self, name: str) -> Callable[[HttpRequest], Awaitable[Response]]:
        """An endpoint that gives a file of the page."""
        from starlette.responses import Response

        content = asset(name)

        async def answer(_request: HttpRequest) -> Response:
            return Response(content, media_type=_KINDS[name])

        return answer

    async def snapshot(self, _request: HttpRequest) -> Response:
        """The newest picture at its full size, as a file to keep."""
        from starlette.responses import PlainTextResponse, Response

        with self._board.viewer():
            if self._board.ended is None:
                waiting = self._feed.shots.after(self._feed.shots.number)
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(waiting, _PICTURE_WAIT_S)
            newest = self._board.newest
        if newest is None or newest.picture_bgr is None:
            text = f"No picture came within {_PICTURE_WAIT_S:g} s.\n"
            return PlainTextResponse(text, status_code=503)
        jpeg = await asyncio.to_thread(pictures.snapshot, newest.picture_bgr)
        return Response(
            jpeg,
            media_type="image/jpeg",
            headers={"content-disposition": f'attachment; filename="{self._file_name()}"'},
        )

    def _file_name(self) -> str:
        title = re.sub(r"[^A-Za-z0-9._-]+", "-", self._board.told.title).strip("-.") or "picture"
        moment = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S-%f")[:-3]
        return f"{title}-{moment}.jpg"

    async def state(self, _request: HttpRequest) -> Response:
        """The figures once, with the history."""
        from starlette.responses import JSONResponse

        found = await self._feed.states.after(max(0, self._feed.states.number - 1))
        if found is None:
            return JSONResponse({"error": "The view is closing."}, status_code=503)
        return JSONResponse({**json.loads(found[1]), "history": self._feed.history.whole()})

    async def prompts(self, request: HttpRequest) -> Response:
        """Change the prompts; an error is told as the task tells it."""
        from starlette.responses import JSONResponse

        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > _LARGEST_BODY_BYTES:
                return _problem("The prompts are longer than 64 KiB.", 413)
        try:
            sent = json.loads(body)
        except ValueError:
            return _problem("The request is no JSON.", 400)
        given = sent.get("prompts") if isinstance(sent, dict) else None
        try:
            change = asyncio.wrap_future(self._desk.change(given))
            closed = asyncio.ensure_future(self._feed.states.closed())
            await asyncio.wait((change, closed), return_when=asyncio.FIRST_COMPLETED)
            closed.cancel()
            if not change.done():
                return _problem("The view is closing.", 503)
            change.result()
        except BusyError as error:
            return _problem(str(error), 409)
        except JetliftError as error:
            return _problem(str(error), 422)
        return JSONResponse({"prompts": given})

    async def health(self, _request: HttpRequest) -> Response:
        """Whether the view works; says nothing of the run, since anybody may ask."""
        from starlette.responses import PlainTextResponse

        failed = self._feed.error is not None
        return PlainTextResponse("failed\n" if failed else "ok\n", 503 if failed else 200)


class _Gate:
    """Asks Access about each request and adds the headers that every answer has."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access
        self._refusal = asset("refused.html").decode()
        self._passage = asset("enter.html").decode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *_HEADERS]}
            await send(message)

        if scope["type"] != "http":
            return
        headers = {
            name.decode("latin-1"): text.decode("latin-1") for name, text in scope["headers"]
        }
        query = scope["query_string"].decode("latin-1")
        verdict = self._access.judge(Request(scope["method"], scope["path"], query, headers))
        app = self._app if verdict.kind == "in" else self._answer(verdict, headers)
        await app(scope, receive, send_guarded)

    def _answer(self, verdict: Verdict, headers: Mapping[str, str]) -> Response:
        from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse

        browser = "text/html" in headers.get("accept", "")
        if verdict.kind == "exchange":
            cookie = {"set-cookie": self._access.set_cookie()}
            if not browser:
                return RedirectResponse(verdict.location, status_code=303, headers=cookie)
            target = html.escape(verdict.location)
            return HTMLResponse(self._passage.replace("{location}", target), headers=cookie)
        more = {"www-authenticate": "Bearer"} if verdict.status == 401 else {}
        if not browser:
            return PlainTextResponse(f"{verdict.reason}\n", verdict.status, headers=more)
        page = self._refusal.replace("{reason}", html.escape(verdict.reason))
        return HTMLResponse(page, verdict.status, headers=more)


def asset(name: str) -> bytes:
    """A file of the page."""
    return (resources.files("jetlift.runtime.view") / "page" / name).read_bytes()


def _problem(text: str, status: int) -> Response:
    from starlette.responses import JSONResponse

    return JSONResponse({"error": text}, status_code=status)
