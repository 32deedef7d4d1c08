"""Streams of the network, through the FFmpeg that is in OpenCV's packages.

RTSP, HTTP (MJPEG, MPEG-TS), UDP, TCP and whatever else that FFmpeg was built with (SRT is not in
the packages of PyPI). Options stand behind `#`, as in `rtsp://host/path?channel=1#timeout=3`:

    timeout    seconds without an answer or a picture after which a connection is lost (5)
    retry      give up after so many seconds without a picture (never)
    threads    threads of the decoder (1, see N2)
    transport  rtsp alone: tcp or udp (tcp, see N3)

Rules:
    N1  `captured_s` is when the decoder handed the picture over. The camera's exposure, its encoder
        and the network come on top; nothing in the stream tells them reliably.
    N2  One thread decodes. FFmpeg's decoders give each further thread a frame of its own and so
        keep back one frame per thread, which is delay; four threads are 0.1 s at 30 per second.
    N3  OpenCV takes the transport of RTSP from the environment variable
        OPENCV_FFMPEG_CAPTURE_OPTIONS, which belongs to the whole process and cannot be changed
        safely while other threads open streams. So the first RTSP source decides for all; a
        second that wants another transport is refused. What the user has set stays.
    N4  FFmpeg buffers while it finds out what a stream is, a second and more. Those pictures are
        old: right after opening, what comes faster than its own time is decoded and let go.
    N5  A read that took as long as the time-out is a loss, even if a picture came: FFmpeg then
        hands over what its decoder still held.
    N6  A recording (a length is stated, over HTTP) is refused: it has no now.
    N7  A stream that changes its size goes on in the size that it began with: OpenCV scales its
        pictures and does not tell. A new connection takes the new size.
    N8  A picture that cannot be decoded is left out and told. Some in a row are the end, which
        OpenCV reports in the same way.
"""

from __future__ import annotations

import os
import re
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

import cv2

from jetlift.runtime import opencv, video
from jetlift.runtime.clock import SYSTEM_CLOCK
from jetlift.runtime.errors import InputError, UsageError
from jetlift.runtime.streams import address as addresses
from jetlift.runtime.streams import diagnosis
from jetlift.runtime.streams.hangup import Wire
from jetlift.runtime.streams.healing import HealingSource, LostError, Shot
from jetlift.runtime.streams.options import Options

if TYPE_CHECKING:
    from jetlift.runtime.clock import Clock
    from jetlift.runtime.streams.address import Address

CLOCK = "when the decoder handed the picture over; exposure, encoder and network come on top"
TIMEOUT_S = 5.0
_ENVIRONMENT = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
_TRANSPORT = re.compile(r"(?:^|\|)rtsp_transport;(\w+)")
_WINDOW, _PACE = 8, 0.7  # pictures that are looked at; share of their own time (rule N4)
_MOST_DAMAGED = 5  # in a row (rule N8)
_LONGEST_DRAIN_S, _LONG_WAIT_S = 2.0, 0.25
_USUAL_FPS, _MOST_FPS = 30.0, 240.0
_DIAGNOSIS_S = 2.0


def network_source(name: str, *, clock: Clock = SYSTEM_CLOCK) -> HealingSource:
    """A stream of the network; nothing is connected before `frames`.

    Args:
        name: Its address, with our options behind `#`.
        clock: What times are told by.

    Raises:
        UsageError: The address or an option cannot be.
    """
    address = addresses.parse(name)
    options = Options(address.shown, address.options)
    timeout_s = options.number("timeout", 0.5, 60) or TIMEOUT_S
    retry_s = options.number("retry", 0, 1e9)
    threads = options.whole("threads", 1, 16) or 1
    if address.scheme in ("rtsp", "rtsps"):
        _agree_on(options.word("transport", ("tcp", "udp")), address.shown)
    options.finish()
    connect = partial(NetworkLink, address, timeout_s, threads, clock)
    return HealingSource(address.shown, connect, clock_note=CLOCK, retry_s=retry_s, clock=clock)


