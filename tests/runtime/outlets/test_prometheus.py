"""The /metrics page against Prometheus' own parser, and its server against clients of all kinds."""

from __future__ import annotations

import http.client
import socket
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from helpers.outlet_results import LIMIT_S, threads_named, wait_until
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from jetlift.runtime.errors import MachineError, UsageError
from jetlift.runtime.outlets import prometheus
from jetlift.runtime.outlets.exposition import exposition
from jetlift.runtime.outlets.prometheus import MetricsServer
from jetlift.runtime.pipeline.form import (
    AgeSummary,
    SinkHealth,
    Snapshot,
    SourceHealth,
    StageSummary,
)
from jetlift.runtime.record import Figure

if TYPE_CHECKING:
    from collections.abc import Iterator

AGES = AgeSummary(4, 20.0, 15.0, 30.0, 45.0, 50.0)
SNAPSHOT = Snapshot(
    running_s=12.5,
    done=100,
    per_s=8.25,
    dropped=7,
    stale=6,
    skipped=5,
    stages=(
        StageSummary("infer", 101, 0.75, AGES, replace(AGES, count=3, max_ms=60.0)),
        StageSummary("draw", 0, 0.0, None, None),
    ),
    sources=(
        SourceHealth("rtsp://me:s3cret@h/yard", True, "when", 110, 2, 3, 4.5, connected=False),  # noqa: FBT003
        SourceHealth("/dev/video0", True, "when", 50),  # noqa: FBT003
    ),
    sinks=(SinkHealth("jsonl", 99), SinkHealth("mqtt", 90, 9, connected=False), SinkHealth("mqtt")),
    rss_bytes=Figure(123_456_789),
)


