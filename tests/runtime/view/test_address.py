"""Where the page is served: rules W1 and W2."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetlift.runtime.errors import MachineError, UsageError
from jetlift.runtime.view.address import Address, host_names, listen


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("", "127.0.0.1", 8090),
        ("9000", "127.0.0.1", 9000),
        (":9000", "127.0.0.1", 9000),
        ("0.0.0.0", "0.0.0.0", 8090),  # noqa: S104 - what a user may ask for
        ("0.0.0.0:0", "0.0.0.0", 0),  # noqa: S104
        (" robot.local:81 ", "robot.local", 81),
        ("[::1]:9000", "::1", 9000),
        ("[::]", "::", 8090),
        ("::1", "::1", 8090),
    ],
)
def test_addresses(text: str, host: str, port: int) -> None:
    assert Address.parse(text) == Address(host, port)


@pytest.mark.parametrize("text", ["a:b", "host:70000", "[::1", "[::1]9000", "host:-1", "host:٣"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(UsageError, match="HOST:PORT"):
        Address.parse(text)


@given(st.text(max_size=30))
def test_any_text_is_an_address_or_a_usage_error(text: str) -> None:
    try:
        address = Address.parse(text)
    except UsageError:
        return
    assert 0 <= address.port < 65536
    assert address.host


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("127.8.0.1", True), ("::1", True), ("localhost", True),
     ("0.0.0.0", False), ("::", False), ("robot", False), ("203.0.113.7", False)],  # noqa: S104
)  # fmt: skip
def test_which_addresses_only_this_machine_reaches(host: str, *, local: bool) -> None:
    assert Address(host, 1).is_local is local


def test_urls() -> None:
    assert Address("::1", 81).url() == "http://[::1]:81/"
    assert Address("robot", 81).url() == "http://robot:81/"
    everywhere = Address("0.0.0.0", 81).url()  # noqa: S104
    assert everywhere.endswith(":81/")
    assert "0.0.0.0" not in everywhere  # noqa: S104


def test_this_machines_names() -> None:
    assert {"localhost", socket.gethostname().lower()} <= host_names()


def test_a_free_port_is_found() -> None:
    with listen(Address("127.0.0.1", 0)) as listener:
        assert listener.getsockname()[1] > 0


def test_a_taken_port_is_told() -> None:
    with listen(Address("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(MachineError, match=f"127.0.0.1:{port}.*in use.*--view HOST:PORT"):
            listen(Address("127.0.0.1", port))


def test_a_host_of_another_machine_is_told() -> None:
    with pytest.raises(MachineError, match=r"cannot be served at 203\.0\.113\.7:8090"):
        listen(Address("203.0.113.7", 8090))
    with pytest.raises(MachineError, match=r"cannot be served at no-such-host\.invalid"):
        listen(Address("no-such-host.invalid", 8090))
