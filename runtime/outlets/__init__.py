"""Outlets for live results: files, peers on a network, streams; `open_sink` opens any of them.

from jetlift.runtime.outlets import open_sink

with open_sink("mqtt://broker/plant/cam1") as sink:
    sink.write(result)
"""

from jetlift.runtime.outlets.opening import open_sink

__all__ = ["open_sink"]