class NetworkLink:
    """One connection to a stream; a Link of jetlift.runtime.streams.healing.

    Args:
        address: What to open.
        timeout_s: How long to wait for an answer and for a picture.
        threads: Threads of the decoder (rule N2).
        clock: What times are told by.
    """

    clock_note = CLOCK

    def __init__(self, address: Address, timeout_s: float, threads: int, clock: Clock) -> None:
        self._address, self._timeout_s, self._clock = address, timeout_s, clock
        self._threads = threads
        self._wire = Wire(address.host, address.port)
        self._capture: cv2.VideoCapture | None = None
        self._first: Shot | None = None
        self._hung_up = False

    def open(self) -> None:
        """See Link.open (rules N4 and N6)."""
        with opencv.quiet(), self._wire.opening():
            capture = cv2.VideoCapture(self._address.url, cv2.CAP_FFMPEG, self._parameters())
        self._capture = capture
        if not capture.isOpened():
            if self._hung_up:
                raise LostError("it was closed")
            found = diagnosis.find(self._address, min(self._timeout_s, _DIAGNOSIS_S))
            raise LostError(found.reason, do=found.do)
        if self._address.scheme.startswith("http") and capture.get(cv2.CAP_PROP_FRAME_COUNT) > 0:
            raise InputError(
                f"{self._address.shown} is a recording, not a live stream",
                expected="A stream that goes on",
                do="Download it and give the file",
            )
        self._first = self._fresh(capture)

    def read(self) -> Shot:
        """See Link.read."""
        first, self._first = self._first, None
        return first or self._next()

    def hang_up(self) -> None:
        """See Link.hang_up."""
        self._hung_up = True
        self._wire.shut()

    def close(self) -> None:
        """See Link.close."""
        if self._capture is not None:
            self._capture.release()
        self._wire.close()

    def _parameters(self) -> list[int]:
        timeout_ms = round(self._timeout_s * 1000)
        told = {"OPEN_TIMEOUT_MSEC": timeout_ms, "READ_TIMEOUT_MSEC": timeout_ms}
        told["N_THREADS"] = self._threads
        # An OpenCV that does not know one of them (4.8 knows all) goes without.
        known = {
            name: value for key, value in told.items() if hasattr(cv2, name := f"CAP_PROP_{key}")
        }
        return [number for name, value in known.items() for number in (getattr(cv2, name), value)]

    def _fresh(self, capture: cv2.VideoCapture) -> Shot:
        """The first picture that had to be waited for (rule N4)."""
        fps = capture.get(cv2.CAP_PROP_FPS)
        usual_s = _WINDOW / (fps if 0 < fps <= _MOST_FPS else _USUAL_FPS)
        seen = deque[tuple[float, float]](maxlen=_WINDOW + 1)  # when it came, its own time
        until_s = self._clock.now_s() + _LONGEST_DRAIN_S
        while True:
            before_s = self._clock.now_s()
            shot = self._next()
            now_s = shot.captured_s
            seen.append((now_s, capture.get(cv2.CAP_PROP_POS_MSEC) / 1000))
            passed_s, told_s = (seen[-1][place] - seen[0][place] for place in (0, 1))
            in_pace = passed_s >= _PACE * (told_s if told_s > 0 else usual_s)
            if len(seen) > _WINDOW and in_pace:
                return shot
            if now_s >= until_s or now_s - before_s >= _LONG_WAIT_S:
                return shot

    def _next(self) -> Shot:
        if self._capture is None:
            raise LostError("it was closed")
        for damaged in range(_MOST_DAMAGED + 1):
            before_s = self._clock.now_s()
            image_bgr = video.next_picture(self._capture)
            now_s = self._clock.now_s()
            if now_s - before_s >= self._timeout_s:
                do = "Check the camera and the network between"
                raise LostError(f"no picture came for {self._timeout_s:g} s", do=do)
            if image_bgr is not None:
                trouble = "a picture could not be decoded" if damaged else ""
                return Shot(image_bgr, now_s, trouble)
        raise LostError("the connection ended", do="Check that the camera is on and reachable")


def _agree_on(transport: str | None, name: str) -> None:
    """Settle the transport of RTSP for this process (rule N3)."""
    given = os.environ.get(_ENVIRONMENT)
    if given is None:
        os.environ[_ENVIRONMENT] = f"rtsp_transport;{transport or 'tcp'}"
        return
    match = _TRANSPORT.search(given)
    settled = match[1] if match else "tcp"
    if transport is not None and transport != settled:
        raise UsageError(
            f"{name} asks for {transport}, and RTSP goes by {settled} in this process already",
            expected="One transport for all RTSP sources of a run",
            do=f"Name it at the first source, or unset {_ENVIRONMENT}",
        )
