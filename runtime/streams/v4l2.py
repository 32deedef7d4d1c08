"""Cameras of this machine, through Video4Linux: `/dev/video0?size=1280x720&fps=30&format=MJPG`.

Options, all as the driver has them where they are left out:
    size    width and height in pixels
    fps     frames per second
    format  the camera's own: MJPG, YUYV, … (four characters)
    retry   give up after so many seconds without a picture (never)

Rules:
    L1  A device that is not there is refused at once; one that will not open, or answers with
        another size, rate or format than was asked, when it is opened first.
    L2  `captured_s` is the driver's own moment, where that lies within the last second by
        CLOCK_MONOTONIC, which nearly all drivers stamp with
        (https://docs.kernel.org/userspace-api/media/v4l/buffer.html). A driver whose moments lie
        elsewhere is not believed: then it is when the picture was handed over. `SourceHealth.clock`
        says which of the two.
    L3  A camera that is unplugged is waited for. It may come back under another number; its name
        below /dev/v4l/by-id stays the same and can be given instead.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from jetlift.runtime import opencv, video
from jetlift.runtime.clock import SYSTEM_CLOCK
from jetlift.runtime.errors import InputError
from jetlift.runtime.streams.healing import HealingSource, LostError, Shot
from jetlift.runtime.streams.options import Options

if TYPE_CHECKING:
    from collections.abc import Callable

    from jetlift.runtime.clock import Clock

DEVICE = re.compile(r"(/dev/(?:video\d+|v4l/by-(?:id|path)/[^?]+))(?:\?(.*))?")
DRIVER_CLOCK = "when the driver filled the buffer"
HANDOVER_CLOCK = (
    "when the driver handed the picture over, since its own moments are of another clock"
)
_OLDEST_S = 1.0
_WAIT_VARIABLE, _WAIT_S = "OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "5"  # OpenCV waits 10 s by itself
_LIST_S = 5.0


@dataclass(frozen=True)
class Wish:
    """What is asked of a camera; None leaves it to the driver.

    Attributes:
        size_wh: Width and height in pixels.
        fps: Frames per second.
        fourcc: Its format, as in `MJPG`.
    """

    size_wh: tuple[int, int] | None = None
    fps: float | None = None
    fourcc: str | None = None


def camera_source(name: str, *, clock: Clock = SYSTEM_CLOCK) -> HealingSource:
    """A camera; opened by `frames`.

    Args:
        name: Its device file, with options behind `?`.
        clock: What times are told by.

    Raises:
        InputError: There is no such device.
        UsageError: An option cannot be.
    """
    match = DEVICE.fullmatch(name)
    device, text = (match[1], match[2] or "") if match else (name, "")
    options = Options(name, text)
    fourcc = options.text("format", r"[A-Za-z0-9]{4}", "four characters, as in MJPG")
    wish = Wish(options.size_wh("size"), options.number("fps", 1, 1000), fourcc)
    retry_s = options.number("retry", 0, 1e9)
    options.finish()
    if not Path(device).exists():
        raise InputError(
            f"There is no camera {device}",
            expected="A device that exists",
            do="List the cameras with: ls /dev/video*",
        )
    os.environ.setdefault(_WAIT_VARIABLE, _WAIT_S)
    connect = partial(CameraLink, device, wish, clock)
    return HealingSource(name, connect, clock_note=DRIVER_CLOCK, retry_s=retry_s, clock=clock)


class CameraLink:
    """An open camera; a Link of jetlift.runtime.streams.healing.

    Args:
        device: Its device file.
        wish: What is asked of it.
        clock: What times are told by.
        open_capture: Opens it.
    """

    def __init__(
        self,
        device: str,
        wish: Wish,
        clock: Clock,
        open_capture: Callable[[str], cv2.VideoCapture] | None = None,
    ) -> None:
        self._device, self._wish, self._clock = device, wish, clock
        self._open_capture = open_capture or _by_opencv
        self._capture: cv2.VideoCapture | None = None
        self.clock_note = DRIVER_CLOCK

    def open(self) -> None:
        """See Link.open (rule L1)."""
        if not Path(self._device).exists():
            raise LostError(f"there is no {self._device} any more", do="Plug the camera in")
        if not os.access(self._device, os.R_OK | os.W_OK):
            raise LostError(
                "this user may not use it", do="Run: sudo usermod -aG video $USER, and log in again"
            )
        with opencv.quiet():
            self._capture = capture = self._open_capture(self._device)
            if not capture.isOpened():
                raise LostError(
                    "it does not open",
                    do="Close the program that uses it, and see that it is a camera: v4l2-ctl "
                    f"--all -d {self._device}",
                )
            self._ask(capture)

    def read(self) -> Shot:
        """See Link.read (rule L2)."""
        if self._capture is None:
            raise LostError("it was closed")
        image_bgr = video.next_picture(self._capture)
        if image_bgr is None:
            raise LostError("it stopped delivering", do="Check its cable and its power")
        now_s = self._clock.now_s()
        stamp_s = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if not 0 <= now_s - stamp_s <= _OLDEST_S:
            self.clock_note = HANDOVER_CLOCK
        return Shot(image_bgr, stamp_s if self.clock_note == DRIVER_CLOCK else now_s)

    def hang_up(self) -> None:
        """Nothing ends a driver's wait; OpenCV gives up by itself after some seconds."""

    def close(self) -> None:
        """See Link.close."""
        if self._capture is not None:
            self._capture.release()

    def _ask(self, capture: cv2.VideoCapture) -> None:
        """Set what was asked, and see what the driver made of it (rule L1)."""
        wish, told = self._wish, dict[str, tuple[object, object]]()
        if wish.fourcc is not None:
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*wish.fourcc))
            number = int(capture.get(cv2.CAP_PROP_FOURCC))
            told["format"] = (wish.fourcc, number.to_bytes(4, "little").decode("latin-1"))
        if wish.size_wh is not None:
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, wish.size_wh[0])
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, wish.size_wh[1])
            sides = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
            asked, got = wish.size_wh, [int(capture.get(side)) for side in sides]
            told["size"] = ("{}x{}".format(*asked), "{}x{}".format(*got))
        if wish.fps is not None:
            capture.set(cv2.CAP_PROP_FPS, wish.fps)
            told["fps"] = (f"{wish.fps:.4g}", f"{capture.get(cv2.CAP_PROP_FPS):.4g}")
        other = {key: pair for key, pair in told.items() if pair[0] != pair[1]}
        if other:
            words = ", ".join(f"{key}={got} for {key}={ask}" for key, (ask, got) in other.items())
            raise InputError(
                f"Camera {self._device} gives {words}",
                expected=f"One of its own forms ({_offers(self._device)})",
                do="Ask for one of them, or leave the option out",
            )


