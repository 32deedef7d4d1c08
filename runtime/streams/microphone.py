"""Sound from a microphone, through ALSA's arecord: `mic`, `mic://hw:1,0?rate=16000&longest=30`.

What stands behind `mic://` is an ALSA device as `arecord -L` lists them. Options:

    rate     samples per second to record (16000)
    longest  seconds that a window lasts at most (30, a window of Whisper)
    retry    give up after so many seconds without the microphone (never)

Rules:
    M1  It is recorded all the time, whatever the taker does, and cut into windows at pauses
        (jetlift.runtime.streams.cutting). Silence and steady noise make no window.
    M2  Up to ROOM_S of sound wait for a slow taker. What is older then is lost: counted in
        `lost_samples`, and told in `trouble`. No window contains a gap.
    M3  A window's `captured_s` is when its last sample was recorded, as near as the pipe tells.
    M4  A microphone that cannot be opened at first is an InputError in arecord's words; one that is
        lost later is waited for as cameras are (jetlift.runtime.streams.healing, H2 to H4).
    M5  arecord that ends with exit code 0 has come to its end, and so has the source.
    M6  It counts as not live, although it is: a pipeline would drop windows for newer ones, and
        words are not to be dropped while there is room.
"""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import tempfile
import threading
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from jetlift.runtime.audio import Sound
from jetlift.runtime.clock import SYSTEM_CLOCK
from jetlift.runtime.closing import Closing
from jetlift.runtime.errors import InputError, MachineError, UsageError
from jetlift.runtime.pipeline.form import SourceHealth
from jetlift.runtime.sounds import SoundItem
from jetlift.runtime.streams.cutting import Cutter
from jetlift.runtime.streams.healing import CLOSE_WAIT_S, pause_s
from jetlift.runtime.streams.options import Options
from jetlift.runtime.streams.reservoir import Chunk, Reservoir

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jetlift.runtime.clock import Clock
    from jetlift.runtime.listing import Skipped
    from jetlift.runtime.streams.cutting import Window

CLOCK = "when the last sample of a window was recorded"
PROGRAM = "arecord"
ROOM_S = 120.0
_FORM = re.compile(r"mic(?:rophone)?(?:://([^?]*))?(?:\?(.*))?")
_CHUNK_S = 0.25


