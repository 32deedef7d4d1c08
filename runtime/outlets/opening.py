"""One text says where results go: `results.jsonl`, `pictures/`, `mqtt://broker/plant/cam1`.

Rules:
    S1  What begins with a scheme is an address, what ends in `/` or is a folder takes pictures,
        anything else is a file, whose suffix says what is written.
    S2  Options stand behind it (see `options`). Files take `part-mib`, `part-min` and `keep-gib`.
    S3  What cannot work is refused here, before the run begins: an unknown kind, an option that
        has no meaning, a missing package or program, a secret that is not set.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from jetlift.runtime.clock import SYSTEM_CLOCK
from jetlift.runtime.errors import UsageError
from jetlift.runtime.outlets.options import split_options
from jetlift.runtime.outlets.parts import Rotation
from jetlift.runtime.streams.address import shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from jetlift.runtime.clock import Clock
    from jetlift.runtime.outlets.options import Options
    from jetlift.runtime.pipeline.form import Sink

KINDS = (
    "results.jsonl", "out.csv", "out.srt", "out.vtt", "out.npz", "out.mp4", "pictures/",
    "http://…", "https://…", "mqtt://host/topic", "mqtts://…", "rtsp://…", "rtmp://…",
    "udp://host:port", "gst:PIPELINE",
)  # fmt: skip
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
_MIB, _GIB, _MINUTE_S = 2**20, 2**30, 60.0


def open_sink(spec: str, *, task: str = "result", clock: Clock = SYSTEM_CLOCK) -> Sink:
    """Make the sink that a text names; it works inside its `with` (rules S1 to S3).

    Args:
        spec: As in `results.jsonl`, `out.csv#keep-gib=2`, `https://host/hook#batch=20`.
        task: What is drawn, as in `detect`; part of the names of pictures.
        clock: What tells pauses, ages of parts and the like.

    Raises:
        UsageError: No such kind, or an address or option that cannot be.
        MissingPackageError: An optional package is not installed.
        MachineError: A program that is needed is not installed.
        InputError: A file of certificates cannot be read.
    """
    name, options = split_options(spec)
    scheme = _SCHEME.match(name)
    if scheme is not None:
        return _peer(scheme[1].lower(), name, options, clock)
    if name.endswith("/") or (name and Path(name).is_dir()):
        return _pictures(Path(name), options, task)
    return _file(Path(name), options, clock)


def _peer(scheme: str, address: str, options: Options, clock: Clock) -> Sink:
    from jetlift.runtime.outlets import stream_out

    if scheme in ("http", "https"):
        from jetlift.runtime.outlets.webhook import open_webhook

        return open_webhook(address, options)
    if scheme in ("mqtt", "mqtts"):
        from jetlift.runtime.outlets.mqtt import open_mqtt

        return open_mqtt(address, options)
    if scheme in stream_out.SCHEMES or f"{scheme}:" == stream_out.PIPELINE:
        return stream_out.open_stream(address, options, clock=clock)
    raise _unknown(address)


def _file(path: Path, options: Options, clock: Clock) -> Sink:
    from jetlift.runtime.outlets.caption_sink import caption_sink
    from jetlift.runtime.outlets.csv_sink import csv_sink
    from jetlift.runtime.outlets.files import arrays_sink, jsonl_sink
    from jetlift.runtime.outlets.video_file import video_sink

    makers: dict[str, Callable[..., Sink]] = {
        ".jsonl": jsonl_sink,
        ".csv": csv_sink,
        ".srt": caption_sink,
        ".vtt": caption_sink,
        ".npz": arrays_sink,
    }
    suffix = path.suffix.lower()
    if suffix == ".mp4":
        fps, rotation = options.number("fps", None, least=0.1), _rotation(options)
        options.finish()
        return video_sink(path, fps=fps, rotation=rotation, clock=clock)
    if suffix not in makers:
        raise _unknown(str(path))
    rotation = _rotation(options)
    options.finish()
    return makers[suffix](path, rotation=rotation, clock=clock)


def _pictures(folder: Path, options: Options, task: str) -> Sink:
    from jetlift.runtime.outlets.files import PicturesSink

    every = options.whole("every", 1, least=1)
    form = options.choice("format", ("jpg", "png"))
    keep_gib = options.number("keep-gib", None, least=0.001)
    options.finish()
    keep_bytes = None if keep_gib is None else keep_gib * _GIB
    return PicturesSink(folder, label=task, every=every, suffix=f".{form}", keep_bytes=keep_bytes)


def _rotation(options: Options) -> Rotation:
    part_mib = options.number("part-mib", None, least=0.01)
    part_min = options.number("part-min", None, least=0.01)
    keep_gib = options.number("keep-gib", None, least=0.001)
    return Rotation(
        None if part_mib is None else part_mib * _MIB,
        None if part_min is None else part_min * _MINUTE_S,
        None if keep_gib is None else keep_gib * _GIB,
    )


def _unknown(name: str) -> UsageError:
    return UsageError(
        f"Results cannot be sent to {shown(name) or 'a place without a name'}",
        expected=f"One of {', '.join(KINDS)}",
    )
