"""Results to an MQTT broker, through paho-mqtt (extra `mqtt`), by MQTT 3.1.1.

Rules:
    B1  Results go to PREFIX/results, one JSON object each, as in results.jsonl.
    B2  PREFIX/status is retained: `online` while connected, `offline` after the end. The broker
        itself says `offline` where the connection breaks (last will), within 1.5 times KEEPALIVE_S.
    B3  With QoS 1 a result counts as written when the broker has acknowledged it, with QoS 0 when
        it went to the network. The status always goes with QoS 1.
    B4  Each connection is a new client of a clean session, so that nothing is sent by paho behind
        the queue's back; the queue repeats what did not arrive (rule Q2).
"""

from __future__ import annotations

import secrets
import ssl
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jetlift.runtime.errors import InputError, MissingPackageError, UsageError
from jetlift.runtime.outlets.options import split_address
from jetlift.runtime.outlets.peers import Peer, PeerAway, PeerRefused, json_bytes
from jetlift.runtime.outlets.queued import QueuedSink

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from paho.mqtt.client import Client, MQTTMessageInfo

    from jetlift.runtime.outlets.options import Options
    from jetlift.runtime.pipeline.form import Result

ONLINE, OFFLINE = b"online", b"offline"
KEEPALIVE_S = 15
TIMEOUT_S = 5.0
_PORT, _TLS_PORT = 1883, 8883
_LOOK_S = 0.1  # how often a wait for an acknowledgement looks whether the line still stands


@dataclass(frozen=True)
class Broker:
    """Where to publish and how.

    Attributes:
        host: Name or address.
        port: 1883 by custom, 8883 with TLS.
        prefix: Of the topics; no `+`, `#` or null in it.
        qos: 0 or 1 for results (rule B3).
        user: Empty for none.
        password: Of the user.
        tls: Whether the connection is encrypted and the broker's certificate checked.
        authorities: File of certificates to trust instead of the system's; None for those.
        timeout_s: For connecting, and for each acknowledgement.
    """

    host: str
    port: int
    prefix: str
    qos: int = 1
    user: str = ""
    password: str = field(default="", repr=False)
    tls: bool = False
    authorities: Path | None = None
    timeout_s: float = TIMEOUT_S

    def __post_init__(self) -> None:
        if not self.prefix or set(self.prefix) & set("+#\0") or len(self.prefix) > 1000:
            raise UsageError(
                f"Got the MQTT topic {self.prefix!r}",
                expected="A topic to publish under, without + and #, as in mqtt://broker/plant/cam1",
            )
        if self.qos not in (0, 1):
            raise UsageError(f"Got QoS {self.qos}", expected="0 or 1")


