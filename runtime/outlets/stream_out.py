"""Drawn frames as a live stream: RTSP, RTMP, UDP or a GStreamer pipeline, by a program of its own.

The frames go to `ffmpeg`, or `gst-launch-1.0` where that is not there, as raw BGR through a pipe.

Rules:
    V1  One frame waits at most, the newest, so that an encoder that is too slow costs frames and
        never time. Frames lie on an even grid (see `timeline`), since raw video carries no times; a
        frame that the grid leaves out counts as written. A stall is filled with FILL_S at most.
    V2  A program that ends or hangs is started again, after longer and longer pauses where it does
        not live for LIVED_S; `trouble` says why and how often.
    V3  Another size of the pictures starts the program anew, since a stream's header has one. Sides
        grow to even lengths, widths to a multiple of four, by their repeated last line.
    V4  Of several sources the first that came is sent; results of others count as dropped.
    V5  An address is told to the program on its command line, where other users of this machine can
        read it, also a password or a stream key in it. Messages never show it.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import cv2
import numpy as np

from jetlift.runtime.clock import SYSTEM_CLOCK
from jetlift.runtime.errors import UsageError
from jetlift.runtime.outlets.child import Child, ChildFailed
from jetlift.runtime.outlets.file_sink import drawn_picture, is_live
from jetlift.runtime.outlets.peers import Backoff, Peer, PeerAway
from jetlift.runtime.outlets.queued import QueuedSink
from jetlift.runtime.outlets.stream_programs import X264, Stream
from jetlift.runtime.outlets.timeline import Timeline, frame_time_s, measured_fps
from jetlift.runtime.streams.address import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from jetlift.runtime.clock import Clock
    from jetlift.runtime.outlets.options import Options
    from jetlift.runtime.pipeline.form import Result

    Shot = tuple[float, npt.NDArray[np.uint8]]

SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "udp")
PIPELINE = "gst:"
TIMEOUT_S, LIVED_S, FILL_S = 10.0, 20.0, 0.5
_MEASURED_FRAMES = 8


class StreamPeer(Peer["Shot"]):
    """The program that sends the frames (rules V1 to V5).

    Args:
        stream: Where they go.
        clock: What tells how long a program lived, and when frames of a file came.
        timeout_s: For each piece of a frame that the program takes.

    Attributes:
        started: How often the program was started.
    """

    def __init__(
        self, stream: Stream, *, clock: Clock = SYSTEM_CLOCK, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._stream, self._clock, self._timeout_s = stream, clock, timeout_s
        self._source: str | None = None
        self._child: Child | None = None
        self._interrupted = False
        self._size_wh = (0, 0)
        self._fps = stream.fps
        self._times_s: list[float] = []
        self._timeline: Timeline | None = None
        self._backoff, self._short_lives = Backoff(), 0
        self._started_s = 0.0
        self._epitaph = ""
        self.started = 0

    @property
    def wants_pictures(self) -> bool:
        """See Peer.wants_pictures."""
        return True

    @property
    def lost(self) -> bool:
        """See Peer.lost."""
        child = self._child
        return child is not None and child.ended

    @property
    def pid(self) -> int | None:
        """Process id of the running program; None where none runs."""
        child = self._child
        return None if child is None else child.pid

    def prepare(self, result: Result) -> Shot | None:
        """See Peer.prepare.

        Raises:
            UsageError: The task draws nothing.
        """
        self._source = self._source or result.item.source
        if result.item.source != self._source:
            return None  # V4
        # Frames of a file come as fast as they are computed, and are sent as they come.
        live = is_live(result.item)
        time_s = frame_time_s(result.item) if live else self._clock.now_s()
        return time_s, drawn_picture(result)

    def open(self) -> None:
        """See Peer.open. The program is started with the first frame, whose size it needs."""
        epitaph, self._epitaph = self._epitaph, ""
        if epitaph:
            raise self._away(epitaph)

    def send(self, payloads: Sequence[Shot]) -> None:
        """See Peer.send."""
        for time_s, picture in payloads:
            fps = self._rate(time_s)
            if fps is None:
                continue
            frame = _padded(picture)
            child = self._running((frame.shape[1], frame.shape[0]), fps)
            places = 1 if self._timeline is None else self._timeline.places(time_s)
            try:
                for _ in range(min(places, max(1, round(FILL_S * fps)))):
                    child.feed(frame.data.cast("B"))
            except ChildFailed as failed:
                self._end_child()
                self._epitaph = ""
                raise self._away(str(failed)) from failed

    def close(self) -> None:
        """See Peer.close."""
        if self._child is not None:
            self._epitaph = self._child.epitaph if self._child.ended else ""
            self._end_child()

    def interrupt(self) -> None:
        """See Peer.interrupt."""
        self._interrupted = True
        child = self._child
        if child is not None:
            child.kill()

    def _rate(self, time_s: float) -> float | None:
        """Frames per second; None while they are measured."""
        if self._fps is None:
            self._times_s.append(time_s)
            if len(self._times_s) < _MEASURED_FRAMES:
                return None
            self._fps = measured_fps(self._times_s)
        return self._fps

    def _running(self, size_wh: tuple[int, int], fps: float) -> Child:
        """The program for frames of this size (rule V3)."""
        if self._child is not None and self._size_wh == size_wh:
            return self._child
        self._end_child()
        if self._interrupted:
            raise PeerAway("The stream was ended.")
        command = self._stream.command(size_wh, fps)
        self._child = Child(command, timeout_s=self._timeout_s)
        self._size_wh, self._timeline = size_wh, Timeline(fps)
        self.started, self._started_s = self.started + 1, self._clock.now_s()
        return self._child

    def _end_child(self) -> None:
        child = self._child
        if child is not None:
            if self._interrupted:
                child.kill()
            child.end()
        self._child = None

    def _away(self, why: str) -> PeerAway:
        """What to tell of a program that failed (rule V2)."""
        lived = self._clock.now_s() - self._started_s >= LIVED_S
        self._short_lives = 1 if lived else self._short_lives + 1
        often = "once" if self.started == 1 else f"{self.started} times"
        pause_s = self._backoff.pause_s(self._short_lives)
        return PeerAway(f"{why} It was started {often} so far.", wait_s=pause_s)


def open_stream(address: str, options: Options, *, clock: Clock = SYSTEM_CLOCK) -> QueuedSink[Any]:
    """A sink that sends frames, for rtsp://, rtmp://, udp:// or `gst:PIPELINE`.

    Options: `fps`, `kbps`, `encoder`; none of them with a pipeline but `fps`.

    Raises:
        UsageError: The address or an option cannot be.
        MachineError: No program that could do it is installed.
    """
    fps = options.number("fps", None, least=0.1)
    if address.startswith(PIPELINE):
        stream, name = Stream(pipeline=_words(address), fps=fps), "gst"
    else:
        _check(address)
        encoder, kbps = options.text("encoder", X264), options.whole("kbps", 0)
        stream, name = Stream(address, (), fps, encoder, kbps or None), urlsplit(address).scheme
    options.finish()
    stream.command((64, 64), fps or 1.0)  # what is missing shows before the run begins
    return QueuedSink(name, StreamPeer(stream, clock=clock), capacity=1, clock=clock)


def _words(spec: str) -> tuple[str, ...]:
    try:
        words = shlex.split(spec[len(PIPELINE) :].removeprefix("//"))
    except ValueError as error:
        raise UsageError(f"{spec} cannot be split into words: {error}") from error
    if not words:
        raise UsageError(
            "The pipeline behind gst: is empty",
            expected="Elements that take raw video, as in 'gst:autovideosink'",
        )
    return tuple(words)


def _check(address: str) -> None:
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or (parts.scheme == "udp" and not port):
        raise UsageError(
            f"Got {shown(address)} to send frames to",
            expected="rtsp://HOST/PATH, rtmp://HOST/APP/KEY or udp://HOST:PORT",
        )


def _padded(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """A picture with sides that every encoder takes (rule V3)."""
    height, width = picture.shape[:2]
    below, right = height % 2, -width % 4
    if below or right:
        grown = cv2.copyMakeBorder(picture, 0, below, 0, right, cv2.BORDER_REPLICATE)
        return np.asarray(grown, np.uint8)
    return np.ascontiguousarray(picture)
