"""A camera's logic on a stand-in for OpenCV's capture: no test machine has a camera."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from jetlift.runtime.clock import FakeClock
from jetlift.runtime.errors import InputError, UsageError
from jetlift.runtime.streams import v4l2
from jetlift.runtime.streams.healing import HealingSource, LostError
from jetlift.runtime.streams.v4l2 import CameraLink, Wish, camera_source, parse_offers

LISTING = """ioctl: VIDIOC_ENUM_FMT
\tType: Video Capture

\t[0]: 'MJPG' (Motion-JPEG, compressed)
\t\tSize: Discrete 1280x720
\t\t\tInterval: Discrete 0.033s (30.000 fps)
\t\t\tInterval: Discrete 0.067s (15.000 fps)
\t\tSize: Discrete 640x480
\t\t\tInterval: Discrete 0.033s (30.000 fps)
\t[1]: 'YUYV' (YUYV 4:2:2)
\t\tSize: Discrete 640x480
\t\t\tInterval: Discrete 0.033s (29.970 fps)
"""


class Capture:
    """Stands for cv2.VideoCapture: so many frames, `age_s` old by the driver's clock."""

    def __init__(self, clock: FakeClock, frames: int = 3, *, age_s: float = 0.02) -> None:
        self.clock, self.left, self.age_s = clock, frames, age_s
        self.opens, self.released = True, False
        self.values: dict[int, float] = {}
        self.fixed: dict[int, float] = {}

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return self.opens

    def set(self, number: int, value: float) -> bool:
        self.values[number] = value
        return True

    def get(self, number: int) -> float:
        if number == cv2.CAP_PROP_POS_MSEC:
            return (self.clock.now_s() - self.age_s) * 1000
        return self.fixed.get(number, self.values.get(number, 0.0))

    def read(self, _memory: object = None) -> tuple[bool, np.ndarray | None]:
        self.left -= 1
        self.clock.advance(0.1)
        shape = (4, 6) if self.left == 1 else (4, 6, 3)  # some cameras are grey
        return (True, np.full(shape, 7, np.uint8)) if self.left >= 0 else (False, None)

    def release(self) -> None:
        self.released = True


@pytest.fixture
def device(tmp_path: Path) -> Path:
    path = tmp_path / "video0"
    path.touch()
    return path


def link(device: Path, capture: Capture, wish: Wish | None = None) -> CameraLink:
    opening: Callable[[str], Capture] = lambda _: capture  # noqa: E731 - shorter
    return CameraLink(str(device), wish or Wish(), capture.clock, opening)  # type: ignore[arg-type]  # stands for it


def test_pictures_have_the_drivers_moment(device):
    capture = Capture(FakeClock(500.0))
    camera = link(device, capture)
    camera.open()
    shots = [camera.read() for _ in range(3)]
    assert [shot.captured_s for shot in shots] == pytest.approx([500.08, 500.18, 500.28])
    assert [shot.image_bgr.shape for shot in shots] == [(4, 6, 3)] * 3
    assert camera.clock_note == v4l2.DRIVER_CLOCK
    with pytest.raises(LostError, match="stopped delivering"):
        camera.read()
    camera.close()
    assert capture.released


@pytest.mark.parametrize("age_s", [-0.5, 1.5, -1.7e9, 490.0])
def test_a_driver_of_another_clock_is_not_believed(device, age_s):
    camera = link(device, Capture(FakeClock(500.0), age_s=age_s))
    camera.open()
    assert camera.read().captured_s == pytest.approx(500.1)
    assert camera.clock_note == v4l2.HANDOVER_CLOCK


def test_a_driver_that_was_wrong_once_is_not_believed_again(device):
    capture = Capture(FakeClock(500.0), age_s=30)
    camera = link(device, capture)
    camera.open()
    camera.read()
    capture.age_s = 0.02
    assert camera.read().captured_s == pytest.approx(500.2)


