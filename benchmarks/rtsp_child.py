"""Serves raw frames from stdin as H.264 over RTSP, by GStreamer's own server.

    /usr/bin/python3 rtsp_child.py --size 640x480 --fps 30 --port 0 [--user NAME --password WORD]

Run by the system's Python, whose packages it needs (Debian: python3-gi,
gir1.2-gst-rtsp-server-1.0, gstreamer1.0-plugins-ugly for x264enc); it imports nothing of jetlift.
Frames come in BGR, whole ones back to back, and are read all the time: a frame that no client
takes is gone, so none waits. Writes `port N` to stdout once it listens, and goes with stdin's end.
"""

from __future__ import annotations

import argparse
import sys
import threading
from typing import Any

PATH = "/stamped"


class Feed:
    """Frames from stdin into whatever pipeline plays now."""

    def __init__(self, frame_bytes: int) -> None:
        self._frame_bytes = frame_bytes
        self._entry: Any = None

    def attach(self, _factory: Any, media: Any) -> None:  # noqa: ANN401 - GObject ships no types
        """Take the pipeline of a client's session."""
        self._entry = media.get_element().get_by_name("entry")
        media.connect("unprepared", self._detach)

    def _detach(self, _media: Any) -> None:  # noqa: ANN401 - as above
        self._entry = None

    def pump(self, loop: Any) -> None:  # noqa: ANN401 - as above
        """Pass frames on until stdin ends."""
        from gi.repository import Gst

        while len(frame := sys.stdin.buffer.read(self._frame_bytes)) == self._frame_bytes:
            entry = self._entry
            if entry is not None:
                entry.emit("push-buffer", Gst.Buffer.new_wrapped(frame))
        loop.quit()


def launch_line(size: str, fps: int) -> str:
    """The pipeline from frames to RTP, without delay of its own."""
    width, height = size.split("x")
    caps = f"video/x-raw,format=BGR,width={width},height={height},framerate={fps}/1"
    return (
        f"( appsrc name=entry is-live=true do-timestamp=true format=time caps={caps} "
        "max-buffers=1 leaky-type=downstream ! videoconvert ! video/x-raw,format=I420 "
        f"! x264enc tune=zerolatency speed-preset=ultrafast bitrate=4000 key-int-max={fps} "
        "! rtph264pay name=pay0 pt=96 config-interval=1 )"
    )


def authenticate(server: Any, user: str, password: str, module: Any) -> Any:  # noqa: ANN401 - as above
    """Ask every client for a name and password; returns the permissions of those who know them."""
    auth, token = module.RTSPAuth(), module.RTSPToken()
    token.set_string("media.factory.role", "user")
    auth.add_basic(module.RTSPAuth.make_basic(user, password), token)
    server.set_auth(auth)
    permissions = module.RTSPPermissions()
    for what in ("media.factory.access", "media.factory.construct"):
        permissions.add_permission_for_role("user", what, True)  # noqa: FBT003 - GObject has no keywords
    return permissions


def main() -> int:
    """Serve until stdin ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", required=True)
    parser.add_argument("--fps", type=int, required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--user", default="")
    parser.add_argument("--password", default="")
    arguments = parser.parse_args()

    import gi

    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import GLib, Gst, GstRtspServer

    Gst.init(None)
    width, height = map(int, arguments.size.split("x"))
    feed, loop = Feed(width * height * 3), GLib.MainLoop()
    server, factory = GstRtspServer.RTSPServer(), GstRtspServer.RTSPMediaFactory()
    server.set_address("127.0.0.1")
    server.set_service(str(arguments.port))
    factory.set_launch(launch_line(arguments.size, arguments.fps))
    factory.set_shared(True)
    factory.connect("media-configure", feed.attach)
    if arguments.user:
        permissions = authenticate(server, arguments.user, arguments.password, GstRtspServer)
        factory.set_permissions(permissions)
    server.get_mount_points().add_factory(PATH, factory)
    server.attach(None)
    sys.stdout.write(f"port {server.get_bound_port()}\n")
    sys.stdout.flush()
    threading.Thread(target=feed.pump, args=(loop,), daemon=True).start()
    loop.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
