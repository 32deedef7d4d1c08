"""Addresses of streams: what they say, what belongs to us in them, and what may be shown.

Rules:
    A1  What stands behind `#` are our options; a server never sees a fragment. What stands behind
        `?` belongs to the camera or to FFmpeg and is passed on.
    A2  A password is never shown: `rtsp://user:…@host/path`. Nor are values of the query whose key
        speaks of a secret.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

from jetlift.runtime.errors import UsageError

DEFAULT_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443, "rtmp": 1935}
SCHEMES = frozenset({*DEFAULT_PORTS, "udp", "tcp", "srt"})
_SECRET = re.compile(
    r"([?&;](?:[^=&;#]*(?:pass|pwd|token|secret|key|auth|sig)[^=&;#]*)=)[^&;#]+", re.IGNORECASE
)
_CREDENTIALS = re.compile(r"(//[^/?#:@]*):.*@", re.DOTALL)


@dataclass(frozen=True)
class Address:
    """Where a stream comes from.

    Attributes:
        url: What FFmpeg gets.
        shown: The same without secrets and without our options (rule A2).
        options: Our options (rule A1).
        scheme: As in `rtsp`.
        host: Name or number; empty where it only listens.
        port: Given or the scheme's own.
        user: Name to log in with, or None.
        password: With the name; never shown.
        target: Path and query, as a request states them.
    """

    url: str
    shown: str
    options: str
    scheme: str
    host: str
    port: int
    user: str | None
    password: str
    target: str

    def __repr__(self) -> str:
        return f"Address({self.shown!r})"


def shown(text: str) -> str:
    """An address, or a text with one in it, without secrets (rule A2)."""
    return _SECRET.sub(r"\1…", _CREDENTIALS.sub(r"\1:…@", text))


def parse(name: str) -> Address:
    """Take an address apart.

    Raises:
        UsageError: It is none, or of a scheme that is no stream.
    """
    url, _, options = name.partition("#")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # whose words may hold a piece of a password
        parts, port = urlsplit(""), None
    if not parts.scheme or "@" in options:
        raise UsageError(
            f"{shown(name)} is no address",
            expected="As in rtsp://user:password@host:554/path",
            do="Write special characters of a password as %23 for #, %2F for /, %3F for ?",
        )
    if parts.scheme not in SCHEMES:
        raise UsageError(
            f"{shown(name)} is of the unknown kind {parts.scheme}://",
            expected=f"One of {', '.join(f'{scheme}://' for scheme in sorted(SCHEMES))}",
        )
    _check_place(parts, port, shown(url))
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Address(
        url, shown(url), options, parts.scheme, parts.hostname or "",
        port or DEFAULT_PORTS.get(parts.scheme, 0),
        unquote(parts.username) if parts.username else None, unquote(parts.password or ""), target,
    )  # fmt: skip


def _check_place(parts: SplitResult, port: int | None, name: str) -> None:
    listens = parts.scheme in ("udp", "srt")
    if not listens and not parts.hostname:
        raise UsageError(f"{name} names no host", expected=f"{parts.scheme}://HOST/…")
    if not port and parts.scheme not in DEFAULT_PORTS:
        raise UsageError(f"{name} names no port", expected=f"{parts.scheme}://HOST:PORT")
