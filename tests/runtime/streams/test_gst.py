"""Real pipelines of GStreamer through the pipe."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
from helpers.rtsp import need_program

from jetlift.runtime.clock import SYSTEM_CLOCK
from jetlift.runtime.errors import InputError, MachineError, UsageError
from jetlift.runtime.streams import csi, gst
from jetlift.runtime.streams.gst import PipelineLink, pipeline_source
from jetlift.runtime.streams.healing import LostError

LIVE = "videotestsrc is-live=true pattern=blue ! video/x-raw,width={},height={},framerate=30/1"


@pytest.fixture
def _program() -> None:
    need_program(gst.PROGRAM)


@pytest.mark.usefixtures("_program")
@pytest.mark.parametrize("size_wh", [(320, 240), (321, 199), (16, 16), (1920, 1080)])
def test_pictures_come_whole_in_any_size(size_wh):
    source = pipeline_source("gst://" + LIVE.format(*size_wh))
    frames = []
    for frame in source.frames():
        frames.append(frame)
        if len(frames) == 5:
            break
    source.close()
    assert all(frame.image_bgr.shape == (size_wh[1], size_wh[0], 3) for frame in frames)
    assert all(np.array_equal(frame.image_bgr[-1, -1], (255, 0, 0)) for frame in frames)
    moments = [frame.captured_s for frame in frames]
    assert moments == sorted(moments)


@pytest.mark.usefixtures("_program")
def test_a_pipeline_that_ends_ends_the_source():
    source = pipeline_source("gst://videotestsrc num-buffers=3")
    assert 1 <= len(list(source.frames())) <= 3  # those that a newer one replaced are counted
    health = source.health()
    assert health.captured + health.dropped <= 3
    assert (health.reconnects, health.trouble) == (0, "")


@pytest.mark.usefixtures("_program")
@pytest.mark.parametrize(
    ("pipeline", "said"),
    [
        ("nosuchelement", 'no element "nosuchelement"'),
        ("filesrc location=/nowhere/at.all ! decodebin", "Resource not found"),
        ("videotestsrc ! nothing=3", "syntax error"),
        ("audiotestsrc num-buffers=3", "could not link"),
    ],
)
def test_a_pipeline_that_cannot_run_says_why(pipeline, said):
    with pytest.raises(InputError, match=said) as caught:
        next(pipeline_source(f"gst://{pipeline}").frames())
    assert "gst-launch-1.0 " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("_program")
def test_a_pipeline_that_dies_is_started_again():
    source = pipeline_source("gst://" + LIVE.format(64, 48))
    frames = source.frames()
    next(frames)
    os.kill(source._link._process.pid, signal.SIGKILL)  # type: ignore[union-attr]
    for _ in frames:
        if source.health().reconnects:
            break
    assert source.health().reconnects == 1
    assert "pipeline failed" in source.health().trouble
    source.close()


@pytest.mark.usefixtures("_program")
def test_a_pipeline_that_hangs_is_told():
    link = PipelineLink(LIVE.format(64, 48).split(), SYSTEM_CLOCK, 0.5)
    with contextlib.closing(link):
        link.open()
        link.read()
        process = link._process
        os.kill(process.pid, signal.SIGSTOP)
        with pytest.raises(LostError, match=r"no picture came for 0.5 s"):
            while True:
                link.read()
    assert process.returncode == -signal.SIGKILL  # it did not answer to SIGINT


@pytest.mark.usefixtures("_program")
def test_closing_ends_a_pipeline_that_says_nothing():
    source = pipeline_source("gst://videotestsrc is-live=true ! valve drop=true")
    threading.Timer(0.3, source.close).start()
    assert list(source.frames()) == []
    source._thread.join(20)  # type: ignore[union-attr]
    assert not source._thread.is_alive()  # type: ignore[union-attr]


@pytest.mark.usefixtures("_program")
def test_no_descriptor_and_no_process_is_left_behind():
    def once() -> None:
        source = pipeline_source("gst://" + LIVE.format(64, 48))
        next(source.frames())
        source.close()
        source._thread.join(20)  # type: ignore[union-attr]

    once()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        once()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize(
    "heard",
    [
        "GstCapsFilter:jetlift_form.GstPad:sink",
        "GstCapsFilter:jetlift_form.GstPad:src",
        "GstQueue:jetlift_newest.GstPad:src",
        "GstFdSink:jetlift_out.GstPad:sink",
    ],
)
def test_one_line_of_those_that_tell_the_form_is_enough(heard):
    caps = "video/x-raw, format=(string)BGR, width=(int)64, height=(int)48"
    read_end, write_end = os.pipe()
    link = PipelineLink(["videotestsrc"], SYSTEM_CLOCK)
    with contextlib.closing(link), os.fdopen(read_end):
        os.write(write_end, f"/GstPipeline:pipeline0/{heard}: caps = {caps}\n".encode())
        os.close(write_end)
        link._said = read_end
        assert link._take_words()
        assert link._size_wh == (64, 48)
        assert not link._take_words()  # it says no more


@pytest.mark.usefixtures("_program")
def test_pictures_without_a_form_are_a_loss(monkeypatch):
    monkeypatch.setattr(gst, "_CAPS", re.compile("never (said)"))
    monkeypatch.setattr(gst, "_FORM_TIMEOUT_S", 0.3)
    link = PipelineLink(LIVE.format(64, 48).split(), SYSTEM_CLOCK)
    with contextlib.closing(link), pytest.raises(LostError, match="did not tell their size"):
        link.open()


@pytest.mark.usefixtures("_program")
def test_a_change_of_size_is_a_new_connection(monkeypatch):
    link = PipelineLink(LIVE.format(64, 48).split(), SYSTEM_CLOCK)
    with contextlib.closing(link):
        link.open()
        line = link._text.replace("width=(int)64", "width=(int)32").encode()
        with monkeypatch.context() as patch:
            patch.setattr(os, "read", lambda *_: line)
            with pytest.raises(LostError, match="changed their size"):
                link._take_words()


@pytest.mark.parametrize("name", ["gst://", "gst://  ", "gst://videotestsrc 'x"])
def test_what_is_no_pipeline_is_refused(name):
    with pytest.raises(UsageError, match="gst://"):
        pipeline_source(name)


def test_without_gstreamer_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MachineError, match=r"apt-get install gstreamer1\.0-tools"):
        pipeline_source("gst://videotestsrc")
    with pytest.raises(MachineError, match=r"apt-get install gstreamer1\.0-tools"):
        csi.csi_source("csi://0")


@pytest.mark.usefixtures("_program")
def test_a_csi_camera_needs_a_jetson():
    with pytest.raises(MachineError, match=r"gst-inspect-1\.0 nosuchelement"):
        csi.need_element("nosuchelement")
    csi.need_element("videotestsrc")


def test_the_pipeline_of_a_csi_camera():
    words = csi.pipeline(1, (1920, 1080), 29.97, 2)
    assert " ".join(words) == (
        "nvarguscamerasrc sensor-id=1 ! "
        "video/x-raw(memory:NVMM),width=1920,height=1080,format=NV12,framerate=2997/100 ! "
        "nvvidconv flip-method=2 ! video/x-raw,format=BGRx"
    )


@pytest.mark.usefixtures("_program")
def test_the_pipeline_of_a_csi_camera_runs_with_elements_that_every_machine_has():
    words = csi.pipeline(0, (320, 240), 30, 0)
    stand_ins = {
        "nvarguscamerasrc": "videotestsrc", "sensor-id=0": "is-live=true",
        "nvvidconv": "videoconvert", "flip-method=0": "n-threads=1",
    }  # fmt: skip
    replaced = [stand_ins.get(word, word).replace("(memory:NVMM)", "") for word in words]
    with contextlib.closing(PipelineLink(replaced, SYSTEM_CLOCK)) as link:
        link.open()
        assert link.read().image_bgr.shape == (240, 320, 3)


@pytest.mark.parametrize("name", ["csi://", "csi://front", "csi://0?fps=0", "csi://0?flip=8"])
def test_what_is_no_csi_camera_is_refused(name):
    with pytest.raises(UsageError, match="csi://"):
        csi.csi_source(name)