class MqttPeer(Peer[bytes]):
    """A broker (rules B1 to B4).

    Args:
        broker: Where and how.

    Raises:
        MissingPackageError: paho-mqtt is not installed.
        InputError: The file of certificates cannot be read.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._client: Client | None = None
        self._answered, self._gone = threading.Event(), threading.Event()
        self._interrupted = threading.Event()
        self._answer = ""
        self._new_client()  # what is missing shows before the run begins

    @property
    def lost(self) -> bool:
        """See Peer.lost."""
        return self._gone.is_set()

    def prepare(self, result: Result) -> bytes:
        """See Peer.prepare."""
        return json_bytes(result)

    def open(self) -> None:
        """See Peer.open."""
        broker, client = self._broker, self._new_client()
        self._answered, self._gone = threading.Event(), threading.Event()
        self._listen(client, self._answered, self._gone)
        try:
            client.connect(broker.host, broker.port, KEEPALIVE_S)
        except (OSError, ValueError) as error:  # ValueError: a name that no resolver could know
            raise PeerAway(f"Broker {broker.host} cannot be reached: {error}.") from error
        self._client = client
        client.loop_start()
        self._wait(self._answered.is_set, self._answered.wait)
        if self._answer:
            raise PeerAway(f"Broker {broker.host} refused the connection: {self._answer}.")
        self._acknowledged(client.publish(self._topic("status"), ONLINE, qos=1, retain=True))

    def send(self, payloads: Sequence[bytes]) -> None:
        """See Peer.send."""
        if self._client is None:
            raise PeerAway(f"Broker {self._broker.host} is not connected.")
        for payload in payloads:
            try:
                message = self._client.publish(self._topic("results"), payload, self._broker.qos)
            except ValueError as error:
                raise PeerRefused(f"A result is no MQTT message: {error}.") from error
            self._acknowledged(message)

    def close(self) -> None:
        """See Peer.close."""
        client, self._client = self._client, None
        if client is None:
            return
        if client.is_connected() and not self._gone.is_set() and not self._interrupted.is_set():
            self._say_offline(client)
        client.disconnect()
        client.loop_stop()

    def interrupt(self) -> None:
        """See Peer.interrupt."""
        self._interrupted.set()

    def _say_offline(self, client: Client) -> None:
        try:
            self._acknowledged(client.publish(self._topic("status"), OFFLINE, qos=1, retain=True))
        except PeerAway:
            return  # the last will says it

    def _topic(self, name: str) -> str:
        return f"{self._broker.prefix}/{name}"

    def _new_client(self) -> Client:
        paho, broker = _paho(), self._broker
        client: Client = paho.Client(
            paho.CallbackAPIVersion.VERSION2,
            client_id=f"jetlift-{secrets.token_hex(6)}",
            clean_session=True,
            reconnect_on_failure=False,
        )
        client.connect_timeout = broker.timeout_s
        if broker.user:
            client.username_pw_set(broker.user, broker.password or None)
        if broker.tls:
            client.tls_set_context(_tls(broker.authorities))
        client.will_set(self._topic("status"), OFFLINE, qos=1, retain=True)
        return client

    def _listen(self, client: Client, answered: threading.Event, gone: threading.Event) -> None:
        """Note what paho's thread hears; a later connection has events of its own."""

        def on_connect(_client: Any, _data: Any, _flags: Any, code: Any, _: Any) -> None:  # noqa: ANN401
            self._answer = str(code) if code.is_failure else ""
            answered.set()

        def on_disconnect(*_: Any) -> None:  # noqa: ANN401 - five values of paho's
            gone.set()

        client.on_connect, client.on_disconnect = on_connect, on_disconnect

    def _acknowledged(self, message: MQTTMessageInfo) -> None:
        """Wait until a message is done with (rule B3)."""
        self._wait(message.is_published, message.wait_for_publish)

    def _wait(self, done: Callable[[], bool], look: Callable[[float], object]) -> None:
        deadline_s = time.monotonic() + self._broker.timeout_s
        host = self._broker.host
        try:
            while not done():
                if self._gone.is_set():
                    raise PeerAway(f"Broker {host} ended the connection.")
                if self._interrupted.is_set() or time.monotonic() > deadline_s:
                    raise PeerAway(f"Broker {host} did not answer in time.")
                look(_LOOK_S)
        except (RuntimeError, ValueError) as error:  # paho: not connected, or its queue is full
            raise PeerAway(f"Broker {host} is not connected: {error}.") from error


def open_mqtt(address: str, options: Options) -> QueuedSink[bytes]:
    """A sink that publishes, for `mqtt://HOST[:PORT]/PREFIX` or `mqtts://…`.

    Options: `qos`, `user`, `password-env`, `ca`, `queue`, `timeout`.

    Raises:
        UsageError: The address or an option cannot be.
        MissingPackageError: paho-mqtt is not installed.
    """
    parts = split_address(address, schemes=("mqtt", "mqtts"))
    tls, authorities = parts.scheme == "mqtts", options.text("ca")
    broker = Broker(
        str(parts.hostname),
        parts.port or (_TLS_PORT if tls else _PORT),
        parts.path.strip("/"),
        qos=options.whole("qos", 1),
        user=options.text("user"),
        password=options.secret("password-env"),
        tls=tls,
        authorities=Path(authorities) if authorities else None,
        timeout_s=options.number("timeout", TIMEOUT_S, least=0.1) or TIMEOUT_S,
    )
    queue = options.whole("queue", 256, least=1)
    options.finish()
    return QueuedSink("mqtt", MqttPeer(broker), capacity=queue)


def _paho() -> Any:  # noqa: ANN401 - the module
    try:
        from paho.mqtt import client
    except ImportError as error:
        raise MissingPackageError(
            "paho-mqtt", extra="mqtt", purpose="to publish to an MQTT broker"
        ) from error
    return client


class _Context(ssl.SSLContext):
    """Shakes hands within the socket's time-out, and closes what could not be trusted.

    paho (2.1 and 2.2) leaves such a socket to the garbage collector and waits for the keep-alive.
    """

    def wrap_socket(self, sock: socket.socket, *args: Any, **options: Any) -> ssl.SSLSocket:  # noqa: ANN401 - as they come
        wrapped = super().wrap_socket(sock, *args, **options)
        try:
            wrapped.do_handshake()
        except OSError:
            wrapped.close()
            raise
        return wrapped


def _tls(authorities: Path | None) -> ssl.SSLContext:
    context = _Context(ssl.PROTOCOL_TLS_CLIENT)  # checks the certificate and the host's name
    if authorities is None:
        context.load_default_certs()
        return context
    try:
        context.load_verify_locations(authorities)
    except OSError as error:  # ssl.SSLError is one
        raise InputError(
            f"{authorities} holds no certificates that can be read: {error}",
            expected="A file in PEM form",
        ) from error
    return context
