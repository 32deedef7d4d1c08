"""Results to a web server: one POST of JSON per result, or per batch of them.

Rules:
    W1  One result is a JSON object, its fields as in results.jsonl. With batches it is always an
        array, also of one.
    W2  2xx is taken. 408, 429 and 5xx are tried again, after what Retry-After asks for. Anything
        else is refused: told, counted, not sent again. A redirect is refused too, since it would
        carry results and token to another place than the one that was named.
    W3  The token and the key of the signature come from environment variables, and no message
        shows them, nor the path of the address, which may itself be a secret.
    W4  The signature is HMAC-SHA256 over the body, in hexadecimal, as the header
        `X-Jetlift-Signature-256: sha256=…`; a receiver compares in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import socket
import ssl
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from jetlift.runtime.errors import InputError
from jetlift.runtime.outlets.options import split_address
from jetlift.runtime.outlets.peers import Peer, PeerAway, PeerRefused, json_bytes
from jetlift.runtime.outlets.queued import QueuedSink

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jetlift.runtime.outlets.options import Options
    from jetlift.runtime.pipeline.form import Result

SIGNATURE_HEADER = "X-Jetlift-Signature-256"
TIMEOUT_S = 10.0
_AGAIN = {408, 429}
_ANSWER_BYTES = 65_536  # of an answer that are read so that the connection can be used again
_LONGEST_RETRY_AFTER_S = 300.0


@dataclass(frozen=True)
class Hook:
    """Where to post and how.

    Attributes:
        url: http:// or https://, without a user in it.
        batched: Whether bodies are arrays (rule W1).
        token: Sent as `Authorization: Bearer …`; empty for none.
        key: Of the signature (rule W4); empty for none.
        authorities: File of certificates that are trusted beside the system's; None for none.
        timeout_s: For connecting, and for each wait for the server.
    """

    url: str
    batched: bool = False
    token: str = field(default="", repr=False)
    key: str = field(default="", repr=False)
    authorities: Path | None = None
    timeout_s: float = TIMEOUT_S


class WebhookPeer(Peer[bytes]):
    """A web server that takes results (rules W1 to W4).

    Args:
        hook: Where and how.

    Raises:
        UsageError: The address is none of http or https, or has a password in it.
        InputError: The file of certificates cannot be read.
    """

    def __init__(self, hook: Hook) -> None:
        parts = split_address(hook.url, schemes=("http", "https"))
        self._hook, self._host, self._port = hook, str(parts.hostname), parts.port
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._target = quote(target, safe="/%?=&:;,+$@!*'()~[]|")
        self._tls = _tls(hook.authorities) if parts.scheme == "https" else None
        self._interrupted = threading.Event()
        self._connection: http.client.HTTPConnection | None = None
        self._socket: socket.socket | None = None
        self._used = False

    def prepare(self, result: Result) -> bytes:
        """See Peer.prepare."""
        return json_bytes(result)

    def open(self) -> None:
        """See Peer.open."""
        if self._interrupted.is_set():
            raise PeerAway("The connection was ended.")
        timeout_s = self._hook.timeout_s
        self._connection = (
            http.client.HTTPConnection(self._host, self._port, timeout=timeout_s)
            if self._tls is None
            else http.client.HTTPSConnection(
                self._host, self._port, timeout=timeout_s, context=self._tls
            )
        )
        try:
            self._connection.connect()
        except OSError as error:
            raise PeerAway(f"{self._host} cannot be reached: {_reason(error)}.") from error
        self._socket, self._used = self._connection.sock, False

    def send(self, payloads: Sequence[bytes]) -> None:
        """See Peer.send."""
        body = b"[" + b",".join(payloads) + b"]" if self._hook.batched else payloads[0]
        reused, self._used = self._used, True
        try:
            status, retry_after = self._post(body)
        except (OSError, http.client.HTTPException) as error:
            # A server may end an idle connection at any time: once more on a new one, at once.
            if not reused or self._interrupted.is_set():
                raise PeerAway(f"{self._host} did not answer: {_reason(error)}.") from error
            self.close()
            self.open()
            self.send(payloads)
            return
        _judge(self._host, status, retry_after)

    def _post(self, body: bytes) -> tuple[int, str]:
        if self._connection is None:
            raise http.client.NotConnected
        self._connection.request("POST", self._target, body, self._headers(body))
        self._socket = self._connection.sock  # another one where the server had ended the last
        response = self._connection.getresponse()
        rest = response.read(_ANSWER_BYTES)
        if len(rest) == _ANSWER_BYTES or response.will_close:
            self._connection.close()  # it connects again by itself
        return response.status, response.headers.get("Retry-After", "")

    def _headers(self, body: bytes) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "User-Agent": "jetlift"}
        if self._hook.token:
            headers["Authorization"] = f"Bearer {self._hook.token}"
        if self._hook.key:
            headers[SIGNATURE_HEADER] = signature(self._hook.key, body)
        return headers

    def close(self) -> None:
        """See Peer.close."""
        if self._connection is not None:
            self._connection.close()
            self._connection = self._socket = None

    def interrupt(self) -> None:
        """See Peer.interrupt."""
        self._interrupted.set()
        held = self._socket
        if held is not None:
            try:
                held.shutdown(socket.SHUT_RDWR)  # wakes whoever reads from it or writes to it
            except OSError:
                return  # it was closed just now


def signature(key: str, body: bytes) -> str:
    """What the signature's header holds (rule W4)."""
    return f"sha256={hmac.new(key.encode(), body, hashlib.sha256).hexdigest()}"