def test_what_is_asked_is_set(device):
    capture = Capture(FakeClock())
    link(device, capture, Wish((1280, 720), 30.0, "MJPG")).open()
    assert capture.values == {
        cv2.CAP_PROP_FOURCC: cv2.VideoWriter.fourcc(*"MJPG"),
        cv2.CAP_PROP_FRAME_WIDTH: 1280,
        cv2.CAP_PROP_FRAME_HEIGHT: 720,
        cv2.CAP_PROP_FPS: 30.0,
    }


def test_another_answer_than_was_asked_is_refused_with_what_there_is(device, monkeypatch):
    monkeypatch.setattr(v4l2, "_offers", lambda _: parse_offers(LISTING))
    capture = Capture(FakeClock())
    capture.fixed = {cv2.CAP_PROP_FRAME_HEIGHT: 480.0, cv2.CAP_PROP_FPS: 15.0}
    with pytest.raises(InputError) as caught:
        link(device, capture, Wish((1280, 720), 30.0, "MJPG")).open()
    said = str(caught.value)
    assert "size=1280x480 for size=1280x720" in said
    assert "fps=15 for fps=30" in said
    assert "MJPG: 1280x720@30/15, 640x480@30; YUYV: 640x480@29.97" in said
    assert "format" not in said.partition("Ask")[0].replace("forms", "")


def test_a_listing_without_formats_is_empty():
    assert parse_offers("ioctl: VIDIOC_ENUM_FMT\n") == ""


def test_offers_of_what_is_no_camera():
    assert "--list-formats-ext" in v4l2._offers("/dev/null") or "none" in v4l2._offers("/dev/null")


def test_a_device_that_does_not_open_says_what_to_do(device):
    capture = Capture(FakeClock())
    capture.opens = False
    with pytest.raises(LostError, match="does not open") as caught:
        link(device, capture).open()
    assert "Close the program" in caught.value.do


def test_a_real_device_that_is_no_camera_does_not_open():
    with pytest.raises(LostError, match="does not open"):
        CameraLink("/dev/null", Wish(), FakeClock()).open()


def test_a_device_that_is_closed_to_us(device, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(LostError, match="may not use it") as caught:
        link(device, Capture(FakeClock())).open()
    assert "usermod -aG video" in caught.value.do


def test_a_camera_that_is_unplugged_is_waited_for(device):
    clock = FakeClock()
    plugged, gone = threading.Event(), threading.Event()

    def opened(_: str) -> Capture:
        return Capture(clock, 2 if not plugged.is_set() else 10**9)

    def connect() -> CameraLink:
        if gone.is_set() and not plugged.is_set():
            device.touch()  # it comes back after the first attempt without it
            plugged.set()
        elif not gone.is_set() and len(clock.waited_s) > 0:
            device.unlink()
            gone.set()
        return CameraLink(str(device), Wish(), clock, opened)  # type: ignore[arg-type]  # stands for it

    source = HealingSource("cam", connect, clock_note="?", clock=clock)
    for _ in source.frames():
        if source.health().reconnects:
            break
    health = source.health()
    assert health.reconnects == 1
    assert health.trouble == f"there is no {device} any more"
    source.close()


def test_a_missing_camera_is_refused_at_once():
    with pytest.raises(InputError, match="There is no camera /dev/video977"):
        camera_source("/dev/video977?size=640x480")


@pytest.mark.parametrize("text", ["size=1", "fps=0", "format=JPEGS", "speed=3"])
def test_options_that_cannot_be_are_refused(text):
    with pytest.raises(UsageError, match="/dev/video977"):
        camera_source(f"/dev/video977?{text}")


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("/dev/video0", True),
        ("/dev/video12?fps=30", True),
        ("/dev/v4l/by-id/usb-Cam_1-index0?size=1x1", True),
        ("/dev/video", False),
        ("/dev/videos/a.mp4", False),
    ],
)
def test_names_of_cameras(name, is_one):
    assert bool(v4l2.DEVICE.fullmatch(name)) is is_one
