"""What runs on the device: from input to result.

    from jetlift.runtime import Bundle, open_session, open_source, open_task

    bundle = Bundle.open("dinov2-small")
    with open_session(bundle, "image", "int8") as session, open_source(["photos"]) as source:
        task = open_task("embed", bundle, session, precision="int8")
        for frame in source:
            print(task.run(frame)["embedding"])

Importing this package loads numpy and cv2 at most. Each name below is looked up when it is used,
and an engine library only when a session is opened.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.errors import JetliftError
    from jetlift.runtime.preprocess import prepare_batch, prepare_image
    from jetlift.runtime.session import open_onnx, open_session
    from jetlift.runtime.sinks import JsonlSink, NpzSink, PictureSink, VideoSink, contact_sheet
    from jetlift.runtime.sources import Frame, TextItem, open_source, open_texts
    from jetlift.runtime.tasks import Task, open_task
    from jetlift.runtime.text import TextPreparer

__all__ = [
    "Bundle",
    "Frame",
    "JetliftError",
    "JsonlSink",
    "NpzSink",
    "PictureSink",
    "Task",
    "TextItem",
    "TextPreparer",
    "VideoSink",
    "contact_sheet",
    "open_onnx",
    "open_session",
    "open_source",
    "open_task",
    "open_texts",
    "prepare_batch",
    "prepare_image",
]

_HOMES = {
    "bundle": ("Bundle",),
    "errors": ("JetliftError",),
    "preprocess": ("prepare_batch", "prepare_image"),
    "session": ("open_onnx", "open_session"),
    "sinks": ("JsonlSink", "NpzSink", "PictureSink", "VideoSink", "contact_sheet"),
    "sources": ("Frame", "TextItem", "open_source", "open_texts"),
    "tasks": ("Task", "open_task"),
    "text": ("TextPreparer",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
