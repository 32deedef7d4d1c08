"""Pictures from a pipeline of GStreamer, run by gst-launch-1.0: `gst://PIPELINE`.

PyPI's OpenCV has no GStreamer, and on a Jetson the camera, the decoder and the scaler are reached
through it. The pipeline is the user's own up to raw video; conversion to BGR and the way here are
added behind it.

Rules:
    G1  The pipeline runs in a process of its own; raw BGR comes through a pipe. Its form (size) is
        what gst-launch tells of the caps of the elements added here, each of which has the same:
        GObject's `deep-notify` does not recurse, so that of two threads that tell something at once
        only one is heard, and a single element's line may be missing (seen in 1 start of 60 on two
        busy cores). A change of form is a new connection; pictures that come without any are a
        loss.
    G2  Delay never grows. In front of the pipe stands a queue of one buffer that forgets the older,
        and the pipe holds one frame at most.
    G3  `captured_s` is when the first bytes of a picture came through the pipe.
    G4  The process is asked to end (SIGINT, upon which it lets go of cameras) and killed where it
        does not within END_S. Where this process dies, its pipe breaks and it ends by itself.
    G5  A pipeline that reaches its end (exit code 0) is finished; any other end is a loss.
"""

from __future__ import annotations

import fcntl
import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import threading
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from jetlift.runtime.clock import SYSTEM_CLOCK
from jetlift.runtime.errors import MachineError, UsageError
from jetlift.runtime.streams.healing import HealingSource, LostError, Shot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jetlift.runtime.clock import Clock

SCHEME = "gst://"
CLOCK = "when the picture came out of the pipeline of GStreamer"
PROGRAM = "gst-launch-1.0"
TIMEOUT_S, END_S = 5.0, 2.0
_FORM_TIMEOUT_S = 5.0  # from the first bytes to the line that tells their form
_FIRST_TIMEOUT_S = 20.0  # the first run after an installation scans every plugin
_CAPS = re.compile(r"/Gst\w+:jetlift_\w+\.GstPad:(?:sink|src): caps = (video/x-raw.*)\n")
_SIDE = r"\b{}=\(int\)(\d+)"
_LEAST_PIPE_BYTES, _MOST_PIPE_BYTES = 4096, 1 << 20  # Linux lets users have up to 1 MiB
_TEXT_KEPT = 20_000
_TROUBLE = re.compile(r"^(?:ERROR|WARNING): (?:erroneous pipeline: |from element \S+: )?")
_BEHIND = (
    "!", "videoconvert", "!", "capsfilter", "name=jetlift_form", "caps=video/x-raw,format=BGR",
    "!", "queue", "name=jetlift_newest", "leaky=downstream",
    "max-size-buffers=1", "max-size-bytes=0", "max-size-time=0", "!",
    "fdsink", "name=jetlift_out", "sync=false",
)  # fmt: skip


def pipeline_source(name: str, *, clock: Clock = SYSTEM_CLOCK) -> HealingSource:
    """A pipeline of the user's own; started by `frames`.

    Args:
        name: `gst://` and the pipeline as gst-launch-1.0 takes it, up to raw video.
        clock: What times are told by.

    Raises:
        UsageError: It is empty, or its quotes do not match.
        MachineError: gst-launch-1.0 is not installed.
    """
    try:
        words = shlex.split(name[len(SCHEME) :])
    except ValueError as error:
        raise UsageError(f"{name} cannot be split into words: {error}") from error
    if not words:
        raise UsageError(f"{name} has no pipeline", expected="As in 'gst://videotestsrc'")
    need_program()
    connect = partial(PipelineLink, words, clock)
    return HealingSource(name, connect, clock_note=CLOCK, clock=clock)


def need_program() -> None:
    """See that gst-launch-1.0 is there.

    Raises:
        MachineError: It is not.
    """
    if shutil.which(PROGRAM) is None:
        raise MachineError(
            f"{PROGRAM} is not installed, and it runs pipelines of GStreamer",
            do="Install it with: sudo apt-get install gstreamer1.0-tools gstreamer1.0-plugins-base",
        )


