"""Where the page is served: HOST:PORT, and what that means for who may come.

Rules:
    W1  Unless told otherwise it is 127.0.0.1, which no other machine reaches.
    W2  A name that stands for several addresses is served at its first.
"""

from __future__ import annotations

import ipaddress
import socket
from contextlib import closing
from dataclasses import dataclass

from jetlift.runtime.errors import MachineError, UsageError

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 8090
_BACKLOG = 512
_UNSENT_BYTES = 16 * 1024


@dataclass(frozen=True)
class Address:
    """A host and a port; port 0 means one that is free."""

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read `HOST:PORT`, `HOST`, `PORT`, `:PORT` or `[IPv6]:PORT`; empty is the default.

        Raises:
            UsageError: It is none of them.
        """
        host, port = _split(text.strip())
        if port and not (port.isascii() and port.isdigit() and int(port) < 65536):
            raise UsageError(
                f"The view was to be served at '{text}'",
                expected="HOST:PORT with a port from 0 to 65535, as in 0.0.0.0:8090",
            )
        return cls(host or DEFAULT_HOST, int(port) if port else DEFAULT_PORT)

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches it (rule W1)."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def url(self) -> str:
        """What to open in a browser; for an address that means every interface, one of them."""
        host = _outward_host() if self.host in ("0.0.0.0", "::") else self.host  # noqa: S104
        return f"http://{_bracketed(host)}:{self.port}/"


def listen(address: Address) -> socket.socket:
    """A socket that listens at `address` (rule W2).

    Raises:
        MachineError: The port is taken, may not be used, or the host is not this machine.
    """
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, where = found[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise _refused(address, error) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address.host != "::"))
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            # Old pictures would queue up in the kernel for a viewer on a slow line; connections
            # inherit this from their listener (tcp(7)).
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        listener.bind(where)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise _refused(address, error) from error
    return listener


def host_names() -> frozenset[str]:
    """The names by which others on the network may call this machine; no name server is asked."""
    name = socket.gethostname().lower()
    return frozenset({"localhost", name, f"{name.split('.')[0]}.local"})


def _split(text: str) -> tuple[str, str]:
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")):
            return "", text  # refused as a port
        return host, rest[1:]
    if text.count(":") > 1:
        return text, ""  # an IPv6 address without a port
    host, colon, port = text.partition(":")
    if not colon and host.isascii() and host.isdigit():
        return "", host
    return host, port


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _outward_host() -> str:
    """This machine's address on the network; its name where it has none."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address for examples; nothing is sent
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()


def _refused(address: Address, error: OSError) -> MachineError:
    return MachineError(
        f"The view cannot be served at {_bracketed(address.host)}:{address.port}: "
        f"{error.strerror or error}",
        expected="A free port at an address of this machine",
        do="Choose another with --view HOST:PORT; port 0 takes any that is free",
    )
