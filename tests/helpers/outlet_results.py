"""Results as a pipeline hands them to its sinks, and waiting for other threads."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from jetlift.runtime.pipeline.form import Result
from jetlift.runtime.sources import Frame
from jetlift.runtime.tasks.base import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT_S = 60.0  # only stops a test that hangs


def result(
    index: int = 0,
    *,
    source: str = "/dev/video0",
    time_s: float | None = None,
    captured_s: float | None = None,
    live: bool = True,
    size_wh: tuple[int, int] = (64, 48),
    drawn: bool = False,
    **fields: Any,
) -> Result:
    """What came of one frame; 25 frames per second unless told."""
    time_s = index / 25 if time_s is None else time_s
    captured_s = 500.0 + time_s if live and captured_s is None else captured_s
    image = np.full((size_wh[1], size_wh[0], 3), index % 200, np.uint8)
    frame = Frame(source, index, time_s, image, captured_s)
    place = {"source": source, "index": index, "time_s": time_s}
    picture = np.full_like(image, 50 + index % 200) if drawn else None
    return Result(frame, Outcome(place | fields, {}), picture)


def boxes(index: int = 0, *labels: str, **options: Any) -> Result:
    """What a detector found: one box per label."""
    found = {
        "boxes_xyxy": [[1.5 + place, 2.0, 30.25, 40.0] for place in range(len(labels))],
        "scores": [0.9 - place / 10 for place in range(len(labels))],
        "labels": list(labels),
        "label_ids": list(range(len(labels))),
    }
    return result(index, **found, **options)


def wait_until(true: Callable[[], bool], what: str = "what was waited for") -> None:
    """Wait for what another thread or process brings about."""
    deadline_s = time.monotonic() + LIMIT_S
    while not true():
        if time.monotonic() > deadline_s:
            pytest.fail(f"{what} did not come about within {LIMIT_S:.0f} s")
        time.sleep(0.005)


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def threads_named(prefix: str) -> list[str]:
    """Threads alive whose name begins so."""
    return [item.name for item in threading.enumerate() if item.name.startswith(prefix)]
