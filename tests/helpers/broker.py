"""A real mosquitto on the loopback interface, that tests start and kill."""

from __future__ import annotations

import shutil
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest
from helpers.outlet_results import free_port, wait_until

if TYPE_CHECKING:
    from pathlib import Path

MOSQUITTO = shutil.which("mosquitto") or shutil.which("/usr/sbin/mosquitto")


class Mosquitto:
    """A broker with a port of its own."""

    def __init__(self, folder: Path, *lines: str) -> None:
        if MOSQUITTO is None:
            pytest.skip("mosquitto, the MQTT broker, is not installed here")
        self.port = free_port()
        self._settings = folder / "mosquitto.conf"
        text = "\n".join(
            [f"listener {self.port} 127.0.0.1", *(lines or ("allow_anonymous true",)), ""]
        )
        self._settings.write_text(text)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [str(MOSQUITTO), "-c", str(self._settings)]
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_until(self._listens, "the broker")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def suspend(self, signal: int) -> None:
        if self._process is not None:
            self._process.send_signal(signal)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


class Subscriber:
    """Keeps what arrives under a prefix: topic, text, retained."""

    def __init__(self, port: int, prefix: str) -> None:
        from paho.mqtt import client as paho

        self.got: list[tuple[str, str, bool]] = []
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, reconnect_on_failure=False)
        subscribed: list[bool] = []
        self._client.on_subscribe = lambda *_: subscribed.append(True)
        self._client.on_message = lambda _client, _data, message: self.got.append(
            (message.topic.removeprefix(f"{prefix}/"), message.payload.decode(), message.retain)
        )
        self._client.connect("127.0.0.1", port)
        self._client.subscribe(f"{prefix}/#", qos=1)
        self._client.loop_start()
        wait_until(lambda: bool(subscribed), "the subscription")

    def of(self, topic: str) -> list[str]:
        return [text for name, text, _ in self.got if name == topic]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
