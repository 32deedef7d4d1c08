"""A webhook against a real server on the loopback interface."""

from __future__ import annotations

import hashlib
import hmac
import json
import shutil
import ssl
import threading
from typing import TYPE_CHECKING

import pytest
from helpers.outlet_results import LIMIT_S, boxes, free_port, result, threads_named, wait_until
from helpers.web_server import Answer, WebServer, make_certificate

from jetlift.runtime.clock import FakeClock
from jetlift.runtime.errors import InputError, UsageError
from jetlift.runtime.outlets.options import split_options
from jetlift.runtime.outlets.peers import Backoff
from jetlift.runtime.outlets.queued import QueuedSink
from jetlift.runtime.outlets.webhook import Hook, WebhookPeer, open_webhook

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

QUICK = Backoff(0.01, 1, 0.01)


@pytest.fixture
def server() -> Iterator[WebServer]:
    with WebServer() as running:
        yield running


def sink_to(server: WebServer, path: str = "/hook", **options: object) -> QueuedSink[bytes]:
    batched = bool(options.pop("batched", False))
    peer = WebhookPeer(Hook(f"http://127.0.0.1:{server.port}{path}", batched=batched))
    options = {"grace_s": LIMIT_S, "backoff": QUICK} | options
    return QueuedSink("webhook", peer, **options)  # type: ignore[arg-type]


def opened(spec: str) -> QueuedSink[bytes]:
    return open_webhook(*split_options(spec))


def test_each_result_is_an_object_as_in_results_jsonl_on_one_connection(server: WebServer) -> None:
    with sink_to(server, "/a b?key=1") as sink:
        for index in range(3):
            sink.write(boxes(index, "Köter"))
    fields = [json.loads(seen.body) for seen in server.seen]
    assert [item["index"] for item in fields] == [0, 1, 2]
    assert fields[0]["labels"] == ["Köter"]
    assert "Köter".encode() in server.seen[0].body
    assert {seen.path for seen in server.seen} == {"/a%20b?key=1"}
    assert server.seen[0].headers["Content-Type"] == "application/json"
    assert "Authorization" not in server.seen[0].headers
    assert len({seen.client for seen in server.seen}) == 1
    assert sink.health().written == 3


def test_batches_are_arrays_also_of_one(server: WebServer) -> None:
    hold = threading.Event()
    server.answers = [Answer(hold=hold)]
    with sink_to(server, batched=True, batch=10) as sink:
        sink.write(result(0))
        assert server.entered.wait(LIMIT_S)
        for index in range(1, 5):
            sink.write(result(index))
        hold.set()
    bodies = [json.loads(seen.body) for seen in server.seen]
    assert [[item["index"] for item in body] for body in bodies] == [[0], [1, 2, 3, 4]]


