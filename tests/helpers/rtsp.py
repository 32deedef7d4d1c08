"""Streams to read: RTSP by GStreamer's server, HTTP and UDP by ffmpeg, HTTP by a few lines here.

Their pictures are stamped (jetlift.runtime.streams.stamp).
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import cv2
import numpy as np
import pytest

from jetlift.benchmarks import rtsp_server

SIZE = "320x240"
FPS = 15
BOUNDARY = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"


def need_rtsp() -> None:
    """Skip where no RTSP server can be run."""
    if lacking := rtsp_server.missing():
        packages = " ".join(rtsp_server.PACKAGES)
        pytest.skip(f"no RTSP server here ({lacking}); apt-get install {packages}")


def need_program(name: str) -> None:
    """Skip where a program is not installed."""
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port that nobody uses now."""
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def wait_until_it_listens(port: int, limit_s: float = 60) -> None:
    """Wait for a listener without connecting: ffmpeg's takes one client alone.

    https://www.kernel.org/doc/html/latest/networking/proc_net_tcp.html: state 0A is LISTEN.
    """
    until_s = time.monotonic() + limit_s
    while time.monotonic() < until_s:
        with open("/proc/net/tcp", encoding="ascii") as table:  # noqa: PTH123 - no file to speak of
            rows = [line.split() for line in table][1:]
        if any(row[1].endswith(f":{port:04X}") and row[3] == "0A" for row in rows):
            return
        time.sleep(0.02)
    pytest.fail(f"nothing listens at port {port}")


@contextmanager
def ffmpeg_sends(*encoding: str) -> Iterator[None]:
    """ffmpeg sends stamped frames; `encoding` are its arguments behind the input."""
    need_program("ffmpeg")
    draw = [sys.executable, "-m", "jetlift.benchmarks.stamped_frames", SIZE, str(FPS)]
    raw = ["-f", "rawvideo", "-pix_fmt", "bgr24", "-video_size", SIZE, "-framerate", str(FPS)]
    command = ["ffmpeg", "-hide_banner", "-loglevel", "error", *raw, "-i", "-", *encoding]
    with ExitStack() as stack:
        drawer = stack.enter_context(subprocess.Popen(draw, stdout=subprocess.PIPE))
        stack.callback(drawer.kill)
        sender = stack.enter_context(
            subprocess.Popen(command, stdin=drawer.stdout, stderr=subprocess.DEVNULL)
        )
        stack.callback(sender.kill)
        yield


def jpeg(size_wh: tuple[int, int], level: int = 90) -> bytes:
    """A JPEG file."""
    image = np.full((size_wh[1], size_wh[0], 3), level, np.uint8)
    return cv2.imencode(".jpg", image)[1].tobytes()


@contextmanager
def http_serves(*parts: bytes, status: str = "200 OK") -> Iterator[int]:
    """A server that gives each client the same JPEG parts, FPS a second, and then is silent."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        clients: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                clients.append(client)
                client.recv(4096)
                head = f"HTTP/1.1 {status}\r\nContent-Type: multipart/x-mixed-replace; "
                with suppress(OSError):  # the reader may go at any time
                    client.sendall(head.encode() + b"boundary=frame\r\n\r\n")
                    for part in parts:
                        client.sendall(BOUNDARY % len(part) + part + b"\r\n")
                        time.sleep(1 / FPS)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(10)
            for client in clients:
                client.close()
