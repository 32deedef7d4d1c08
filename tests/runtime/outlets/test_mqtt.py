"""MQTT against a real broker, that is also killed, suspended and started again."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from helpers.broker import Mosquitto, Subscriber
from helpers.outlet_results import LIMIT_S, boxes, free_port, result, threads_named, wait_until
from helpers.web_server import make_certificate

from jetlift.runtime.errors import InputError, MissingPackageError, UsageError
from jetlift.runtime.outlets.mqtt import Broker, MqttPeer, open_mqtt
from jetlift.runtime.outlets.options import split_options
from jetlift.runtime.outlets.peers import Backoff
from jetlift.runtime.outlets.queued import QueuedSink

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest.importorskip("paho.mqtt.client", reason="the extra mqtt is not installed")
QUICK = Backoff(0.02, 1, 0.02)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    running = Mosquitto(tmp_path)
    running.start()
    try:
        yield running
    finally:
        running.kill()


def sink_to(port: int, *, qos: int = 1, timeout_s: float = LIMIT_S) -> QueuedSink[bytes]:
    where = Broker("127.0.0.1", port, "plant/cam1", qos=qos, timeout_s=timeout_s)
    return QueuedSink("mqtt", MqttPeer(where), backoff=QUICK, grace_s=LIMIT_S)


@pytest.mark.parametrize("qos", [0, 1])
def test_results_and_status_arrive(broker: Mosquitto, qos: int) -> None:
    listener = Subscriber(broker.port, "plant/cam1")
    with sink_to(broker.port, qos=qos) as sink:
        for index in range(5):
            sink.write(boxes(index, "Köter"))
    wait_until(lambda: listener.of("status") == ["online", "offline"])
    listener.close()
    fields = [json.loads(text) for text in listener.of("results")]
    assert [item["index"] for item in fields] == [0, 1, 2, 3, 4]
    assert fields[0]["labels"] == ["Köter"]
    assert sink.health().written == 5
    late = Subscriber(broker.port, "plant/cam1")
    wait_until(lambda: bool(late.got))
    late.close()
    assert late.got == [("status", "offline", True)]  # results are not retained
    assert not threads_named("sink-mqtt")
    assert not threads_named("paho")


def test_a_killed_process_is_told_by_its_last_will(broker: Mosquitto, tmp_path: Path) -> None:
    listener = Subscriber(broker.port, "plant/cam1")
    program = (
        "import os, signal, sys, time\n"
        "from jetlift.runtime.outlets.mqtt import Broker, MqttPeer\n"
        "MqttPeer(Broker('127.0.0.1', int(sys.argv[1]), 'plant/cam1')).open()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    command = [sys.executable, "-c", program, str(broker.port)]
    subprocess.run(command, check=False, cwd=tmp_path)
    wait_until(lambda: listener.of("status") == ["online", "offline"])
    listener.close()


def test_a_broker_that_is_killed_and_comes_back_loses_nothing(broker: Mosquitto) -> None:
    with sink_to(broker.port) as sink:
        sink.write(result(0))
        wait_until(lambda: sink.health().written == 1)
        broker.kill()
        wait_until(lambda: not sink.health().connected)
        sink.write(result(1))
        sink.write(result(2))
        wait_until(lambda: "cannot be reached" in sink.health().trouble)
        broker.start()
        wait_until(lambda: sink.health().written == 3)
        assert sink.health().connected
        listener = Subscriber(broker.port, "plant/cam1")
        sink.write(result(3))
        wait_until(lambda: sink.health().written == 4)
        wait_until(lambda: bool(listener.of("results")))
        listener.close()
    assert listener.of("status")[0] == "online"  # retained, said again to the new broker
    assert sink.health().dropped == 0


def test_an_idle_sink_comes_back_too(broker: Mosquitto) -> None:
    with sink_to(broker.port) as sink:
        sink.write(result(0))
        wait_until(lambda: sink.health().written == 1)
        broker.kill()
        broker.start()
        wait_until(lambda: sink.health().connected)


def test_a_broker_that_is_not_there_yet(tmp_path: Path) -> None:
    late = Mosquitto(tmp_path)
    with sink_to(late.port) as sink:
        sink.write(result(0))
        wait_until(lambda: bool(sink.health().trouble))
        late.start()
        wait_until(lambda: sink.health().written == 1)
    late.kill()


def test_a_broker_that_hangs_runs_into_the_time_out_and_goes_on(broker: Mosquitto) -> None:
    with sink_to(broker.port, timeout_s=0.3) as sink:
        sink.write(result(0))
        wait_until(lambda: sink.health().written == 1)
        broker.suspend(signal.SIGSTOP)
        sink.write(result(1))
        wait_until(lambda: "did not answer in time" in sink.health().trouble)
        broker.suspend(signal.SIGCONT)
        wait_until(lambda: sink.health().written == 2)


def test_a_sink_ends_while_its_broker_hangs(broker: Mosquitto) -> None:
    with pytest.raises(KeyboardInterrupt), sink_to(broker.port) as sink:
        sink.write(result(0))
        wait_until(lambda: sink.health().written == 1)
        broker.suspend(signal.SIGSTOP)
        sink.write(result(1))
        raise KeyboardInterrupt
    broker.suspend(signal.SIGCONT)
    assert not threads_named("sink-mqtt")
    assert not threads_named("paho")


def test_a_password_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("mosquitto_passwd") is None:
        pytest.skip("mosquitto_passwd is not installed here")
    words = tmp_path / "words"
    words.write_text("camera:s3cret\n")
    subprocess.run(["mosquitto_passwd", "-U", str(words)], check=True)
    words.chmod(0o644)
    tmp_path.chmod(0o755)
    guarded = Mosquitto(tmp_path, "allow_anonymous false", f"password_file {words}", "user root")
    guarded.start()
    monkeypatch.setenv("MQTT_PASSWORD", "s3cret")
    monkeypatch.setenv("WRONG", "other")
    address = f"mqtt://127.0.0.1:{guarded.port}/plant#user=camera&password-env="
    with open_mqtt(*split_options(f"{address}MQTT_PASSWORD")) as sink:
        sink.write(result(0))
    assert sink.health().written == 1
    with open_mqtt(*split_options(f"{address}WRONG")) as sink:
        wait_until(lambda: bool(sink.health().trouble))
    guarded.kill()
    assert "refused the connection: Not authorized" in sink.health().trouble
    assert "s3cret" not in repr(Broker("h", 1, "p", user="u", password="s3cret"))  # noqa: S106


def test_tls_wants_a_certificate_that_it_can_trust(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate")
    key, certificate = make_certificate(tmp_path)
    for path in (key, certificate, tmp_path):
        path.chmod(0o755)
    guarded = Mosquitto(
        tmp_path, "allow_anonymous true", f"certfile {certificate}", f"keyfile {key}", "user root"
    )
    guarded.start()
    address = f"mqtts://localhost:{guarded.port}/plant"
    with open_mqtt(*split_options(f"{address}#ca={certificate}")) as sink:
        sink.write(result(0))
    assert sink.health().written == 1
    with open_mqtt(*split_options(address)) as sink:
        wait_until(lambda: bool(sink.health().trouble))
    guarded.kill()
    assert "certificate" in sink.health().trouble


def test_set_ups_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for address in ("mqtt://h", "mqtt://h/a/+/b", "mqtt://h/", "mqtt://u:p@h/t", "http://h/t"):
        with pytest.raises(UsageError):
            open_mqtt(*split_options(address))
    with pytest.raises(UsageError, match="QoS 2"):
        open_mqtt(*split_options("mqtt://h/t#qos=2"))
    with pytest.raises(InputError, match="no certificates"):
        open_mqtt(*split_options(f"mqtts://h/t#ca={tmp_path / 'none.pem'}"))
    monkeypatch.setitem(sys.modules, "paho.mqtt", None)
    with pytest.raises(MissingPackageError, match=r"jetlift\[mqtt\]"):
        open_mqtt(*split_options(f"mqtt://127.0.0.1:{free_port()}/t"))