class PipelineLink:
    """A running pipeline; a Link of jetlift.runtime.streams.healing.

    Args:
        words: The pipeline up to raw video.
        clock: What times are told by.
        timeout_s: Seconds without a picture after which it is lost.
    """

    clock_note = CLOCK

    def __init__(self, words: Sequence[str], clock: Clock, timeout_s: float = TIMEOUT_S) -> None:
        self._words, self._clock, self._timeout_s = tuple(words), clock, timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._wakers: tuple[int, ...] = os.pipe()
        self._data = self._said = -1
        self._talks = False  # whether gst-launch may still say something
        self._text, self._size_wh, self._early = "", (0, 0), bytearray()

    def open(self) -> None:
        """See Link.open."""
        self._data, into = os.pipe()
        fcntl.fcntl(self._data, fcntl.F_SETPIPE_SZ, _LEAST_PIPE_BYTES)  # it can grow, not shrink
        command = [PROGRAM, "-v", *self._words, *_BEHIND, f"fd={into}"]
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, pass_fds=(into,), start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise LostError(f"{PROGRAM} does not start: {error.strerror}") from error
        finally:
            os.close(into)
        if self._process.stdout is not None:
            self._said, self._talks = self._process.stdout.fileno(), True
        self._await_size()
        least = self._size_wh[0] * self._size_wh[1] * 3
        room = min(max(1 << (least.bit_length() - 1), _LEAST_PIPE_BYTES), _MOST_PIPE_BYTES)
        fcntl.fcntl(self._data, fcntl.F_SETPIPE_SZ, room)  # rule G2

    def read(self) -> Shot | None:
        """See Link.read (rules G1 and G3)."""
        width, height = self._size_wh
        stride = -(-width * 3 // 4) * 4  # GStreamer begins each row at a multiple of 4
        content, at, began_s = memoryview(bytearray(stride * height)), 0, 0.0
        while at < len(content):
            got = self._fill(content[at:])
            if not got:
                self._check_end()
                return None
            began_s = began_s if at else self._clock.now_s()
            at += got
        picture = np.frombuffer(content, np.uint8).reshape(height, stride)
        return Shot(picture[:, : width * 3].reshape(height, width, 3), began_s)

    def hang_up(self) -> None:
        """See Link.hang_up."""
        with self._lock:
            if self._wakers:
                os.write(self._wakers[1], b"!")

    def close(self) -> None:
        """See Link.close (rule G4)."""
        with self._lock:
            wakers, self._wakers = self._wakers, ()
        for descriptor in wakers:
            os.close(descriptor)
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGINT)
        if self._data != -1:
            os.close(self._data)  # a pipeline that waits to write notices
            self._data = -1
        if process is not None:
            try:
                process.communicate(timeout=END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()

    def _await_size(self) -> None:
        """Wait until the pipeline tells its size (rule G1).

        Pictures are taken meanwhile: gst-launch tells nothing more while the pipe is full.
        """
        awaited = {self._data, self._said}
        until_s: float | None = None
        while not all(self._size_wh):
            if not awaited:
                raise self._loss()
            if until_s is not None and self._clock.now_s() > until_s:
                raise LostError("its pictures came, but gst-launch did not tell their size")
            ready = self._listen(_FIRST_TIMEOUT_S, awaited)
            if self._data in ready:
                until_s = until_s or self._clock.now_s() + _FORM_TIMEOUT_S
                content = os.read(self._data, _MOST_PIPE_BYTES)
                self._early += content
                awaited -= set() if content else {self._data}
            awaited -= set() if self._said in awaited and self._talks else {self._said}

    def _fill(self, room: memoryview) -> int:
        """Put what comes into a place for it; how many bytes, none where the pipe ended."""
        if self._early:
            early = self._early[: len(room)]
            room[: len(early)] = early
            del self._early[: len(early)]
            return len(early)
        self._listen(self._timeout_s, {self._data})
        return os.readv(self._data, [room])

    def _listen(self, seconds: float, awaited: set[int]) -> set[int]:
        """Wait for the pipeline to deliver on one of these; take what it says meanwhile.

        Returns:
            Those on which something came, or that ended.

        Raises:
            LostError: It delivered nothing for so long, or somebody hung up.
        """
        until_s = self._clock.now_s() + seconds
        while True:
            watched = awaited | {self._wakers[0]} | ({self._said} if self._talks else set())
            ready = _ready(watched, max(0.0, until_s - self._clock.now_s()))
            if self._wakers[0] in ready:
                raise LostError("it was closed")
            if not ready:
                raise LostError(f"no picture came for {seconds:g} s")
            if self._said in ready:
                self._talks = self._take_words()
            if ready & awaited:
                return ready & awaited

    def _take_words(self) -> bool:
        """Take what gst-launch says; whether it may say more (rule G1)."""
        said = os.read(self._said, 65_536)
        self._text = (self._text + said.decode(errors="replace"))[-_TEXT_KEPT:]
        told = _CAPS.findall(self._text)
        if told:
            sides = [re.search(_SIDE.format(side), told[-1]) for side in ("width", "height")]
            size_wh = (int(sides[0][1]), int(sides[1][1])) if sides[0] and sides[1] else (0, 0)
            if all(self._size_wh) and size_wh != self._size_wh:
                raise LostError("its pictures changed their size")
            self._size_wh = size_wh
        return bool(said)

    def _check_end(self) -> None:
        """See that it is finished (rule G5).

        Raises:
            LostError: It failed.
        """
        if self._process is not None and self._process.wait(END_S) != 0:
            raise self._loss()

    def _loss(self) -> LostError:
        """What went wrong, in the words of the pipeline."""
        lines = [line for line in self._text.splitlines() if _TROUBLE.search(line)]
        words = _TROUBLE.sub("", lines[0]).strip() if lines else "it ended without a picture"
        return LostError(
            f"its pipeline failed: {words.rstrip('.')}",
            do=f"Try it alone: {PROGRAM} {shlex.join(self._words)} ! fakesink",
        )


def _ready(descriptors: set[int], seconds: float) -> set[int]:
    """Those on which something came, or that ended; none after so many seconds."""
    poll = select.poll()  # select has no room for descriptors above 1023
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return {descriptor for descriptor, _ in poll.poll(round(seconds * 1000))}
