"""A real RTSP server on loopback whose pictures say when they were drawn.

    with StampedServer(StreamForm((640, 480), 30)) as server:
        read(server.url)

A child of this Python draws frames (jetlift.runtime.streams.synthetic), the system's Python runs
GStreamer's RTSP server (jetlift.benchmarks.rtsp_child) on them: encoder, network and decoder are
between a frame and whoever reads it. Both run in processes of their own, so that they can be
stopped, killed and started again on the same port.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from jetlift.benchmarks.rtsp_child import PATH
from jetlift.runtime.closing import Closing
from jetlift.runtime.errors import MachineError

SYSTEM_PYTHON = Path("/usr/bin/python3")
PACKAGES = (
    "python3-gi", "gir1.2-gst-rtsp-server-1.0", "gstreamer1.0-plugins-base",
    "gstreamer1.0-plugins-good", "gstreamer1.0-plugins-ugly",
)  # fmt: skip
_NEEDS = """
import gi
gi.require_version('Gst', '1.0')
gi.require_version('GstRtspServer', '1.0')
from gi.repository import Gst, GstRtspServer
Gst.init(None)
names = ('appsrc', 'videoconvert', 'x264enc', 'rtph264pay')
missing = [name for name in names if Gst.ElementFactory.find(name) is None]
raise SystemExit('no element ' + ', '.join(missing) if missing else 0)
"""
_CHILD = Path(__file__).with_name("rtsp_child.py")
_END_S = 5.0


@dataclass(frozen=True)
class StreamForm:
    """What is served.

    Attributes:
        size_wh: Width and height in pixels.
        fps: Frames per second.
        user: Name that clients must give; empty asks for none.
        password: With the name.
    """

    size_wh: tuple[int, int] = (640, 480)
    fps: int = 30
    user: str = ""
    password: str = ""


@lru_cache(maxsize=1)
def missing() -> str:
    """What this machine lacks for it, as a clause; empty where nothing."""
    if not SYSTEM_PYTHON.exists():
        return f"there is no {SYSTEM_PYTHON}"
    command = [str(SYSTEM_PYTHON), "-c", _NEEDS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["it failed"])[-1]


class StampedServer(Closing):
    """The server, once it listens (see the module).

    Args:
        form: What it serves.
        port: Where; 0 takes a free one.

    Raises:
        MachineError: The packages for it are missing, or it does not start.
    """

    def __init__(self, form: StreamForm, port: int = 0) -> None:
        if missing():
            raise MachineError(
                f"No RTSP server can be run here: {missing()}",
                do=f"Install it with: sudo apt-get install {' '.join(PACKAGES)}",
            )
        self.form, self._stack = form, ExitStack()
        size = "{}x{}".format(*form.size_wh)
        draw = [sys.executable, "-m", "jetlift.benchmarks.stamped_frames", size, str(form.fps)]
        drawer = self._started(subprocess.Popen(draw, stdout=subprocess.PIPE))
        command = [str(SYSTEM_PYTHON), str(_CHILD), "--size", size, "--fps", str(form.fps)]
        command += ["--port", str(port)]
        if form.user:
            command += ["--user", form.user, "--password", form.password]
        self._server = self._started(
            subprocess.Popen(command, stdin=drawer.stdout, stdout=subprocess.PIPE)
        )
        if drawer.stdout is not None:
            drawer.stdout.close()  # the server's now
        told = self._server.stdout.readline() if self._server.stdout is not None else b""
        if not told:
            self.close()
            raise MachineError("The RTSP server ended before it listened")
        self.port = int(told.split()[1])

    @property
    def url(self) -> str:
        """Its address, without a name and password."""
        return f"rtsp://127.0.0.1:{self.port}{PATH}"

    def stop(self) -> None:
        """Let it hang: it keeps its connections and says nothing."""
        self._server.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """End the hanging."""
        self._server.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Kill it. A second call does nothing."""
        self._stack.close()

    def _started(self, process: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        self._stack.callback(_ended, process)
        return process


def _ended(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait(_END_S)
    if process.stdout is not None:
        process.stdout.close()