class MicrophoneSource(Closing):
    """Windows of what a microphone hears; a source of items, and iterable (rules M1 to M6).

    Attributes:
        skipped: Nothing; a microphone has no inputs that cannot be read.

    Args:
        name: `mic`, or with a device and options.
        limit: Windows at most.
        clock: What times are told by.

    Raises:
        UsageError: The name or an option cannot be.
        MachineError: arecord is not installed.
    """

    live, count, fps = False, None, None

    def __init__(self, name: str, *, limit: int | None = None, clock: Clock = SYSTEM_CLOCK) -> None:
        match = _FORM.fullmatch(name)
        if match is None:
            raise UsageError(f"{name} is no microphone", expected="mic or mic://DEVICE")
        options = Options(name, match[2] or "")
        self.rate_hz = options.whole("rate", 8000, 96_000) or 16_000
        self._longest_s = options.number("longest", 1, 600) or 30.0
        self._retry_s = options.number("retry", 0, 1e9)
        options.finish()
        if shutil.which(PROGRAM) is None:
            raise MachineError(
                f"{PROGRAM} is not installed, and microphones are read through it",
                do="Install it with: sudo apt-get install alsa-utils",
            )
        self.name, self._device, self._limit = name, match[1] or "default", limit
        self._clock, self._stop, self._lock = clock, threading.Event(), threading.Lock()
        self._sound = Reservoir(round(ROOM_S * self.rate_hz))
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._lost_since_s: float | None = None
        self._health = SourceHealth(name, live=True, clock=CLOCK, connected=False)
        self.skipped: list[Skipped] = []

    @property
    def lost_samples(self) -> int:
        """Samples that were lost because nobody took them in time (rule M2)."""
        return self._sound.lost

    def __iter__(self) -> Iterator[SoundItem]:
        return self.frames()

    def frames(self) -> Iterator[SoundItem]:
        """See FrameSource.frames; windows in place of frames."""
        with self._lock:
            if not self._stop.is_set():
                self._thread = threading.Thread(
                    target=self._work, name=f"jetlift hears {self.name}", daemon=True
                )
                self._thread.start()
        try:
            yield from islice(self._items(), self._limit)
        finally:
            self._end()

    def health(self) -> SourceHealth:
        """See FrameSource.health."""
        with self._lock:
            health, since_s = self._health, self._lost_since_s
        running_s = 0.0 if since_s is None else self._clock.now_s() - since_s
        connected, trouble = health.connected and not self._stop.is_set(), health.trouble
        if self._sound.lost and connected:
            lost_s = self._sound.lost / self.rate_hz
            trouble = f"{lost_s:.1f} s of sound were lost, since nobody took them in time"
        return replace(
            health, lost_s=health.lost_s + running_s, connected=connected, trouble=trouble
        )

    def close(self) -> None:
        """See FrameSource.close."""
        self._end()
        if self._thread is not None:
            self._thread.join(CLOSE_WAIT_S)

    def _end(self) -> None:
        with self._lock:
            self._stop.set()
            if self._process is not None:
                self._process.terminate()
        self._sound.close()

    def _items(self) -> Iterator[SoundItem]:
        """Windows as items, numbered (rule M3)."""
        cutter, index, heard, read_s = Cutter(self.rate_hz, self._longest_s), 0, 0, 0.0
        while not self._stop.is_set():
            chunk = self._sound.take()
            if chunk is None:
                windows = cutter.flush()
            else:
                windows = cutter.skip(chunk.missing) if chunk.missing else []
                windows += cutter.push(chunk.samples)
                heard, read_s = heard + chunk.missing + len(chunk.samples), chunk.read_s
            for window in windows if not self._stop.is_set() else ():
                behind_s = (heard - window.end) / self.rate_hz
                yield self._item(index, window, read_s - behind_s)
                index += 1
            if chunk is None:
                return

    def _item(self, index: int, window: Window, captured_s: float) -> SoundItem:
        self._note(captured=index + 1)
        sound = Sound(window.samples, self.rate_hz)
        return SoundItem(self.name, index, sound, window.start / self.rate_hz, captured_s)

    def _work(self) -> None:
        """Record, and record again where the microphone was lost; in a thread of its own."""
        attempt, ever = 0, False
        with self._sound:
            while not self._stop.is_set():
                delivered, failure = self._record()
                if failure is None or self._stop.is_set():
                    return
                attempt, ever = 1 if delivered else attempt + 1, ever or delivered
                self._lose(failure, ever=ever)
                self._clock.wait(self._stop, pause_s(attempt, random.random()))  # noqa: S311 - no secret

    def _record(self) -> tuple[bool, str | None]:
        """Run arecord until it ends.

        Returns:
            Whether it delivered, and why it failed; None where it came to its end (rule M5).
        """
        command = [PROGRAM, "-q", "-t", "raw", "-f", "S16_LE", "-c", "1", "-r", str(self.rate_hz)]
        command += ["-D", self._device]
        size, delivered = round(_CHUNK_S * self.rate_hz) * 2, False
        with (
            tempfile.TemporaryFile() as words,
            subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=words
            ) as process,
        ):
            with self._lock:
                self._process = process
                if self._stop.is_set():
                    process.terminate()
            while process.stdout is not None and (content := process.stdout.read(size)):
                samples = np.frombuffer(content[: len(content) // 2 * 2], "<i2")
                missing = 0 if delivered else self._find()
                delivered = True
                scaled = samples.astype(np.float32) / np.float32(32768)
                self._sound.put(Chunk(scaled, self._clock.now_s(), missing))
            code = process.wait()
            with self._lock:
                self._process = None
            words.seek(0)
            said = words.read().decode(errors="replace").strip().splitlines()
        return delivered, (said[-1] if said else f"{PROGRAM} ended") if code else None

    def _find(self) -> int:
        """Note that sound comes, first or again; samples that a loss took."""
        with self._lock:
            self._health = replace(self._health, connected=True)
            since_s, self._lost_since_s = self._lost_since_s, None
        if since_s is None:
            return 0
        gap_s = self._clock.now_s() - since_s
        reconnects, lost_s = self._health.reconnects + 1, self._health.lost_s + gap_s
        self._note(reconnects=reconnects, lost_s=lost_s)
        return max(1, round(gap_s * self.rate_hz))

    def _lose(self, reason: str, *, ever: bool) -> None:
        """Note a loss, or give up (rule M4)."""
        do = "List the microphones with: arecord -L"
        if not ever:
            raise InputError(f"Microphone {self._device} does not open: {reason}", do=do)
        now_s = self._clock.now_s()
        if self._lost_since_s is None:
            self._lost_since_s = now_s
        self._note(connected=False, trouble=reason)
        if self._retry_s is not None and now_s - self._lost_since_s >= self._retry_s:
            raise InputError(f"Microphone {self._device} is lost: {reason}", do=do)

    def _note(self, **changes: object) -> None:
        with self._lock:
            self._health = replace(self._health, **changes)  # type: ignore[arg-type]  # its fields
