"""Cameras at the CSI connector of a Jetson: `csi://0?size=1920x1080&fps=30`.

NVIDIA's Argus reads the sensor and its image processor makes a picture of it; both are reached by
GStreamer's nvarguscamerasrc alone. Options:

    size   width and height in pixels (1280x720)
    fps    frames per second (30)
    flip   nvvidconv's flip-method, 0 to 7; 2 is upside down (0)
    retry  give up after so many seconds without a picture (never)

Rules:
    C1  The pipeline is nvarguscamerasrc, NVMM, nvvidconv, BGRx, videoconvert, BGR
        (https://docs.nvidia.com/jetson/archives/r36.4/DeveloperGuide/SD/CameraDevelopment.html):
        scaling and the way out of the camera's memory are the hardware's.
    C2  gst-launch-1.0 runs the pipeline in a process of its own (jetlift.runtime.streams.gst), also
        where OpenCV was built with GStreamer: OpenCV 4.6's way has no time-out, so that a camera
        that hangs could never be left, and Argus, when it fails, takes its process with it.
"""

from __future__ import annotations

import re
import subprocess
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING

from jetlift.runtime.clock import SYSTEM_CLOCK
from jetlift.runtime.errors import MachineError, UsageError
from jetlift.runtime.streams import gst
from jetlift.runtime.streams.healing import HealingSource
from jetlift.runtime.streams.options import Options

if TYPE_CHECKING:
    from jetlift.runtime.clock import Clock

SCHEME = "csi://"
_FORM = re.compile(r"csi://(\d{1,2})(?:\?(.*))?")
_ELEMENTS = ("nvarguscamerasrc", "nvvidconv")
_INSPECT_S = 60.0  # the first run after an installation scans every plugin


def csi_source(name: str, *, clock: Clock = SYSTEM_CLOCK) -> HealingSource:
    """A CSI camera; started by `frames`.

    Args:
        name: `csi://` and the number of the sensor, with options behind `?`.
        clock: What times are told by.

    Raises:
        UsageError: The name or an option cannot be.
        MachineError: This machine has not the elements of GStreamer for it.
    """
    match = _FORM.fullmatch(name)
    if match is None:
        raise UsageError(f"{name} names no CSI camera", expected="csi://0 or csi://1, …")
    options = Options(name, match[2] or "")
    size_wh = options.size_wh("size") or (1280, 720)
    fps = options.number("fps", 1, 240) or 30.0
    flip = options.whole("flip", 0, 7) or 0
    retry_s = options.number("retry", 0, 1e9)
    options.finish()
    gst.need_program()
    for element in _ELEMENTS:
        need_element(element)
    words = pipeline(int(match[1]), size_wh, fps, flip)
    connect = partial(gst.PipelineLink, words, clock)
    return HealingSource(name, connect, clock_note=gst.CLOCK, retry_s=retry_s, clock=clock)


def pipeline(sensor: int, size_wh: tuple[int, int], fps: float, flip: int) -> list[str]:
    """The pipeline of a sensor up to raw video outside of NVMM, as words (rule C1).

    Args:
        sensor: Its number.
        size_wh: Width and height in pixels; the other way round for a quarter turn.
        fps: Frames per second.
        flip: nvvidconv's flip-method.
    """
    rate = Fraction(fps).limit_denominator(1001)
    caps = f"width={size_wh[0]},height={size_wh[1]},format=NV12"
    return [
        "nvarguscamerasrc", f"sensor-id={sensor}", "!",
        f"video/x-raw(memory:NVMM),{caps},framerate={rate.numerator}/{rate.denominator}", "!",
        "nvvidconv", f"flip-method={flip}", "!", "video/x-raw,format=BGRx",
    ]  # fmt: skip


def need_element(element: str) -> None:
    """See that GStreamer has an element.

    Raises:
        MachineError: It has not.
    """
    command = ["gst-inspect-1.0", "--exists", element]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=_INSPECT_S)
    except (OSError, subprocess.TimeoutExpired):
        done = None
    if done is None or done.returncode != 0:
        raise MachineError(
            f"GStreamer has no element {element} here, and CSI cameras are read through it",
            expected="A Jetson with JetPack's multimedia packages (nvidia-l4t-gstreamer)",
            do=f"Check with: gst-inspect-1.0 {element}",
        )