def open_webhook(url: str, options: Options) -> QueuedSink[bytes]:
    """A sink that posts to a server.

    Options: `batch` and `linger` (seconds), `token-env`, `key-env`, `ca`, `queue`, `timeout`.

    Raises:
        UsageError: The address or an option cannot be.
    """
    batch = options.whole("batch", 0)
    linger_s = options.number("linger", 1.0 if batch else 0.0)
    queue = options.whole("queue", 256, least=1)
    authorities = options.text("ca")
    hook = Hook(
        url,
        batched=batch > 0,
        token=options.secret("token-env"),
        key=options.secret("key-env"),
        authorities=Path(authorities) if authorities else None,
        timeout_s=options.number("timeout", TIMEOUT_S, least=0.1) or TIMEOUT_S,
    )
    options.finish()
    return QueuedSink(
        "webhook",
        WebhookPeer(hook),
        batch=max(1, batch),
        linger_s=linger_s or 0.0,
        capacity=max(queue, batch),
    )


def _judge(host: str, status: int, retry_after: str) -> None:
    """Rule W2."""
    if 200 <= status < 300:
        return
    if status in _AGAIN or status >= 500:
        raise PeerAway(f"{host} answered {status}.", wait_s=_wait_s(retry_after))
    if 300 <= status < 400:
        raise PeerRefused(f"{host} answered {status}, a redirect, which is not followed.")
    raise PeerRefused(f"{host} answered {status} and does not want the results.")


def _wait_s(retry_after: str) -> float:
    text = retry_after.strip()
    if not text.isdecimal() or len(text) > 9:
        return 0.0  # a date: the pauses grow by themselves
    return min(float(text), _LONGEST_RETRY_AFTER_S)


def _reason(error: Exception) -> str:
    text = getattr(error, "verify_message", "") or getattr(error, "strerror", "") or str(error)
    return text or type(error).__name__


def _tls(authorities: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if authorities is not None:
        try:
            context.load_verify_locations(authorities)
        except OSError as error:  # ssl.SSLError is one
            raise InputError(
                f"{authorities} holds no certificates that can be read: {error}",
                expected="A file in PEM form",
            ) from error
    return context
