"""What the programs that send frames are told: ffmpeg, or GStreamer where that is not there."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from jetlift.runtime.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Sequence

FFMPEG, GST = "ffmpeg", "gst-launch-1.0"
X264 = "libx264"
_LATE = ("x264enc", "tune=zerolatency", "speed-preset=ultrafast")


@dataclass(frozen=True)
class Stream:
    """Where the frames go.

    Attributes:
        address: As in rtsp://host/path; empty with a pipeline.
        pipeline: Elements of GStreamer behind raw video, as words; empty with an address.
        fps: Frames per second; measured where None.
        encoder: ffmpeg's name of one.
        kbps: Kilobits per second; None lets the encoder choose.
    """

    address: str = ""
    pipeline: tuple[str, ...] = ()
    fps: float | None = None
    encoder: str = X264
    kbps: int | None = None

    def command(self, size_wh: tuple[int, int], fps: float) -> list[str]:
        """The program for frames of this size.

        Raises:
            MachineError: None that could do it is installed.
        """
        if self.pipeline:
            return _gst_command(self.pipeline, size_wh, fps)
        if shutil.which(FFMPEG):
            return self._ffmpeg_command(size_wh, fps)
        return _gst_command(self._gst_elements(), size_wh, fps)

    def _ffmpeg_command(self, size_wh: tuple[int, int], fps: float) -> list[str]:
        size = f"{size_wh[0]}x{size_wh[1]}"
        command = [FFMPEG, "-hide_banner", "-loglevel", "error", "-nostdin"]
        command += ["-f", "rawvideo", "-pix_fmt", "bgr24", "-video_size", size]
        command += ["-framerate", f"{fps:g}", "-i", "pipe:0", "-an", "-c:v", self.encoder]
        if self.encoder == X264:
            command += ["-preset", "ultrafast", "-tune", "zerolatency"]
        if self.kbps:
            rate = f"{self.kbps}k"
            command += ["-b:v", rate, "-maxrate", rate, "-bufsize", rate]
        command += ["-pix_fmt", "yuv420p", "-g", str(round(2 * fps))]
        scheme = urlsplit(self.address).scheme
        if scheme.startswith("rtsp"):
            return [*command, "-f", "rtsp", "-rtsp_transport", "tcp", self.address]
        if scheme.startswith("rtmp"):
            return [*command, "-f", "flv", self.address]
        joined = "&" if "?" in self.address else "?"
        packets = "" if "pkt_size=" in self.address else f"{joined}pkt_size=1316"
        return [*command, "-muxdelay", "0", "-f", "mpegts", f"{self.address}{packets}"]

    def _gst_elements(self) -> tuple[str, ...]:
        parts = urlsplit(self.address)
        rate = (f"bitrate={self.kbps}",) if self.kbps else ()
        if parts.scheme.startswith("rtsp"):
            return (*_LATE, *rate, "!", "rtspclientsink", f"location={self.address}")
        if parts.scheme.startswith("rtmp"):
            muxed = ("!", "flvmux", "streamable=true", "!", "rtmp2sink")
            return (*_LATE, *rate, *muxed, f"location={self.address}")
        sink = ("!", "mpegtsmux", "!", "udpsink", f"host={parts.hostname}", f"port={parts.port}")
        return (*_LATE, *rate, *sink)


def _gst_command(elements: Sequence[str], size_wh: tuple[int, int], fps: float) -> list[str]:
    if not shutil.which(GST):
        raise MachineError(
            f"Neither {FFMPEG} nor {GST} is installed, and one of them sends frames",
            expected="ffmpeg, or for pipelines the tools of GStreamer",
            do="Install one: sudo apt-get install ffmpeg gstreamer1.0-tools",
        )
    rate = f"framerate={round(fps * 1000)}/1000"
    sizes = (f"width={size_wh[0]}", f"height={size_wh[1]}")
    head = ("fdsrc", "fd=0", "!", "rawvideoparse", "format=bgr", *sizes, rate, "!", "videoconvert")
    return [GST, "-q", *head, "!", *elements]
