"""Who may use the page: rules A1 to A6."""

from __future__ import annotations

import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetlift.runtime.errors import UsageError
from jetlift.runtime.view import auth
from jetlift.runtime.view.auth import Access, Request, checked_token, new_token

TOKEN = "T0ken-of-this-run_1234567890"  # noqa: S105 - of these tests alone
NAMES = frozenset({"localhost", "robot", "robot.local"})
OPEN, CLOSED = Access(None, NAMES, 8090), Access(TOKEN, NAMES, 8090)
HOST = "robot:8090"


def _get(path: str = "/", query: str = "", host: str = HOST, **headers: str) -> Request:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Request("GET", path, query, {"host": host, **named})


def _post(host: str = HOST, **headers: str) -> Request:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    json = {"content-type": "application/json"}
    return Request("POST", "/api/prompts", "", {"host": host, **json, **named})


def _cookie(access: Access) -> str:
    return access.set_cookie().partition(";")[0]


@pytest.mark.parametrize(
    "host",
    ["robot", "ROBOT:8090", "robot.local:9", "localhost", "127.0.0.1:8090", "203.0.113.7:8090",
     "[::1]:8090", "[2001:db8::1]"],
)  # fmt: skip
def test_hosts_that_name_this_machine(host: str) -> None:
    assert OPEN.judge(_get(host=host)).kind == "in"


@pytest.mark.parametrize(
    "host", ["", "evil.example", "robot.evil.example:8090", "127.0.0.1.nip", ":"]
)
def test_other_hosts_are_misdirected(host: str) -> None:
    for access in (OPEN, CLOSED):
        verdict = access.judge(_get("/healthz", host=host))
        assert (verdict.kind, verdict.status) == ("refused", 421)


def test_without_a_token_everybody_on_this_machine_comes_in() -> None:
    assert OPEN.judge(_get("/stream.mjpg")).kind == "in"
    assert OPEN.judge(_post()).kind == "in"


@pytest.mark.parametrize(
    "path", ["/", "/stream.mjpg", "/events", "/api/state", "/snapshot.jpg", "/x"]
)
def test_with_a_token_nobody_comes_in_without_it(path: str) -> None:
    for request in (
        _get(path),
        _get(path, cookie=f"{CLOSED.cookie_name}=guess"),
        _get(path, cookie=f"{CLOSED.cookie_name}={TOKEN}"),  # the token is not the cookie
        _get(path, authorization="Bearer guess"),
        _get(path, authorization=f"Basic {TOKEN}"),
        _get(path, "token=guess"),
        _get(path, "token="),
    ):
        verdict = CLOSED.judge(request)
        assert (verdict.kind, verdict.status) == ("refused", 401)
        assert TOKEN not in verdict.reason


def test_the_token_is_exchanged_and_leaves_the_address() -> None:
    assert CLOSED.judge(_get("/", f"token={TOKEN}")).location == "/"
    verdict = CLOSED.judge(_get("/api/state", f"a=1&token={TOKEN}&b=2"))
    assert (verdict.kind, verdict.location) == ("exchange", "/api/state?a=1&b=2")


def test_the_exchange_leads_to_no_other_site() -> None:
    assert CLOSED.judge(_get("//evil.example/", f"token={TOKEN}")).location == "/evil.example/"


def test_cookie_and_bearer_come_in() -> None:
    assert CLOSED.judge(_get(cookie=f"other=1; {_cookie(CLOSED)}")).kind == "in"
    assert CLOSED.judge(_get(authorization=f"bearer {TOKEN}")).kind == "in"
    assert CLOSED.judge(_post(cookie=_cookie(CLOSED))).kind == "in"


def test_a_token_in_the_address_is_not_enough_to_change_something() -> None:
    request = Request(
        "POST", "/api/prompts", f"token={TOKEN}", {"host": HOST, "content-type": "application/json"}
    )
    assert CLOSED.judge(request).status == 401


def test_the_cookie_is_kept_from_scripts_and_other_sites() -> None:
    header = CLOSED.set_cookie()
    assert "HttpOnly" in header
    assert "SameSite=Strict" in header
    assert header.startswith("jetlift_view_8090=")
    assert TOKEN not in header
    assert Access(TOKEN, NAMES, 8091).cookie_name != CLOSED.cookie_name


def test_comparing_takes_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    real = hmac.compare_digest

    def watched(given: bytes, wanted: bytes) -> bool:
        compared.append(wanted)
        return real(given, wanted)

    monkeypatch.setattr(auth.hmac, "compare_digest", watched)
    for request in (_get(query="token=a"), _get(authorization="Bearer a"), _get(cookie="a=b")):
        before = len(compared)
        CLOSED.judge(request)
        assert len(compared) > before


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "http://robot:8091", "null", "https://robot"]
)
def test_another_origin_changes_nothing(origin: str) -> None:
    for access in (OPEN, CLOSED):
        verdict = access.judge(_post(origin=origin, cookie=_cookie(CLOSED)))
        assert (verdict.kind, verdict.status) == ("refused", 403)


@pytest.mark.parametrize("origin", ["http://robot:8090", "https://robot:8090", "HTTP://ROBOT:8090"])
def test_its_own_origin_may_change_something(origin: str) -> None:
    assert OPEN.judge(_post(origin=origin)).kind == "in"


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded"])
def test_a_plain_form_changes_nothing(kind: str) -> None:
    assert OPEN.judge(_post(content_type=kind)).status == 403


def test_another_site_may_open_the_page_and_no_more() -> None:
    crossing = {"sec_fetch_site": "cross-site"}
    assert OPEN.judge(_get("/", sec_fetch_mode="navigate", **crossing)).kind == "in"
    assert OPEN.judge(_get("/", sec_fetch_mode="no-cors", **crossing)).status == 403
    assert OPEN.judge(_get("/stream.mjpg", sec_fetch_mode="no-cors", **crossing)).status == 403
    assert OPEN.judge(_get("/snapshot.jpg", sec_fetch_mode="navigate", **crossing)).status == 403


def test_the_health_check_and_the_style_are_open() -> None:
    for path in ("/healthz", "/view.css", "/icon.svg"):
        assert CLOSED.judge(_get(path)).kind == "in"


@given(st.text(max_size=60), st.text(max_size=60), st.text(max_size=60))
def test_no_guess_comes_in(query: str, cookie: str, bearer: str) -> None:
    for request in (
        _get(query=query), _get(query=f"token={query}"), _get(cookie=cookie),
        _get(cookie=f"{CLOSED.cookie_name}={cookie}"), _get(authorization=f"Bearer {bearer}"),
    ):  # fmt: skip
        assert CLOSED.judge(request).kind == "refused"


def test_a_random_token_has_32_bytes_and_is_never_the_same() -> None:
    tokens = {new_token() for _ in range(50)}
    assert len(tokens) == 50
    assert all(len(token) >= 43 for token in tokens)
    assert all(checked_token(token) == token for token in tokens)


@pytest.mark.parametrize("token", ["", "short", "with space in the middle", "ümläut-is-not-plain"])
def test_a_token_of_ones_own_has_a_form(token: str) -> None:
    with pytest.raises(UsageError, match="At least 16") as caught:
        checked_token(token)
    assert not token or token not in str(caught.value)


def test_access_is_not_printed_with_its_token() -> None:
    assert TOKEN not in repr(CLOSED)
