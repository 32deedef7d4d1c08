"""Who may use the page.

Rules:
    A1  The Host header names this machine: an address in figures, or a name on the list. Otherwise
        a page elsewhere could point a name of its own here (DNS rebinding). 421.
    A2  A request that changes something comes from this page: its Origin, where there is one, is
        the very host that was asked, and its body is JSON, which no plain form can send. 403.
    A3  What another site asks for in a browser is refused, but for opening the page. 403.
    A4  Where there is a token, everything but the health check and the style of the page asks for
        it: as the cookie, as `Authorization: Bearer`, or once as `?token=`, which is exchanged for
        the cookie and disappears from the address. It is compared in constant time. 401.
    A5  The cookie holds a value derived from the token, is named after the port (browsers share
        cookies between ports), HttpOnly and SameSite=Strict.
    A6  A browser follows a redirect that began on another site without a SameSite=Strict cookie,
        so that it is sent on by a page of ours instead; a program gets a plain redirect.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qs, urlencode

from jetlift.runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

_SHORTEST_TOKEN = 16
_SAFE = ("GET", "HEAD")
_OPEN_PATHS = ("/healthz", "/view.css", "/icon.svg")


@dataclass(frozen=True)
class Request:
    """What the rules look at.

    Attributes:
        method: As in `GET`.
        path: Without the query.
        query: As it stands in the address.
        headers: By lower-case name; the last of several.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Verdict:
    """What becomes of a request.

    Attributes:
        kind: Let it in, refuse it, or exchange its token for the cookie.
        status: HTTP status of a refusal.
        reason: What the visitor is told.
        location: Where an exchanged request goes on.
    """

    kind: Literal["in", "refused", "exchange"]
    status: int = 200
    reason: str = ""
    location: str = ""


@dataclass(frozen=True, repr=False)
class Access:
    """The rules for one server (A1 to A6). Its token never appears in a message.

    Attributes:
        token: None where none is asked for.
        names: Host names that stand for this machine, in lower case.
        port: The port served.
    """

    token: str | None
    names: frozenset[str]
    port: int

    def judge(self, request: Request) -> Verdict:
        """Decide on a request."""
        refusal = self._wrong_host(request) or _foreign(request)
        if refusal is not None:
            return refusal
        if self.token is None or request.path in _OPEN_PATHS:
            return Verdict("in")
        return self._known(request, self.token)

    @property
    def cookie_name(self) -> str:
        """Rule A5."""
        return f"jetlift_view_{self.port}"

    def set_cookie(self) -> str:
        """The value of a Set-Cookie header (rule A5)."""
        value = _derived(self.token or "")
        return f"{self.cookie_name}={value}; Path=/; HttpOnly; SameSite=Strict"

    def _wrong_host(self, request: Request) -> Verdict | None:
        host = _host_name(request.headers.get("host", ""))
        if host in self.names or _is_figures(host):
            return None
        return Verdict(
            "refused",
            421,
            f"This view does not answer to the name '{host[:80]}'. Open it by this machine's "
            "address, or let the name be allowed when the run is started.",
        )

    def _known(self, request: Request, token: str) -> Verdict:
        query = parse_qs(request.query, keep_blank_values=True)
        given = query.pop("token", [])
        if given and request.method in _SAFE:
            if not _same(given[-1], token):
                return _unknown("The token in the address is not this run's.")
            path, rest = f"/{request.path.lstrip('/')}", urlencode(query, doseq=True)
            return Verdict("exchange", location=f"{path}?{rest}" if rest else path)
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and _same(bearer.strip(), token):
            return Verdict("in")
        cookie = _cookies(request.headers.get("cookie", "")).get(self.cookie_name, "")
        if _same(cookie, _derived(token)):
            return Verdict("in")
        return _unknown("This view asks for a token.")


def new_token() -> str:
    """32 random bytes, as text for an address."""
    return secrets.token_urlsafe(32)


def checked_token(token: str) -> str:
    """A token that a user chose.

    Raises:
        UsageError: It is too short to be one, or does not fit into an address as it is.
    """
    plain = token.isascii() and all(sign.isalnum() or sign in "-_.~" for sign in token)
    if len(token) < _SHORTEST_TOKEN or not plain:
        raise UsageError(
            f"Got a token of {len(token)} characters",
            expected=f"At least {_SHORTEST_TOKEN} letters, digits or any of - _ . ~",
            do="Leave it out, and a random one is made",
        )
    return token


def _foreign(request: Request) -> Verdict | None:
    """Refuse what another site sends (rules A2 and A3)."""
    headers = request.headers
    opens_page = headers.get("sec-fetch-mode") == "navigate" and request.path == "/"
    if headers.get("sec-fetch-site") == "cross-site" and not (
        opens_page and request.method in _SAFE
    ):
        return Verdict("refused", 403, "Another site may not use this view.")
    if request.method in _SAFE:
        return None
    origin = headers.get("origin")
    host = headers.get("host", "").lower()
    if origin is not None and origin.lower() not in (f"http://{host}", f"https://{host}"):
        return Verdict("refused", 403, "Another site may not change anything here.")
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        return Verdict("refused", 403, "What changes something is sent as application/json.")
    return None


def _unknown(what: str) -> Verdict:
    return Verdict(
        "refused", 401, f"{what} Open the whole address that the run printed when it started."
    )


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())


def _derived(token: str) -> str:
    return hmac.new(token.encode(), b"jetlift view cookie", hashlib.sha256).hexdigest()


def _host_name(host: str) -> str:
    """The Host header without its port, in lower case."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


def _is_figures(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _cookies(header: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in header.split(";"))
    return {name.strip(): value.strip() for name, _, value in pairs}
