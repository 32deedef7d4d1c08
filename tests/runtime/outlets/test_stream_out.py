"""Streams that real programs send and receive, and programs that die, hang or are not there."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers.outlet_results import LIMIT_S, free_port, result, threads_named, wait_until

from jetlift.runtime.clock import FakeClock
from jetlift.runtime.errors import MachineError, UsageError
from jetlift.runtime.outlets.child import Child, ChildFailed
from jetlift.runtime.outlets.options import split_options
from jetlift.runtime.outlets.peers import Backoff
from jetlift.runtime.outlets.queued import QueuedSink
from jetlift.runtime.outlets.stream_out import StreamPeer, open_stream
from jetlift.runtime.outlets.stream_programs import Stream

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from typing_extensions import Self

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
needs_gst = pytest.mark.skipif(
    shutil.which("gst-launch-1.0") is None, reason="gst-launch-1.0 is not installed"
)
SIZE_WH = (64, 48)
QUICK = Backoff(0.01, 1, 0.01)


class Receiver:
    """A real ffmpeg that receives a stream; the mean green of each frame is in `greens`."""

    def __init__(self, url: str, *options: str, size_wh: tuple[int, int] = SIZE_WH) -> None:
        command = ["ffmpeg", "-hide_banner", "-loglevel", "error", "-nostdin", "-probesize", "5000"]
        command += ["-fflags", "nobuffer", *options, "-i", url, "-f", "rawvideo"]
        command += ["-pix_fmt", "bgr24", "-fps_mode", "passthrough", "pipe:1"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self._shape = (size_wh[1], size_wh[0], 3)
        self.greens: list[float] = []
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        pipe, count = self._process.stdout, int(np.prod(self._shape))
        while pipe is not None and len(content := pipe.read(count)) == count:
            picture = np.frombuffer(content, np.uint8).reshape(self._shape)
            self.greens.append(float(picture[:, :, 1].mean()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._thread.join()
        if self._process.stdout is not None:
            self._process.stdout.close()


def feed(sink: QueuedSink, until: Callable[[], bool], what: str, **options: object) -> None:
    """Write frames at their own pace until something has come about."""
    deadline_s, index = time.monotonic() + LIMIT_S, 0
    while not until():
        if time.monotonic() > deadline_s:
            pytest.fail(f"{what} did not come about: {sink.health()}")
        sink.write(result(index, drawn=True, **options))  # type: ignore[arg-type]
        index += 1
        time.sleep(0.01)


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def sink_to(peer: StreamPeer, **options: object) -> QueuedSink:
    return QueuedSink("stream", peer, **({"capacity": 1, "grace_s": LIMIT_S} | options))  # type: ignore[arg-type]


def udp_port() -> int:
    import socket as sockets

    kind: socket.SocketKind = sockets.SOCK_DGRAM
    return free_port(kind)


@needs_ffmpeg
def test_frames_arrive_by_udp_as_they_were_drawn() -> None:
    address = f"udp://127.0.0.1:{udp_port()}"
    receiver = Receiver(f"{address}?timeout=60000000")
    with receiver, open_stream(address, split_options("s#fps=25")[1]) as sink:
        assert (sink.name, sink.wants_pictures) == ("udp", True)
        feed(sink, lambda: len(receiver.greens) >= 40, "40 frames")
        pid = sink._peer.pid
    assert gone(pid)
    assert max(receiver.greens) - min(receiver.greens) > 20  # they move
    assert all(40 < green < 255 for green in receiver.greens)
    assert sink.health().written > 40
    assert sink.health().trouble == ""
    assert not threads_named("sink-udp")


@needs_ffmpeg
@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("rtsp://127.0.0.1:{}/live", ("-rtsp_flags", "listen")),
        ("rtmp://127.0.0.1:{}/live/key", ("-listen", "1")),
    ],
)
def test_frames_arrive_by_rtsp_and_rtmp(url: str, options: tuple[str, ...]) -> None:
    url = url.format(free_port())
    receiver = Receiver(url, *options)
    peer = StreamPeer(Stream(url, fps=25))
    with receiver, sink_to(peer, backoff=QUICK) as sink:
        # The receiver may listen later than the first frame: the program is then started again.
        feed(sink, lambda: len(receiver.greens) >= 10, "10 frames")
    assert all(40 < green < 255 for green in receiver.greens)


@needs_gst
@needs_ffmpeg
def test_frames_go_through_a_pipeline_of_gstreamer() -> None:
    port = udp_port()
    receiver = Receiver(f"udp://127.0.0.1:{port}?timeout=60000000", size_wh=(52, 34))
    pipeline = "x264enc tune=zerolatency key-int-max=10 ! mpegtsmux"
    pipeline += f" ! udpsink host=127.0.0.1 port={port}"
    with receiver, open_stream(f"gst:{pipeline}", split_options("s#fps=25")[1]) as sink:
        assert sink.name == "gst"
        feed(sink, lambda: len(receiver.greens) >= 10, "10 frames", size_wh=(50, 33))
    assert all(40 < green < 255 for green in receiver.greens)


@needs_ffmpeg
def test_a_program_that_is_killed_is_started_again_and_counted() -> None:
    address = f"udp://127.0.0.1:{udp_port()}"
    receiver = Receiver(f"{address}?timeout=60000000")
    peer = StreamPeer(Stream(address, fps=25))
    with receiver, sink_to(peer) as sink:
        feed(sink, lambda: len(receiver.greens) >= 10, "10 frames")
        first = peer.pid
        os.kill(first, signal.SIGKILL)
        feed(sink, lambda: peer.started == 2 and sink.health().connected, "a second program")
        seen = len(receiver.greens)
        feed(sink, lambda: len(receiver.greens) >= seen + 10, "10 more frames")
    assert peer.started == 2
    assert sink.health().trouble == "ffmpeg ended with -9. It was started once so far."
    assert gone(first)


@needs_ffmpeg
def test_a_program_that_hangs_is_ended_and_started_again() -> None:
    peer = StreamPeer(Stream(f"udp://127.0.0.1:{udp_port()}", fps=25), timeout_s=0.5)
    with sink_to(peer) as sink:
        size: tuple[int, int] = (640, 480)  # larger than the pipe takes
        feed(sink, lambda: sink.health().written > 3, "frames", size_wh=size)
        first = peer.pid
        os.kill(first, signal.SIGSTOP)
        feed(sink, lambda: peer.started >= 2, "a second program", size_wh=size)
        assert "takes no more frames" in sink.health().trouble
        assert gone(first)
        assert sink.health().dropped > 0


@needs_ffmpeg
def test_a_sink_ends_while_its_program_hangs() -> None:
    peer = StreamPeer(Stream(f"udp://127.0.0.1:{udp_port()}", fps=25), timeout_s=LIMIT_S * 10)
    with pytest.raises(KeyboardInterrupt), sink_to(peer) as sink:
        feed(sink, lambda: sink.health().written > 3, "frames", size_wh=(640, 480))
        pid = peer.pid
        os.kill(pid, signal.SIGSTOP)
        before = sink.health().dropped
        feed(sink, lambda: sink.health().dropped > before + 5, "a jam", size_wh=(640, 480))
        raise KeyboardInterrupt
    assert gone(pid)
    assert not threads_named("sink-stream")


@needs_gst
def test_a_program_that_never_works_is_tried_after_longer_and_longer_pauses() -> None:
    clock = FakeClock()
    peer = StreamPeer(Stream(pipeline=("nosuchelement",), fps=25), clock=clock)
    with sink_to(peer, clock=clock, grace_s=0.0) as sink:
        feed(sink, lambda: len(clock.waited_s) >= 4, "four tries", size_wh=(640, 480))
        trouble = sink.health().trouble
    assert clock.waited_s[:4] == pytest.approx([0.5, 1, 2, 4])
    assert "gst-launch-1.0 ended with 1" in trouble
    assert "nosuchelement" in trouble


@needs_ffmpeg
def test_another_size_starts_the_program_anew() -> None:
    peer = StreamPeer(Stream(f"udp://127.0.0.1:{udp_port()}", fps=25))
    with sink_to(peer) as sink:
        feed(sink, lambda: peer.started == 1, "a program")
        feed(sink, lambda: peer.started == 2, "another", size_wh=(80, 60))
        feed(sink, lambda: peer.started == 3, "a third", size_wh=SIZE_WH)
        assert sink.health().trouble == ""


@needs_ffmpeg
def test_the_rate_is_measured_and_the_first_source_is_sent() -> None:
    peer = StreamPeer(Stream(f"udp://127.0.0.1:{udp_port()}"))
    peer.open()
    others = [
        peer.prepare(result(index, source=name, drawn=True))
        for index in range(12)
        for name in ("/dev/video0", "/dev/video1")
    ]
    assert [shot is None for shot in others] == [False, True] * 12
    with closing(peer):
        for shot in others[:14:2]:
            peer.send([shot])
        assert peer.pid is None  # still measuring
        peer.send([others[14]])
        assert peer._fps == 25.0
        told = Path(f"/proc/{peer.pid}/cmdline")  # empty for a moment while the program starts
        wait_until(lambda: b"-framerate\x0025\x00" in told.read_bytes(), "the command line")
    peer.close()


def test_frames_of_a_file_are_sent_as_they_come() -> None:
    clock = FakeClock(100.0)
    peer = StreamPeer(Stream("udp://h:1"), clock=clock)
    assert peer.prepare(result(5, live=False, drawn=True))[0] == 100.0
    assert StreamPeer(Stream("udp://h:1")).prepare(result(5, drawn=True))[0] == 500.2


def test_a_task_that_draws_nothing_is_told_at_once() -> None:
    with (
        pytest.raises(UsageError, match="draws no pictures"),
        sink_to(StreamPeer(Stream("udp://127.0.0.1:9"))) as sink,
    ):
        sink.write(result(0))


def test_what_the_programs_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: name)
    rtsp = Stream("rtsp://h/x", encoder="h264_nvenc", kbps=900).command((64, 48), 12.5)
    assert rtsp[-1] == "rtsp://h/x"
    assert rtsp[rtsp.index("-c:v") + 1] == "h264_nvenc"
    assert rtsp[rtsp.index("-b:v") + 1] == "900k"
    assert "ultrafast" not in rtsp
    assert Stream("udp://h:1?ttl=2").command((64, 48), 25)[-1] == "udp://h:1?ttl=2&pkt_size=1316"
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "ffmpeg" else name)
    for address, last in (
        ("udp://h:5", "port=5"),
        ("rtmp://h/a/b", "location=rtmp://h/a/b"),
        ("rtsp://h/a", "location=rtsp://h/a"),
    ):
        command = Stream(address, kbps=500).command((64, 48), 29.97)
        assert (command[0], command[-1]) == ("gst-launch-1.0", last)
        assert {"framerate=29970/1000", "bitrate=500", "width=64"} <= set(command)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(MachineError, match="apt-get install ffmpeg"):
        open_stream("udp://h:1", split_options("s")[1])


@pytest.mark.parametrize(
    "address", ["udp://h", "udp://", "rtsp:///x", "rtsp://h:99999/x", "gst:", "gst: ", 'gst:a "b']
)
def test_addresses_that_cannot_be(address: str) -> None:
    with pytest.raises(UsageError):
        open_stream(address, split_options("s")[1])


def test_a_child_that_cannot_start_and_one_that_ends_at_once() -> None:
    with pytest.raises(MachineError, match="nosuchprogram cannot be started"):
        Child(["nosuchprogram"], timeout_s=1)
    child = Child(["sh", "-c", "echo rtsp://me:s3cret@h is gone >&2; exit 3"], timeout_s=LIMIT_S)
    wait_until(lambda: child.ended)
    with pytest.raises(ChildFailed, match="sh ended with 3") as caught:
        child.feed(memoryview(b"x"))
    assert "s3cret" not in str(caught.value)
    child.end()
    child.end()
    child.kill()
    assert "is gone" in child.epitaph


def test_a_child_that_says_much_is_never_blocked_by_that() -> None:
    program = "yes trouble | head -c 3000000 >&2; cat > /dev/null"
    child = Child(["sh", "-c", program], timeout_s=LIMIT_S)
    child.feed(memoryview(bytes(8_000_000)))
    child.end()
    assert child.epitaph == "sh ended with 0 (trouble)."


def test_a_child_that_does_not_want_to_end_is_killed() -> None:
    program = "trap '' TERM; echo ready >&2; while true; do sleep 1; done"
    child = Child(["sh", "-c", program], timeout_s=0.1)
    child.end()
    assert child.ended
