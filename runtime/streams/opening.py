"""Which live input a name means.

synthetic://640x480@30          jetlift.runtime.streams.synthetic
rtsp:// http:// udp:// …        jetlift.runtime.streams.network
/dev/video0, /dev/v4l/by-id/…   jetlift.runtime.streams.v4l2
csi://0                         jetlift.runtime.streams.csi
gst://PIPELINE                  jetlift.runtime.streams.gst
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from jetlift.runtime.clock import SYSTEM_CLOCK
from jetlift.runtime.errors import UsageError
from jetlift.runtime.streams.address import shown
from jetlift.runtime.streams.csi import csi_source
from jetlift.runtime.streams.gst import pipeline_source
from jetlift.runtime.streams.network import network_source
from jetlift.runtime.streams.synthetic import SyntheticSource
from jetlift.runtime.streams.v4l2 import DEVICE, camera_source

if TYPE_CHECKING:
    from jetlift.runtime.clock import Clock
    from jetlift.runtime.streams.healing import HealingSource

    LiveSource = HealingSource | SyntheticSource

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_NETWORK = ("rtsp", "rtsps", "http", "https", "udp", "tcp", "srt", "rtmp")
_MICROPHONE = re.compile(r"mic(?:rophone)?(?:://.*)?")


def is_live(name: str) -> bool:
    """Whether a name is a live input's; an unknown `scheme://` is one too, and is refused later."""
    return bool(_SCHEME.match(name) or DEVICE.fullmatch(name))


def is_microphone(name: str) -> bool:
    """Whether a name is a microphone's."""
    return _MICROPHONE.fullmatch(name) is not None


def open_live(name: str, *, clock: Clock = SYSTEM_CLOCK) -> LiveSource:
    """The source that a name means; what takes long is done by its `frames`.

    Raises:
        UsageError: It is of an unknown kind, a microphone, or an option cannot be.
        InputError: There is no such device.
        MachineError: This machine lacks what it is read with.
    """
    match = _SCHEME.match(name)
    scheme = match[1].lower() if match else ""
    if DEVICE.fullmatch(name):
        return camera_source(name, clock=clock)
    if scheme == "synthetic":
        return SyntheticSource(name, clock=clock)
    if scheme == "csi":
        return csi_source(name, clock=clock)
    if scheme == "gst":
        return pipeline_source(name, clock=clock)
    if scheme in _NETWORK:
        return network_source(name, clock=clock)
    if is_microphone(name):
        raise UsageError(
            f"{name} is a microphone, and this part takes pictures", expected="A picture or camera"
        )
    raise UsageError(
        f"{shown(name)} is an input of an unknown kind",
        expected="A file, folder, pattern, /dev/video0, csi://0, gst://…, synthetic://… or "
        f"{', '.join(f'{known}://' for known in _NETWORK)}",
    )