def test_a_token_and_a_signature_come_from_the_environment(
    server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK_TOKEN", "t0ken")
    monkeypatch.setenv("HOOK_KEY", "k3y")
    url = f"http://127.0.0.1:{server.port}/"
    with opened(f"{url}#token-env=HOOK_TOKEN&key-env=HOOK_KEY") as sink:
        sink.write(result(0))
    (seen,) = server.seen
    assert seen.headers["Authorization"] == "Bearer t0ken"
    expected = hmac.new(b"k3y", seen.body, hashlib.sha256).hexdigest()
    assert seen.headers["X-Jetlift-Signature-256"] == f"sha256={expected}"
    assert "t0ken" not in repr(Hook(url, token="t0ken", key="k3y"))  # noqa: S106
    assert "k3y" not in repr(Hook(url, token="t0ken", key="k3y"))  # noqa: S106


@pytest.mark.parametrize("status", [400, 401, 404, 413, 301, 302, 307, 308])
def test_what_a_server_does_not_want_is_told_and_not_sent_again(
    server: WebServer, status: int
) -> None:
    away = {"Location": f"http://127.0.0.1:{server.port}/elsewhere"}
    server.answers = [Answer(status, away)]
    with sink_to(server) as sink:
        sink.write(result(0))
        sink.write(result(1))
    assert [seen.path for seen in server.seen] == ["/hook", "/hook"]
    health = sink.health()
    assert (health.written, health.dropped) == (1, 1)
    assert str(status) in health.trouble
    assert "/hook" not in health.trouble


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_what_a_server_cannot_take_now_is_sent_again(server: WebServer, status: int) -> None:
    server.answers = [Answer(status), Answer(status)]
    with sink_to(server) as sink:
        sink.write(result(0))
    assert [json.loads(seen.body)["index"] for seen in server.seen] == [0, 0, 0]
    assert (sink.health().written, sink.health().dropped) == (1, 0)
    assert str(status) in sink.health().trouble


@pytest.mark.parametrize(
    ("asked", "pause_s"), [("17", 17.0), ("999999", 300.0), ("Wed, 21 Oct 2015", 0.01)]
)
def test_retry_after_is_kept_to_within_reason(
    server: WebServer, asked: str, pause_s: float
) -> None:
    server.answers = [Answer(503, {"Retry-After": asked})]
    clock = FakeClock()
    with sink_to(server, clock=clock) as sink:
        sink.write(result(0))
        wait_until(lambda: sink.health().written == 1)
        assert clock.waited_s == [pause_s]


def test_a_connection_that_the_server_ended_while_idle_is_made_again_at_once(
    server: WebServer,
) -> None:
    clock = FakeClock()
    with sink_to(server, clock=clock) as sink:
        for index in range(3):
            server.answers = [Answer(headers={"Connection": "close"} if index == 0 else {})]
            sink.write(result(index))
            wait_until(lambda count=index + 1: sink.health().written == count)
        assert clock.waited_s == []
        server.answers = [Answer(hang_up=True)]
        sink.write(result(3))
        wait_until(lambda: sink.health().written == 4)
        assert clock.waited_s == []
        server.answers = [Answer(hang_up=True), Answer(hang_up=True)]
        sink.write(result(4))
        wait_until(lambda: sink.health().written == 5)
        assert clock.waited_s == [0.01]  # also the new connection was cut


def test_a_server_that_starts_later_and_starts_again_gets_everything() -> None:
    port = free_port()
    peer = WebhookPeer(Hook(f"http://127.0.0.1:{port}/"))
    with QueuedSink("webhook", peer, backoff=QUICK, grace_s=LIMIT_S) as sink:
        sink.write(result(0))
        wait_until(lambda: "cannot be reached" in sink.health().trouble)
        assert not sink.health().connected
        with WebServer(port=port) as first:
            wait_until(lambda: sink.health().written == 1)
            assert sink.health().connected
        sink.write(result(1))
        with WebServer(port=port) as second:
            wait_until(lambda: sink.health().written == 2)
    indices = [json.loads(seen.body)["index"] for seen in first.seen + second.seen]
    assert sorted(set(indices)) == [0, 1]


def test_a_server_that_never_answers_runs_into_the_time_out(server: WebServer) -> None:
    hold = threading.Event()
    server.answers = [Answer(hold=hold), Answer()]
    peer = WebhookPeer(Hook(f"http://127.0.0.1:{server.port}/", timeout_s=0.1))
    with QueuedSink("webhook", peer, backoff=QUICK, grace_s=LIMIT_S) as sink:
        sink.write(result(0))
        wait_until(lambda: sink.health().written == 1)
        assert "did not answer: timed out" in sink.health().trouble
        hold.set()


def test_a_sink_ends_while_its_server_hangs(server: WebServer) -> None:
    hold = threading.Event()
    server.answers = [Answer(hold=hold)]
    with pytest.raises(KeyboardInterrupt), sink_to(server) as sink:
        sink.write(result(0))
        assert server.entered.wait(LIMIT_S)
        raise KeyboardInterrupt
    hold.set()
    assert sink.health().dropped == 1
    assert not threads_named("sink-webhook")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate")
def test_https_wants_a_certificate_that_it_can_trust(tmp_path: Path) -> None:
    key, certificate = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with WebServer(tls=context) as server:
        url = f"https://localhost:{server.port}/x"
        with opened(f"{url}#ca={certificate}") as sink:
            sink.write(result(0))
        assert sink.health().written == 1
        peer = WebhookPeer(Hook(url))
        with QueuedSink("webhook", peer, backoff=QUICK, grace_s=0.0) as sink:
            sink.write(result(1))
            wait_until(lambda: bool(sink.health().trouble))
    assert "self-signed certificate" in sink.health().trouble.replace("self signed", "self-signed")
    assert len(server.seen) == 1


def test_set_ups_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="password"):
        opened("http://me:pw@h/")
    with pytest.raises(UsageError, match="NO_SUCH_VARIABLE"):
        opened("http://h/#token-env=NO_SUCH_VARIABLE")
    with pytest.raises(UsageError, match="toke"):
        opened("http://h/#toke=x")
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(InputError, match="no certificates"):
        opened(f"https://h/#ca={tmp_path / 'ca.pem'}")
