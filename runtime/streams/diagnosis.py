"""Why a stream does not open, where OpenCV only says that it does not.

Asked after a failure alone: the server is called once more, by a few lines of RTSP (RFC 2326) or
HTTP of our own, and its answer read. Passwords are sent only as the server asks for them: hashed
(RFC 2617 Digest) or, where it wants nothing better, plainly (Basic), as FFmpeg does.
"""

from __future__ import annotations

import base64
import hashlib
import re
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jetlift.runtime.streams.address import Address

_MOST_ANSWER_BYTES = 65_536
_STATUS = re.compile(r"(?:RTSP|HTTP)/\d\.\d (\d{3}) ?([^\r\n]*)")
_CHALLENGE = re.compile(r"(?im)^WWW-Authenticate: *(Digest|Basic) +(.*?)\r?$")
_FIELD = re.compile(r'(\w+)="?([^",]*)"?')


@dataclass(frozen=True)
class Finding:
    """What is wrong.

    Attributes:
        reason: As a clause.
        do: What the user can do.
    """

    reason: str
    do: str


def find(address: Address, timeout_s: float) -> Finding:
    """Ask the server itself.

    Args:
        address: What did not open.
        timeout_s: How long to wait for each answer.
    """
    if address.scheme == "udp":
        do = f"Check that something sends to port {address.port} here, and no firewall is between"
        return Finding(f"nothing that can be decoded came within {timeout_s:g} s", do)
    if address.scheme == "srt":
        do = "Relay it: ffmpeg -i 'srt://…' -c copy -f mpegts udp://127.0.0.1:5000, and read"
        return Finding(
            "it does not open; the FFmpeg inside OpenCV's packages knows no SRT",
            f"{do} udp://127.0.0.1:5000",
        )
    try:
        return _asked(address, timeout_s)
    except socket.gaierror:
        return Finding(f"there is no host {address.host}", "Check the name, and this machine's DNS")
    except ConnectionRefusedError:
        do = "Check the port, and that the camera's server is switched on"
        return Finding(f"{address.host} refuses connections to port {address.port}", do)
    except TimeoutError:
        do = "Check that the camera is on and in this network; ping it"
        return Finding(f"{address.host} does not answer within {timeout_s:g} s", do)
    except OSError as error:
        return Finding(
            f"{address.host} cannot be reached: {error.strerror or error}", "Check the network"
        )


def _asked(address: Address, timeout_s: float) -> Finding:
    place = (address.host, address.port)
    with socket.create_connection(place, timeout=timeout_s) as connection:
        if address.scheme not in ("rtsp", "http"):
            return _unknown(timeout_s)  # encrypted, or of another tongue
        answer = _request(connection, address, 1, "")
        challenge = _CHALLENGE.search(answer)
        asks = _status(answer)[0] == 401
        if not (asks and challenge and address.user):
            return _judged(address, answer, timeout_s)
    with socket.create_connection(place, timeout=timeout_s) as connection:
        proof = _authorization(address, challenge[1], dict(_FIELD.findall(challenge[2])))
        return _judged(address, _request(connection, address, 2, proof), timeout_s)


def _judged(address: Address, answer: str, timeout_s: float) -> Finding:
    code, phrase = _status(answer)
    scheme = address.scheme
    if code == 401 and address.user is None:
        do = f"Write them into the address: {scheme}://NAME:PASSWORD@{address.host}/…"
        return Finding("it asks for a name and password (401)", do)
    if code == 401:
        do = "Check both; special characters are written as %40 for @, %3A for : and %23 for #"
        return Finding("it refuses this name and password (401)", do)
    if code == 403:
        return Finding("it forbids this (403)", "Check what the account may do at the camera")
    if code == 404:
        path = address.target.partition("?")[0]
        do = "Look up the stream's path in the camera's manual or its ONVIF settings"
        return Finding(f"it has no stream {path} (404)", do)
    if code is None:
        return Finding(
            f"what answers at port {address.port} is no {scheme.upper()} server", "Check the port"
        )
    if code >= 300:
        return Finding(f"it answers '{code} {phrase}'", "Check the address and the camera's state")
    return _unknown(timeout_s)


def _unknown(timeout_s: float) -> Finding:
    return Finding(
        f"it answers, but no picture that OpenCV can decode came within {timeout_s:g} s",
        "Check that it plays elsewhere, as with ffplay; H.264 and MJPEG are understood everywhere",
    )


def _status(answer: str) -> tuple[int | None, str]:
    match = _STATUS.match(answer)
    return (int(match[1]), match[2]) if match else (None, "")


def _request(connection: socket.socket, address: Address, number: int, proof: str) -> str:
    """Send a question and give the head of the answer."""
    if address.scheme == "rtsp":
        lines = [f"DESCRIBE {_place(address)} RTSP/1.0", f"CSeq: {number}"]
        lines += ["Accept: application/sdp"]
    else:
        lines = [f"GET {address.target} HTTP/1.1", f"Host: {address.host}:{address.port}"]
        lines += ["Connection: close"]
    lines += ["User-Agent: jetlift"] + ([f"Authorization: {proof}"] if proof else [])
    connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
    answer = b""
    while b"\r\n\r\n" not in answer and len(answer) < _MOST_ANSWER_BYTES:
        part = connection.recv(4096)
        if not part:
            break
        answer += part
    return answer.decode("latin-1")


def _place(address: Address) -> str:
    """What the request is about: the whole address without a name and password."""
    if address.scheme == "http":
        return address.target
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"rtsp://{host}:{address.port}{address.target}"


def _authorization(address: Address, kind: str, challenge: dict[str, str]) -> str:
    user, password = address.user or "", address.password
    if kind.lower() == "basic":
        return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    realm, nonce = challenge.get("realm", ""), challenge.get("nonce", "")
    method = "DESCRIBE" if address.scheme == "rtsp" else "GET"
    place = _place(address)
    first, second = _md5(f"{user}:{realm}:{password}"), _md5(f"{method}:{place}")
    told = {"username": user, "realm": realm, "nonce": nonce, "uri": place}
    if "auth" in challenge.get("qop", ""):
        fixed = {"nc": "00000001", "cnonce": _md5(nonce)[:16]}
        told["response"] = _md5(":".join((first, nonce, *fixed.values(), "auth", second)))
        bare = "".join(f", {key}={value}" for key, value in ({"qop": "auth"} | fixed).items())
    else:
        told["response"], bare = _md5(f"{first}:{nonce}:{second}"), ""
    return "Digest " + ", ".join(f'{key}="{value}"' for key, value in told.items()) + bare


def _md5(text: str) -> str:
    # What RFC 2617 prescribes; it protects nothing here.
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
