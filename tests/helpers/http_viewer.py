"""A viewer made of a bare socket: it reads as much and as fast as a test tells it to."""

from __future__ import annotations

import contextlib
import http.client
import json
import selectors
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from jetlift.runtime.view.pictures import BOUNDARY
from jetlift.runtime.view.server import ViewServer

LIMIT_S = 60  # only stops a test that hangs


def within(condition: Callable[[], object]) -> None:
    """Wait until something is so."""
    tick = threading.Event()
    for _ in range(LIMIT_S * 100):
        if condition():
            return
        tick.wait(0.01)
    pytest.fail("it did not come about")


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict:
        return json.loads(self.body)


def ask(
    server: ViewServer,
    path: str = "/",
    *,
    method: str = "GET",
    body: bytes | None = None,
    **headers: str,
) -> Reply:
    """One request with its own connection. Underscores in header names become hyphens."""
    connection = http.client.HTTPConnection("127.0.0.1", server.address.port, timeout=LIMIT_S)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with contextlib.closing(connection):
        connection.request(method, path, body, named)
        reply = connection.getresponse()
        found = {name.lower(): value for name, value in reply.getheaders()}
        return Reply(reply.status, found, reply.read())


def post(server: ViewServer, prompts: object, **headers: str) -> Reply:
    """Send prompts as the page does."""
    body = json.dumps({"prompts": prompts}).encode()
    return ask(
        server, "/api/prompts", method="POST", body=body, content_type="application/json", **headers
    )


class Viewer:
    """A connection that asked for something without end."""

    def __init__(self, server: ViewServer, path: str = "/stream.mjpg") -> None:
        port = server.address.port
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S)
        self.got = b""
        request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"
        self.socket.sendall(request.encode())

    @property
    def boundaries(self) -> int:
        return self.got.count(f"--{BOUNDARY}\r\n".encode())

    def read(self) -> bool:
        """Take what is there; False at the end."""
        try:
            chunk = self.socket.recv(65536)
        except ConnectionError:
            return False
        self.got += chunk
        return bool(chunk)

    def read_until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            assert self.read(), f"it ended after {self.got[-300:]!r}"

    def read_to_end(self) -> None:
        while self.read():
            pass

    def reset(self) -> None:
        """Break off without a word, as a phone does that leaves the network."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self) -> None:
        self.socket.close()


@contextlib.contextmanager
def viewers(server: ViewServer, count: int, path: str = "/stream.mjpg") -> Iterator[list[Viewer]]:
    """Many viewers at once."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(contextlib.closing(Viewer(server, path))) for _ in range(count)]


def read_all(many: list[Viewer], enough: Callable[[Viewer], bool]) -> None:
    """Read from all of them as data comes, until each has enough."""
    with selectors.DefaultSelector() as selector:
        for viewer in many:
            selector.register(viewer.socket, selectors.EVENT_READ, viewer)
        while selector.get_map():
            ready = selector.select(LIMIT_S)
            assert ready, f"{len(selector.get_map())} viewers wait for more"
            for key, _ in ready:
                viewer = key.data
                assert viewer.read(), "a viewer was sent away"
                if enough(viewer):
                    selector.unregister(viewer.socket)
