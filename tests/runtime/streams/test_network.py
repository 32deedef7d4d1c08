"""Real servers on loopback: what arrives, what is told, and what heals."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest
from helpers import rtsp

from jetlift.benchmarks.rtsp_server import StampedServer, StreamForm
from jetlift.runtime.errors import InputError, UsageError
from jetlift.runtime.sources import Frame
from jetlift.runtime.streams.healing import HealingSource
from jetlift.runtime.streams.network import network_source
from jetlift.runtime.streams.stamp import read_stamp

FORM = StreamForm((320, 240), 15)
LIMIT_S = 60  # only ends a test that hangs
OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(OPTIONS, raising=False)


@pytest.fixture
def server() -> Iterator[StampedServer]:
    rtsp.need_rtsp()
    with StampedServer(FORM) as started:
        yield started


def taken(source: HealingSource, count: int) -> list[Frame]:
    """So many frames, then close; a watchdog ends it where they do not come."""
    watchdog = threading.Timer(LIMIT_S, source.close)
    watchdog.start()
    frames = []
    for frame in source.frames():
        frames.append(frame)
        if len(frames) == count:
            break
    watchdog.cancel()
    source.close()
    assert len(frames) == count, source.health()
    return frames


def ended(source: HealingSource) -> bool:
    """Whether the thread that read is gone."""
    assert source._thread is not None
    source._thread.join(LIMIT_S)
    return not source._thread.is_alive()


def test_rtsp_arrives_with_stamps_that_grow(server):
    source = network_source(server.url)
    frames = taken(source, 20)
    stamps = [read_stamp(frame.image_bgr) for frame in frames]
    assert None not in stamps
    numbers = [stamp.number for stamp in stamps]
    assert numbers == sorted(set(numbers))
    # What was drawn in another process is older when the decoder hands it over, by one clock.
    assert all(frame.captured_s > stamp.time_s for frame, stamp in zip(frames, stamps, strict=True))
    assert [frame.index for frame in frames] == list(range(20))
    assert frames[0].time_s == 0.0
    assert frames[0].source == server.url
    health = source.health()
    assert (health.captured, health.reconnects, health.connected) == (20, 0, False)
    assert "decoder" in health.clock
    assert ended(source)


def test_rtsp_over_udp(server):
    frames = taken(network_source(f"{server.url}#transport=udp"), 5)
    assert read_stamp(frames[-1].image_bgr) is not None
    assert os.environ[OPTIONS] == "rtsp_transport;udp"


def test_one_transport_for_all():
    network_source("rtsp://h/x")
    network_source("rtsp://h/y#transport=tcp")
    with pytest.raises(UsageError, match="asks for udp, and RTSP goes by tcp"):
        network_source("rtsp://h/z#transport=udp")


def test_what_the_user_has_set_stays(monkeypatch):
    monkeypatch.setenv(OPTIONS, "fflags;nobuffer|rtsp_transport;udp")
    network_source("rtsp://h/x")
    with pytest.raises(UsageError, match="goes by udp"):
        network_source("rtsp://h/x#transport=tcp")
    assert os.environ[OPTIONS] == "fflags;nobuffer|rtsp_transport;udp"


def test_a_server_that_is_killed_and_started_again_is_healed_and_counted(server):
    source = network_source(server.url)
    frames = source.frames()
    first = next(frames)
    server.close()
    watchdog = threading.Timer(LIMIT_S, source.close)
    watchdog.start()
    while source.health().connected:  # it reads whether or not anybody takes
        time.sleep(0.01)
    with StampedServer(FORM, server.port):
        again = next(frames)
        while not source.health().reconnects:
            again = next(frames)
        health = source.health()
        assert again.index > first.index
        assert again.time_s > first.time_s
        assert health.connected
        assert health.reconnects == 1
        assert health.lost_s > 0
        assert health.trouble
        watchdog.cancel()
        source.close()
    assert ended(source)


def test_a_server_that_hangs_is_told_and_left(server):
    source = network_source(f"{server.url}#timeout=4&retry=1")
    frames = source.frames()
    next(frames)
    server.stop()
    with pytest.raises(InputError, match="is lost for") as caught:
        list(frames)
    server.go_on()
    assert "does not answer within" in str(caught.value)
    assert ended(source)


def test_closing_while_a_server_hangs_ends_reading_before_the_time_out(server):
    source = network_source(f"{server.url}#timeout=60")
    frames = source.frames()
    next(frames)
    server.stop()
    threading.Timer(0.2, source.close).start()
    list(frames)
    assert ended(source)
    server.go_on()
    assert source.health().trouble == ""


def test_closing_while_a_server_hangs_ends_opening_before_the_time_out(server):
    server.stop()
    source = network_source(f"{server.url}#timeout=60")
    threading.Timer(0.5, source.close).start()
    assert list(source.frames()) == []
    assert ended(source)
    server.go_on()


@pytest.fixture
def guarded() -> Iterator[StampedServer]:
    rtsp.need_rtsp()
    with StampedServer(StreamForm((320, 240), 15, "ann", "hush-hush")) as started:
        yield started


def test_names_and_passwords(guarded):
    place = guarded.url.removeprefix("rtsp://")
    with pytest.raises(InputError, match=r"asks for a name and password \(401\)"):
        next(network_source(guarded.url).frames())
    with pytest.raises(InputError, match=r"refuses this name and password \(401\)") as caught:
        next(network_source(f"rtsp://ann:wrong-word@{place}").frames())
    assert "wrong-word" not in str(caught.value)
    assert "rtsp://ann:…@" in str(caught.value)
    with pytest.raises(InputError, match=r"no stream /stampedx \(404\)"):
        next(network_source(f"rtsp://ann:hush-hush@{place}x").frames())
    source = network_source(f"rtsp://ann:hush-hush@{place}")
    (frame,) = taken(source, 1)
    told = [frame.source, source.name, str(source.health()), str(source._thread)]
    assert not any("hush" in text for text in told)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("rtsp://127.0.0.1:1/x", "refuses connections to port 1"),
        ("http://127.0.0.1:1/x", "refuses connections to port 1"),
        ("rtsp://no.such.host.invalid/x", "there is no host no.such.host.invalid"),
        ("srt://127.0.0.1:9", "knows no SRT"),
    ],
)
def test_why_a_stream_does_not_open(name, said):
    with pytest.raises(InputError, match=said) as caught:
        next(network_source(f"{name}#timeout=5").frames())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "said"),
    [("404 Not Found", r"no stream /x \(404\)"), ("503 Busy", "503 Busy"), ("403 No", "forbids")],
)
def test_what_an_http_server_says(status, said):
    with rtsp.http_serves(status=status) as port, pytest.raises(InputError, match=said):
        next(network_source(f"http://127.0.0.1:{port}/x#timeout=5").frames())


def test_nothing_comes_over_udp():
    port = rtsp.free_port()
    with pytest.raises(InputError, match=f"sends to port {port} here"):
        next(network_source(f"udp://127.0.0.1:{port}#timeout=0.5").frames())


def test_mjpeg_over_http_by_ffmpeg():
    port = rtsp.free_port()
    url = f"http://127.0.0.1:{port}/x"
    with rtsp.ffmpeg_sends("-c:v", "mjpeg", "-q:v", "4", "-f", "mpjpeg", "-listen", "1", url):
        rtsp.wait_until_it_listens(port)
        _check_stamps(taken(network_source(url), 10))


def test_mpegts_over_udp_by_ffmpeg():
    url = f"udp://127.0.0.1:{rtsp.free_port()}"
    fast = ("-c:v", "libx264", "-tune", "zerolatency", "-preset", "ultrafast", "-g", "15")
    with rtsp.ffmpeg_sends(*fast, "-f", "mpegts", f"{url}?pkt_size=1316"):
        _check_stamps(taken(network_source(f"{url}#timeout=20"), 10))


def _check_stamps(frames: list[Frame]) -> None:
    stamps = [read_stamp(frame.image_bgr) for frame in frames[2:]]  # the first may lack a key frame
    assert None not in stamps
    assert [stamp.number for stamp in stamps] == sorted({stamp.number for stamp in stamps})


def test_a_change_of_size_does_not_end_it():
    small, large = rtsp.jpeg((64, 48), 50), rtsp.jpeg((128, 96), 200)
    with rtsp.http_serves(*[small] * 40, *[large] * 40) as port:
        source = network_source(f"http://127.0.0.1:{port}/x#timeout=5")
        frames = taken(source, 55)
        assert {frame.image_bgr.shape for frame in frames} == {(48, 64, 3)}  # rule N7
        assert frames[0].image_bgr.mean() < 100
        assert frames[-1].image_bgr.mean() > 150
        assert source.health().reconnects == 0


def test_pictures_that_are_damaged_do_not_end_it():
    whole = rtsp.jpeg((64, 48))
    damaged, cut = whole[:-60] + bytes(60), whole[: len(whole) // 2]
    with rtsp.http_serves(*[whole] * 60, damaged, cut, *[whole] * 60) as port:
        source = network_source(f"http://127.0.0.1:{port}/x#timeout=5")
        frames = taken(source, 75)
        assert {frame.image_bgr.shape for frame in frames} == {(48, 64, 3)}
        assert source.health().reconnects == 0
        assert source.health().trouble == "a picture could not be decoded"


def test_a_recording_is_no_stream(tmp_path):
    import functools
    import http.server

    import cv2
    import numpy as np

    path = tmp_path / "film.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (64, 48))
    for _ in range(10):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/film.mp4"
            with pytest.raises(InputError, match="is a recording"):
                next(network_source(url).frames())
        finally:
            server.shutdown()
            thread.join()