def parsed(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    samples = [
        ((sample.name, frozenset(sample.labels.items())), sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]
    found = dict(samples)
    assert len(found) == len(samples), "a sample came twice"
    return found


def value(text: str, name: str, **labels: str) -> float:
    return parsed(text)[name, frozenset(labels.items())]


def test_every_figure_of_a_snapshot_is_there() -> None:
    text = exposition(SNAPSHOT, {})
    expected = {
        "running_seconds": 12.5,
        "results_total": 100,
        "results_per_second": 8.25,
        "frames_dropped_total": 7,
        "frames_stale_total": 6,
        "inputs_skipped_total": 5,
        "resident_memory_bytes": 123_456_789,
    }
    assert {name: value(text, f"jetlift_{name}") for name in expected} == expected
    assert "power" not in text  # it was not measured
    infer = {"stage": "infer"}
    assert value(text, "jetlift_stage_items_total", **infer) == 101
    assert value(text, "jetlift_stage_busy_ratio", **infer) == 0.75
    for quantile, seconds in (("0.5", 0.015), ("0.9", 0.03), ("0.99", 0.045)):
        labels = infer | {"quantile": quantile}
        assert value(text, "jetlift_stage_service_seconds", **labels) == seconds
        assert value(text, "jetlift_frame_age_seconds", **labels) == seconds
    assert value(text, "jetlift_stage_service_seconds_sum", **infer) == 0.08
    assert value(text, "jetlift_stage_service_seconds_count", **infer) == 4
    assert value(text, "jetlift_stage_service_max_seconds", **infer) == 0.05
    assert value(text, "jetlift_frame_age_seconds_count", **infer) == 3
    assert value(text, "jetlift_frame_age_max_seconds", **infer) == 0.06
    assert value(text, "jetlift_stage_items_total", stage="draw") == 0
    assert 'jetlift_frame_age_seconds_count{stage="draw"}' not in text


def test_sources_and_sinks_are_told_apart_and_no_password_is_shown() -> None:
    text = exposition(SNAPSHOT, {})
    assert "s3cret" not in text
    yard = {"source": "rtsp://me:…@h/yard"}
    expected = {
        "frames_total": 110, "skipped_total": 2, "reconnects_total": 3, "lost_seconds_total": 4.5,
        "connected": 0,
    }  # fmt: skip
    assert {name: value(text, f"jetlift_source_{name}", **yard) for name in expected} == expected
    assert value(text, "jetlift_source_connected", source="/dev/video0") == 1
    assert value(text, "jetlift_sink_results_total", sink="jsonl") == 99
    assert value(text, "jetlift_sink_dropped_total", sink="mqtt") == 9
    assert value(text, "jetlift_sink_connected", sink="mqtt") == 0
    assert value(text, "jetlift_sink_connected", sink="mqtt-2") == 1


def test_kinds_and_names_are_as_prometheus_wants_them() -> None:
    families = list(text_string_to_metric_families(exposition(SNAPSHOT, {"model": "yolox"})))
    kinds = {family.name: family.type for family in families}
    assert kinds["jetlift_frame_age_seconds"] == "summary"
    assert kinds["jetlift_results"] == "counter"
    assert kinds["jetlift_results_per_second"] == "gauge"
    assert all(family.name.startswith("jetlift_") for family in families)
    assert all(family.documentation.endswith(".") for family in families)
    assert all(item.labels["model"] == "yolox" for family in families for item in family.samples)


def test_a_snapshot_before_anything_happened() -> None:
    bare = Snapshot(0.0, 0, 0.0, 0, 0, 0, (), (), ())
    assert value(exposition(bare, {}), "jetlift_results_total") == 0
    power = replace(bare, power_w=Figure(12.75))
    assert value(exposition(power, {}), "jetlift_power_watts") == 12.75


@given(st.text(), st.text(min_size=1))
def test_any_label_comes_back(name: str, model: str) -> None:
    stage = StageSummary(name, 3, 0.5, None, None)
    text = exposition(replace(SNAPSHOT, stages=(stage,)), {"model": model})
    found = parsed(text)[
        "jetlift_stage_items_total", frozenset({"stage": name, "model": model}.items())
    ]
    assert found == 3


@given(st.lists(st.text(max_size=3), max_size=6))
def test_names_that_come_again_never_make_a_sample_twice(names: list[str]) -> None:
    sinks = tuple(SinkHealth(name) for name in names)
    parsed(exposition(replace(SNAPSHOT, sinks=sinks), {}))


@given(st.floats() | st.integers(0, 2**53))
def test_any_number_comes_back(number: float) -> None:
    text = exposition(replace(SNAPSHOT, per_s=number), {})
    assert value(text, "jetlift_results_per_second") == pytest.approx(number, nan_ok=True, rel=0)


# the server


@pytest.fixture
def server() -> Iterator[MetricsServer]:
    with MetricsServer(lambda: SNAPSHOT, "127.0.0.1:0", labels={"task": "detect"}) as running:
        yield running


def ask(server: MetricsServer, path: str, method: str = "GET") -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection(*server.address, timeout=LIMIT_S)
    connection.request(method, path)
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, dict(response.headers), text


def test_a_scrape(server: MetricsServer) -> None:
    status, headers, text = ask(server, "/metrics?x=1")
    assert status == 200
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert value(text, "jetlift_results_total", task="detect") == 100
    assert server.url == f"http://127.0.0.1:{server.address[1]}/metrics"


def test_other_questions(server: MetricsServer) -> None:
    assert ask(server, "/")[0] == 200
    assert ask(server, "/secret")[0] == 404
    assert ask(server, "/metrics", "POST")[0] == 501
    status, headers, text = ask(server, "/metrics", "HEAD")
    assert (status, text) == (200, "")
    assert int(headers["Content-Length"]) > 1000


def test_scrapes_at_once(server: MetricsServer) -> None:
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda: answers.append(ask(server, "/metrics")[0]))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 8


def test_clients_that_say_nothing_are_few_and_are_cut_at_the_end() -> None:
    server = MetricsServer(lambda: SNAPSHOT, "127.0.0.1:0")
    silent = [socket.create_connection(server.address) for _ in range(prometheus.MOST_CLIENTS)]
    wait_until(lambda: len(server._server._open) == prometheus.MOST_CLIENTS)
    one_too_many = socket.create_connection(server.address)
    one_too_many.settimeout(LIMIT_S)
    assert one_too_many.recv(1) == b""
    server.close()
    server.close()
    for connection in [*silent, one_too_many]:
        connection.close()
    assert not threads_named("metrics")
    assert not [name for name in threads_named("Thread-") if "process_request" in name]


def test_a_client_that_says_nothing_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus, "TIMEOUT_S", 0.05)
    with (
        MetricsServer(lambda: SNAPSHOT, "127.0.0.1:0") as server,
        socket.create_connection(server.address) as silent,
    ):
        silent.settimeout(LIMIT_S)
        silent.sendall(b"GET /metr")
        assert silent.recv(1) == b""
        assert ask(server, "/metrics")[0] == 200


def test_a_port_that_is_taken_is_told_with_what_to_do(server: MetricsServer) -> None:
    with pytest.raises(MachineError, match="--metrics"):
        MetricsServer(lambda: SNAPSHOT, f"127.0.0.1:{server.address[1]}")
    with pytest.raises(MachineError, match="cannot be served"):
        MetricsServer(lambda: SNAPSHOT, "no.such.host.invalid:0")


@pytest.mark.parametrize("where", ["h:99999", "h:x", "h/x", "u@h:1", "[::1", "h:1?x"])
def test_addresses_that_cannot_be(where: str) -> None:
    with pytest.raises(UsageError, match="HOST:PORT"):
        MetricsServer(lambda: SNAPSHOT, where)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("", ("127.0.0.1", 9105)),
        ("9200", ("127.0.0.1", 9200)),
        (":9200", ("127.0.0.1", 9200)),
        ("localhost", ("localhost", 9105)),
        ("[::1]:80", ("::1", 80)),
    ],
)
def test_what_is_left_out_is_the_default(where: str, expected: tuple[str, int]) -> None:
    assert prometheus._host_and_port(where) == expected


@pytest.mark.parametrize("name", ["", "a-b", "1a", "__name__", "stage"])
def test_labels_that_prometheus_refuses(name: str) -> None:
    with pytest.raises(UsageError, match="label"):
        MetricsServer(lambda: SNAPSHOT, "127.0.0.1:0", labels={name: "x"})
