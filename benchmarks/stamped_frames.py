"""Writes stamped frames to stdout as raw BGR, for an encoder to take: `WxH FPS`.

Live: a frame that was not taken in time is not written later (jetlift.runtime.streams.synthetic).
"""

from __future__ import annotations

import os
import sys

from jetlift.runtime.streams.synthetic import SyntheticSource


def main(arguments: list[str]) -> int:
    """Write until nobody reads."""
    size, fps = arguments
    source = SyntheticSource(f"synthetic://{size}@{fps}")
    try:
        for frame in source.frames():
            sys.stdout.buffer.write(frame.image_bgr.data)
            sys.stdout.buffer.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing to flush at exit
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
