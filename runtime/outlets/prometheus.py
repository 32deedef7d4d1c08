"""A /metrics endpoint for Prometheus, from the standard library alone.

Rules:
    M1  It listens on 127.0.0.1 unless told: what a camera sees is nobody's business, nor is how
        fast. There is no log-in, so on another address it belongs behind a proxy that asks for one.
    M2  A client that sends nothing or reads nothing is dropped after TIMEOUT_S, and no more than
        MOST_CLIENTS are served at once. None of them can slow the pipeline.
    M3  No thread outlives `close`: connections that are open then are cut.
"""

from __future__ import annotations

import socket
import socketserver
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from jetlift.runtime.closing import Closing
from jetlift.runtime.errors import MachineError, UsageError
from jetlift.runtime.outlets.exposition import CONTENT_TYPE, checked_labels, exposition

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jetlift.runtime.pipeline.form import Snapshot

HOST, PORT = "127.0.0.1", 9105
TIMEOUT_S, MOST_CLIENTS = 5.0, 16
_POLL_S = 0.1
_PLAIN = "text/plain; charset=utf-8"
_HINT = "The metrics are at /metrics.\n"


class MetricsServer(Closing):
    """Serves snapshots to Prometheus (rules M1 to M3), from its making to `close`.

    Args:
        snapshot: What is asked at each scrape, by a thread of the server's.
        where: `HOST:PORT`, or one of them; the rest is as in rule M1. Port 0 takes a free one.
        labels: Of every sample, as in `model` and `task`.

    Raises:
        UsageError: `where` is no such address, or a label has a name that Prometheus refuses.
        MachineError: The address cannot be listened on.
    """

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        where: str = "",
        *,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        host, port = _host_and_port(where)
        common = checked_labels(labels or {})
        handler = _handler(lambda: exposition(snapshot(), common))
        try:
            self._server = _Server((host, port), handler)
        except OSError as error:
            raise MachineError(
                f"Metrics cannot be served on {host}:{port}: {error.strerror or error}",
                expected="A free port of an address that this machine has",
                do="Name another, as in --metrics 127.0.0.1:9200",
            ) from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_S,), name="metrics"
        )
        self._thread.start()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that it listens on."""
        host, port = self._server.server_address[:2]
        return str(host), int(port)

    @property
    def url(self) -> str:
        """Where Prometheus finds it."""
        host, port = self.address
        return f"http://{f'[{host}]' if ':' in host else host}:{port}/metrics"

    def close(self) -> None:
        """Stop listening and cut every connection (rule M3). A second call does nothing."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.cut()
        self._server.server_close()  # joins the clients' threads


class _Server(ThreadingHTTPServer):
    """One thread per connection, few of them, all of them joined (rules M2 and M3)."""

    daemon_threads = False
    block_on_close = True
    request_queue_size = 32

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as socketserver has it
        """Serve a client, unless too many are being served."""
        with self._lock:
            served = len(self._open) < MOST_CLIENTS
            if served:
                self._open.add(request)
        if served:
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401 - as socketserver has it
        """End one connection."""
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def cut(self) -> None:
        """Wake every thread that waits for its client."""
        with self._lock:
            for connection in self._open:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # the client was faster

    def server_bind(self) -> None:
        """Bind without the look-up of a name that http.server makes, which may take long."""
        socketserver.TCPServer.server_bind(self)
        host, port = self.server_address[:2]
        self.server_name, self.server_port = str(host), int(port)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as socketserver has it
        """Clients that go away are no news; anything else is a fault, told as ever."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


def _host_and_port(where: str) -> tuple[str, int]:
    text = f":{where}" if where.isdecimal() else where
    try:
        parts = urlsplit(f"//{text}")
        host, port, more = parts.hostname, parts.port, parts.path or parts.query or parts.username
    except ValueError:
        host, port, more = None, None, text
    if more:
        raise UsageError(
            f"Metrics were to be served at {where!r}",
            expected=f"HOST:PORT with a port from 0 to 65535, as in {HOST}:{PORT}",
        )
    return host or HOST, PORT if port is None else port


def _handler(page: Callable[[], str]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = TIMEOUT_S
        server_version, sys_version = "jetlift", ""

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                self._answer(HTTPStatus.OK, CONTENT_TYPE, page())
            else:
                status = HTTPStatus.OK if path == "/" else HTTPStatus.NOT_FOUND
                self._answer(status, _PLAIN, _HINT)

        def do_HEAD(self) -> None:
            self.do_GET()

        def _answer(self, status: HTTPStatus, content_type: str, text: str) -> None:
            content = text.encode(errors="backslashreplace")
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """A line per scrape would fill the log of a service."""

    return Handler
