from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from jetlift.runtime import opencv
from jetlift.runtime.errors import InputError
from jetlift.runtime.video import (
    VideoFacts,
    ended_early,
    probe_video,
    video_frame,
    video_frames,
)


def write_video(path: Path, frames: int = 10, fps: float = 12.5, *, code: str = "mp4v") -> Path:
    """Frames that grow brighter by 20 levels each."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), fps, (64, 48))
    assert writer.isOpened()
    for number in range(frames):
        writer.write(np.full((48, 64, 3), 20 * number, np.uint8))
    writer.release()
    return path


def brightness(image: np.ndarray) -> int:
    return round(float(image.mean()) / 20)


def test_frames_come_in_order_with_the_containers_times(tmp_path: Path) -> None:
    frames = list(video_frames(write_video(tmp_path / "a.mp4")))
    assert [brightness(image) for _, image in frames] == list(range(10))
    assert [time_s for time_s, _ in frames] == pytest.approx(
        [number / 12.5 for number in range(10)]
    )
    assert frames[0][1].shape == (48, 64, 3)


def test_other_containers_work_alike(tmp_path: Path) -> None:
    frames = list(video_frames(write_video(tmp_path / "a.avi", code="MJPG", fps=10)))
    assert [brightness(image) for _, image in frames] == list(range(10))
    assert [time_s for time_s, _ in frames] == pytest.approx([number / 10 for number in range(10)])


def test_the_facts_of_a_video(tmp_path: Path) -> None:
    facts = probe_video(write_video(tmp_path / "a.mp4"))
    assert facts == VideoFacts(frames=10, fps=12.5, size_wh=(64, 48))


@pytest.mark.parametrize("index", [0, 1, 7, 9])
def test_one_frame_by_its_number(tmp_path: Path, index: int) -> None:
    assert brightness(video_frame(write_video(tmp_path / "a.mp4"), index)) == index


def test_a_frame_past_the_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no frame 4000"):
        video_frame(write_video(tmp_path / "a.mp4"), 4000)


def broken_video(folder: Path, kind: str) -> Path:
    path = folder / f"{kind}.mp4"
    if kind == "text":
        path.write_text("This is no video.\n" * 50)
    elif kind == "frameless":
        write_video(path, frames=0)
    elif kind == "cut":
        whole = write_video(folder / "whole.mp4").read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    else:
        path.touch()
    return path


@pytest.mark.parametrize("kind", ["text", "frameless", "cut", "empty"])
def test_what_has_no_frame_is_refused_in_one_paragraph(tmp_path: Path, kind: str) -> None:
    path = broken_video(tmp_path, kind)
    with pytest.raises(InputError) as caught:
        probe_video(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_ffmpeg_stays_silent(tmp_path: Path) -> None:
    paths = [str(broken_video(tmp_path, kind)) for kind in ("text", "frameless", "cut", "empty")]
    program = (
        "import sys\n"
        "from jetlift.runtime.errors import InputError\n"
        "from jetlift.runtime.clock import SYSTEM_CLOCK\n"
        "from jetlift.runtime.streams.healing import LostError\n"
        "from jetlift.runtime.streams.v4l2 import CameraLink, Wish\n"
        "from jetlift.runtime.video import probe_video\n"
        "for path in sys.argv[1:]:\n"
        "    try: probe_video(path)\n"
        "    except InputError: print('refused')\n"
        "try: CameraLink('/dev/null', Wish(), SYSTEM_CLOCK).open()\n"
        "except LostError: print('refused')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *paths],
        capture_output=True,
        text=True,
        check=True,
        env={name: value for name, value in os.environ.items() if "OPENCV" not in name}
        | {"PYTHONSAFEPATH": "1"},
    )
    assert done.stdout.split() == ["refused"] * 5
    assert done.stderr == ""


def test_a_video_that_ends_early_is_told_from_an_estimate() -> None:
    facts = VideoFacts(frames=100, fps=25.0, size_wh=(64, 48))
    assert ended_early(facts, 100) is None
    assert ended_early(facts, 95) is None
    assert ended_early(facts, 60) == "it ended after 60 of 100 frames"
    assert ended_early(VideoFacts(None, None, (64, 48)), 1) is None


def test_opencvs_log_level_comes_back() -> None:
    logging = opencv._logging()
    before = logging.getLogLevel()
    with pytest.raises(ZeroDivisionError), opencv.quiet():
        assert logging.getLogLevel() == 0
        raise ZeroDivisionError
    assert logging.getLogLevel() == before


def test_silence_is_shared_by_threads() -> None:
    logging = opencv._logging()
    before = logging.getLogLevel()
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with opencv.quiet():
            inside.set()
            leave.wait(20)

    thread = threading.Thread(target=other)
    with opencv.quiet():
        thread.start()
        assert inside.wait(20)
    assert logging.getLogLevel() == 0
    leave.set()
    thread.join()
    assert logging.getLogLevel() == before