def _by_opencv(device: str) -> cv2.VideoCapture:
    return cv2.VideoCapture(device, cv2.CAP_V4L2)


def _offers(device: str) -> str:
    """What a camera can do, as v4l2-ctl tells it, or how to ask."""
    command = ["v4l2-ctl", "-d", device, "--list-formats-ext"]
    if shutil.which(command[0]) is None:
        return f"install v4l-utils, and list them with: {' '.join(command)}"
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_LIST_S)
    except (subprocess.SubprocessError, OSError):
        return f"list them with: {' '.join(command)}"
    return parse_offers(done.stdout) or "it lists none"


def parse_offers(listing: str) -> str:
    """Formats, sizes and rates of `v4l2-ctl --list-formats-ext`, shortened to one line."""
    offers: dict[str, dict[str, list[str]]] = {}
    fourcc = size = ""
    for line in listing.splitlines():
        if match := re.search(r"\[\d+\]: '(.{4})'", line):
            fourcc, size = match[1], ""
        elif match := re.search(r"Size: \w+ (\d+x\d+)", line):
            size = match[1]
            offers.setdefault(fourcc, {}).setdefault(size, [])
        elif (match := re.search(r"\((\d+(?:\.\d+)?) fps\)", line)) and size:
            offers[fourcc][size].append(f"{float(match[1]):g}")
    return "; ".join(
        f"{code}: " + ", ".join(f"{size}@{'/'.join(rates)}" for size, rates in sizes.items())
        for code, sizes in offers.items()
    )
