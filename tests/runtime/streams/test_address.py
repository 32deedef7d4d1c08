from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetlift.runtime.errors import UsageError
from jetlift.runtime.streams import address

WORD = st.text(st.characters(codec="ascii", exclude_characters="@:/?#\\[]"), min_size=6)


def test_an_address_is_taken_apart():
    found = address.parse("rtsp://ann:s%23cret@cam:8554/live?channel=1&subtype=0#timeout=3")
    assert found.url == "rtsp://ann:s%23cret@cam:8554/live?channel=1&subtype=0"
    assert (found.host, found.port, found.user, found.password) == ("cam", 8554, "ann", "s#cret")
    assert found.target == "/live?channel=1&subtype=0"
    assert found.options == "timeout=3"
    assert found.shown == "rtsp://ann:…@cam:8554/live?channel=1&subtype=0"
    assert "cret" not in repr(found)


@pytest.mark.parametrize(
    ("name", "port"),
    [("rtsp://h/x", 554), ("http://h/x", 80), ("udp://:5000", 5000), ("udp://@239.0.0.1:7", 7)],
)
def test_ports(name, port):
    assert address.parse(name).port == port


@given(WORD, WORD)
def test_a_password_is_never_shown(user, password):
    shown = address.shown(f"rtsp://{user}:{password}@host/path")
    assert password not in shown.replace(user, "")
    assert shown.endswith("@host/path")


@pytest.mark.parametrize("key", ["password", "PWD", "token", "api_key", "authToken", "sig"])
def test_secrets_of_the_query_are_not_shown(key):
    shown = address.shown(f"http://h/x?a=1&{key}=hush&b=2")
    assert "hush" not in shown
    assert "a=1" in shown
    assert "b=2" in shown


@pytest.mark.parametrize(
    "name",
    [
        "rtsp://ann:hu#sh@cam/x",
        "rtsp://ann:hu/sh@cam/x",
        "rtsp://ann:hu?sh@cam/x",
        "rtsp://ann:hush@cam:port/x",
        "rtsp://ann:hush@[::1/x",
        "rtsp://ann:hush@/x",
        "udp://ann:hush@cam",
        "ftp://ann:hush@cam/x",
        "rtsp:",
    ],
)
def test_what_is_no_address_is_refused_without_its_password(name):
    with pytest.raises(UsageError) as caught:
        address.parse(name)
    assert "sh@" not in str(caught.value)
    assert "hu" not in str(caught.value)
